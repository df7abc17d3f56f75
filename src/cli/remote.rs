//! What the commands that ask a running process have in common: where it is, who asks, and how its answer is shown.

use std::io::{self, Write};

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::Value;

use crate::admin::client::{Client, ClientError};
use crate::cli::{Exit, Failure};
use crate::config::Settings;
use crate::doctor::listeners::{Asked, Named, url_of};

/// The environment variable that holds the admin token for these commands.
pub(super) const TOKEN: &str = "RUSHGATE_ADMIN_TOKEN";

/// The section of the settings that matters to these commands.
pub(super) const SECTION: &str = "admin";

/// The same in the environment.
pub(super) const SETTINGS: &str = "RUSHGATE__ADMIN__";

/// Where the admin API is, and how its answers are printed.
#[derive(Debug, Clone, Args)]
pub(super) struct Remote {
    /// The admin API to ask; without it, the one that admin.listen names, at 127.0.0.1:9090 by default.
    #[arg(long, global = true, value_name = "URL", env = "RUSHGATE_ADMIN_URL")]
    admin: Option<String>,
    /// The admin token; without it, admin.token of the settings. Better given by the environment: arguments can be seen.
    #[arg(long, global = true, value_name = "TOKEN", env = TOKEN, hide_env_values = true)]
    token: Option<String>,
    /// Your name in the audit log; without it, that of your login.
    #[arg(long, global = true, value_name = "NAME", env = "RUSHGATE_OPERATOR")]
    operator: Option<String>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Remote {
    /// For a look at whoever holds the admin listener of these settings, and at whoever was named. A URL that is none is a finding.
    pub(super) fn asked(&self, settings: &Settings) -> Result<Asked, Failure> {
        let here = self.client_of(&url_of(&settings.admin.listen), settings)?;
        let named = self.admin.clone().map(|url| Named { client: self.client_of(&url, settings), url });
        Ok(Asked { here, named })
    }

    pub(super) fn client(&self, settings: &Settings) -> Result<Client, Failure> {
        let url = self.admin.clone().unwrap_or_else(|| url_of(&settings.admin.listen));
        Ok(self.client_of(&url, settings)?)
    }

    fn client_of(&self, url: &str, settings: &Settings) -> Result<Client, ClientError> {
        let token = self.token.as_deref().unwrap_or(&settings.admin.token.0);
        let login = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
        let operator = self.operator.clone().unwrap_or_else(login);
        Client::new(url, token, &operator)
    }

    /// Prints an answer: as JSON if that is wanted, else as people like it.
    pub(super) fn print(&self, answer: &Value, shown: impl FnOnce(&Value) -> String) -> Result<Exit, Failure> {
        let text = if self.json { format!("{answer:#}\n") } else { shown(answer) };
        io::stdout().write_all(text.as_bytes())?;
        Ok(Exit::Done)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::BadUrl { .. } | ClientError::BadToken => Self::usage(error),
            error => Self::Failed(error.into()),
        }
    }
}

/// Rows under a header, as aligned columns without lines, so that `grep` and `awk` like them too.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    let lines = table.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or_default().to_owned() + "\n");
    lines.collect()
}

/// A value as people read it: a text without its quotes, nothing as a dash.
pub(super) fn told(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A value as it stands in a query.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let written = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(written).collect()
}

/// The elements of a list; none where there is no list.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_lines() {
        let rows = [["s".to_owned(), "10".to_owned()], ["longer".to_owned(), "7".to_owned()]];
        assert_eq!(table(["SALE", "FREE"], rows), "SALE    FREE\ns       10\nlonger  7\n");
    }

    #[test]
    fn what_means_something_in_a_query_is_written_otherwise() {
        assert_eq!(encoded("a-1"), "a-1");
        assert_eq!(encoded("a&b=c+ü"), "a%26b%3Dc%2B%C3%BC");
    }

    #[test]
    fn values_are_told_plainly() {
        assert_eq!([told(&json!(null)), told(&json!("a")), told(&json!(1))], ["-", "a", "1"]);
    }
}

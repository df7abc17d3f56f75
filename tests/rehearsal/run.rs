//! One rehearsal, and what it left.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::client::Client;
use crate::site::Site;

/// Longer than any of these rehearsals takes on a busy machine.
pub(crate) const LONGEST: Duration = Duration::from_secs(120);

pub(crate) const PASSED: i32 = 0;
pub(crate) const FAILED: i32 = 1;
pub(crate) const BROKEN: i32 = 2;

/// What a rehearsal said.
#[derive(Debug)]
pub(crate) struct Ran {
    code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command, with settings as a user writes them, and nothing from the environment of the test.
pub(crate) fn rehearse(settings: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
    command.arg("rehearse").args(settings.split_whitespace()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The same at all gateways of a site.
pub(crate) fn at(site: &Site, settings: &str) -> Command {
    // A test build on a machine that does a lot besides: how fast it is, is not what is tested.
    let mut command = rehearse("--p99-yes-ms 30000 --p99-no-ms 30000 --away 100");
    command.args(settings.split_whitespace()).env("RUSHGATE_ADMIN_URL", site.admin().base());
    for gateway in site.gateways() {
        command.args(["--gateway", gateway.base()]);
    }
    command
}

/// Runs it to its end.
pub(crate) async fn ran(command: &mut Command) -> Ran {
    ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")).await
}

/// Waits for the end of one that runs.
pub(crate) async fn ended(running: tokio::process::Child) -> Ran {
    let output = tokio::time::timeout(LONGEST, running.wait_with_output()).await.expect("it ends").expect("it runs");
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// Of one that said all it had to say in one place.
    pub(crate) fn of(code: Option<i32>, out: String) -> Self {
        Self { code, out, err: String::new() }
    }

    /// Fails, with all that was said, unless it ended with this code and said all of this.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        for part in says {
            assert!(self.out.contains(part) || self.err.contains(part), "{part}:\n{}\n{}", self.out, self.err);
        }
    }

    /// The answer to `--json`.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// The sales that rehearsals have made: their names, and where they stand.
pub(crate) async fn rehearsals(admin: &Client) -> Vec<(String, String)> {
    let answer = admin.get("/admin/v1/sales", &[]).await.expect("an answer");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sales = answer.body["sales"].as_array().expect("sales").iter();
    let all = sales.map(|sale| (text(&sale["sale"]), text(&sale["phase"])));
    all.filter(|(sale, _)| sale.starts_with("rehearsal-")).collect()
}

/// Fails unless there were so many rehearsals, and all of their sales are closed.
pub(crate) async fn all_closed(site: &Site, count: usize) {
    let sales = rehearsals(site.admin()).await;
    assert_eq!(sales.len(), count, "{sales:?}");
    assert!(sales.iter().all(|(_, phase)| phase == "closed"), "{sales:?}");
}

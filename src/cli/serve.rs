//! `rushgate serve`: runs the roles of this process.

use clap::{Args, ValueEnum};

use crate::cli::{Exit, Failure};
use crate::config::{Flag, Loaded};
use crate::roles;

/// Run; without a config, everything in one process, with a sample sale open.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate serve
  rushgate serve --config config/writer.toml
  rushgate serve --config shop.toml --role gateway --listen 127.0.0.1:8081 --set shard.buffer=20%")]
pub(super) struct Serve {
    /// What this process does; above node.roles.
    #[arg(long)]
    role: Option<Role>,
    /// Where buyers come in; above http.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where operators come in; above admin.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Gateway,
    Writer,
    All,
}

impl Serve {
    /// The settings that have a flag of their own.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let roles = self.role.map(|role| match role {
            Role::Gateway => "gateway".to_owned(),
            Role::Writer => "writer".to_owned(),
            Role::All => "gateway,writer".to_owned(),
        });
        let named = [
            ("--role", "node.roles", roles),
            ("--listen", "http.listen", self.listen.clone()),
            ("--admin-listen", "admin.listen", self.admin_listen.clone()),
        ];
        let given = named.into_iter().filter_map(|(name, path, value)| Some((name, path, value?)));
        given.map(|(name, path, value)| Flag { name: name.to_owned(), path: path.to_owned(), value }).collect()
    }

    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        roles::serve(loaded.settings).await?;
        Ok(Exit::Done)
    }
}

//! `rushgate ready`: is a process fit for traffic? For supervisors that can only run a command, and for people.

use clap::Args;
use serde_json::json;

use crate::cli::remote::Remote;
use crate::cli::{Exit, Failure};
use crate::config::Loaded;

/// Ask a running process whether it is ready for traffic, and print each of its checks; exit 1 if it is not.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate ready
  rushgate ready --admin http://127.0.0.1:9091")]
pub(super) struct Ready {
    #[command(flatten)]
    remote: Remote,
}

impl Ready {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let (is_ready, checks) = self.remote.client(&loaded.settings)?.ready().await?;
        let lines: Vec<_> = checks.lines().collect();
        self.remote.print(&json!({"ready": is_ready, "checks": lines}), |_| checks.clone())?;
        Ok(if is_ready { Exit::Done } else { Exit::Failed })
    }
}

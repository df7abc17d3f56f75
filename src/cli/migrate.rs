//! `rushgate migrate`: brings the store's schema up to date.

use std::io::{self, Write};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;

use crate::cli::progress::progress;
use crate::cli::{Exit, Failure};
use crate::config::{Loaded, Origin};
use crate::roles;
use crate::store::Schema;

/// Bring the store's schema up to date. Safe to repeat, and from several machines at once.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate migrate --config config/writer.toml --dry-run
  rushgate migrate --config config/writer.toml")]
pub(super) struct Migrate {
    /// Say how many migrations are missing, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print what was found and done as one JSON document.
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        // A forgotten --config would otherwise make a new database where nobody looks for one.
        if loaded.origin("store.url") == Some(&Origin::Default) {
            return Err(Failure::usage(
                "which store? Name it by --config FILE, RUSHGATE__STORE__URL or --set store.url=URL",
            ));
        }
        let url = loaded.settings.store.url.redacted();
        let store = roles::open_store(&loaded.settings).with_context(|| format!("the store at {url}"))?;
        let (missing, applied) = match store.schema().await.with_context(|| url.clone())? {
            Schema::Current => (0, Vec::new()),
            Schema::Ahead => {
                let why = anyhow!("the schema of {url} is newer than this program: use the version that migrated it");
                return Err(why.into());
            }
            Schema::Behind { missing } if self.dry_run => (missing, Vec::new()),
            Schema::Behind { .. } => (0, progress("migrating", store.migrate()).await.with_context(|| url.clone())?),
        };
        let text = if self.json {
            let told = json!({"store": url, "missing": missing, "applied": applied, "dry_run": self.dry_run});
            format!("{told:#}\n")
        } else if missing > 0 {
            format!("The schema of {url} misses {missing} of its migrations; nothing was changed.\n")
        } else {
            let mut lines: Vec<_> = applied.iter().map(|name| format!("applied {name}")).collect();
            lines.push(format!("The schema of {url} is up to date.\n"));
            lines.join("\n")
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(Exit::Done)
    }
}

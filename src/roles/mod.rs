//! Processes: wiring, nothing else. Only here is a backend chosen.

use std::sync::Arc;

use anyhow::bail;

use crate::config::Settings;
use crate::store::Store;

/// Runs the roles of these settings until the process is asked to stop.
#[expect(clippy::unused_async, reason = "wired by the roles that are to come")]
pub async fn serve(_settings: Settings) -> anyhow::Result<()> {
    bail!("not wired yet")
}

/// The store of these settings, whatever the state of its schema.
#[expect(clippy::unused_async, reason = "wired by the roles that are to come")]
pub async fn open_store(_settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    bail!("not wired yet")
}

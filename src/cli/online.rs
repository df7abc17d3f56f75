//! Can the configured servers be reached? Name, port and TLS of each: whether they also answer well is for `doctor`.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::config::Settings;
use crate::config::settings::{InventoryBackend, QueueBackend, ServerUrl, StoreBackend};
use crate::reach;

/// What came of the try to reach one server.
#[derive(Debug)]
pub(super) struct Probe {
    /// The key that names the server.
    pub key: &'static str,
    /// The server, without user and password.
    pub target: String,
    pub outcome: Result<Duration, String>,
}

/// Tries every server that these settings use; what lives in the process itself is not tried.
pub(super) async fn probe(settings: &Settings) -> Vec<Probe> {
    let Settings { inventory, queue, store, .. } = settings;
    let used = [
        ("inventory.url", &inventory.url, inventory.backend == InventoryBackend::Redis),
        ("queue.url", &queue.url, queue.backend == QueueBackend::Rabbitmq),
        ("store.url", &store.url, true),
        ("store.read_url", &store.read_url, store.backend == StoreBackend::Mysql && !store.read_url.is_empty()),
    ];
    let used = used.into_iter().filter(|(.., used)| *used);
    join_all(used.map(|(key, url, _)| async move {
        let begun = Instant::now();
        let outcome = reach(url).await.map(|()| begun.elapsed());
        Probe { key, target: url.redacted(), outcome }
    }))
    .await
}

async fn reach(url: &ServerUrl) -> Result<(), String> {
    if url.scheme() == Some("sqlite") {
        return reach_file(url.as_str());
    }
    reach::reach(url).await.map(drop).map_err(|blocked| blocked.to_string())
}

/// The file may be yet to be made, its folder may not.
fn reach_file(url: &str) -> Result<(), String> {
    let path = url.trim_start_matches("sqlite://").split('?').next().unwrap_or_default();
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if folder.is_dir() { Ok(()) } else { Err(format!("there is no folder {}", folder.display())) }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_listening_server_is_reached_and_a_closed_port_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = ServerUrl(format!("redis://u:p@{}/0", listener.local_addr().unwrap()));
        assert_eq!(reach(&url).await, Ok(()));
        drop(listener);
        assert!(reach(&url).await.unwrap_err().contains("refused"));
    }

    #[tokio::test]
    async fn only_what_the_settings_use_is_tried() {
        let mut settings = Settings::default();
        assert_eq!(probe(&settings).await.iter().map(|probe| probe.key).collect::<Vec<_>>(), ["store.url"]);
        settings.queue.backend = QueueBackend::Rabbitmq;
        settings.queue.url = ServerUrl::from("amqp://user:canary@127.0.0.1:1");
        let probes = probe(&settings).await;
        assert_eq!(probes.iter().map(|probe| probe.key).collect::<Vec<_>>(), ["queue.url", "store.url"]);
        assert!(probes[0].outcome.is_err() && probes[1].outcome.is_ok() && !format!("{probes:?}").contains("canary"));
    }

    #[test]
    fn a_file_needs_its_folder() {
        assert_eq!(reach_file("sqlite://rushgate.db?mode=rwc"), Ok(()));
        assert!(reach_file("sqlite:///no/such/folder/rushgate.db").is_err());
    }
}

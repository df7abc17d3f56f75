//! A sale through each of the balancers, with the configurations that are shipped.

use std::process::{Child, Command, Stdio};
use std::slice;

use tempfile::TempDir;

use crate::client::Client;
use crate::crowd::{Crowd, one};
use crate::process::free_port;
use crate::site::{Site, concert, eventually};

/// A balancer before all gateways of a site; it ends with its value.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) client: Client,
    _dir: TempDir,
}

impl Balancer {
    pub(crate) async fn before(site: &Site, kind: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let nodes =
            site.gateways().iter().map(|node| node.base().trim_start_matches("http://").to_owned()).collect::<Vec<_>>();
        let config = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/proxy-config"))
            .args([kind, &dir.path().display().to_string(), &port.to_string()])
            .args(nodes)
            .output()
            .expect("the configuration");
        assert!(config.status.success(), "{}", String::from_utf8_lossy(&config.stderr));
        let file = dir.path().join("proxy.conf");
        std::fs::write(&file, config.stdout).expect("the configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = Command::new(kind);
        match kind {
            "nginx" => command.arg("-c").arg(&file).args(["-g", "daemon off;"]),
            _ => command.arg("-f").arg(&file).arg("-db"),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .spawn()
            .unwrap_or_else(|error| panic!("{kind} cannot be started ({error}): run tests/run, which installs it"));
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let balancer = Self { child, client, _dir: dir };
        eventually(&format!("{kind} answers"), || async {
            let reply = balancer.client.get("/v1/sales/s", &[]).await?;
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // nginx' workers end with their master only if it is asked, not killed.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

async fn sells_a_sale(kind: &str) {
    let mut site = Site::cluster(3, 1, "http.claims_per_buyer = 0").await;
    site.sale("s", &concert(300)).await;
    let balancer = Balancer::before(&site, kind).await;
    let crowd = Crowd { sale: "s".into(), buyers: 200, repeats_every: 3, at_once: 32, asks: one, name: "early" };
    let early = crowd.rush(slice::from_ref(&balancer.client)).await;
    assert_eq!(early.granted.len(), 200, "{:?}", early.answers);
    assert_eq!(balancer.client.get("/readyz", &[]).await.unwrap().status, 404, "health is not for buyers");
    // One node goes; the balancer notices, and nobody is told anything wrong.
    assert_eq!(site.terminate(0).await, Some(0));
    let late = Crowd { buyers: 400, name: "late", ..crowd };
    let late = late.rush(slice::from_ref(&balancer.client)).await;
    assert_eq!(early.granted.len() + late.granted.len(), 300, "{:?}", late.answers);
    site.audit("s");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_sells_a_sale() {
    sells_a_sale("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_sells_a_sale() {
    sells_a_sale("haproxy").await;
}

//! The k6 scripts of `loadtest/k6` as an engineer runs them: the real k6, against real nodes and servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod honest;
mod planted;
mod run;
mod shut;

#[expect(dead_code, reason = "buyers are k6's here")]
#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "other suites do more with a site")]
#[path = "../support/site.rs"]
mod site;
#[expect(dead_code, reason = "other suites misbehave in more ways")]
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;

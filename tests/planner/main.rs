//! The planner against live nodes. It looks at the clock, so it is a program of its own: nothing else runs beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod live;

#[expect(dead_code, reason = "the gateway suite asks more")]
#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[expect(dead_code, reason = "the fault suite does more with it")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "the gateway suite does more with it")]
#[path = "../support/site.rs"]
mod site;
#[expect(dead_code, reason = "the fault suite misbehaves in more ways")]
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;

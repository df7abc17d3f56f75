//! `rushgate rehearse` as an engineer runs it: the program, against real nodes and servers. And `rushgate top` at a terminal, as it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod honest;
mod lost;
mod planted;
mod run;
mod terminal;
mod trouble;

#[expect(dead_code, reason = "buyers are the rehearsal's here")]
#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "other suites do more with a site")]
#[path = "../support/site.rs"]
mod site;

//! What operators are given, over real servers and real supervisors' means: sockets, metrics, rules, and the servers' settings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod doctor;
mod monitoring;
mod scheduling;
mod settings;
mod supervisor;

#[expect(dead_code, reason = "the gateway suite asks more")]
#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[expect(dead_code, reason = "the fault suite does more with it")]
#[path = "../support/private_mariadb.rs"]
mod private_mariadb;
#[expect(dead_code, reason = "the fault suite does more with it")]
#[path = "../support/private_rabbitmq.rs"]
mod private_rabbitmq;
#[expect(dead_code, reason = "the fault suite does more with it")]
#[path = "../support/private_redis.rs"]
mod private_redis;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "the gateway suite does more with it")]
#[path = "../support/site.rs"]
mod site;

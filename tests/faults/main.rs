//! The fault suite: real servers and real processes, broken on purpose, and a checker that believes only what buyers were told.
//!
//! # How to write a fault test
//!
//! ```text
//! let private = Private::shared().await;                        // or Private::start(…), for one that the test ruins
//! let mut deployment = Deployment::over(&private, "").await;
//! deployment.start(2, 1).await;                                 // gateways, writers
//! let run = Run::begin(&deployment, vec![SaleSpec::concert("s", 50, 2, 2)], CALM, 8, seed).await;
//! deployment.links[0].redis.rule(Way::ToClient, Rule::Hold);    // any link, either way
//! deployment.freeze(1);                                         // any process; deployment.kill, restart
//! private.rabbitmq.process().freeze();                          // any server; kill, restart, restart_empty
//! deployment.heal().await;
//! run.end(&deployment).await.is_clean();
//! ```
//!
//! - `deployment`: processes, their links (a proxy on each), the servers under them
//! - `buyers`, `log`, `sales`: who asks for what, and what they were told
//! - `findings`: what lies in the store, the inventory and the queue afterwards; `checker`: the invariants I1 to I11
//! - `run`: from the first buyer to the verdict. After `heal` it waits for every buyer who does not know yet, has fresh buyers buy
//!   whatever is left, waits until nothing is on its way, and only then looks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]
#![expect(dead_code, reason = "tests to come break more than the first ones do")]

mod buyers;
mod checker;
mod deployment;
mod findings;
mod log;
mod matrix;
mod run;
mod sales;

mod calm;
mod crash_points;
mod lost_redis;
mod nemesis;
mod planted;

#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/private_mariadb.rs"]
mod private_mariadb;
#[path = "../support/private_rabbitmq.rs"]
mod private_rabbitmq;
#[path = "../support/private_redis.rs"]
mod private_redis;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/site.rs"]
mod site;
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;

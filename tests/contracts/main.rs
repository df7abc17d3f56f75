//! One suite per contract, run over every backend that keeps it: what holds for Redis holds for memory, or one of them is wrong.

mod inventory;
mod inventory_redis;
mod queue;
mod store;
mod traps;

#[path = "../support/memory_store/mod.rs"]
mod memory_store;
#[expect(dead_code, reason = "the fault suite also kills and freezes it")]
#[path = "../support/private_mariadb.rs"]
mod private_mariadb;
#[expect(dead_code, reason = "the fault suite also kills and freezes it")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/servers.rs"]
mod servers;

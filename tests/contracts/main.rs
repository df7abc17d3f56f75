//! One suite per contract, run over every backend that keeps it: what holds for Redis holds for memory, or one of them is wrong.

mod inventory;
mod inventory_redis;
mod queue;
mod store;

#[path = "../support/memory_store/mod.rs"]
mod memory_store;
#[path = "../support/servers.rs"]
mod servers;

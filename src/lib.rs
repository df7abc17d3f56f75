//! Rushgate.

pub mod domain;

pub mod clock;
pub mod config;
pub mod meters;
pub mod shutdown;
pub mod telemetry;

pub mod inventory;
pub mod queue;
pub mod store;

pub mod epochs;

pub mod admission;

pub mod audit;
pub mod confirm;
pub mod expiry;
pub mod recovery;
pub mod relay;
pub mod returns;
pub mod sales;
pub mod writer;

pub mod admin;

pub mod roles;

pub mod cli;

#[cfg(test)]
mod planted;

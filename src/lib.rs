//! Rushgate.

pub mod domain;

pub mod clock;
pub mod config;
pub mod meters;
pub mod shutdown;

pub mod inventory;
pub mod queue;
pub mod store;

pub mod epochs;

pub mod admission;

pub mod confirm;

pub mod audit;
pub mod sales;

#[cfg(test)]
mod planted;

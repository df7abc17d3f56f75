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

pub mod roles;

pub mod cli;

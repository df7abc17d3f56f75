//! The stages in one process, over the embedded inventory and doubles that misbehave on command.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod abandoned;
mod claims;
mod doubles;
mod money;
mod pressure;
mod upkeep;

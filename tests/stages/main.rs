//! The stages in one process, over the embedded inventory and doubles that misbehave on command.

mod claims;
mod doubles;

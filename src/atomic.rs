//! The atomics of what claims share without a lock. They are taken from here so that `tests/interleavings` can compile the same files
//! over a checker's.

pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

//! What several do at once, in every order or in many: the files that hold it are compiled here a second time, over atomics and tasks
//! whose order a checker decides.
//!
//! - `counters`: the shard's counters and the outlet's parcels, in every interleaving with up to three preemptions, under `loom`;
//! - `claims`: the batcher, the line and the shutdown, in random orders of their tasks, under `shuttle`. A failure prints its seed and its
//!   schedule; `RUSHGATE_INTERLEAVINGS_SEED` runs a seed again.

#![expect(clippy::print_stdout, reason = "what was explored is the result")]

mod claims;
mod counters;
#[path = "../stages/doubles.rs"]
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may, and a node of the stages' tests runs its tasks on Tokio"
)]
mod doubles;

// ── what the files compiled again find under `crate` ──

#[path = "../../src/confirm/mod.rs"]
#[expect(dead_code, unreachable_pub, reason = "written for the library")]
mod confirm;
#[path = "../../src/queue/rabbitmq/parcel.rs"]
#[expect(dead_code, reason = "written for the library")]
mod parcel;
#[path = "../../src/admission/shard.rs"]
#[expect(dead_code, unreachable_pub, reason = "written for the library")]
mod shard;
#[path = "../../src/shutdown.rs"]
#[expect(dead_code, unreachable_pub, unused_imports, reason = "written for the library, and its tests do not run here")]
mod shutdown;

use rushgate::{admission, bell, bugs, clock, config, crash, domain, epochs, inventory, meters, queue, spans};

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
}

mod tasks {
    pub(crate) use shuttle::future::{JoinHandle, spawn};
}

/// A model with its name; it returns how many orders of events it has seen.
type Model = (&'static str, fn() -> usize);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, model) in counters::MODELS.iter().chain(claims::MODELS) {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            println!("{name} … {} orders of events", model());
        }
    }
}

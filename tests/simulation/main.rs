//! The simulation: the real stages on backends that misbehave from a seed, several nodes and writers in one thread, in virtual time.
//!
//! A run is its seed and nothing else, so that one that failed can be watched: `RUSHGATE_SIM_SEED=n cargo test --test simulation`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

use std::time::Duration;

use rushgate::meters::Meters;

use crate::run::{Outcome, run};

mod checker;
mod clients;
mod faults;
mod inventory;
mod ledger;
mod queue;
mod run;
mod store;
mod trace;
mod world;

#[path = "../support/memory_store/mod.rs"]
mod memory_store;

/// Seeds that failed once, each with a word why. What a seed does changes with the code, so they are no proof; they are cheap.
const FAILED_ONCE: &[(u64, &str)] = &[
    (
        1_010_613_582_383,
        "a node that had just joined an epoch refused a repetition by what it had heard in the one before",
    ),
    (
        22,
        "a claim that reached the inventory after its sender had lost patience was granted when the buyer had been told no",
    ),
];

/// How many events of a failed run are shown.
const TAIL: usize = 150;

/// Runs a seed, and if it breaks a promise, runs it again to show how.
fn must_hold(seed: u64, meters: &Meters) -> Outcome {
    let outcome = run(seed, meters, false);
    if let Some(violation) = &outcome.violation {
        let again = run(seed, meters, true);
        let tail = again.trace.len().saturating_sub(TAIL);
        println!("{}", again.trace[tail..].join("\n"));
        panic!("seed {seed}: {violation:?}; seen again: {:?}", again.violation);
    }
    outcome
}

#[test]
fn a_minute_of_seeds_finds_nothing() {
    let meters = Meters::new();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("RUSHGATE_SIM_SEED") {
        must_hold(seed, &meters);
        return;
    }
    let time = Duration::from_secs(number("RUSHGATE_SIM_SECONDS").unwrap_or(10));
    let base = number("RUSHGATE_SIM_BASE").unwrap_or_else(|| fastrand::u64(..1 << 40));
    println!("seeds from {base}");
    let (begun, mut seeds, mut rows, mut epochs) = (tokio::time::Instant::now(), 0, 0, 0);
    let mut answers = std::collections::BTreeMap::<_, u64>::new();
    while begun.elapsed() < time {
        let outcome = must_hold(base + seeds, &meters);
        seeds += 1;
        rows += outcome.rows;
        epochs += outcome.epochs;
        outcome.answers.into_iter().for_each(|(answer, count)| *answers.entry(answer).or_default() += count);
    }
    let per_minute = f64::from(u32::try_from(seeds).unwrap()) * 60.0 / begun.elapsed().as_secs_f64();
    println!("{seeds} seeds, {per_minute:.0} a minute; {rows} rows, {epochs} epochs, answers {answers:?}");
}

#[test]
fn a_seed_that_is_run_twice_is_the_same_run() {
    let meters = Meters::new();
    for seed in 0..5 {
        let (one, other) = (run(seed, &meters, true), run(seed, &meters, true));
        let differs = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
        assert!(one.trace.len() > 100, "a trace that tells nothing");
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    let meters = Meters::new();
    for (seed, why) in FAILED_ONCE {
        println!("{seed}: {why}");
        must_hold(*seed, &meters);
    }
}

/// The checker is checked: with each bug planted, some seed breaks a promise.
#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_is_caught() {
    use rushgate::bugs::{Bug, plant};

    /// Some bugs need two faults at the right moments.
    const SEEDS: u64 = 1000;
    let meters = Meters::new();
    let mut escaped = Vec::new();
    for bug in Bug::ALL {
        plant(Some(*bug));
        let caught = (0..SEEDS).find_map(|seed| Some((seed + 1, run(seed, &meters, false).violation?)));
        plant(None);
        match caught {
            Some((seeds, violation)) => println!("{}: after {seeds} seeds, {violation:?}", bug.as_str()),
            None => escaped.push(bug),
        }
    }
    assert!(escaped.is_empty(), "not caught in {SEEDS} seeds each: {escaped:?}");
}

//! The protocol as a model small enough to visit every state of it: two buyers, one unit or two, gateways that die, messages that are lost,
//! repeated or late, an inventory that restarts from older data or is replaced while the old one still answers, two recoverers who
//! take each other's work over, all interleaved in every order. Each promise is looked at in each state, and each part of the
//! protocol is left out once, to see that the model notices.
//!
//! `RUSHGATE_MODEL=large` allows more to go wrong at once, for some minutes and gigabytes.
//!
//! What is not in it: loss in the store or the broker, limits, legs, batches, and time, but that a recovery waits until no gateway
//! waits any more for the confirm of a publish that overtook the deletion of its exchange. A recovery is one step where the code
//! has several that nobody can see from outside (rebuild and open), and a step is a party's whole transaction.
//!
//! The search is one of our own: without optimisation, on one core, it visits some 250,000 worlds a second.

#![expect(clippy::print_stderr, reason = "what was explored is the result")]

mod explore;
mod mutations;
mod promises;
mod protocol;
mod recovery;
mod world;

use std::collections::BTreeMap;

use explore::Explored;
use mutations::Mutation;
use protocol::Protocol;
use world::Budget;

/// What may go wrong at once: names, units, and how often.
const SMALL: &[(&str, i8, Budget)] = &[
    ("a restart", 1, Budget { restarts: 1, relays: [1, 0], retries: [1, 0], ..NOTHING }),
    ("a restart and two recoverers", 1, Budget { restarts: 1, takeovers: 1, ..NOTHING }),
    ("two inventories at once", 1, Budget { failovers: 1, retries: [1, 0], ..NOTHING }),
    ("a late payment and a restart", 1, Budget { restarts: 1, late_payments: 1, ..NOTHING }),
    ("a late payment and two inventories at once", 1, Budget { failovers: 1, late_payments: 1, ..NOTHING }),
    ("a publish that overtakes its fence", 1, Budget { restarts: 1, overtakings: 1, retries: [1, 0], ..NOTHING }),
    ("two units and a lost message", 2, Budget { restarts: 1, losses: 1, ..NOTHING }),
];

const LARGE: &[(&str, i8, Budget)] = &[
    (
        "a restart, and everybody asks again",
        1,
        Budget { restarts: 1, relays: [1, 1], retries: [1, 1], losses: 1, ..NOTHING },
    ),
    ("two restarts", 1, Budget { restarts: 2, ..NOTHING }),
    ("two inventories at once and two recoverers", 1, Budget { failovers: 1, takeovers: 1, relays: [1, 0], ..NOTHING }),
    (
        "an overtaken fence, and a relay",
        1,
        Budget { restarts: 1, overtakings: 1, relays: [1, 0], retries: [1, 0], ..NOTHING },
    ),
    ("a late payment and two recoverers", 1, Budget { restarts: 1, takeovers: 1, late_payments: 1, ..NOTHING }),
    ("two units and two inventories at once", 2, Budget { failovers: 1, relays: [1, 0], retries: [1, 0], ..NOTHING }),
];

const NOTHING: Budget = Budget {
    restarts: 0,
    failovers: 0,
    takeovers: 0,
    losses: 0,
    overtakings: 0,
    relays: [0, 0],
    retries: [0, 0],
    late_payments: 0,
};

fn explored((name, units, budget): (&str, i8, Budget), mutation: Option<Mutation>) -> Explored {
    let explored = explore::explore(&Protocol { units, budget, mutation });
    let what = mutation.map_or("kept", Mutation::as_str);
    let found = explored.violation.as_ref().map_or("no violation", |violation| &violation.what);
    eprintln!("{what}, {name}: {} worlds, {} steps deep: {found}", explored.worlds, explored.depth);
    explored
}

#[test]
fn the_protocol_keeps_its_promises_in_every_state() {
    let large = std::env::var("RUSHGATE_MODEL").is_ok_and(|size| size == "large");
    for scope in SMALL.iter().chain(LARGE.iter().filter(|_| large)) {
        let explored = explored(*scope, None);
        if let Some(violation) = explored.violation {
            panic!("{}: {}\n{:#?}", scope.0, violation.what, violation.trace);
        }
        assert!(explored.sold_to_all || scope.1 == 1, "{}: too little can happen", scope.0);
    }
}

#[test]
fn whatever_is_left_out_breaks_a_promise() {
    let caught_by: BTreeMap<_, _> = [
        (Mutation::NoFenceMargin, 5),
        (Mutation::NoMinEpoch, 5),
        (Mutation::StaleIsStored, 5),
        (Mutation::SnapshotBeforeMinEpoch, 5),
        (Mutation::MinEpochByAnybody, 1),
        (Mutation::TakeoverKeepsEpoch, 1),
        (Mutation::ReturnsTrustAnyEpoch, 2),
        (Mutation::SettleWithoutEpochCheck, 3),
        (Mutation::ReturnUndoesRevival, 3),
    ]
    .map(|(mutation, scope)| (mutation.as_str(), scope))
    .into();
    for mutation in Mutation::ALL {
        let scope = caught_by.get(mutation.as_str()).copied().unwrap_or(0);
        let explored = explored(SMALL[scope], Some(*mutation));
        assert!(explored.violation.is_some(), "nothing notices {}", mutation.as_str());
    }
}

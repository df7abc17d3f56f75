//! What goes wrong when: all of it from the seed.

use std::time::Duration;

use crate::nemesis::fault::{End, Fault, Harm, Server};

/// One moment of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// After the step before.
    pub(crate) rest: Duration,
    pub(crate) lasts: Duration,
    /// One, or two at once.
    pub(crate) faults: Vec<Fault>,
}

/// A plan that takes about this long, for so many gateways and so many writers after them.
pub(crate) fn plan(seed: u64, duration: Duration, gateways: usize, writers: usize) -> Vec<Step> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let (mut steps, mut total, mut deck) = (Vec::new(), Duration::ZERO, Vec::new());
    while total < duration {
        let rest = Duration::from_millis(chance.u64(1_500..4_000));
        let lasts = Duration::from_millis(chance.u64(500..5_000));
        let count = if chance.u8(..4) == 0 { 2 } else { 1 };
        let faults = (0..count).map(|_| draw(&mut deck, &mut chance, gateways, writers)).collect();
        steps.push(Step { rest, lasts, faults });
        // A restart takes a few seconds more.
        total += rest + lasts + Duration::from_secs(2);
    }
    steps
}

/// Every kind comes once before any comes again.
fn draw(deck: &mut Vec<Fault>, chance: &mut fastrand::Rng, gateways: usize, writers: usize) -> Fault {
    if deck.is_empty() {
        let processes = gateways + writers;
        let servers = [Server::Redis, Server::RabbitMq, Server::MariaDb];
        deck.extend(servers.map(Fault::Kill));
        deck.extend(servers.map(Fault::Freeze));
        deck.extend([
            Fault::KillProcess(chance.usize(..gateways)),
            Fault::KillProcess(chance.usize(gateways..processes)),
        ]);
        deck.extend([
            Fault::FreezeProcess(chance.usize(..gateways)),
            Fault::FreezeProcess(chance.usize(gateways..processes)),
        ]);
        deck.extend([Fault::EmptyRedis, Fault::DemoteRedis, Fault::FlushRedis, Fault::FlushScripts]);
        let keys = ["meta", "sales", "counters", "orders", "people", "outbox", "versions", "granted"];
        deck.push(Fault::DeleteKey(keys[chance.usize(..keys.len())]));
        deck.extend([Fault::CloseConnections, Fault::MemoryAlarm, Fault::DeleteExchange, Fault::DeleteBinding]);
        deck.extend([Fault::KillSessions, Fault::ReadOnly, Fault::LockOrders]);
        let harms = [
            Harm::Hold,
            Harm::HoldRequests,
            Harm::HoldAnswers,
            Harm::SwallowAnswers,
            Harm::Delay,
            Harm::Reset,
            Harm::CutAnswer,
        ];
        for end in [End::Redis, End::RabbitMq, End::MariaDb, End::Buyers] {
            for _ in 0..3 {
                let who = if end == End::Buyers { chance.usize(..gateways) } else { chance.usize(..processes) };
                deck.push(Fault::Link(who, end, harms[chance.usize(..harms.len())]));
            }
        }
        chance.shuffle(deck);
    }
    deck.pop().expect("a fault")
}

#[test]
fn a_plan_is_its_seeds_and_tries_everything_in_time() {
    let long = |seed| plan(seed, Duration::from_secs(900), 2, 2);
    assert_eq!(long(1), long(1));
    assert_ne!(long(1), long(2));
    let kinds: std::collections::BTreeSet<_> =
        long(1).iter().flat_map(|step| &step.faults).map(|fault| fault.kind()).collect();
    assert!(kinds.len() >= 24, "{kinds:#?}");
}

//! What must hold at every instant, and what must hold once everything is at rest.

use crate::world::{Ask, BUYERS, Known, Message, RECOVERERS, Row, Stage, World, bit};

/// The promise that this world breaks, if it breaks one.
pub(crate) fn broken(world: &World, units: i8) -> Option<String> {
    let live = world.store.live();
    if live > units {
        return Some(format!("{live} units are sold of {units}"));
    }
    for buyer in 0..BUYERS {
        let stored = world.store.rows[buyer] != Row::None;
        if world.asks[buyer] == Ask::Promised && !stored && !will_be_stored(world, buyer) {
            return Some(format!("buyer {buyer} heard yes, and the order is nowhere"));
        }
        // A stale order may be admitted again after its buyer, who had heard nothing, asked once more and heard no.
        let admitted_late = world.store.readmitted & bit(buyer) != 0;
        if world.asks[buyer] == Ask::Refused && stored && !admitted_late {
            return Some(format!("buyer {buyer} heard no, and the order is stored"));
        }
    }
    for (epoch, shelf) in (1..).zip(&world.shelves).filter(|(_, shelf)| shelf.served) {
        let taken = shelf.known.iter().filter(|known| matches!(known, Known::Held | Known::Paid)).count();
        if shelf.free < 0 || shelf.free + i8::try_from(taken).expect("few buyers") != units {
            return Some(format!("the inventory of epoch {epoch} does not add up: {shelf:?}"));
        }
    }
    for recoverer in &world.recoverers {
        let missing =
            (0..BUYERS).find(|buyer| recoverer.salvaged & bit(*buyer) != 0 && world.store.rows[*buyer] == Row::None);
        if let (Stage::Snapshot(_), Some(buyer)) = (recoverer.stage, missing) {
            return Some(format!(
                "the order of buyer {buyer} was in the old outbox, and the new epoch does not know it"
            ));
        }
    }
    if is_at_rest(world) { stranded(world, units, live) } else { None }
}

/// Is the order before the writer, in an epoch that it stores?
fn will_be_stored(world: &World, buyer: usize) -> bool {
    world.lane.iter().any(|message| match message {
        Message::Order { buyer: whose, epoch } => whose == buyer && epoch >= world.store.min_epoch,
        Message::Barrier { .. } => false,
    })
}

fn is_at_rest(world: &World) -> bool {
    let at_rest = |ask: &Ask| !matches!(ask, Ask::Reserved(_) | Ask::Published(_));
    world.is_whole()
        && world.lane.is_empty()
        && world.wire == [0; BUYERS]
        && world.store.returns | world.store.stale | world.store.late == 0
        && world.asks.iter().all(at_rest)
        && (0..RECOVERERS).all(|at| world.recoverers[at].stage == Stage::Idle)
}

/// The inventory agrees with the store, but for orders that the relay will still publish.
fn stranded(world: &World, units: i8, live: i8) -> Option<String> {
    let shelf = world.shelf(world.store.epoch);
    let mut pending = 0;
    for buyer in 0..BUYERS {
        let agreed = match (world.store.rows[buyer], shelf.known[buyer]) {
            (Row::None, Known::Held) if shelf.outbox & bit(buyer) != 0 => {
                pending += 1;
                true
            }
            (Row::None, Known::Nothing)
            | (Row::Held, Known::Held)
            // The inventory hears of a payment too, but nothing hangs on when.
            | (Row::Paid, Known::Held | Known::Paid)
            | (Row::Expired, Known::Ended) => true,
            _ => false,
        };
        if !agreed {
            let (row, known) = (world.store.rows[buyer], shelf.known[buyer]);
            return Some(format!(
                "at rest, the order of buyer {buyer} is {row:?} in the store and {known:?} in the inventory"
            ));
        }
    }
    let free = shelf.free;
    (free != units - live - pending)
        .then(|| format!("at rest, {free} units are free, with {live} sold and {pending} pending of {units}"))
}

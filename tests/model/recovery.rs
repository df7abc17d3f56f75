//! The seven steps by which a recoverer brings the next epoch up, each of which may be its last.

use crate::mutations::Mutation;
use crate::protocol::{Next, Protocol, Step};
use crate::world::{BUYERS, Epoch, IDLE, Known, Message, Recoverer, Row, Shelf, Stage, World, bit, mark};

/// What this recoverer may do next.
pub(crate) fn next(protocol: &Protocol, world: &World, at: usize, next: &mut Next) {
    let mut then = *world;
    let step = match world.recoverers[at].stage {
        Stage::Idle => begin(protocol, &mut then, at),
        Stage::Fenced | Stage::ExchangesDeleted | Stage::Redriven | Stage::BarrierSent => {
            if world.recoverers[at].stage == Stage::ExchangesDeleted {
                let mut unread = *world;
                unread.recoverers[at].stage = Stage::Redriven;
                next.push((Step::OutboxCannotBeRead(at), unread));
            }
            close(protocol, &mut then, at)
        }
        _ => Some(rebuild(protocol, &mut then, at)),
    };
    next.extend(step.map(|step| (step, then)));
}

/// Until everything that was confirmed in older epochs is in the store.
fn close(protocol: &Protocol, world: &mut World, at: usize) -> Option<Step> {
    let Recoverer { stage, epoch, .. } = world.recoverers[at];
    let is_stored = world.store.barriers & mark(epoch) != 0;
    let (stage, step) = match stage {
        Stage::Fenced if protocol.has(Mutation::BarrierBeforeFence) => {
            world.lane.push(Message::Barrier { epoch });
            (Stage::BarrierSent, Step::BarrierIsSent(at))
        }
        Stage::Fenced => {
            delete_exchanges(protocol, world, epoch);
            (Stage::ExchangesDeleted, Step::ExchangesAreDeleted(at))
        }
        Stage::ExchangesDeleted => {
            // A later try in the same epoch sends no barrier, so what it redrove would come too late.
            if is_stored || protocol.has(Mutation::RedriveAfterBarriers) || !redrive(world, at) {
                return None;
            }
            (Stage::Redriven, Step::OutboxIsRedriven(at))
        }
        Stage::Redriven => {
            if !is_stored {
                world.lane.push(Message::Barrier { epoch });
            }
            (Stage::BarrierSent, Step::BarrierIsSent(at))
        }
        _ => {
            if !is_stored && !protocol.has(Mutation::NoBarrierWait) {
                return None;
            }
            if protocol.has(Mutation::RedriveAfterBarriers) {
                redrive(world, at);
            }
            if protocol.has(Mutation::BarrierBeforeFence) {
                delete_exchanges(protocol, world, epoch);
            }
            (Stage::BarrierStored, Step::BarrierIsStored(at))
        }
    };
    world.recoverers[at].stage = stage;
    Some(step)
}

/// From there until the epoch is open.
fn rebuild(protocol: &Protocol, world: &mut World, at: usize) -> Step {
    let Recoverer { stage, epoch, restarted, .. } = world.recoverers[at];
    let snapshot_first = protocol.has(Mutation::SnapshotBeforeMinEpoch);
    let (stage, step) = match stage {
        // Whoever was overtaken must not make stale what the other has redriven.
        Stage::BarrierStored if world.store.epoch != epoch && !protocol.has(Mutation::MinEpochByAnybody) => {
            world.recoverers[at] = IDLE;
            return Step::EpochIsOver(at);
        }
        Stage::BarrierStored if !snapshot_first => {
            world.store.min_epoch = epoch.max(world.store.min_epoch);
            (Stage::MinEpochSet, Step::MinEpochIsSet(at))
        }
        Stage::BarrierStored | Stage::MinEpochSet => {
            world.recoverers[at].restarted = false;
            (Stage::Snapshot(snapshot(protocol, world)), Step::SnapshotIsRead(at))
        }
        Stage::Snapshot(known) => {
            let live = known.iter().filter(|known| matches!(known, Known::Held | Known::Paid)).count();
            let free = protocol.units - i8::try_from(live).expect("few buyers");
            *world.shelf_mut(epoch) = Shelf { free, known, outbox: 0, served: true };
            if snapshot_first {
                world.store.min_epoch = epoch.max(world.store.min_epoch);
            }
            (Stage::Rebuilt, Step::InventoryIsRebuilt(at))
        }
        Stage::Rebuilt if restarted => (Stage::Fenced, Step::InventoryRestartedMeanwhile(at)),
        Stage::Rebuilt => {
            world.exchanges |= mark(epoch);
            (Stage::ExchangeMade, Step::ExchangeIsMade(at))
        }
        _ => {
            world.recoverers[at] = IDLE;
            if world.store.epoch != epoch {
                return Step::EpochIsOver(at);
            }
            world.store.open = true;
            world.replaced = restarted;
            return Step::EpochIsOpened(at);
        }
    };
    world.recoverers[at].stage = stage;
    step
}

/// An epoch that is open but broken is followed by the next one, and so is one that another recoverer does not bring to its end.
fn begin(protocol: &Protocol, world: &mut World, at: usize) -> Option<Step> {
    let was_open = world.store.open;
    let step = if was_open {
        if world.is_whole() || protocol.has(Mutation::NoRunCheck) {
            return None;
        }
        Step::RecoveryBegins(at)
    } else if world.budget.takeovers > 0 {
        world.budget.takeovers -= 1;
        Step::RecoveryIsTakenOver(at)
    } else {
        return None;
    };
    if was_open || !protocol.has(Mutation::TakeoverKeepsEpoch) {
        world.store.epoch += 1;
    }
    world.store.open = false;
    world.recoverers[at] = Recoverer { stage: Stage::Fenced, epoch: world.store.epoch, ..IDLE };
    Some(step)
}

fn delete_exchanges(protocol: &Protocol, world: &mut World, epoch: Epoch) {
    if protocol.has(Mutation::NoExchangeFence) {
        return;
    }
    for older in world.store.min_epoch..epoch {
        world.exchanges &= !mark(older);
    }
}

/// Puts what the old outboxes still hold behind all that is in the lane. Returns whether there was anything.
fn redrive(world: &mut World, at: usize) -> bool {
    let mut salvaged = 0;
    for older in world.store.min_epoch..world.recoverers[at].epoch {
        // Who was replaced is not asked; whoever took over has what it had on disk.
        let shelf = if world.replaced { world.disk[usize::from(older) - 1] } else { *world.shelf(older) };
        for buyer in (0..BUYERS).filter(|buyer| shelf.outbox & bit(*buyer) != 0) {
            world.lane.push(Message::Order { buyer, epoch: older });
            salvaged |= bit(buyer);
        }
    }
    world.recoverers[at].salvaged = salvaged;
    salvaged != 0
}

fn snapshot(protocol: &Protocol, world: &World) -> [Known; BUYERS] {
    world.store.rows.map(|row| match row {
        Row::Held => Known::Held,
        Row::Paid => Known::Paid,
        Row::Expired if !protocol.has(Mutation::NoTombstone) => Known::Ended,
        Row::None | Row::Expired => Known::Nothing,
    })
}

//! The seven steps by which a recoverer brings the next epoch up, each of which may be its last.

use crate::mutations::Mutation;
use crate::protocol::{Next, Protocol, Step};
use crate::world::{BUYERS, Epoch, IDLE, Known, Message, Recoverer, Row, Shelf, Stage, World, bit, mark};

/// What this recoverer may do next.
pub(crate) fn next(protocol: &Protocol, world: &World, at: usize, next: &mut Next) {
    let Recoverer { stage, epoch, .. } = world.recoverers[at];
    let mut then = *world;
    let step = match stage {
        Stage::Idle => return begin(protocol, world, at, next),
        Stage::Fenced if protocol.has(Mutation::BarrierBeforeFence) => {
            then.lane.push(Message::Barrier { epoch });
            then.recoverers[at].stage = Stage::BarrierSent;
            Step::BarrierIsSent(at)
        }
        Stage::Fenced => {
            delete_exchanges(protocol, &mut then, epoch);
            then.recoverers[at].stage = Stage::ExchangesDeleted;
            Step::ExchangesAreDeleted(at)
        }
        Stage::ExchangesDeleted => {
            let mut unread = *world;
            unread.recoverers[at].stage = Stage::Redriven;
            next.push((Step::OutboxCannotBeRead(at), unread));
            if protocol.has(Mutation::RedriveAfterBarriers) || !redrive(&mut then, at) {
                return;
            }
            then.recoverers[at].stage = Stage::Redriven;
            Step::OutboxIsRedriven(at)
        }
        Stage::Redriven => {
            // A barrier of an earlier try counts: what was confirmed is before it. What this try redrives may be behind it.
            if world.store.barriers & mark(epoch) == 0 {
                then.lane.push(Message::Barrier { epoch });
            }
            then.recoverers[at].stage = Stage::BarrierSent;
            Step::BarrierIsSent(at)
        }
        Stage::BarrierSent => {
            if world.store.barriers & mark(epoch) == 0 && !protocol.has(Mutation::NoBarrierWait) {
                return;
            }
            if protocol.has(Mutation::RedriveAfterBarriers) {
                redrive(&mut then, at);
            }
            if protocol.has(Mutation::BarrierBeforeFence) {
                delete_exchanges(protocol, &mut then, epoch);
            }
            then.recoverers[at].stage = Stage::BarrierStored;
            Step::BarrierIsStored(at)
        }
        // Whoever was overtaken must not make stale what the other has redriven.
        Stage::BarrierStored if world.store.epoch != epoch && !protocol.has(Mutation::MinEpochByAnybody) => {
            then.recoverers[at] = IDLE;
            Step::EpochIsOver(at)
        }
        Stage::BarrierStored => {
            if protocol.has(Mutation::SnapshotBeforeMinEpoch) {
                then.recoverers[at].stage = Stage::Snapshot(snapshot(protocol, world));
                Step::SnapshotIsRead(at)
            } else {
                then.store.min_epoch = epoch.max(world.store.min_epoch);
                then.recoverers[at].stage = Stage::MinEpochSet;
                Step::MinEpochIsSet(at)
            }
        }
        Stage::MinEpochSet => {
            then.recoverers[at].restarted = false;
            then.recoverers[at].stage = Stage::Snapshot(snapshot(protocol, world));
            Step::SnapshotIsRead(at)
        }
        Stage::Snapshot(known) => {
            let live = known.iter().filter(|known| matches!(known, Known::Held | Known::Paid)).count();
            let free = protocol.units - i8::try_from(live).expect("few buyers");
            *then.shelf_mut(epoch) = Shelf { free, known, outbox: 0, served: true };
            then.recoverers[at].stage = Stage::Rebuilt;
            if protocol.has(Mutation::SnapshotBeforeMinEpoch) {
                then.store.min_epoch = epoch.max(world.store.min_epoch);
            }
            Step::InventoryIsRebuilt(at)
        }
        Stage::Rebuilt if world.recoverers[at].restarted => {
            then.recoverers[at].stage = Stage::Fenced;
            Step::InventoryRestartedMeanwhile(at)
        }
        Stage::Rebuilt => {
            then.exchanges |= mark(epoch);
            then.recoverers[at].stage = Stage::ExchangeMade;
            Step::ExchangeIsMade(at)
        }
        Stage::ExchangeMade => {
            then.recoverers[at] = IDLE;
            if world.store.epoch == epoch {
                then.store.open = true;
                then.replaced = world.recoverers[at].restarted;
                Step::EpochIsOpened(at)
            } else {
                Step::EpochIsOver(at)
            }
        }
    };
    next.push((step, then));
}

/// An epoch that is open but broken is followed by the next one, and so is one that another recoverer does not bring to its end.
fn begin(protocol: &Protocol, world: &World, at: usize, next: &mut Next) {
    let mut then = *world;
    let step = if world.store.open {
        if world.is_whole() || protocol.has(Mutation::NoRunCheck) {
            return;
        }
        Step::RecoveryBegins(at)
    } else if world.budget.takeovers > 0 {
        then.budget.takeovers -= 1;
        Step::RecoveryIsTakenOver(at)
    } else {
        return;
    };
    if world.store.open || !protocol.has(Mutation::TakeoverKeepsEpoch) {
        then.store.epoch += 1;
    }
    then.store.open = false;
    then.recoverers[at] = Recoverer { stage: Stage::Fenced, epoch: then.store.epoch, restarted: false, salvaged: 0 };
    next.push((step, then));
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

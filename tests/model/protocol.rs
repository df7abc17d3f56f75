//! Every step that any party may take next: the buyers and their gateways, the broker, the writer, the store's deciders.
//!
//! A party that dies is one that takes no further step; whoever comes after it finds what it left. A process may have joined an
//! epoch that is over, and its inventory may still serve it: the model lets it act there.

use crate::mutations::Mutation;
use crate::recovery;
use crate::world::{Ask, BUYERS, Budget, Epoch, Known, LAST_EPOCH, Message, RECOVERERS, Row, World, bit, mark};

/// One protocol: how much there is, what may go wrong, and what is wrong with the protocol itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) units: i8,
    pub(crate) budget: Budget,
    /// `None`: it is as it should be.
    pub(crate) mutation: Option<Mutation>,
}

/// What happened, for a trace. The number is the buyer or the recoverer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    InventoryGrants(usize),
    InventoryRefuses(usize),
    GatewayPublishes(usize),
    BuyerHearsYes(usize),
    BuyerHearsNothing(usize),
    BuyerHearsNothingAndTheUnitIsGivenBack(usize),
    BuyerAsksAgain(usize),
    GatewayJoins(usize),
    RelayPublishes(usize, Epoch),
    BrokerConfirms(usize, Epoch),
    BrokerIsOvertaken(usize, Epoch),
    BrokerRefuses(usize, Epoch),
    MessageIsLost(usize, Epoch),
    WriterStores(Message),
    WriterStoresAndDies(Message),
    OrderExpires(usize),
    OrderIsPaid(usize),
    PaymentComesLate(usize),
    UnitIsTakenAgain(usize, Epoch),
    LatePaymentIsRefunded(usize, Epoch),
    LatePaymentIsSettled(usize),
    LatePaymentWaitsForTheNextEpoch(usize),
    UnitReturns(usize, Epoch),
    UnitReturnsAndTheCarrierDies(usize, Epoch),
    StaleOrderIsAdmitted(usize),
    StaleOrderIsRefused(usize),
    InventoryPersists,
    InventoryRestarts,
    InventoryIsReplaced,
    RecoveryBegins(usize),
    RecoveryIsTakenOver(usize),
    ExchangesAreDeleted(usize),
    OutboxIsRedriven(usize),
    OutboxCannotBeRead(usize),
    BarrierIsSent(usize),
    BarrierIsStored(usize),
    MinEpochIsSet(usize),
    SnapshotIsRead(usize),
    InventoryIsRebuilt(usize),
    InventoryRestartedMeanwhile(usize),
    ExchangeIsMade(usize),
    EpochIsOpened(usize),
    EpochIsOver(usize),
}

/// The worlds that may come next.
pub(crate) type Next = Vec<(Step, World)>;

impl Protocol {
    pub(crate) fn first(&self) -> World {
        World::new(self.units, self.budget)
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(crate) fn next(&self, world: &World, next: &mut Next) {
        for buyer in 0..BUYERS {
            self.gateway(world, buyer, next);
            self.broker(world, buyer, next);
            store(world, buyer, next);
            self.late_payment(world, buyer, next);
            for epoch in served(world) {
                self.returns(world, (buyer, epoch), next);
            }
            readmission(world, buyer, next);
        }
        self.writer(world, next);
        self.inventory(world, next);
        for recoverer in 0..RECOVERERS {
            recovery::next(self, world, recoverer, next);
        }
    }

    fn gateway(&self, world: &World, buyer: usize, next: &mut Next) {
        let joined = world.joined[buyer];
        let mut ask = |step, ask| {
            let mut then = *world;
            then.asks[buyer] = ask;
            next.push((step, then));
        };
        match world.asks[buyer] {
            Ask::Fresh if world.shelf(joined).served => match world.shelf(joined).known[buyer] {
                Known::Nothing if world.shelf(joined).free > 0 => {
                    let mut then = *world;
                    then.shelf_mut(joined).grant(buyer);
                    then.asks[buyer] = Ask::Reserved(joined);
                    next.push((Step::InventoryGrants(buyer), then));
                }
                Known::Nothing => ask(Step::InventoryRefuses(buyer), Ask::Refused),
                Known::Held => ask(Step::InventoryGrants(buyer), Ask::Reserved(joined)),
                Known::Paid => ask(Step::BuyerHearsYes(buyer), Ask::Promised),
                Known::Ended => ask(Step::InventoryRefuses(buyer), Ask::Ended),
            },
            Ask::Reserved(epoch) => {
                ask(Step::BuyerHearsNothing(buyer), Ask::Pending);
                let mut then = *world;
                then.wire[buyer] |= mark(epoch);
                then.asks[buyer] = Ask::Published(epoch);
                next.push((Step::GatewayPublishes(buyer), then));
            }
            Ask::Published(epoch) => {
                ask(Step::BuyerHearsNothing(buyer), Ask::Pending);
                if world.confirmed[buyer] & mark(epoch) != 0 || self.has(Mutation::ReplyBeforeConfirm) {
                    ask(Step::BuyerHearsYes(buyer), Ask::Promised);
                }
                let keys = world.shelf(epoch);
                if self.has(Mutation::ReleaseOnTimeout) && keys.served && keys.known[buyer] == Known::Held {
                    let mut then = *world;
                    then.shelf_mut(epoch).known[buyer] = Known::Nothing;
                    then.shelf_mut(epoch).free += 1;
                    then.asks[buyer] = Ask::Pending;
                    next.push((Step::BuyerHearsNothingAndTheUnitIsGivenBack(buyer), then));
                }
            }
            Ask::Pending if world.budget.retries[buyer] > 0 => {
                let mut then = *world;
                then.asks[buyer] = Ask::Fresh;
                then.budget.retries[buyer] -= 1;
                next.push((Step::BuyerAsksAgain(buyer), then));
            }
            Ask::Fresh | Ask::Pending | Ask::Promised | Ask::Refused | Ask::Ended => {}
        }
        if world.store.open && joined != world.store.epoch {
            let mut then = *world;
            then.joined[buyer] = world.store.epoch;
            next.push((Step::GatewayJoins(buyer), then));
        }
        if world.budget.relays[buyer] > 0 {
            for epoch in served(world).filter(|epoch| world.shelf(*epoch).outbox & bit(buyer) != 0) {
                let mut then = *world;
                then.wire[buyer] |= mark(epoch);
                then.budget.relays[buyer] -= 1;
                next.push((Step::RelayPublishes(buyer, epoch), then));
            }
        }
    }

    /// A publish is under way until the broker has it, refuses it, or loses it.
    fn broker(&self, world: &World, buyer: usize, next: &mut Next) {
        for epoch in (1..=LAST_EPOCH).filter(|epoch| world.wire[buyer] & mark(*epoch) != 0) {
            let mut then = *world;
            then.wire[buyer] &= !mark(epoch);
            let lost = then;
            if world.exchanges & mark(epoch) != 0 {
                then.lane.push(Message::Order { buyer, epoch });
                then.confirmed[buyer] |= mark(epoch);
                next.push((Step::BrokerConfirms(buyer, epoch), then));
            } else {
                if then.asks[buyer] == Ask::Published(epoch) {
                    then.asks[buyer] = Ask::Pending;
                }
                next.push((Step::BrokerRefuses(buyer, epoch), then));
                if world.budget.overtakings > 0 {
                    let mut then = lost;
                    then.budget.overtakings -= 1;
                    then.lane.push(Message::Order { buyer, epoch });
                    // With the margin its confirm comes when nobody waits for it any more.
                    if self.has(Mutation::NoFenceMargin) {
                        then.confirmed[buyer] |= mark(epoch);
                    }
                    next.push((Step::BrokerIsOvertaken(buyer, epoch), then));
                }
            }
            if world.budget.losses > 0 {
                let mut then = lost;
                then.budget.losses -= 1;
                next.push((Step::MessageIsLost(buyer, epoch), then));
            }
        }
    }

    fn writer(&self, world: &World, next: &mut Next) {
        let Some(message) = world.lane.first() else { return };
        let mut then = *world;
        match message {
            Message::Barrier { epoch } => then.store.barriers |= mark(epoch),
            Message::Order { buyer, epoch } if world.store.rows[buyer] == Row::None => {
                let too_late = epoch < world.store.min_epoch && !self.has(Mutation::NoMinEpoch);
                if too_late && !self.has(Mutation::StaleIsStored) {
                    then.store.stale |= bit(buyer);
                } else {
                    then.store.rows[buyer] = Row::Held;
                }
            }
            Message::Order { .. } => {}
        }
        if then.store != world.store {
            next.push((Step::WriterStoresAndDies(message), then));
        }
        then.lane.pop();
        if let Message::Order { buyer, epoch } = message
            && then.shelf(epoch).served
        {
            then.shelf_mut(epoch).outbox &= !bit(buyer);
        }
        next.push((Step::WriterStores(message), then));
    }

    /// First the inventory gives the units again, then the store settles, if the epoch is still the one that gave them.
    fn late_payment(&self, world: &World, buyer: usize, next: &mut Next) {
        if world.store.late & bit(buyer) == 0 {
            return;
        }
        let epoch = world.revived[buyer];
        if epoch == 0 {
            for epoch in served(world) {
                let mut then = *world;
                let keys = then.shelf_mut(epoch);
                let taken = match keys.known[buyer] {
                    Known::Held | Known::Paid => true,
                    Known::Ended if keys.free > 0 => {
                        keys.free -= 1;
                        true
                    }
                    Known::Ended | Known::Nothing => false,
                };
                if taken {
                    keys.known[buyer] = Known::Paid;
                    then.revived[buyer] = epoch;
                    next.push((Step::UnitIsTakenAgain(buyer, epoch), then));
                } else {
                    then.store.late &= !bit(buyer);
                    next.push((Step::LatePaymentIsRefunded(buyer, epoch), then));
                }
            }
            return;
        }
        let mut then = *world;
        then.revived[buyer] = 0;
        if epoch == world.store.epoch || self.has(Mutation::SettleWithoutEpochCheck) {
            then.store.rows[buyer] = Row::Paid;
            then.store.late &= !bit(buyer);
            next.push((Step::LatePaymentIsSettled(buyer), then));
        } else {
            next.push((Step::LatePaymentWaitsForTheNextEpoch(buyer), then));
        }
    }

    /// A move stays in the store until the inventory of the store's epoch has followed it.
    fn returns(&self, world: &World, (buyer, epoch): (usize, Epoch), next: &mut Next) {
        if world.store.returns & bit(buyer) == 0 {
            return;
        }
        let mut then = *world;
        let keys = then.shelf_mut(epoch);
        let goes_back = match keys.known[buyer] {
            Known::Held => true,
            Known::Paid => self.has(Mutation::ReturnUndoesRevival),
            Known::Nothing | Known::Ended => false,
        };
        if goes_back || self.has(Mutation::ReleaseNotIdempotent) {
            keys.known[buyer] = Known::Ended;
            keys.free += 1;
            next.push((Step::UnitReturnsAndTheCarrierDies(buyer, epoch), then));
        }
        if epoch == world.store.epoch || self.has(Mutation::ReturnsTrustAnyEpoch) {
            then.store.returns &= !bit(buyer);
            next.push((Step::UnitReturns(buyer, epoch), then));
        }
    }

    fn inventory(&self, world: &World, next: &mut Next) {
        if world.budget.restarts + world.budget.failovers == 0 {
            return;
        }
        if world.disk != world.shelves {
            next.push((Step::InventoryPersists, World { disk: world.shelves, ..*world }));
        }
        if world.budget.restarts > 0 {
            let mut then = *world;
            then.budget.restarts -= 1;
            then.shelves = world.disk;
            if !self.has(Mutation::NoRunCheck) {
                then.shelves.iter_mut().for_each(|keys| keys.served = false);
            }
            then.recoverers.iter_mut().for_each(|recoverer| recoverer.restarted = true);
            next.push((Step::InventoryRestarts, then));
        }
        if world.budget.failovers > 0 {
            let mut then = *world;
            then.budget.failovers -= 1;
            then.replaced = true;
            then.recoverers.iter_mut().for_each(|recoverer| recoverer.restarted = true);
            next.push((Step::InventoryIsReplaced, then));
        }
    }
}

/// An order's end is decided in the store alone.
fn store(world: &World, buyer: usize, next: &mut Next) {
    let mut then = *world;
    match world.store.rows[buyer] {
        Row::Held => {
            then.store.rows[buyer] = Row::Paid;
            next.push((Step::OrderIsPaid(buyer), then));
            then.store.rows[buyer] = Row::Expired;
            then.store.returns |= bit(buyer);
            next.push((Step::OrderExpires(buyer), then));
        }
        Row::Expired if world.budget.late_payments > 0 && world.store.late & bit(buyer) == 0 => {
            then.store.late |= bit(buyer);
            then.budget.late_payments -= 1;
            next.push((Step::PaymentComesLate(buyer), then));
        }
        Row::None | Row::Paid | Row::Expired => {}
    }
}

fn readmission(world: &World, buyer: usize, next: &mut Next) {
    if world.store.stale & bit(buyer) == 0 || !world.is_whole() {
        return;
    }
    let mut then = *world;
    then.store.stale &= !bit(buyer);
    let keys = then.shelf_mut(world.store.epoch);
    if keys.known[buyer] == Known::Nothing && keys.free > 0 {
        keys.grant(buyer);
        then.store.readmitted |= bit(buyer);
        next.push((Step::StaleOrderIsAdmitted(buyer), then));
    } else {
        next.push((Step::StaleOrderIsRefused(buyer), then));
    }
}

/// The epochs whose inventory serves those who have joined them.
fn served(world: &World) -> impl Iterator<Item = Epoch> + use<> {
    let shelves = world.shelves;
    (1..=LAST_EPOCH).filter(move |epoch| shelves[usize::from(*epoch) - 1].served)
}

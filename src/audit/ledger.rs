//! The store by itself: I1, I4, I6 and I8 over a walk through a sale's orders.
//!
//! The walk is no consistent view: the sale goes on meanwhile. So nothing is held against an order by what was seen in passing;
//! it is a suspicion, which a second look proves or drops.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use futures_util::future::try_join_all;

use crate::audit::report::{Finding, Invariant};
use crate::audit::{Interrupted, SUSPECTS};
use crate::domain::{
    BuyerId, Limits, Order, OrderEvent, OrderId, OrderStatus, PassengerId, PoolId, Sale, SaleDocument, UnixMillis,
};
use crate::store::{Fault, OrderFilter, OrderRow, PaymentRow, PaymentState, SaleTally, Store};

/// Orders of a page that are looked up at once: their histories and payments are single queries.
const LOOKUPS: usize = 16;
/// How often an order that changes under the look is looked at again.
const LOOKS: usize = 5;

/// What is remembered of a walk: a count per person as 64 bits of hash, since the names of millions would not fit.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    store: &'a dyn Store,
    sale: &'a Sale,
    limits: Limits,
    hasher: RandomState,
    buyers: HashMap<u64, u32>,
    passengers: HashMap<u64, u32>,
    many_buyers: HashSet<BuyerId>,
    many_passengers: HashSet<PassengerId>,
    illegal: Vec<OrderId>,
    misplaced: Vec<OrderId>,
    twice: Vec<OrderId>,
    /// They have payments that wait for them, though they are there.
    pub(super) unmatched: Vec<OrderId>,
    /// The newest live orders of each leg that is over its capacity.
    over: BTreeMap<(PoolId, u8), BTreeSet<(UnixMillis, OrderId)>>,
    last: Option<OrderId>,
    pub(super) seen: u64,
}

/// What is wrong with one order's own story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Story {
    illegal: bool,
    misplaced: bool,
    /// So that it is misplaced.
    unmatched: bool,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(store: &'a dyn Store, sale: &'a Sale, limits: Limits, tally: &SaleTally) -> Self {
        let over = tally.legs.iter().filter(|leg| leg.held.saturating_add(leg.paid) > leg.capacity);
        Self {
            store,
            sale,
            limits,
            hasher: RandomState::new(),
            buyers: HashMap::new(),
            passengers: HashMap::new(),
            many_buyers: HashSet::new(),
            many_passengers: HashSet::new(),
            illegal: Vec::new(),
            misplaced: Vec::new(),
            twice: Vec::new(),
            unmatched: Vec::new(),
            over: over.map(|leg| ((leg.pool.clone(), leg.leg), BTreeSet::new())).collect(),
            last: None,
            seen: 0,
        }
    }

    /// Takes note of a page, whose orders come by id.
    pub(super) async fn see(&mut self, rows: &[OrderRow]) -> Result<(), Fault> {
        for row in rows {
            self.seen += 1;
            if self.last.is_some_and(|last| row.order.id <= last) {
                self.twice.push(row.order.id);
            }
            self.last = Some(row.order.id);
            if row.status.is_live() {
                self.count(&row.order);
                self.crowd(row);
            }
        }
        for chunk in rows.chunks(LOOKUPS) {
            let stories = try_join_all(chunk.iter().map(|row| story(self.store, row))).await?;
            for (row, story) in chunk.iter().zip(stories) {
                note(&mut self.illegal, story.illegal, row.order.id);
                note(&mut self.misplaced, story.misplaced, row.order.id);
                note(&mut self.unmatched, story.unmatched, row.order.id);
            }
        }
        Ok(())
    }

    fn count(&mut self, order: &Order) {
        let count = self.buyers.entry(self.hasher.hash_one(&order.buyer)).or_default();
        *count = count.saturating_add(order.units());
        if *count > self.limits.per_buyer && self.many_buyers.len() < SUSPECTS {
            self.many_buyers.insert(order.buyer.clone());
        }
        for line in &order.lines {
            let Some(passenger) = &line.passenger else { continue };
            let count = self.passengers.entry(self.hasher.hash_one(passenger)).or_default();
            *count = count.saturating_add(line.quantity);
            if *count > self.limits.per_passenger && self.many_passengers.len() < SUSPECTS {
                self.many_passengers.insert(passenger.clone());
            }
        }
    }

    fn crowd(&mut self, row: &OrderRow) {
        for ((pool, leg), newest) in &mut self.over {
            let is_on_it = |line: &crate::domain::Line| line.pool == *pool && line.legs.iter().contains(leg);
            if row.order.lines.iter().any(is_on_it) {
                newest.insert((row.recorded_at, row.order.id));
                if newest.len() > crate::audit::report::NAMED {
                    newest.pop_first();
                }
            }
        }
    }

    /// What the walk proves, after a second look at every suspicion.
    pub(super) async fn findings(self, tally: &SaleTally) -> Result<Vec<Finding>, Fault> {
        let mut findings = self.capacity(tally);
        let mut add = |invariant, what: &str, orders: &[OrderId]| {
            if !orders.is_empty() {
                findings.push(Finding::broken(invariant, what, orders));
            }
        };
        add(Invariant::I4, "orders come twice", &self.twice);
        add(Invariant::I6, "the history is no legal path to the order's status", &self.illegal);
        add(Invariant::I8, "the payments do not fit the order's status", &self.misplaced);
        for buyer in &self.many_buyers {
            let orders = self.orders_of(buyer).await?;
            let (units, orders) = self.still_live(orders, Order::units).await?;
            if units > self.limits.per_buyer {
                let what = format!("a buyer has {units} units, and may have {}", self.limits.per_buyer);
                add(Invariant::I4, &what, &orders);
            }
        }
        for (passenger, orders) in self.orders_with_passengers().await? {
            let places = |order: &Order| places(order, &passenger);
            let (units, orders) = self.still_live(orders, places).await?;
            if units > self.limits.per_passenger {
                let what = format!("a passenger has {units} places, and may have {}", self.limits.per_passenger);
                add(Invariant::I4, &what, &orders);
            }
        }
        Ok(findings)
    }

    /// The guard and what it guards, which one view of the store shows together.
    fn capacity(&self, tally: &SaleTally) -> Vec<Finding> {
        let mut findings = Vec::new();
        for pool in &self.sale.pools {
            for leg in 0..self.sale.leg_count() {
                let Some(guard) = tally.legs.iter().find(|guard| guard.pool == pool.id && guard.leg == leg) else {
                    findings.push(Finding::broken(Invariant::I1, format!("{}/{leg} has no guard", pool.id), &[]));
                    continue;
                };
                let live = guard.held.saturating_add(guard.paid);
                if live != guard.live {
                    let what =
                        format!("{}/{leg}: the guard counts {} live units, the orders {live}", pool.id, guard.live);
                    findings.push(Finding::broken(Invariant::I1, what, &[]));
                }
                if live > guard.capacity {
                    let what = format!("{}/{leg}: {live} live units of {}", pool.id, guard.capacity);
                    let newest = self.over.get(&(pool.id.clone(), leg));
                    let newest: Vec<_> = newest.into_iter().flatten().rev().map(|(_, id)| *id).collect();
                    findings.push(Finding::broken(Invariant::I1, what, &newest));
                }
            }
        }
        findings
    }

    /// The live orders of a buyer.
    async fn orders_of(&self, buyer: &BuyerId) -> Result<Vec<OrderRow>, Fault> {
        let filter = OrderFilter {
            sale: Some(self.sale.id.clone()),
            buyer: Some(buyer.clone()),
            limit: 1000,
            fresh: true,
            ..OrderFilter::default()
        };
        let rows = self.store.orders(&filter).await?;
        Ok(rows.into_iter().filter(|row| row.status.is_live()).collect())
    }

    /// The live orders of every suspected passenger, by a second walk: nobody finds orders by passenger.
    async fn orders_with_passengers(&self) -> Result<HashMap<PassengerId, Vec<OrderRow>>, Fault> {
        let mut found: HashMap<PassengerId, Vec<OrderRow>> = HashMap::new();
        if self.many_passengers.is_empty() {
            return Ok(found);
        }
        let mut after = Some(OrderId([0; 16]));
        while let Some(from) = after {
            let rows = crate::audit::page(self.store, &self.sale.id, from).await?;
            after = rows.last().map(|row| row.order.id);
            for row in rows.into_iter().filter(|row| row.status.is_live()) {
                for passenger in row.order.lines.iter().filter_map(|line| line.passenger.as_ref()) {
                    if self.many_passengers.contains(passenger) {
                        found.entry(passenger.clone()).or_default().push(row.clone());
                    }
                }
            }
        }
        Ok(found)
    }

    /// Of orders that were all live when they were read, those that still are, and their units. Only an expired order becomes
    /// live again, so those that are unchanged or never expired were live together at the moment between the two looks.
    async fn still_live(
        &self,
        orders: Vec<OrderRow>,
        units: impl Fn(&Order) -> u32,
    ) -> Result<(u32, Vec<OrderId>), Fault> {
        let (mut sum, mut live) = (0_u32, Vec::new());
        for row in orders {
            let history = self.store.history(row.order.id).await?;
            let is_unchanged = history.last() == Some(&(row.changed_at, row.status));
            if is_unchanged || history.iter().all(|(_, status)| status.is_live()) {
                sum = sum.saturating_add(units(&row.order));
                live.push(row.order.id);
            }
        }
        Ok((sum, live))
    }
}

fn places(order: &Order, passenger: &PassengerId) -> u32 {
    order.lines.iter().filter(|line| line.passenger.as_ref() == Some(passenger)).map(|line| line.quantity).sum()
}

fn note(list: &mut Vec<OrderId>, wrong: bool, id: OrderId) {
    if wrong && list.len() < SUSPECTS {
        list.push(id);
    }
}

/// The highest limits that the sale ever had: an order that was within the limit of its day stays within it.
pub(super) async fn limits_ever(store: &dyn Store, sale: &Sale) -> Result<Limits, Fault> {
    let mut limits = sale.limits;
    for change in store.changes(Some(sale.id.as_str()), 1000).await? {
        for text in [&change.before, &change.after] {
            let Ok(document) = serde_json::from_str::<SaleDocument>(text) else { continue };
            limits.per_buyer = limits.per_buyer.max(document.limit_per_buyer.unwrap_or(0));
            limits.per_passenger = limits.per_passenger.max(document.limit_per_passenger.unwrap_or(0));
        }
    }
    Ok(limits)
}

/// Judges one order's history and payments: in passing first, and with care if that looks wrong.
async fn story(store: &dyn Store, row: &OrderRow) -> Result<Story, Fault> {
    let id = row.order.id;
    let seen = judge(row, &store.history(id).await?, &store.payments(id).await?);
    if seen == Story::default() {
        return Ok(seen);
    }
    for _ in 0..LOOKS {
        let before = store.history(id).await?;
        let Some(row) = store.order(id).await? else { return Ok(seen) };
        let payments = store.payments(id).await?;
        if store.history(id).await? == before {
            return Ok(judge(&row, &before, &payments));
        }
    }
    Ok(Story::default())
}

fn judge(row: &OrderRow, history: &[(UnixMillis, OrderStatus)], payments: &[PaymentRow]) -> Story {
    let unmatched = payments.iter().any(|payment| payment.state == PaymentState::Unmatched);
    Story { illegal: !is_legal(row.status, history), misplaced: !fit(row, payments), unmatched }
}

/// From held, by events that are for their states, to the status that the order has.
fn is_legal(status: OrderStatus, history: &[(UnixMillis, OrderStatus)]) -> bool {
    let begins = history.first().is_some_and(|(_, first)| *first == OrderStatus::Held);
    let follows = |pair: &[(UnixMillis, OrderStatus)]| {
        OrderEvent::ALL.into_iter().any(|event| pair[0].1.after(event) == Some(pair[1].1))
    };
    begins && history.windows(2).all(follows) && history.last().is_some_and(|(_, last)| *last == status)
}

/// A paid order has one payment of its price; a refunded one has one whose money is due back; no other has any; and none waits
/// for an order that is there.
fn fit(row: &OrderRow, payments: &[PaymentRow]) -> bool {
    let of = |state| payments.iter().filter(move |payment| payment.state == state);
    let of_price = |state| of(state).any(|payment| payment.event.paid == row.order.price);
    let applied = of(PaymentState::Applied).count();
    let fits = match row.status {
        OrderStatus::Paid => applied == 1 && of_price(PaymentState::Applied),
        OrderStatus::Refunded => applied == 0 && of_price(PaymentState::RefundDue),
        OrderStatus::Held | OrderStatus::Expired | OrderStatus::Cancelled => applied == 0,
    };
    fits && of(PaymentState::Unmatched).next().is_none()
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

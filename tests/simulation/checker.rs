//! What must hold, looked up in the raw content of the store and the inventory and in what clients were told. It never asks the system
//! whether it is right. The names are those of the promises: I1 to I11.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use rushgate::domain::{BuyerId, OrderId, OrderStatus, PassengerId, PoolId, Sale, SaleId, Scope};
use rushgate::inventory::memory::MemoryInventory;
use rushgate::inventory::{Inventory, KnownOrder};
use rushgate::store::{OrderRow, PaymentState};
use tokio_util::sync::CancellationToken;

use crate::faults::Sky;
use crate::ledger::{Ledger, Request};
use crate::memory_store::{MemoryStore, State};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

/// Sees every change of the store and of the inventory, and all that clients do.
#[derive(Debug)]
pub(crate) struct Watcher {
    sky: Arc<Sky>,
    sales: Vec<Sale>,
    ledger: Mutex<Ledger>,
    violation: Mutex<Option<Violation>>,
    pub(crate) violated: CancellationToken,
    /// How many orders and events the store had when it was last looked at.
    seen: Mutex<(usize, usize)>,
}

type Leg<'a> = (&'a SaleId, &'a PoolId, u8);

impl Watcher {
    pub(crate) fn new(sky: &Arc<Sky>, sales: Vec<Sale>) -> Self {
        Self {
            sky: Arc::clone(sky),
            sales,
            ledger: Mutex::default(),
            violation: Mutex::default(),
            violated: CancellationToken::new(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sales(&self) -> &[Sale] {
        &self.sales
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A promise is broken; the first one counts.
    pub(crate) fn breaks(&self, invariant: &'static str, what: impl Into<String>) {
        let what = what.into();
        self.sky.trace.note(|| format!("VIOLATION {invariant}: {what}"));
        let mut violation = self.violation.lock().unwrap_or_else(PoisonError::into_inner);
        violation.get_or_insert(Violation { invariant, what });
        self.violated.cancel();
    }

    fn check(&self, invariant: &'static str, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.breaks(invariant, what());
        }
    }

    /// I1 and I4, at every commit that changes an order.
    pub(crate) fn store_changed(&self, store: &MemoryStore) {
        let state = store.state();
        let now = (state.orders.len(), state.events.len());
        if std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now) == now {
            return;
        }
        let live = || state.orders.values().filter(|row| row.status.is_live());
        for ((sale, pool, leg), units) in units(live()) {
            let capacity =
                self.sale(sale).and_then(|sale| sale.pool(pool.as_str())).map_or(0, |(_, pool)| pool.capacity);
            self.check("I1", units <= capacity, || {
                format!("{units} of {capacity} units of {sale}/{pool}/{leg} are live")
            });
        }
        let (mut buyers, mut passengers) = (BTreeMap::<_, u32>::new(), BTreeMap::<_, u32>::new());
        for row in live() {
            *buyers.entry((&row.order.sale, &row.order.buyer)).or_default() += row.order.units();
            for line in &row.order.lines {
                if let Some(passenger) = &line.passenger {
                    *passengers.entry((&row.order.sale, passenger)).or_default() += line.quantity;
                }
            }
        }
        let over = |(sale, buyer): (&SaleId, &BuyerId), units| {
            self.sale(sale).is_some_and(|sale| units > sale.limits.per_buyer).then(|| format!("{buyer} has {units}"))
        };
        buyers.into_iter().filter_map(|(who, units)| over(who, units)).for_each(|what| self.breaks("I4", what));
        let over = |(sale, who): (&SaleId, &PassengerId), units| {
            self.sale(sale).is_some_and(|sale| units > sale.limits.per_passenger).then(|| format!("{who} has {units}"))
        };
        passengers.into_iter().filter_map(|(who, units)| over(who, units)).for_each(|what| self.breaks("I4", what));
    }

    /// I2, at every move: the counters add up, and they say what the inventory's own orders say.
    pub(crate) fn inventory_changed(&self, scope: Scope, memory: &MemoryInventory) {
        let known = orders_of(memory, scope);
        let units_of = |status| {
            let orders = known.iter().filter(move |known| known.status == status).map(|known| &known.order);
            units_of_orders(orders)
        };
        let (held, sold) = (units_of(OrderStatus::Held), units_of(OrderStatus::Paid));
        for sale in &self.sales {
            // A scope that is closed cannot be sold from, whatever it has.
            let Some(Ok(stock)) = memory.stock(scope, &sale.id).now_or_never() else { return };
            for leg in stock {
                let capacity = sale.pool(leg.pool.as_str()).map_or(0, |(_, pool)| pool.capacity);
                let key = (&leg.sale, &leg.pool, leg.leg);
                let of = |units: &BTreeMap<Leg<'_>, u32>| units.get(&key).copied().unwrap_or(0);
                let adds_up = leg.free + leg.held + leg.sold == capacity;
                let is_true = (leg.held, leg.sold) == (of(&held), of(&sold));
                self.check("I2", adds_up && is_true, || {
                    format!("{scope} {leg:?}: capacity {capacity}, orders hold {} and {}", of(&held), of(&sold))
                });
            }
        }
    }

    fn sale(&self, id: &SaleId) -> Option<&Sale> {
        self.sales.iter().find(|sale| sale.id == *id)
    }

    /// All that must hold when nothing moves any more.
    pub(crate) fn check_quiet(&self, store: &MemoryStore, memory: &MemoryInventory, scopes: &[Scope]) {
        let (state, ledger) = (store.state(), self.ledger());
        for (id, request) in &ledger.requests {
            let came_late = ledger.came_late.contains(id);
            self.check_request((*id, came_late), request, state.orders.get(id).map(|row| &**row), &state);
        }
        for (id, row) in &state.orders {
            self.check("I5", ledger.requests.contains_key(id), || format!("nobody asked for order {id}"));
            self.check_history(&state, *id, row);
        }
        for event in ledger.payments.keys() {
            self.check_payment(&state, event, ledger.payments[event]);
        }
        self.check("I7", state.moves.is_empty(), || format!("moves wait: {:?}", state.moves));
        self.check_mirror(&state, memory, scopes);
    }

    /// I3 and I10.
    fn check_request(
        &self,
        (id, came_late): (OrderId, bool),
        request: &Request,
        row: Option<&OrderRow>,
        state: &State,
    ) {
        if request.was_granted {
            match row {
                None => {
                    let aside = (state.stale.contains_key(&id), state.quarantined.contains_key(&id));
                    self.breaks(
                        "I3",
                        format!(
                            "{} was told yes for {id}, which is no row; stale, quarantined: {aside:?}",
                            request.buyer
                        ),
                    );
                }
                Some(row) => {
                    let told = (&request.buyer, &request.sale, &request.lines, request.price);
                    let stored = (&row.order.buyer, &row.order.sale, &row.order.lines, row.order.price);
                    self.check("I3", told == stored, || format!("{told:?} was promised, {stored:?} is stored"));
                }
            }
        } else if request.was_refused {
            self.check("I10", row.is_none() || came_late, || {
                format!("{} was told no for {id}, which is a row", request.buyer)
            });
        }
        self.check("I10", !request.is_open, || format!("{} never heard what became of {id}", request.buyer));
    }

    /// I6: one legal path, with one end.
    fn check_history(&self, state: &State, id: OrderId, row: &OrderRow) {
        use OrderStatus::{Cancelled, Expired, Held, Paid, Refunded};
        let mut path: Vec<_> = state.history(id).into_iter().map(|(_, status)| status).collect();
        // The store's clock may have jumped back in between.
        path.sort_unstable();
        let is_legal = matches!(
            path[..],
            [Held]
                | [Held, Paid | Expired | Cancelled]
                | [Held, Paid, Refunded]
                | [Held, Expired, Paid]
                | [Held, Expired, Paid, Refunded]
        );
        self.check("I6", is_legal && path.last() == Some(&row.status), || {
            format!("order {id} is {} by {path:?}", row.status)
        });
    }

    /// I8: it paid an order, alone, or is due back.
    fn check_payment(&self, state: &State, event: &str, order: OrderId) {
        let status = state.orders.get(&order).map(|row| row.status);
        let applied = state
            .payments
            .values()
            .filter(|payment| payment.row.event.order == order && payment.row.state == PaymentState::Applied);
        let applied = applied.count();
        let stands = match state.payments.get(event).map(|payment| payment.row.state) {
            Some(PaymentState::Applied) => status == Some(OrderStatus::Paid) && applied == 1,
            Some(PaymentState::RefundDue | PaymentState::Mismatch) => status.is_some(),
            Some(PaymentState::Unmatched | PaymentState::Late) | None => false,
        };
        self.check("I8", stands, || format!("payment {event} of {order}, which is {status:?}, applied {applied}"));
        let is_paid = status == Some(OrderStatus::Paid);
        self.check("I8", is_paid == (applied == 1), || format!("order {order} is {status:?} with {applied} payments"));
    }

    /// I7 and I9: the inventory says of every order what the store says, and has exactly the rest free.
    fn check_mirror(&self, state: &State, memory: &MemoryInventory, scopes: &[Scope]) {
        let known: BTreeMap<_, _> = scopes
            .iter()
            .flat_map(|scope| orders_of(memory, *scope))
            .map(|known| (known.order.id, known.status))
            .collect();
        for (id, row) in &state.orders {
            let heard = known.get(id).copied();
            self.check("I7", heard == Some(row.status), || {
                format!("order {id} is {}, the inventory: {heard:?}", row.status)
            });
        }
        for id in known.keys().filter(|id| !state.orders.contains_key(*id)) {
            self.breaks("I9", format!("order {id} holds units in the inventory, and is no row"));
        }
        let live = units(state.orders.values().filter(|row| row.status.is_live()));
        for sale in &self.sales {
            for scope in scopes {
                let Some(Ok(stock)) = memory.stock(*scope, &sale.id).now_or_never() else { continue };
                for leg in stock {
                    let live = live.get(&(&leg.sale, &leg.pool, leg.leg)).copied().unwrap_or(0);
                    let capacity = sale.pool(leg.pool.as_str()).map_or(0, |(_, pool)| pool.capacity);
                    self.check("I9", leg.free + live == capacity, || format!("{leg:?}, but {live} live of {capacity}"));
                }
            }
        }
    }
}

fn units<'a>(rows: impl Iterator<Item = &'a Arc<OrderRow>>) -> BTreeMap<Leg<'a>, u32> {
    units_of_orders(rows.map(|row| &row.order))
}

fn units_of_orders<'a>(orders: impl Iterator<Item = &'a rushgate::domain::Order>) -> BTreeMap<Leg<'a>, u32> {
    let mut units = BTreeMap::new();
    for order in orders {
        for line in &order.lines {
            for leg in line.legs.iter() {
                *units.entry((&order.sale, &line.pool, leg)).or_default() += line.quantity;
            }
        }
    }
    units
}

/// All orders of a scope; none of one that is closed.
fn orders_of(memory: &MemoryInventory, scope: Scope) -> Vec<KnownOrder> {
    let (mut orders, mut cursor) = (Vec::new(), None);
    loop {
        let Some(Ok((page, next))) = memory.orders(scope, cursor).now_or_never() else { return orders };
        orders.extend(page);
        cursor = next;
        if cursor.is_none() {
            return orders;
        }
    }
}

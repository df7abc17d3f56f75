//! The inventory against the store: I2, I7 and I9.
//!
//! Both are read while the sale goes on, so they differ by what is on its way between them. That leaves traces, and each
//! difference is proved by their absence:
//!
//! - An order that the inventory granted is in its outbox until it is in the store. One that was seen in the inventory, then in
//!   no outbox entry, and then not in the store, is stranded.
//! - A change of an order in the store is among the stock moves until the inventory has followed it. One that was seen in the
//!   store, then among no moves, and that the inventory still has not followed, will not be followed.
//! - A late payment takes its units in the inventory first. Its order is among the late payments until the store has followed.
//! - Counters can be compared while the inventory's version stands still, its outbox is empty and no move waits.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::audit::report::{Finding, Invariant};
use crate::audit::{Auditor, Interrupted, SUSPECTS};
use crate::domain::{OrderId, OrderStatus, Sale, SaleId, Scope};
use crate::inventory::LegStock;
use crate::store::orders::LegTally;
use crate::store::{OrderRow, SaleTally};

/// Moves that are looked through at most; with more of them waiting nothing is proved.
const MOVES: u32 = 50_000;
/// The same for outbox entries, each of them a batch.
const ENTRIES: usize = 1000;

/// The orders of one sale that the inventory knows, less those that the store has in the same state.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    known: HashMap<OrderId, OrderStatus>,
    pub(super) suspects: Vec<OrderId>,
    /// Those of them that the walk met in no row.
    rowless: HashSet<OrderId>,
    /// Orders that had a place among the suspects no more.
    pub(super) passed_over: u64,
}

/// All orders that a scope knows, of the sales that are asked for.
pub(super) async fn known_orders(
    auditor: &Auditor,
    scope: Scope,
    sales: &HashSet<SaleId>,
) -> Result<HashMap<SaleId, Mirror>, Interrupted> {
    let mut mirrors: HashMap<SaleId, Mirror> = HashMap::new();
    let mut cursor = None;
    loop {
        let (orders, next) = auditor.asked(scope, auditor.inventory.orders(scope, cursor).await)?;
        for known in orders.into_iter().filter(|known| sales.contains(&known.order.sale)) {
            let mirror = mirrors.entry(known.order.sale).or_default();
            mirror.known.insert(known.order.id, known.status);
        }
        cursor = next;
        if cursor.is_none() {
            return Ok(mirrors);
        }
    }
}

impl Mirror {
    /// Takes note of a page of the store.
    pub(super) fn see(&mut self, rows: &[OrderRow]) {
        for row in rows {
            if self.known.remove(&row.order.id) != Some(row.status) {
                self.suspect(row.order.id);
            }
        }
    }

    /// The walk is over: what is left the store does not have.
    pub(super) fn end(&mut self) {
        for id in std::mem::take(&mut self.known).into_keys() {
            if self.suspect(id) {
                self.rowless.insert(id);
            }
        }
        self.suspects.sort_unstable();
    }

    fn suspect(&mut self, id: OrderId) -> bool {
        let has_place = self.suspects.len() < SUSPECTS;
        if has_place {
            self.suspects.push(id);
        } else {
            self.passed_over += 1;
        }
        has_place
    }

    /// How many of those that the walk met in no row have one by now, and how many are still on their way to it.
    pub(super) fn arrivals(&self, stands: &[(OrderId, Stands)]) -> (u64, u64) {
        let count = |which: fn(Stands) -> bool| {
            stands.iter().filter(|(id, stands)| self.rowless.contains(id) && which(*stands)).count() as u64
        };
        (count(Stands::is_stored), count(|stands| stands == Stands::InMotion { stored: false }))
    }
}

impl Stands {
    pub(super) fn is_in_motion(self) -> bool {
        matches!(self, Self::InMotion { .. })
    }

    /// Has it a row?
    fn is_stored(self) -> bool {
        match self {
            Self::Agreed { stored } | Self::InMotion { stored } => stored,
            Self::Stranded { .. } => false,
            Self::Forgotten { .. } | Self::Unfollowed { .. } => true,
        }
    }
}

/// How an order stands after a second look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    Agreed {
        stored: bool,
    },
    InMotion {
        stored: bool,
    },
    /// In the inventory, and nowhere else.
    Stranded {
        held: bool,
    },
    /// In the store, and not in the inventory.
    Forgotten {
        live: bool,
    },
    /// In both, in different states, with no move to follow.
    Unfollowed {
        ended: bool,
    },
}

/// What the suspects are, after a second look at each.
pub(super) async fn look_again(
    auditor: &Auditor,
    scope: Scope,
    suspects: &[OrderId],
) -> Result<Vec<(OrderId, Stands)>, Interrupted> {
    let mut stands = Vec::with_capacity(suspects.len());
    if !suspects.is_empty() {
        let (seen, traces) = (first_look(auditor, scope, suspects).await?, Traces::read(auditor, scope).await?);
        for seen in seen {
            stands.push((seen.id, second_look(auditor, scope, &seen, &traces).await?));
        }
    }
    Ok(stands)
}

/// How they stand, told.
pub(super) fn told(stands: &[(OrderId, Stands)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |invariant, what: &str, which: fn(Stands) -> bool| {
        let orders: Vec<_> = stands.iter().filter(|(_, stands)| which(*stands)).map(|(id, _)| *id).collect();
        match invariant {
            _ if orders.is_empty() => {}
            Some(invariant) => findings.push(Finding::broken(invariant, what, &orders)),
            None => findings.push(Finding::in_motion(Invariant::I9, what, &orders)),
        }
    };
    add(Some(Invariant::I9), "known to the inventory, and neither in the store nor on their way to it", |stands| {
        stands == Stands::Stranded { held: true }
    });
    add(Some(Invariant::I3), "paid or ended in the inventory, and not in the store, which has lost them", |stands| {
        stands == Stands::Stranded { held: false }
    });
    add(
        Some(Invariant::I9),
        "live in the store, and not known to the inventory, which may sell their units again",
        |s| s == Stands::Forgotten { live: true },
    );
    add(
        Some(Invariant::I7),
        "ended in the store, and not known to the inventory, where a late retry is granted again",
        |s| s == Stands::Forgotten { live: false },
    );
    add(Some(Invariant::I7), "ended in the store, and their units are not back in the inventory", |stands| {
        stands == Stands::Unfollowed { ended: true }
    });
    add(Some(Invariant::I9), "live in the store, and in another state in the inventory", |stands| {
        stands == Stands::Unfollowed { ended: false }
    });
    add(None, "on their way between inventory and store", Stands::is_in_motion);
    findings
}

/// What is known of a suspect before the traces are read.
#[derive(Debug)]
struct Seen {
    id: OrderId,
    inventory: Option<OrderStatus>,
    store: Option<OrderStatus>,
}

async fn first_look(auditor: &Auditor, scope: Scope, suspects: &[OrderId]) -> Result<Vec<Seen>, Interrupted> {
    let mut seen = Vec::with_capacity(suspects.len());
    for &id in suspects {
        let (inventory, store) = both(auditor, scope, id).await?;
        seen.push(Seen { id, inventory, store });
    }
    Ok(seen)
}

async fn second_look(auditor: &Auditor, scope: Scope, seen: &Seen, traces: &Traces) -> Result<Stands, Interrupted> {
    if seen.inventory == seen.store {
        return Ok(Stands::Agreed { stored: seen.store.is_some() });
    }
    let (inventory, store) = both(auditor, scope, seen.id).await?;
    Ok(match (inventory, store) {
        (inventory, store) if inventory == store => Stands::Agreed { stored: store.is_some() },
        // One that moves between two looks is none that stands still.
        (inventory, store) if (inventory, store) != (seen.inventory, seen.store) => {
            Stands::InMotion { stored: store.is_some() }
        }
        (Some(_), None) if traces.granted(seen.id) => Stands::InMotion { stored: false },
        (Some(status), None) => Stands::Stranded { held: status == OrderStatus::Held },
        (None, Some(status)) => Stands::Forgotten { live: status.is_live() },
        (_, _) if traces.moves(seen.id) => Stands::InMotion { stored: true },
        (_, status) => Stands::Unfollowed { ended: status.is_some_and(|status| !status.is_live()) },
    })
}

/// The inventory first: what it follows, the store has already.
async fn both(
    auditor: &Auditor,
    scope: Scope,
    id: OrderId,
) -> Result<(Option<OrderStatus>, Option<OrderStatus>), Interrupted> {
    let inventory = auditor.asked(scope, auditor.inventory.order(scope, id).await)?.map(|known| known.status);
    let store = auditor.store.order(id).await?.map(|row| row.status);
    Ok((inventory, store))
}

/// What is on its way at one moment. `None`: there is too much to read, so anything may be.
#[derive(Debug)]
pub(super) struct Traces {
    granted: Option<HashSet<OrderId>>,
    /// Stock moves and late payments.
    moves: Option<HashSet<OrderId>>,
}

impl Traces {
    pub(super) async fn read(auditor: &Auditor, scope: Scope) -> Result<Self, Interrupted> {
        let entries = auditor.inventory.outbox(scope, Duration::ZERO, ENTRIES).await;
        let entries = auditor.asked(scope, entries)?;
        let moves = auditor.store.stock_moves(MOVES).await?;
        let late = auditor.store.late_payments(MOVES).await?;
        let (all_entries, all_moves) = (entries.len() < ENTRIES, moves.len().max(late.len()) < MOVES as usize);
        Ok(Self {
            granted: all_entries
                .then(|| entries.iter().flat_map(|entry| &entry.orders).map(|order| order.id).collect()),
            moves: all_moves.then(|| {
                moves.into_iter().map(|(id, ..)| id).chain(late.into_iter().map(|late| late.event.order)).collect()
            }),
        })
    }

    pub(super) fn granted(&self, id: OrderId) -> bool {
        self.granted.as_ref().is_none_or(|granted| granted.contains(&id))
    }

    fn moves(&self, id: OrderId) -> bool {
        self.moves.as_ref().is_none_or(|moves| moves.contains(&id))
    }
}

/// Compares the counters of every leg. `quiet`: nothing moved while they were read.
pub(super) fn compare(sale: &Sale, stock: &[LegStock], tally: &SaleTally, quiet: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |invariant, what: String| {
        findings.push(Finding { confirmed: quiet, ..Finding::broken(invariant, what, &[]) });
    };
    for pool in &sale.pools {
        for leg in 0..sale.leg_count() {
            let at = format!("{}/{leg}", pool.id);
            let Some(stock) = stock.iter().find(|stock| stock.pool == pool.id && stock.leg == leg) else {
                add(Invariant::I2, format!("{at} is not in the inventory"));
                continue;
            };
            let LegStock { free, held, sold, .. } = *stock;
            if u64::from(free) + u64::from(held) + u64::from(sold) != u64::from(pool.capacity) {
                add(Invariant::I2, format!("{at}: {free} free + {held} held + {sold} sold are not {}", pool.capacity));
            }
            let Some(guard) = tally.legs.iter().find(|guard| guard.pool == pool.id && guard.leg == leg) else {
                continue;
            };
            let LegTally { capacity, held: stored_held, paid, .. } = *guard;
            if capacity != pool.capacity {
                add(Invariant::I1, format!("{at}: the guard stands at {capacity}, the capacity is {}", pool.capacity));
            }
            if (held, sold) != (stored_held, paid) {
                let store = format!("the store {stored_held} and {paid}");
                add(Invariant::I9, format!("{at}: the inventory has {held} held and {sold} sold, {store}"));
            }
            if i64::from(free) != i64::from(pool.capacity) - i64::from(stored_held) - i64::from(paid) {
                let live = u64::from(stored_held) + u64::from(paid);
                add(Invariant::I9, format!("{at}: {free} free units, with {live} live of {}", pool.capacity));
            }
        }
    }
    findings
}

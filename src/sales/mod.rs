//! Definitions of sales: from an operator's wish to the store, and from there to the inventory.
//!
//! A change is decided by the rules of [`edit`], stored with its line in the audit log, carried to the inventory, and marked as
//! applied there. Whoever dies on the way, or cannot reach the inventory, is followed by [`Definitions::keep_applied`]. A
//! capacity that the inventory refuses, since more is in use by now, is taken back by a newer version.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::live;
use crate::config::settings;
use crate::domain::{Invalid, PoolId, Sale, SaleDocument, SaleId};
use crate::epochs::{self, Epochs};
use crate::inventory::{Defined, Inventory, LegStock};
use crate::shutdown::Shutdown;
use crate::store::{self, Change, PutSale, Store, StoredSale};

pub mod edit;

pub use edit::{Edit, Given};

/// Between two looks for definitions that the inventory does not have.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a change is decided anew when somebody else changed the sale in between.
const ATTEMPTS: usize = 5;
/// Who stands in the audit log where nobody asked.
const NOBODY: &str = "rushgate";

/// Changes sales. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Definitions {
    store: Arc<dyn Store>,
    inventory: Arc<dyn Inventory>,
    epochs: Epochs,
    clock: Arc<dyn Clock>,
    defaults: live::Sale,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub before: Option<Sale>,
    pub after: Sale,
    pub effect: Effect,
}

/// How far a change has come. For a dry run: how far it would come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The inventory sells by it; nodes hear of it with their next refill.
    Applied,
    /// It is stored; the inventory cannot be reached, or is not known to be the one that counts, and gets it as soon as it can.
    Stored { why: String },
    /// The sale is like this already.
    Unchanged,
}

/// Why a sale was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such sale")]
    UnknownSale,
    #[error("the document is not valid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
    /// The change was of another version than the stored one; 0: there is no such sale.
    #[error("the sale was changed meanwhile; it has version {version} now")]
    Conflict { version: u64 },
    #[error("the sale is closed")]
    Closed,
    /// The pool has more held and sold units on this leg than the wanted capacity.
    #[error("{live} units of pool {pool} are held or sold on leg {leg}")]
    InUse { pool: PoolId, leg: u8, live: u32 },
    /// It cannot be known whether the change may be made; nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// The store did not say whether it took the change.
    #[error("{0}; the change may have been stored, look before you ask again")]
    Unknown(store::Fault),
}

/// What the inventory said to a definition.
#[derive(Debug)]
enum Carried {
    Applied,
    Waiting(String),
    InUse { pool: PoolId, leg: u8, live: u32 },
}

impl From<store::Fault> for Refused {
    fn from(fault: store::Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl Definitions {
    pub fn new(
        store: Arc<dyn Store>,
        inventory: Arc<dyn Inventory>,
        epochs: Epochs,
        clock: Arc<dyn Clock>,
        defaults: impl Into<live::Sale>,
    ) -> Self {
        Self { store, inventory, epochs, clock, defaults: defaults.into() }
    }

    /// Changes a sale, or says what a change would do.
    ///
    /// Must run to its end: it is not to be dropped on the way.
    pub async fn change(&self, id: &SaleId, edit: &Edit, who: &str, dry_run: bool) -> Result<Changed, Refused> {
        for _ in 0..ATTEMPTS {
            let stored = self.store.sale(id).await?;
            let before = stored.as_ref().map(|stored| &stored.sale);
            let live::Sale { hold, limit_per_buyer } = &self.defaults;
            let defaults = settings::Sale { hold: hold.get(), limit_per_buyer: limit_per_buyer.get() };
            let after = edit.apply(id, before, Given { now: self.clock.now(), defaults: &defaults })?;
            if before == Some(&after) {
                let stored = stored.expect("what is as before was there before");
                let effect = if dry_run { Effect::Unchanged } else { self.unchanged(&stored).await };
                return Ok(Changed { before: Some(stored.sale), after, effect });
            }
            if let Some(before) = before {
                self.check_room(before, &after).await?;
            }
            if dry_run {
                let effect = match self.epochs.of_sale(id) {
                    Ok(_) => Effect::Applied,
                    Err(reason) => Effect::Stored { why: reason.to_string() },
                };
                return Ok(Changed { before: before.cloned(), after, effect });
            }
            let change = self.line(who, edit.what(), before, &after);
            match self.store.put_sale(&after, &change).await.map_err(Refused::Unknown)? {
                PutSale::Stored => return self.carry_changed(before.cloned(), after, who).await,
                PutSale::Conflict(current) if edit.is_pinned() => {
                    return Err(Refused::Conflict { version: current.map_or(0, |current| current.sale.version) });
                }
                PutSale::Conflict(_) => {}
            }
        }
        let version = self.store.sale(id).await?.map_or(0, |stored| stored.sale.version);
        Err(Refused::Conflict { version })
    }

    /// Carries, until the shutdown, what the inventory does not have yet. Several may do so at once.
    pub async fn keep_applied(self, shutdown: Shutdown) {
        let mut refused = HashMap::new();
        let mut said = String::new();
        while !shutdown.sleep(INTERVAL).await {
            let now = match self.apply_waiting(&mut refused).await {
                Ok(waiting) if waiting.is_empty() => String::new(),
                Ok(waiting) => waiting.join("; "),
                Err(fault) => fault.to_string(),
            };
            if !now.is_empty() && now != said {
                tracing::warn!(waiting = now, "definitions of sales are stored but not known to be in the inventory");
            }
            said = now;
        }
    }

    /// Carries, once, what the inventory does not have yet; returns what it could not carry, and why.
    ///
    /// `refused` are the versions that the inventory refused the last time: whoever stored one may be about to take it back, so
    /// that is done here only for one that is still there the next time.
    pub async fn apply_waiting(&self, refused: &mut HashMap<SaleId, u64>) -> Result<Vec<String>, store::Fault> {
        let before = std::mem::take(refused);
        let mut waiting = Vec::new();
        for StoredSale { sale, .. } in self.store.unapplied().await? {
            match self.carry(&sale).await {
                Carried::Applied => tracing::info!(sale = %sale.id, version = sale.version, "applied a definition"),
                Carried::Waiting(why) => waiting.push(format!("{}: {why}", sale.id)),
                Carried::InUse { pool, leg, live } => {
                    if before.get(&sale.id) == Some(&sale.version) {
                        self.take_back_capacities(&sale).await?;
                    } else {
                        refused.insert(sale.id.clone(), sale.version);
                    }
                    waiting.push(format!("{}: {live} units of {pool} are in use on leg {leg}", sale.id));
                }
            }
        }
        Ok(waiting)
    }

    /// The sale is what it should be; but does the inventory know?
    async fn unchanged(&self, stored: &StoredSale) -> Effect {
        if stored.applied_version >= stored.sale.version {
            return Effect::Unchanged;
        }
        match self.carry(&stored.sale).await {
            Carried::Applied => Effect::Unchanged,
            Carried::Waiting(why) => Effect::Stored { why },
            Carried::InUse { pool, .. } => Effect::Stored { why: format!("pool {pool} is in use") },
        }
    }

    /// Refuses a capacity below what is in use before anything is stored; the inventory itself decides once it is.
    async fn check_room(&self, before: &Sale, after: &Sale) -> Result<(), Refused> {
        let shrinks = |pool: &&crate::domain::Pool| {
            before.pool(pool.id.as_str()).is_some_and(|(_, before)| pool.capacity < before.capacity)
        };
        if !after.pools.iter().any(|pool| shrinks(&pool)) {
            return Ok(());
        }
        let scope = self.epochs.of_sale(&after.id).map_err(|reason| Refused::Unavailable(reason.to_string()))?;
        let stock = self.inventory.stock(scope, &after.id).await.map_err(|fault| {
            self.epochs.report(scope, &fault);
            Refused::Unavailable(fault.to_string())
        })?;
        for LegStock { pool, leg, held, sold, .. } in stock {
            let live = held.saturating_add(sold);
            if after.pool(pool.as_str()).is_some_and(|(_, after)| after.capacity < live) {
                return Err(Refused::InUse { pool, leg, live });
            }
        }
        Ok(())
    }

    async fn carry_changed(&self, before: Option<Sale>, after: Sale, who: &str) -> Result<Changed, Refused> {
        let effect = match self.carry(&after).await {
            Carried::Applied => Effect::Applied,
            Carried::Waiting(why) => Effect::Stored { why },
            Carried::InUse { pool, leg, live } => {
                if let Some(before) = before {
                    self.restore(&before, &after, who).await;
                }
                return Err(Refused::InUse { pool, leg, live });
            }
        };
        Ok(Changed { before, after, effect })
    }

    /// Takes a definition back that the inventory refused. If that cannot be done now, [`Self::keep_applied`] will.
    async fn restore(&self, before: &Sale, refused: &Sale, who: &str) {
        let restored = Sale { version: refused.version + 1, ..before.clone() };
        let change = self.line(who, "sale.restore", Some(refused), &restored);
        match self.store.put_sale(&restored, &change).await {
            Ok(PutSale::Stored) => drop(self.carry(&restored).await),
            Ok(PutSale::Conflict(_)) => {}
            Err(fault) => tracing::warn!(sale = %refused.id, %fault, "a refused definition is not taken back yet"),
        }
    }

    /// Gives the pools that do not fit the capacity that they have in the inventory.
    async fn take_back_capacities(&self, sale: &Sale) -> Result<(), store::Fault> {
        let Ok(scope) = self.epochs.of_sale(&sale.id) else { return Ok(()) };
        let Ok(stock) = self.inventory.stock(scope, &sale.id).await else { return Ok(()) };
        if !epochs::is_current(&*self.store, scope).await? {
            return Ok(());
        }
        let mut fitting = Sale { version: sale.version + 1, ..sale.clone() };
        for leg in stock {
            let live = leg.held.saturating_add(leg.sold);
            let (known, pools) = (live.saturating_add(leg.free), &mut fitting.pools);
            if let Some(pool) = pools.iter_mut().find(|pool| pool.id == leg.pool && pool.capacity < live) {
                pool.capacity = known;
            }
        }
        let change = self.line(NOBODY, "sale.restore", Some(sale), &fitting);
        if self.store.put_sale(&fitting, &change).await? == PutSale::Stored {
            tracing::warn!(sale = %sale.id, version = fitting.version, "took a capacity back that is below what is in use");
            self.carry(&fitting).await;
        }
        Ok(())
    }

    async fn carry(&self, sale: &Sale) -> Carried {
        let scope = match self.epochs.of_sale(&sale.id) {
            Ok(scope) => scope,
            Err(reason) => return Carried::Waiting(reason.to_string()),
        };
        let defined = match self.inventory.define(scope, sale).await {
            Ok(defined) => defined,
            Err(fault) => {
                self.epochs.report(scope, &fault);
                return Carried::Waiting(fault.to_string());
            }
        };
        match epochs::is_current(&*self.store, scope).await {
            Ok(true) => {}
            Ok(false) => {
                self.epochs.look_again();
                return Carried::Waiting(format!("{scope} is over; the next epoch has to hear of it too"));
            }
            Err(fault) => return Carried::Waiting(fault.to_string()),
        }
        match defined {
            Defined::Applied | Defined::NotNewer => {
                if let Err(fault) = self.store.mark_applied(&sale.id, sale.version).await {
                    // It is applied all the same; the next look finds it and marks it.
                    tracing::debug!(sale = %sale.id, %fault, "a definition is applied but not marked so");
                }
                Carried::Applied
            }
            Defined::InUse { pool, leg, live } => Carried::InUse { pool, leg, live },
        }
    }

    fn line(&self, who: &str, what: &str, before: Option<&Sale>, after: &Sale) -> Change {
        Change {
            at: self.clock.now(),
            who: who.to_owned(),
            what: what.to_owned(),
            subject: after.id.to_string(),
            before: before.map(json).unwrap_or_default(),
            after: json(after),
        }
    }
}

fn json(sale: &Sale) -> String {
    serde_json::to_string(&SaleDocument::from(sale)).unwrap_or_default()
}

#[cfg(test)]
mod tests;

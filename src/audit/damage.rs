//! What of a sale is broken and has one right answer.

use crate::audit::mirror::Stands;
use crate::audit::report::{Finding, Invariant};
use crate::domain::{OrderId, SaleId, Scope};
use crate::store::SaleTally;

/// The damage of one sale.
#[derive(Debug)]
pub(super) struct Damage {
    pub scope: Scope,
    pub sale: SaleId,
    /// The guard's count of live units is not that of the orders.
    pub miscounted: bool,
    /// Orders with payments that wait for them.
    pub unmatched: Vec<OrderId>,
    /// Held in the inventory, and nowhere else.
    pub stranded: Vec<OrderId>,
    /// In the inventory and nowhere else, and not held: what became of them is not known any more, so nothing is right. A rebuild
    /// would wipe out their last trace.
    pub lost: Vec<OrderId>,
    /// Orders that the inventory has forgotten, or has not followed.
    pub unlike: Vec<OrderId>,
    /// The inventory's counters are not what the store says.
    pub drifted: bool,
}

impl Damage {
    pub(super) fn of(
        (scope, sale): (Scope, &SaleId),
        (tally, unmatched): (&SaleTally, Vec<OrderId>),
        stands: &[(OrderId, Stands)],
        counters: &[Finding],
    ) -> Self {
        let those = |which: fn(Stands) -> bool| {
            stands.iter().filter(|(_, stands)| which(*stands)).map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let drifted =
            |finding: &Finding| finding.confirmed && matches!(finding.invariant, Invariant::I2 | Invariant::I9);
        Self {
            scope,
            sale: sale.clone(),
            miscounted: tally.legs.iter().any(|leg| leg.live != leg.held.saturating_add(leg.paid)),
            unmatched,
            stranded: those(|stands| stands == Stands::Stranded { held: true }),
            lost: those(|stands| stands == Stands::Stranded { held: false }),
            unlike: those(|stands| matches!(stands, Stands::Forgotten { .. } | Stands::Unfollowed { .. })),
            drifted: counters.iter().any(drifted),
        }
    }

    /// Does the inventory hold something else than the store would fill it with?
    pub(super) fn wants_rebuild(&self) -> bool {
        self.drifted || !self.unlike.is_empty()
    }

    /// Does it so for another reason than orders that are stranded, which are units that the store does not count yet?
    pub(super) fn wants_rebuild_anyway(&self) -> bool {
        !self.unlike.is_empty() || (self.drifted && self.stranded.is_empty())
    }

    /// Would a rebuild forget orders?
    pub(super) fn forbids_rebuild(&self) -> bool {
        !self.stranded.is_empty() || !self.lost.is_empty()
    }
}

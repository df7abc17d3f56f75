//! What is on its way, and what does not arrive: I11.

use std::time::Duration;

use crate::audit::report::{Finding, Invariant, Motion};
use crate::audit::{Auditor, Interrupted, PAGE, Patience};
use crate::domain::{OrderId, SaleId};
use crate::queue::LaneId;

/// By then an outbox entry has been published again several times, unless nobody does that.
const STUCK: Duration = Duration::from_secs(60);
/// Who waits less does not find that nothing moves.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// Outbox entries that are looked into.
const ENTRIES: usize = 100;

impl Auditor {
    /// What is on its way at this moment, of one sale and what all sales share.
    pub async fn motion(&self, only: Option<&SaleId>) -> Result<Motion, Interrupted> {
        let mut motion = Motion::default();
        for scope in self.epochs.all()? {
            motion.outbox_entries += self.asked(scope, self.inventory.outbox_len(scope).await)?;
        }
        for lane in self.topology.depths().await? {
            match lane.lane {
                LaneId::Dead => motion.dead_letters += lane.messages,
                LaneId::Number(_) | LaneId::Unroutable => motion.lane_messages += lane.messages,
            }
        }
        motion.dead_letters += self.store.count_dead_letters().await?;
        let moves = self.store.stock_moves(PAGE).await?;
        let concerns = |sale: &SaleId| only.is_none_or(|only| only == sale);
        motion.stock_moves = moves.iter().filter(|(_, sale, _)| concerns(sale)).count() as u64;
        let late = self.store.late_payments(PAGE).await?;
        motion.late_payments = late.iter().filter(|late| concerns(&late.sale)).count() as u64;
        let unapplied = self.store.unapplied().await?;
        motion.unapplied_sales = unapplied.iter().filter(|stored| concerns(&stored.sale.id)).count() as u64;
        Ok(motion)
    }

    /// What is in motion, when it has become quiet or the time is over.
    pub(super) async fn settled(&self, only: Option<&SaleId>, patience: Patience<'_>) -> Result<Motion, Interrupted> {
        loop {
            let motion = self.motion(only).await?;
            if motion.is_quiet() || patience.is_over() {
                return Ok(motion);
            }
            patience.pause().await?;
        }
    }

    /// What has not moved while the audit waited.
    pub(super) async fn stuck(&self, only: Option<&SaleId>, waited: Duration) -> Result<Vec<Finding>, Interrupted> {
        let mut findings = Vec::new();
        for scope in self.epochs.all()? {
            let entries = self.inventory.outbox(scope, STUCK.max(waited), ENTRIES).await;
            let entries = self.asked(scope, entries)?;
            let orders = entries.iter().flat_map(|entry| &entry.orders);
            let concerned = orders.filter(|order| only.is_none_or(|only| *only == order.sale));
            let ids: Vec<OrderId> = concerned.map(|order| order.id).collect();
            if !ids.is_empty() {
                let what =
                    format!("in the outbox of {scope} for more than {:?}, and nobody drives them", STUCK.max(waited));
                findings.push(Finding::broken(Invariant::I11, what, &ids));
            }
        }
        // What all sales share is held against none of them.
        if only.is_none() && waited >= LONG_WAIT {
            for lane in self.topology.depths().await? {
                let is_left = lane.messages > 0 && lane.consumers == 0 && lane.lane != LaneId::Dead;
                if is_left {
                    let what = format!("lane {} has {} messages, and nobody takes them", lane.lane, lane.messages);
                    findings.push(Finding::broken(Invariant::I11, what, &[]));
                }
            }
        }
        Ok(findings)
    }
}

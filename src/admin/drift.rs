//! The metrics for which inventory and store have to be compared, sale by sale: units on which they disagree, orders in quarantine.
//!
//! To count a sale's orders takes the store as long as it has orders, so a few sales are compared at a time, and the store is left in
//! peace after a long count. Every sale has its turn, however many there are; but only so many have gauges of their own, those that are
//! broken before all others.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::Parts;
use crate::admin::gauges::number;
use crate::domain::SaleId;
use crate::meters::{Gauge, Meters};
use crate::shutdown::Shutdown;

const INTERVAL: Duration = Duration::from_secs(2);
/// Sales with gauges while they are whole, and while they are broken; a label per sale must not grow without end.
const SOUND: usize = 200;
const BROKEN: usize = 400;
/// What the store may be asked for in one round.
const ROUND: u32 = 8;
const BUDGET: Duration = Duration::from_millis(250);
/// It is left in peace for so many times as long as its counts took, so that a sale of millions takes it a twentieth of a core and not
/// one; but no longer than this, since somebody may wait to hear that what was broken is mended.
const REST: u32 = 20;
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Compares until the shutdown. Of several processes that do so, each asks the store for as much.
pub async fn keep_compared(parts: Parts, shutdown: Shutdown) {
    let mut comparison = Comparison { parts, shown: Shown::default(), last: None };
    let mut rest = INTERVAL;
    while !shutdown.sleep(rest).await {
        rest = comparison.round().await.max(INTERVAL);
    }
}

struct Comparison {
    parts: Parts,
    shown: Shown,
    /// The sale that was compared last; the next round goes on behind it.
    last: Option<SaleId>,
}

/// The sales that have gauges.
#[derive(Default)]
struct Shown(HashMap<SaleId, SaleGauges>);

/// As it was when the sale was last quiet.
struct SaleGauges {
    drift: Gauge,
    quarantined: Gauge,
}

impl Comparison {
    /// Compares some sales, others each time. Returns for how long the store has earned its rest.
    async fn round(&mut self) -> Duration {
        let Ok(ids) = self.parts.store.sale_ids(self.last.as_ref(), ROUND).await else { return INTERVAL };
        // Behind the last one it begins again.
        self.last = None;
        let (begun, mut counting) = (Instant::now(), Duration::ZERO);
        let auditor = self.parts.auditor();
        for id in ids {
            let asked = Instant::now();
            match auditor.quiet_reading(&id).await {
                Ok(Some(reading)) => {
                    counting += asked.elapsed();
                    self.shown.show(&self.parts.meters, &id, (reading.drift(), reading.tally.quarantined));
                }
                Ok(None) => {}
                Err(why) => tracing::debug!(sale = %id, %why, "inventory and store cannot be compared"),
            }
            self.last = Some(id);
            if begun.elapsed() > BUDGET {
                break;
            }
        }
        (counting * REST).min(LONGEST_REST)
    }
}

impl Shown {
    fn show(&mut self, meters: &Meters, sale: &SaleId, (drift, quarantined): (u64, u64)) {
        let room = if drift + quarantined > 0 { BROKEN } else { SOUND };
        if self.0.len() >= room && !self.0.contains_key(sale) {
            return;
        }
        let gauges = self.0.entry(sale.clone()).or_insert_with(|| SaleGauges::new(meters, sale));
        gauges.drift.set(number(drift));
        gauges.quarantined.set(number(quarantined));
    }
}

impl SaleGauges {
    fn new(meters: &Meters, sale: &SaleId) -> Self {
        let of = [("sale", sale.as_str())];
        Self {
            drift: meters.gauge("rushgate_drift_units", &of),
            quarantined: meters.gauge("rushgate_quarantined_orders", &of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_sales_have_gauges_and_what_is_broken_has_one_all_the_same() {
        let (meters, mut shown) = (Meters::new(), Shown::default());
        let sale = |number: usize| -> SaleId { format!("s{number}").parse().unwrap() };
        for number in 0..=SOUND {
            shown.show(&meters, &sale(number), (0, 0));
        }
        assert_eq!(shown.0.len(), SOUND);
        shown.show(&meters, &sale(SOUND), (0, 1));
        assert!(shown.0.contains_key(&sale(SOUND)), "it is broken");
        for number in 0..2 * BROKEN {
            shown.show(&meters, &sale(number), (1, 0));
        }
        assert_eq!(shown.0.len(), BROKEN);
    }
}

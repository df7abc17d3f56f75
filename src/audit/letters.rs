//! I3, as far as it can be seen: orders that were accepted, and lie where no writer takes them from.

use std::collections::{BTreeSet, HashMap};

use crate::audit::mirror::Traces;
use crate::audit::report::{Finding, Invariant, NAMED};
use crate::audit::{Auditor, Interrupted, SUSPECTS};
use crate::domain::{OrderId, SaleId, Scope};
use crate::queue::envelope::{Content, Envelope};
use crate::store::{DeadLetter, SaleTally};

/// Dead letters in one page. Each may be as large as a list shows of it.
const PAGE: u32 = 100;

/// An order in a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lettered {
    order: OrderId,
    letter: u64,
}

/// Orders in dead letters that were no rows when they were looked at, by sale.
pub(super) async fn unstored(
    auditor: &Auditor,
    only: Option<&SaleId>,
) -> Result<HashMap<SaleId, BTreeSet<Lettered>>, Interrupted> {
    let mut unstored: HashMap<SaleId, BTreeSet<Lettered>> = HashMap::new();
    let mut after = 0;
    loop {
        let letters = auditor.store.dead_letters(after, PAGE).await?;
        let Some(last) = letters.last() else { return Ok(unstored) };
        after = last.id;
        for letter in letters {
            let id = letter.id;
            let orders = orders(auditor, letter).await?;
            for (order, sale) in orders.into_iter().filter(|(_, sale)| only.is_none_or(|only| only == sale)) {
                let of_sale = unstored.entry(sale).or_default();
                if of_sale.len() < SUSPECTS && auditor.store.order(order).await?.is_none() {
                    of_sale.insert(Lettered { order, letter: id });
                }
            }
        }
    }
}

async fn orders(auditor: &Auditor, letter: DeadLetter) -> Result<Vec<(OrderId, SaleId)>, Interrupted> {
    let whole = if letter.is_whole() { Some(letter) } else { auditor.store.dead_letter(letter.id).await? };
    let envelope = whole.and_then(|letter| Envelope::decode(&letter.body).ok());
    match envelope.map(|envelope| envelope.content) {
        Some(Content::Orders { orders, .. }) => Ok(orders.iter().map(|order| (order.id, order.sale.clone())).collect()),
        Some(Content::Barrier { .. }) | None => Ok(Vec::new()),
    }
}

/// Those that are still no rows, while their letter is still there. What the outbox has too, the relay brings.
pub(super) async fn findings(
    auditor: &Auditor,
    scope: Scope,
    unstored: &BTreeSet<Lettered>,
) -> Result<Vec<Finding>, Interrupted> {
    if unstored.is_empty() {
        return Ok(Vec::new());
    }
    let traces = Traces::read(auditor, scope).await?;
    let (mut missing, mut moving) = (BTreeSet::new(), BTreeSet::new());
    for &Lettered { order, letter } in unstored {
        let is_there = auditor.store.dead_letter(letter).await?.is_some();
        if auditor.store.order(order).await?.is_some() {
            continue;
        }
        // A letter that is gone was sent again a moment ago.
        if is_there && !traces.granted(order) {
            missing.insert(order)
        } else {
            moving.insert(order)
        };
    }
    let listed = |orders: BTreeSet<OrderId>| orders.into_iter().collect::<Vec<_>>();
    let (missing, moving) = (listed(missing), listed(moving));
    let what = "accepted, and in no row but in a dead letter";
    let mut findings = Vec::new();
    if !missing.is_empty() {
        findings.push(Finding::broken(Invariant::I3, what, &missing));
    }
    if !moving.is_empty() {
        findings.push(Finding::in_motion(Invariant::I3, what, &moving));
    }
    Ok(findings)
}

/// Orders that a writer could not record.
pub(super) async fn quarantined(
    auditor: &Auditor,
    sale: &SaleId,
    tally: &SaleTally,
) -> Result<Option<Finding>, Interrupted> {
    if tally.quarantined == 0 {
        return Ok(None);
    }
    let named = auditor.store.quarantined(sale, u32::try_from(NAMED).unwrap_or(u32::MAX)).await?;
    let finding = Finding::broken(Invariant::I3, "accepted, and in quarantine since they cannot be recorded", &named);
    Ok(Some(Finding { count: tally.quarantined, ..finding }))
}

//! What a newcomer meets first: a sample sale, open, on a process that was started without a config.

use crate::admission::Shards;
use crate::domain::document::PoolDocument;
use crate::domain::{SaleDocument, SaleId};
use crate::epochs::Epochs;
use crate::sales::{Definitions, Edit};

const SAMPLE: &str = "demo";

/// Makes the sample sale if it is not there, and waits until this node sells it.
pub(super) async fn open_sample(definitions: &Definitions, epochs: &Epochs, shards: &Shards) -> Option<SaleId> {
    let id: SaleId = SAMPLE.parse().ok()?;
    while epochs.of_sale(&id).is_err() {
        epochs.changed().await;
    }
    let partition = epochs.of_sale(&id).ok()?.partition;
    if !shards.refilled(partition).await {
        return None;
    }
    if shards.sale(SAMPLE).is_none() {
        let put = definitions.change(&id, &Edit::Put(Box::new(sample())), "rushgate", false).await;
        put.inspect_err(|reason| tracing::warn!(%reason, "there is no sample sale")).ok()?;
        let open = definitions.change(&id, &Edit::Open, "rushgate", false).await;
        open.inspect_err(|reason| tracing::warn!(%reason, "the sample sale is not open")).ok()?;
    }
    while shards.sale(SAMPLE).is_none_or(|shard| shard.sale.opens_at.is_none()) {
        if !shards.refilled(partition).await {
            return None;
        }
    }
    Some(id)
}

fn sample() -> SaleDocument {
    let pool = PoolDocument { id: "standard".to_owned(), capacity: 100, price: Some(55_350), fares: None };
    SaleDocument {
        name: "A sample sale".to_owned(),
        opens_at: None,
        closes_at: None,
        hold: None,
        limit_per_buyer: Some(2),
        limit_per_passenger: None,
        currency: "CNY".to_owned(),
        stops: Vec::new(),
        pools: vec![pool],
        buffer: None,
        state: None,
        version: None,
    }
}

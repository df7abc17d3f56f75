//! `GET` and `DELETE /v1/orders/{order}`: the owner only; for everybody else there is no such order.

use std::sync::Arc;

use futures_util::future::join_all;
use hyper::StatusCode;
use tokio::time::Instant;

use crate::confirm::Unserved;
use crate::domain::{BuyerId, Order, OrderId, OrderStatus, Partition};
use crate::epochs::Epochs;
use crate::http::door::{Call, Door};
use crate::http::headers::Headers;
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, OrderDocument, Reply};
use crate::inventory::{Inventory, KnownOrder};
use crate::store::{CancelOutcome, Fault, OrderRow};

/// Where an order was found.
#[derive(Debug)]
pub(super) enum Found {
    Stored(Box<OrderRow>),
    /// The inventory has granted it, and it is on its way to the store.
    Granted(Box<KnownOrder>),
    /// A request for it is being decided at this moment.
    Deciding,
}

pub(super) async fn show(door: &Door, order: &str, call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, buyer) = door.order_of(order, call.headers)?;
    Ok(match door.find(id, &buyer, door.deadline(call)).await? {
        Found::Stored(row) => door.order(&row.order, row.status),
        Found::Granted(known) => door.order(&known.order, known.status),
        Found::Deciding => reply::pending(id, StatusCode::OK),
    })
}

pub(super) async fn cancel(door: &Door, order: &str, call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, buyer) = door.order_of(order, call.headers)?;
    let deadline = door.deadline(call);
    // Asked first, as in `find`.
    let deciding = door.parts.claims.is_deciding(id);
    let (store, of) = (Arc::clone(&door.parts.store), buyer.clone());
    let outcome = door.ask(deadline, async move { store.cancel(id, Some(&of)).await }).await?;
    match outcome.map_err(|fault| store_is_down(&fault))? {
        CancelOutcome::Done(row) => Ok(door.order(&row.order, row.status)),
        // Cancelled before: the same answer again.
        CancelOutcome::NotPossible(row) if row.status == OrderStatus::Cancelled => {
            Ok(door.order(&row.order, row.status))
        }
        CancelOutcome::NotPossible(row) => Err(not_held(row.status)),
        // It may be on its way to the store, where alone it can be cancelled.
        CancelOutcome::NotFound => match door.granted(id, deadline).await? {
            Some(known) if known.order.buyer == buyer => Err(on_its_way()),
            None if deciding => Err(on_its_way()),
            _ => Err(Code::NotFound.into()),
        },
    }
}

impl Door {
    /// Which order, and who asks for it.
    pub(super) fn order_of(&self, order: &str, headers: &Headers<'_>) -> Result<(OrderId, BuyerId), Problem> {
        let buyer = self.buyers.buyer(headers, || self.parts.clock.now())?;
        let id = order.parse().map_err(|_| Problem::from(Code::NotFound))?;
        Ok((id, buyer))
    }

    /// This buyer's order, from the store or, while the store does not have it or is not there, from the inventory.
    pub(super) async fn find(&self, id: OrderId, buyer: &BuyerId, deadline: Instant) -> Result<Found, Problem> {
        // Asked first: what is decided after this was not absent, it was on its way.
        let deciding = self.parts.claims.is_deciding(id);
        let store = Arc::clone(&self.parts.store);
        // A store that hangs leaves the inventory half of the time.
        let now = Instant::now();
        let first = now + deadline.saturating_duration_since(now) / 2;
        let stored = self.ask(first, async move { store.order(id).await }).await;
        let no_store = match stored {
            Ok(Ok(Some(row))) if row.order.buyer == *buyer => return Ok(Found::Stored(Box::new(row))),
            Ok(Ok(Some(_))) => return Err(Code::NotFound.into()),
            Ok(Ok(None)) => None,
            Ok(Err(fault)) => Some(store_is_down(&fault)),
            Err(problem) => Some(problem),
        };
        match self.granted(id, deadline).await {
            Ok(Some(known)) if known.order.buyer == *buyer => Ok(Found::Granted(Box::new(known))),
            Ok(Some(_)) => Err(Code::NotFound.into()),
            Ok(None) => match no_store {
                Some(problem) => Err(problem),
                None if deciding => Ok(Found::Deciding),
                None => Err(Code::NotFound.into()),
            },
            Err(problem) => Err(no_store.unwrap_or(problem)),
        }
    }

    /// An order that the inventory knows, whoever has it.
    pub(super) async fn granted(&self, id: OrderId, deadline: Instant) -> Result<Option<KnownOrder>, Problem> {
        let (inventory, epochs) = (Arc::clone(&self.parts.inventory), self.parts.epochs.clone());
        let looked = self.ask(deadline, async move { granted(&*inventory, &epochs, id).await }).await?;
        looked.map_err(reply::unserved_for)
    }

    /// The answer that shows an order.
    pub(super) fn order(&self, order: &Order, status: OrderStatus) -> Reply {
        let shard = self.sale(&order.sale);
        let stops = shard.as_ref().map_or(&[][..], |shard| &shard.sale.stops);
        reply::json(StatusCode::OK, &OrderDocument::new(order, status, stops))
    }
}

/// An order's id does not tell its partition, so all are asked. None has it only if every one has said so.
async fn granted(inventory: &dyn Inventory, epochs: &Epochs, id: OrderId) -> Result<Option<KnownOrder>, Unserved> {
    let looks = Partition::all(epochs.partitions()).map(|partition| async move {
        let scope = epochs.scope(partition).map_err(Unserved::from)?;
        inventory.order(scope, id).await.map_err(|fault| {
            epochs.report(scope, &fault);
            tracing::warn!(%scope, %fault, "an order could not be looked up");
            Unserved::Unavailable
        })
    });
    let mut unserved = None;
    for looked in join_all(looks).await {
        match looked {
            Ok(Some(known)) => return Ok(Some(known)),
            Ok(None) => {}
            Err(why) => unserved = Some(why),
        }
    }
    unserved.map_or(Ok(None), Err)
}

/// The order has another status, in which nothing of the kind can happen to it.
pub(super) fn not_held(status: OrderStatus) -> Problem {
    Problem::from(Code::NotHeld).detail(format!("The order is {status}.")).with("order_status", status.as_str())
}

/// The order was granted, and the store does not have it yet.
fn on_its_way() -> Problem {
    Problem::from(Code::Busy)
        .detail("The order is not stored yet, so it was not cancelled. Ask again in a moment.")
        .retry_after(1)
}

/// Says so once in the log, and to the client that asking again is safe.
pub(super) fn store_is_down(fault: &Fault) -> Problem {
    tracing::warn!(%fault, "an order could not be served");
    reply::unserved_for(Unserved::Unavailable)
        .detail("The orders cannot be reached. Asking again is safe: nothing is done twice.")
}

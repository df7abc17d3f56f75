//! Of the store, what has no part in the tests of the doors.

use async_trait::async_trait;

use super::backends::{Backends, no_part};
use crate::domain::{OrderId, Sale, SaleId, UnixMillis};
use crate::store::{
    Change, DeadLetter, DeadLetters, Deployment, Fault, PutSale, Recorder, Recounted, Repairs, Sales, Schema, Store,
    StoredSale,
};

#[async_trait]
impl Sales for Backends {
    async fn sale(&self, _: &SaleId) -> Result<Option<StoredSale>, Fault> {
        no_part()
    }
    async fn sales(&self) -> Result<Vec<StoredSale>, Fault> {
        no_part()
    }
    async fn put_sale(&self, _: &Sale, _: &Change) -> Result<PutSale, Fault> {
        no_part()
    }
    async fn mark_applied(&self, _: &SaleId, _: u64) -> Result<(), Fault> {
        no_part()
    }
    async fn sale_ids(&self, _: Option<&SaleId>, _: u32) -> Result<Vec<SaleId>, Fault> {
        no_part()
    }
    async fn unapplied(&self) -> Result<Vec<StoredSale>, Fault> {
        no_part()
    }
    async fn log_change(&self, _: &Change) -> Result<(), Fault> {
        no_part()
    }
    async fn changes(&self, _: Option<&str>, _: u32) -> Result<Vec<Change>, Fault> {
        no_part()
    }
}

#[async_trait]
impl Repairs for Backends {
    async fn recount(&self, _: &SaleId) -> Result<Vec<Recounted>, Fault> {
        no_part()
    }
    async fn match_payments(&self, _: &[OrderId]) -> Result<(), Fault> {
        no_part()
    }
    async fn quarantined(&self, _: &SaleId, _: u32) -> Result<Vec<OrderId>, Fault> {
        no_part()
    }
}

#[async_trait]
impl DeadLetters for Backends {
    async fn keep_dead_letter(&self, _: &str, _: &str, _: &[u8]) -> Result<(), Fault> {
        no_part()
    }
    async fn dead_letters(&self, _: u64, _: u32) -> Result<Vec<DeadLetter>, Fault> {
        no_part()
    }
    async fn dead_letter(&self, _: u64) -> Result<Option<DeadLetter>, Fault> {
        no_part()
    }
    async fn drop_dead_letter(&self, _: u64) -> Result<bool, Fault> {
        no_part()
    }
    async fn count_dead_letters(&self) -> Result<u64, Fault> {
        no_part()
    }
}

#[async_trait]
impl Store for Backends {
    async fn schema(&self) -> Result<Schema, Fault> {
        no_part()
    }
    async fn migrate(&self) -> Result<Vec<String>, Fault> {
        no_part()
    }
    async fn lanes(&self) -> Result<u16, Fault> {
        no_part()
    }
    async fn deployment(&self, _: Deployment) -> Result<Deployment, Fault> {
        no_part()
    }
    async fn recorder(&self) -> Result<Box<dyn Recorder>, Fault> {
        no_part()
    }
    async fn now(&self) -> Result<UnixMillis, Fault> {
        no_part()
    }
}

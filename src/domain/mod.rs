//! The rules of the sale: what there is, who may have it, what an order may become.
//!
//! Nothing in here waits, locks, reads a clock or draws a random number; time and chance are arguments. In reading order:
//!
//! - [`id`]: the names of things, parsed once at the door, and [`id::OrderId`], derived so that every retry meets itself
//! - [`time`] and [`money`]: instants and amounts that cannot be mixed up with plain numbers
//! - [`sale`]: a sale, its pools and their legs, its window; [`document`] is its JSON form, and [`object`] is strict about what is one
//! - [`claim`]: what a buyer asks for, checked against a sale
//! - [`order`]: what a granted claim becomes, state × event → state; [`record`] is its text form
//! - [`share`]: how free stock is split between nodes; [`advice`] is the formula for the buffer
//! - [`trace`]: whose trace a request belongs to
//! - [`refusal`]: every reason to say no

pub mod advice;
pub mod claim;
pub mod document;
pub mod id;
pub mod money;
pub mod object;
pub mod order;
pub mod record;
pub mod refusal;
pub mod sale;
pub mod share;
pub mod time;
pub mod trace;
pub mod wanted;

pub use claim::{Ask, AskedLine, Claim, Invalid};
pub use document::SaleDocument;
pub use id::{
    BuildById, BuyerId, Fingerprint, IdempotencyKey, NodeId, OrderDigits, OrderHint, OrderId, OrderSecret, OutboxId,
    PassengerId, PoolId, SaleId, StopId,
};
pub use money::{Currency, Money};
pub use object::Object;
pub use order::{Line, Order, OrderEvent, OrderStatus, SeatPreference};
pub use refusal::Refusal;
pub use sale::{Buffer, Legs, Limits, Phase, Pool, Sale, SaleState};
pub use share::{Epoch, Partition, Scope};
pub use time::UnixMillis;
pub use trace::{SpanId, TraceContext, TraceId};
pub use wanted::{Wanted, WantedLines, each_leg};

//! Why was this claim refused? Answers for a support desk, which asks with a buyer's name, or with an order.
//!
//! - `buyer`: what this buyer would hear now, by the rules that claims are decided by, and what this node told them lately
//! - `order`: what became of an order, step by step
//!
//! Nothing here decides anything, and nobody's name is logged.

use crate::admin::problem::Problem;
use crate::admin::{Answer, Parts};
use crate::domain::{BuyerId, OrderId, SaleId};

mod buyer;
mod order;

/// What is asked about.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    Buyer { sale: SaleId, buyer: BuyerId, wants: Wants },
    Order(OrderId),
}

/// What the buyer came for. What is not said is one unit, of any pool, over the whole journey.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wants {
    pub quantity: Option<u64>,
    pub pool: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
}

pub(super) async fn answer(parts: &Parts, question: Question) -> Result<Answer, Problem> {
    match question {
        Question::Buyer { sale, buyer, wants } => buyer::answer(parts, (&sale, &buyer), &wants).await,
        Question::Order(order) => order::answer(parts, order).await,
    }
}

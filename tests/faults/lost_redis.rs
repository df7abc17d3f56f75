//! Redis without persistence is killed in the middle of a sale: all that it knew is gone.

use std::time::Duration;

use crate::buyers::Habits;
use crate::deployment::{Deployment, Private, until};
use crate::log::Kind;
use crate::private_redis::Persistence;
use crate::run::Run;
use crate::sales::SaleSpec;

const CAPACITY: u32 = 150;
/// Everybody pays, or loses interest.
const KEEN: Habits = Habits { pay: 80, late: 0, cancel: 10, pace: Duration::from_millis(10) };

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loses_everything_in_mid_sale_costs_no_order_and_no_unit() {
    let mut private = Private::start(Persistence::Nothing).await;
    let mut deployment = Deployment::over(&private, "").await;
    deployment.start(2, 2).await;
    let run = Run::begin(&deployment, vec![SaleSpec::concert("concert", CAPACITY, 1, 2)], KEEN, 8, 3).await;
    let yes = || run.log().read().iter().filter(|entry| entry.kind == Kind::Ok && entry.status == Some(201)).count();
    until("the sale is under way", Duration::from_secs(60), async || {
        if yes() >= 40 { Ok(()) } else { Err(format!("{} orders", yes())) }
    })
    .await;
    private.redis.restart().await;
    deployment.heal().await;
    let before = yes();
    until("it sells again", Duration::from_secs(60), async || {
        if yes() >= before + 10 { Ok(()) } else { Err(format!("{} orders, {before} before", yes())) }
    })
    .await;
    let outcome = run.end(&deployment).await;
    outcome.is_clean();
    let live = outcome.found.orders.iter().filter(|row| row.status == "paid" || row.status == "held").count();
    assert_eq!(live, CAPACITY as usize, "exactly what there is was sold");
    assert!(outcome.found.epoch >= 2, "the inventory was built again");
}

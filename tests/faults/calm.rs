//! No fault at all: what the checker passes when nothing happens, or every other verdict of it is worth nothing.

use std::time::Duration;

use crate::buyers::Habits;
use crate::deployment::{Deployment, Private, until};
use crate::log::Kind;
use crate::run::Run;
use crate::sales::SaleSpec;

/// Half of the buyers pay, some cancel, the others let their hold expire.
pub(crate) const CALM: Habits = Habits { pay: 50, late: 0, cancel: 20, pace: Duration::from_millis(20) };

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_in_which_nothing_breaks_is_clean() {
    let private = Private::shared().await;
    let mut deployment = Deployment::over(&private, "").await;
    deployment.start(2, 1).await;
    let sales = vec![SaleSpec::concert("concert", 60, 2, 2), SaleSpec::train("train", 20, 2)];
    let run = Run::begin(&deployment, sales, CALM, 8, 1).await;
    until("a hundred have an order", Duration::from_secs(60), async || {
        let yes = run.log().read().iter().filter(|entry| entry.kind == Kind::Ok && entry.status == Some(201)).count();
        if yes >= 100 { Ok(yes) } else { Err(format!("{yes} have")) }
    })
    .await;
    let outcome = run.end(&deployment).await;
    outcome.is_clean();
    let stored = outcome.found.orders.len();
    assert!(stored >= 100, "{stored} rows of {} lines", outcome.log.len());
}

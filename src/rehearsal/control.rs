//! The admin API with patience: makes the shadow sale, closes it, and reads the truth about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::admin::client::{Client, ClientError};
use crate::audit::{Report, Verdict};
use crate::domain::{OrderId, SaleDocument};
use crate::rehearsal::sale::Line;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// For a sale to be made: whoever asks a process that is not there waits no longer.
const HERE: Duration = Duration::from_secs(10);
/// Of waiting for what is in motion, within one audit.
const AUDIT_WAIT: &str = "1s";
/// Orders in a page; the most that the API gives.
const PAGE: usize = 1000;

/// The balance of a sale, as far as a rehearsal reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Balance {
    pub(super) legs: Vec<Leg>,
    pub(super) drift: Drift,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) pool: String,
    #[serde(rename = "leg")]
    pub(super) number: u64,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) capacity: u64,
    pub(super) free: Option<u64>,
    pub(super) held: Option<u64>,
    pub(super) sold: Option<u64>,
    pub(super) balanced: bool,
    pub(super) store: Option<Guard>,
}

/// What the store says of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Guard {
    pub(super) live: u64,
    pub(super) held: u64,
    pub(super) paid: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Drift {
    pub(super) units: u64,
    pub(super) in_motion: bool,
    pub(super) orders: Vec<String>,
}

/// An order of the store.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Row {
    pub(super) order: String,
    pub(super) status: String,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Page {
    orders: Vec<Row>,
    next: Option<String>,
}

impl Leg {
    /// A leg's name for people.
    pub(super) fn name(&self) -> String {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("{} {from}–{to}", self.pool),
            _ => self.pool.clone(),
        }
    }
}

impl Balance {
    /// Has it every part, or was inventory or store not to be read?
    fn is_whole(&self) -> bool {
        self.legs.iter().all(|leg| [leg.free, leg.held, leg.sold].iter().all(Option::is_some) && leg.store.is_some())
    }
}

/// One sale at the admin API.
#[derive(Debug)]
pub(super) struct Control {
    client: Client,
    pub(super) sale: String,
    patience: Duration,
    may_be_there: AtomicBool,
}

impl Control {
    pub(super) fn new(client: Client, sale: String, patience: Duration) -> Self {
        Self { client, sale, patience, may_be_there: AtomicBool::new(false) }
    }

    /// Would it be made?
    pub(super) async fn try_out(&self, document: &SaleDocument) -> anyhow::Result<()> {
        let document = serde_json::to_value(document).context("a sale is JSON")?;
        self.client.put(&format!("{}?dry_run=true", self.path("")), &document).await?;
        Ok(())
    }

    /// Makes it. From now on there may be one, unless this fails and it is known that there is none.
    pub(super) async fn create(&self, document: &SaleDocument) -> anyhow::Result<()> {
        let (document, path) = (serde_json::to_value(document).context("a sale is JSON")?, self.path(""));
        let until = Instant::now() + HERE;
        let mut unclear = false;
        self.may_be_there.store(true, Ordering::Relaxed);
        // A sale that is stored, and that the inventory does not have yet, is waited for at the gateways.
        while let Err(error) = self.client.put(&path, &document).await {
            if unclear && is_conflict(&error) {
                // The one before has made it: its name is nobody else's.
                break;
            }
            unclear |= !is_refused(&error);
            self.may_be_there.store(unclear, Ordering::Relaxed);
            if matches!(error, ClientError::Unreachable { .. }) && !unclear {
                return Err(error.into());
            }
            again(error, until).await?;
        }
        Ok(())
    }

    /// Closes it, if there is one. Not to be waited for beyond that time, whoever holds the line.
    pub(super) async fn close(&self, until: Instant) -> anyhow::Result<()> {
        tokio::time::timeout_at(until, self.ask_to_close(until))
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer in time")))
    }

    async fn ask_to_close(&self, until: Instant) -> anyhow::Result<()> {
        while let Err(error) = self.client.post(&self.path("/close"), None).await {
            if matches!(&error, ClientError::Problem { code, .. } if code == "unknown_sale") {
                break;
            }
            again(error, until).await?;
        }
        Ok(())
    }

    pub(super) fn may_be_there(&self) -> bool {
        self.may_be_there.load(Ordering::Relaxed)
    }

    async fn balance(&self, until: Instant) -> anyhow::Result<Balance> {
        let answer = self.get(&self.path("/balance"), until).await?;
        serde_json::from_value(answer).context("the answer is no balance")
    }

    /// The balance with all of its parts: one that lacks any would pass for zeros.
    pub(super) async fn whole_balance(&self, until: Instant) -> anyhow::Result<Balance> {
        loop {
            let balance = self.balance(until).await?;
            if balance.is_whole() {
                return Ok(balance);
            }
            if Instant::now() + PAUSE > until {
                return Err(anyhow!("it lacks parts, for inventory or store could not be read"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is in motion arrives first. Where it has not when patience ends, the last audit that said so is the answer.
    pub(super) async fn settled(&self) -> anyhow::Result<Report> {
        let until = self.until();
        let mut moving = None;
        let settled = tokio::time::timeout_at(until, self.audits(until, &mut moving)).await;
        match (settled, moving) {
            (Ok(Ok(report)), _) | (_, Some(report)) => Ok(report),
            (Ok(Err(why)), None) => Err(why),
            (Err(_), None) => Err(anyhow!("it took longer than --patience")),
        }
    }

    /// Audits until one finds nothing in motion; the last that did is left in `moving`.
    async fn audits(&self, until: Instant, moving: &mut Option<Report>) -> anyhow::Result<Report> {
        let path = format!("/admin/v1/audit?sale={}&wait={AUDIT_WAIT}", self.sale);
        loop {
            match self.client.audit(&path).await {
                Ok(answer) => {
                    let report: Report = serde_json::from_value(answer).context("the answer is no audit")?;
                    if report.verdict != Verdict::InMotion {
                        return Ok(report);
                    }
                    *moving = Some(report);
                }
                Err(error) => again(error, until).await?,
            }
        }
    }

    /// All orders of the sale as they are now, page by page.
    pub(super) async fn rows(&self, mut see: impl FnMut(OrderId, &Row)) -> anyhow::Result<()> {
        let mut after = Some("0".repeat(32));
        while let Some(from) = after {
            let path = format!("/admin/v1/orders?sale={}&limit={PAGE}&fresh=true&after={from}", self.sale);
            let answer = self.get(&path, self.until()).await?;
            let page: Page = serde_json::from_value(answer).context("the answer is no page of orders")?;
            for row in &page.orders {
                see(row.order.parse().with_context(|| format!("{} is no order", row.order))?, row);
            }
            after = page.next;
        }
        Ok(())
    }

    /// Asks until there is an answer that says yes or no, or patience ends.
    async fn get(&self, path: &str, until: Instant) -> anyhow::Result<Value> {
        loop {
            match self.client.get(path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => again(error, until).await?,
            }
        }
    }

    fn path(&self, action: &str) -> String {
        format!("/admin/v1/sales/{}{action}", self.sale)
    }

    /// When patience ends that begins now.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.patience
    }
}

/// Waits until it may be asked again, or fails for good.
async fn again(error: ClientError, until: Instant) -> Result<(), ClientError> {
    if !may_pass(&error) || Instant::now() + PAUSE > until {
        return Err(error);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::BadUrl { .. } | ClientError::BadToken => false,
        ClientError::Problem { status, .. } => *status == 409 || *status >= 500,
        // Whoever answers in its place may not do so for long.
        _ => true,
    }
}

/// Was nothing done?
fn is_refused(error: &ClientError) -> bool {
    match error {
        ClientError::BadUrl { .. } | ClientError::BadToken | ClientError::Unreachable { .. } => true,
        ClientError::Problem { status, .. } => *status < 500,
        _ => false,
    }
}

fn is_conflict(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem { code, .. } if code == "conflict")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn balance(leg: Leg) -> Balance {
        Balance { legs: vec![leg], drift: Drift::default() }
    }

    pub(crate) fn leg() -> Leg {
        Leg {
            pool: "standard".to_owned(),
            number: 0,
            from: None,
            to: None,
            capacity: 300,
            free: Some(0),
            held: Some(0),
            sold: Some(300),
            balanced: true,
            store: Some(Guard { live: 300, held: 0, paid: 300 }),
        }
    }

    #[test]
    fn a_balance_that_lacks_a_part_is_not_whole() {
        assert!(balance(leg()).is_whole());
        assert!(!balance(Leg { free: None, ..leg() }).is_whole());
        assert!(!balance(Leg { store: None, ..leg() }).is_whole());
    }

    #[test]
    fn what_is_wrong_for_good_is_not_asked_again() {
        let problem =
            |status, code: &str| ClientError::Problem { status, code: code.to_owned(), detail: String::new() };
        assert!(may_pass(&problem(503, "unavailable")) && may_pass(&problem(409, "audit_running")));
        assert!(!may_pass(&problem(401, "unauthenticated")) && !may_pass(&problem(422, "invalid")));
        assert!(may_pass(&ClientError::TimedOut { url: String::new() }) && !may_pass(&ClientError::BadToken));
    }

    #[test]
    fn after_an_answer_that_did_not_come_there_may_be_a_sale() {
        let problem = |status| ClientError::Problem { status, code: "unavailable".to_owned(), detail: String::new() };
        assert!(is_refused(&problem(401)) && is_refused(&ClientError::BadToken));
        assert!(!is_refused(&problem(503)) && !is_refused(&ClientError::TimedOut { url: String::new() }));
    }
}

//! Buyers: they claim, and ask again with the same key until they know; then they pay, cancel, or let their hold expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Reply};
use crate::log::{Act, Entry, Kind, Log, Subject};
use crate::sales::SaleSpec;

/// How long a buyer waits for one answer: a little longer than the gateway lets them.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Later than the grace of these deployments.
const TOO_LATE: Duration = Duration::from_secs(1);
/// Fresh buyers who come at once for a leg when the faults are over.
const FRESH: u64 = 4;
/// How long after the faults have ended a buyer still tries.
const HEALED: Duration = Duration::from_secs(60);

/// What a run's buyers share.
pub(crate) struct Crowd {
    pub(crate) sales: Vec<SaleSpec>,
    /// The gateways, as buyers reach them.
    pub(crate) doors: Vec<Client>,
    pub(crate) log: Arc<Log>,
    pub(crate) habits: Habits,
}

/// What buyers do with what they have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Of a hundred.
    pub(crate) pay: u32,
    /// So many pay when their hold has run out.
    pub(crate) late: u32,
    pub(crate) cancel: u32,
    /// Between two buyers of one worker.
    pub(crate) pace: Duration,
}

/// Buyers who come one after another, several at once, until they are told to stop.
pub(crate) struct Rush {
    crowd: Arc<Crowd>,
    stop: watch::Sender<Option<Instant>>,
    workers: JoinSet<()>,
}

impl Rush {
    /// `at_once` workers; every choice of theirs comes from the seed.
    pub(crate) fn begin(crowd: Crowd, at_once: u64, seed: u64) -> Self {
        let (crowd, stop) = (Arc::new(crowd), watch::Sender::new(None));
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..at_once {
            let (crowd, next, stopped) = (Arc::clone(&crowd), Arc::clone(&next), stop.subscribe());
            workers.spawn(async move {
                let mut chance = fastrand::Rng::with_seed(seed ^ (worker << 32));
                while stopped.borrow().is_none() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    crowd.buyer(&format!("b{number}"), &mut chance, &stopped).await;
                    tokio::time::sleep(crowd.habits.pace).await;
                }
            });
        }
        Self { crowd, stop, workers }
    }

    pub(crate) fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// The faults are over: nobody comes any more, and those who are there try on until they know, or until patience ends.
    pub(crate) async fn end(mut self) -> Arc<Crowd> {
        self.stop.send_replace(Some(Instant::now()));
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("a buyer does not panic");
        }
        self.crowd
    }
}

/// Is there no sense in trying on?
fn is_late(stopped: &watch::Receiver<Option<Instant>>) -> bool {
    stopped.borrow().is_some_and(|at| at.elapsed() > HEALED)
}

impl Crowd {
    /// One buyer's visit.
    async fn buyer(&self, name: &str, chance: &mut fastrand::Rng, stopped: &watch::Receiver<Option<Instant>>) {
        let sale = &self.sales[chance.usize(..self.sales.len())];
        let from = chance.usize(..sale.legs());
        let to = chance.usize(from + 1..=sale.legs());
        let units = chance.u32(1..=sale.per_buyer);
        let about = Subject {
            sale: sale.id.clone(),
            buyer: name.to_owned(),
            key: format!("k-{name}"),
            asked: sale.ask(name, from, to, units),
        };
        let Some(order) = self.claim(&about, chance, stopped).await else { return };
        if chance.u32(..10) == 0 {
            // The same again, at whatever door.
            self.send(Act::Claim, &about, &order, chance).await;
        }
        let choice = chance.u32(..100);
        let Habits { pay, late, cancel, .. } = self.habits;
        if choice < pay + late {
            if choice >= pay {
                tokio::time::sleep(sale.hold() + TOO_LATE).await;
            }
            self.until_known(Act::Pay, &about, &order, (chance, stopped)).await;
        } else if choice < pay + late + cancel {
            self.until_known(Act::Cancel, &about, &order, (chance, stopped)).await;
        } else if choice.is_multiple_of(4) {
            self.send(Act::Read, &about, &order, chance).await;
        }
    }

    /// Claims until there is an answer that is one; the order, if it is a yes.
    pub(crate) async fn claim(
        &self,
        about: &Subject,
        chance: &mut fastrand::Rng,
        stopped: &watch::Receiver<Option<Instant>>,
    ) -> Option<String> {
        let answer = self.until_known(Act::Claim, about, "", (chance, stopped)).await?;
        (answer.kind == Kind::Ok).then(|| answer.order().unwrap_or_default().to_owned())
    }

    async fn until_known(
        &self,
        act: Act,
        about: &Subject,
        order: &str,
        (chance, stopped): (&mut fastrand::Rng, &watch::Receiver<Option<Instant>>),
    ) -> Option<Entry> {
        let mut was_unknown = false;
        loop {
            let answer = self.send(act, about, order, chance).await;
            was_unknown |= answer.kind == Kind::Unknown;
            let again = answer.kind == Kind::Unknown || answer.status == Some(503);
            if !again {
                return Some(answer);
            }
            // Some lose patience with a definite no. Nobody does with a perhaps.
            if is_late(stopped) || (!was_unknown && chance.u32(..20) == 0) {
                return None;
            }
            tokio::time::sleep(PAUSE.mul_f64(0.5 + chance.f64())).await;
        }
    }

    /// Sends one request to one door, and logs both ends of it.
    pub(crate) async fn send(&self, act: Act, about: &Subject, order: &str, chance: &mut fastrand::Rng) -> Entry {
        self.send_to(&self.doors[chance.usize(..self.doors.len())], act, about, order).await
    }

    pub(crate) async fn send_to(&self, door: &Client, act: Act, about: &Subject, order: &str) -> Entry {
        let request = self.log.invoke(act, about);
        let asking = ask(door, act, about, order);
        let reply = tokio::time::timeout(ANSWER, asking).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        self.log.answered(request, act, about, &reply)
    }

    /// Fresh buyers buy and pay whatever is left, leg by leg, until nothing is free and nothing is held. What is held still comes back
    /// within the hold.
    pub(crate) async fn buy_the_rest(self: &Arc<Self>, patience: Duration) {
        let mut buyers = JoinSet::new();
        for (index, sale) in self.sales.iter().enumerate() {
            for leg in 0..sale.legs() {
                for worker in 0..FRESH {
                    let crowd = Arc::clone(self);
                    buyers.spawn(async move {
                        let buying = crowd.buy_a_leg(index, leg, worker);
                        // Whatever is left then is what the checker has to say.
                        let _ = tokio::time::timeout(patience, buying).await;
                    });
                }
            }
        }
        while let Some(ended) = buyers.join_next().await {
            ended.expect("a buyer does not panic");
        }
    }

    async fn buy_a_leg(&self, sale: usize, leg: usize, worker: u64) {
        let (sale, mut chance) = (&self.sales[sale], fastrand::Rng::with_seed(worker));
        let (_never, stopped) = watch::channel(None);
        for number in 0.. {
            let name = format!("fresh-{leg}-{worker}-{number}");
            // As many as one may, to be done sooner; then one, for what is left.
            for units in [sale.per_buyer, 1] {
                let about = Subject {
                    sale: sale.id.clone(),
                    buyer: name.clone(),
                    key: format!("k-{units}"),
                    asked: sale.ask(&name, leg, leg + 1, units),
                };
                let Some(answer) = self.until_known(Act::Claim, &about, "", (&mut chance, &stopped)).await else {
                    continue;
                };
                if let (Kind::Ok, Some(order)) = (answer.kind, answer.order()) {
                    self.until_known(Act::Pay, &about, order, (&mut chance, &stopped)).await;
                    break;
                }
                match answer.code.as_deref() {
                    Some("sold_out") if units == 1 => return,
                    Some("all_held") if units == 1 => tokio::time::sleep(PAUSE).await,
                    _ => {}
                }
            }
        }
    }
}

async fn ask(door: &Client, act: Act, about: &Subject, order: &str) -> Result<Reply, String> {
    match act {
        Act::Claim => door.claim(&about.sale, &about.buyer, Some(&about.key), &about.asked).await,
        Act::Pay => door.pay(order, &about.buyer).await,
        Act::Read => door.order(order, &about.buyer).await,
        Act::Cancel => {
            let headers = [("x-buyer-id", about.buyer.as_str())];
            door.send(Method::DELETE, &format!("/v1/orders/{order}"), &headers, Some(json!({}).to_string())).await
        }
    }
}

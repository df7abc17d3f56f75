//! A rehearsal: a crowd comes to a shadow sale, and then it is asked whether what it heard is true.
//!
//! It is a client of the public and of the admin API and knows nothing else of the gateways. The crowds, the settings and the words of
//! the verdict are those of `loadtest/k6`, for those who have no k6. What differs: arrivals are random instants from a seed, a time counts
//! from when a *claim* was due (so a gateway that stalls is charged for all who would have come meanwhile, which is what is called
//! corrected for coordinated omission), and every order is remembered by its id, so that all that are lost can be named.
//!
//! The order of things: [`settings`] and a [`crowd`] make a `schedule`; each `buyer` asks by the `api` and writes down in the
//! `ledger` what it heard; `truth` compares that with what is there; [`verdict`] puts it into words, and [`report`] on paper.
//!
//! The sale is one of its own. It is closed at the end, also of a rehearsal that fails or is interrupted, and closes by itself should the
//! rehearsal die. Its orders go where all orders go, to the store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use fastrand::Rng;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::admin::client::Client;
use crate::clock::Clock;
use crate::domain::UnixMillis;
use crate::rehearsal::api::Api;
use crate::rehearsal::buyer::{Buyer, Span, Visited};
use crate::rehearsal::control::Control;
use crate::rehearsal::ledger::Kind;
use crate::rehearsal::progress::{Progress, Stage};
use crate::rehearsal::report::Report;
use crate::rehearsal::schedule::{Arrival, Arrivals};
use crate::rehearsal::settings::{LAST_WORD, Settings};
use crate::shutdown::Shutdown;

mod api;
mod buyer;
mod control;
pub mod crowd;
mod doors;
mod ledger;
mod probe;
pub mod progress;
pub mod report;
mod sale;
mod schedule;
pub mod settings;
mod truth;
pub mod verdict;

/// So long after the longest that its rehearsal may need it, the sale closes by itself. Clocks differ, so it is not close.
const BACKSTOP: Duration = Duration::from_secs(3600);
/// Between two looks at a gateway that has not heard of the sale yet, and between two looks at who is there.
const LOOK: Duration = Duration::from_millis(200);
/// Buyers at once who buy everything before the crowd comes.
const FIRST_ONES: usize = 16;
/// So many buyers are shown of a crowd that is not sent.
const SHOWN: usize = 20;

/// One rehearsal, not begun.
#[derive(Debug)]
pub struct Rehearsal {
    visited: Arc<Visited>,
    control: Control,
    began_at: UnixMillis,
    to_come: u64,
}

/// A buyer of a crowd that is not sent.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Expected {
    /// Seconds since the first could come.
    pub at: f64,
    pub buyer: String,
    pub claim: serde_json::Value,
}

impl Rehearsal {
    /// `stop`: its beginning lets nobody come any more, and its force leaves everything but the closing of the sale.
    pub fn new(settings: Settings, admin: Client, clock: Arc<dyn Clock>, stop: Shutdown) -> Self {
        let began_at = clock.now();
        let crowd = settings.crowd;
        let sale = format!("rehearsal-{crowd}-{:x}{:04x}", began_at.0, fastrand::u16(..));
        let mut document = crowd.sale(settings.stock, settings.hold);
        document.closes_at = Some(began_at.plus(settings.longest() + BACKSTOP).to_string());
        let control = Control::new(admin, sale.clone(), settings.patience);
        let curve = crowd.curve(settings.rate, settings.duration);
        let to_come = Arrivals::new(curve, settings.seed).count() as u64;
        let api = Api::new(settings, clock);
        let visited = Arc::new(Visited { api, sale, document, stop });
        Self { visited, control, began_at, to_come }
    }

    pub fn sale(&self) -> &str {
        &self.visited.sale
    }

    pub fn to_come(&self) -> u64 {
        self.to_come
    }

    /// Looks whether everything that it needs is there, and changes nothing. Returns the first of the buyers who would come.
    pub async fn try_out(&self) -> anyhow::Result<Vec<Expected>> {
        probe::check(&self.visited).await?;
        self.control.try_out(&self.visited.document).await.context("the sale would not be made")?;
        Ok(self.expected())
    }

    fn expected(&self) -> Vec<Expected> {
        let crowd = self.settings().crowd;
        let one = |Arrival { number, due, mut chance }| {
            let buyer = number.to_string();
            let claim = crowd.ask(&buyer, &mut chance).body;
            Expected { at: due.as_secs_f64(), buyer, claim }
        };
        self.arrivals().take(SHOWN).map(one).collect()
    }

    /// All of it. An error: it did not come to a crowd, or nothing of what it heard was verified; the error tells what became of the sale.
    pub async fn run(&self, progress: &Progress) -> anyhow::Result<Report> {
        tokio::select! {
            biased;
            () = self.visited.stop.forced() => return Err(anyhow!("interrupted before there was a sale")),
            right = probe::check(&self.visited) => right?,
        }
        let cut_short = || anyhow!("interrupted twice: nothing was verified");
        let done = tokio::select! {
            biased;
            () = self.visited.stop.forced() => Err(cut_short()),
            done = self.play(progress) => done,
        };
        match done {
            Err(why) if self.control.may_be_there() => {
                let closed = self.control.close(Instant::now() + LAST_WORD).await;
                let sale = self.sale();
                Err(match closed {
                    Ok(()) => anyhow!("{why:#}; its sale {sale} is closed"),
                    Err(not) => self.may_be_open(&format!("{why:#}"), &format!("{not:#}")),
                })
            }
            done => done,
        }
    }

    /// What is to be said where it was left in the middle of closing its sale.
    pub fn left(&self) -> anyhow::Error {
        let why = "interrupted three times: nothing was verified";
        if self.control.may_be_there() { self.may_be_open(why, "nobody waited for it") } else { anyhow!(why) }
    }

    fn may_be_open(&self, why: &str, not: &str) -> anyhow::Error {
        let sale = self.sale();
        anyhow!("{why}; its sale {sale} may be open still ({not}); close it: rushgate sale close {sale}")
    }

    async fn play(&self, progress: &Progress) -> anyhow::Result<Report> {
        if self.visited.stop.has_begun() {
            return Err(anyhow!("interrupted before there was a sale"));
        }
        progress.begin(Stage::Making, 0);
        self.control.create(&self.visited.document).await.context("no sale could be made")?;
        self.wait_for_gateways().await?;
        if self.settings().crowd.is_sold_out() {
            self.sell_out(progress).await?;
        }
        if self.visited.stop.has_begun() {
            return Err(anyhow!("interrupted before the crowd came"));
        }
        let began = Instant::now();
        let interrupted = self.let_them_come(began, progress).await?;
        let lasted = began.elapsed();
        let truth = truth::verify(&self.visited, &self.control, progress).await;
        let heard = std::mem::take(&mut *self.visited.api.ledger.open());
        let mut verdict = verdict::judge((self.settings(), &self.visited.document), (&heard, self.to_come), &truth);
        if let Some(at) = interrupted {
            verdict.interrupted((at - began, self.settings().duration), truth.is_whole());
        }
        let run = report::Run {
            sale: self.sale().to_owned(),
            document: self.visited.document.clone(),
            interrupted: interrupted.is_some(),
            began_at: self.began_at,
            lasted,
            to_come: self.to_come,
        };
        Ok(Report::new(self.settings().clone(), run, (heard, truth, verdict)))
    }

    /// Every gateway has to offer the sale.
    async fn wait_for_gateways(&self) -> anyhow::Result<()> {
        let until = Instant::now() + self.settings().patience;
        for gateway in &self.settings().gateways {
            while let Err(why) = self.visited.api.is_open(gateway, self.sale()).await {
                if self.visited.stop.has_begun() {
                    return Ok(());
                }
                if Instant::now() > until {
                    return Err(anyhow!("{gateway} does not offer the sale: {why}"))
                        .context("is it a public listener of the deployment whose admin API made the sale?");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Sells everything before the crowd comes.
    async fn sell_out(&self, progress: &Progress) -> anyhow::Result<()> {
        let (stock, crowd) = (u64::from(self.settings().stock), self.settings().crowd);
        progress.begin(Stage::SellingOut, stock);
        let one = |number: u64| async move {
            let name = format!("{}-first-{number}", self.sale());
            let mut chance = Rng::with_seed(number);
            let (ask, key) = (crowd.ask(&name, &mut chance), format!("{name}-key"));
            let mut buyer = Buyer::new(&self.visited, name, chance)?;
            let now = Instant::now();
            let Some(order) = buyer.known((&ask, &key), now, now + self.settings().patience).await.0 else {
                return Ok(false);
            };
            buyer.pay(&order).await;
            anyhow::Ok(true)
        };
        let (mut sold, longest) = (0, self.settings().longest_sell_out());
        let until = Instant::now() + longest;
        let too_few = |sold| anyhow!("of {stock} units only {sold} could be sold before the crowd came");
        let buying = futures_util::stream::iter(0..stock).map(one).buffer_unordered(FIRST_ONES);
        let mut buying = std::pin::pin!(buying);
        loop {
            let Ok(next) = tokio::time::timeout_at(until, buying.next()).await else {
                return Err(too_few(sold).context(format!("it took longer than {longest:?}")));
            };
            let Some(bought) = next else { return Ok(()) };
            if self.visited.stop.has_begun() {
                return Ok(());
            }
            if !bought? {
                return Err(too_few(sold));
            }
            sold += 1;
            progress.done(sold);
        }
    }

    /// Lets the crowd come, and waits until all of it has left. Returns when that was cut short, if it was.
    async fn let_them_come(&self, began: Instant, progress: &Progress) -> anyhow::Result<Option<Instant>> {
        let (visited, settings) = (&self.visited, self.settings());
        let span = Span { began, lasts: settings.duration };
        let places = Arc::new(Semaphore::new(settings.vus));
        let buyers = Shutdown::new();
        progress.begin(Stage::Crowd, self.to_come);
        let mut looked = began;
        for Arrival { number, due, chance } in self.arrivals() {
            // Where more are due than can be let in, others are heeded too.
            tokio::task::consume_budget().await;
            let due = began + due;
            let now = Instant::now();
            if (due > now && visited.stop.wait(tokio::time::sleep_until(due)).await) || visited.stop.has_begun() {
                break;
            }
            if now > looked + LOOK {
                looked = now;
                self.look(progress, Some(number));
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                visited.api.ledger.open().away += 1;
                continue;
            };
            visited.api.ledger.open().came += 1;
            let buyer = Buyer::new(visited, format!("{}-{number}", visited.sale), chance)?;
            let stop = visited.stop.clone();
            buyers.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.forced() => {}
                    () = buyer.of_the_crowd(span).visit(due) => {}
                }
                drop(place);
            });
        }
        let mut interrupted = None;
        let mut heed = || {
            if visited.stop.has_begun() {
                interrupted.get_or_insert_with(Instant::now);
            }
        };
        heed();
        progress.begin(Stage::Leaving, 0);
        // Whoever is here gets an answer, and slow ones pay.
        let mut leaving = std::pin::pin!(buyers.finish(settings.longest_visit()));
        loop {
            tokio::select! {
                biased;
                _all = &mut leaving => break,
                () = tokio::time::sleep(LOOK) => {
                    heed();
                    self.look(progress, None);
                }
            }
        }
        heed();
        self.look(progress, None);
        Ok(interrupted)
    }

    fn look(&self, progress: &Progress, done: Option<u64>) {
        let heard = self.visited.api.ledger.open();
        progress.answers(Kind::ALL.map(|kind| heard.answered(kind)));
        if let Some(done) = done {
            progress.done(done);
        }
    }

    fn arrivals(&self) -> Arrivals {
        let Settings { crowd, rate, duration, seed, .. } = self.settings();
        Arrivals::new(crowd.curve(*rate, *duration), *seed)
    }

    fn settings(&self) -> &Settings {
        &self.visited.api.settings
    }
}

//! One run: a crowd, some nodes, and a death in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::subscriber::NoSubscriber;

use crate::admission::{Shut, registry};
use crate::confirm::{Answer, Request};
use crate::domain::{Ask, Buffer, Legs, Refusal, Sale, SaleDocument, Wanted};
use crate::inventory::{Inventory, Snapshot};
use crate::meters::Meters;
use crate::plan::crowd::Crowd;
use crate::plan::node::{Node, SCOPE, Site, VirtualClock};
use crate::plan::server::Server;
use crate::plan::{MakeInventory, Row, Scenario, units};
use crate::shutdown::Shutdown;

const SALE: &str = "plan";
/// Virtual time goes in these steps: a runtime's timers have no smaller ones.
const STEP: Duration = Duration::from_millis(1);
/// After so many arrivals the crowd lets others work, and looks whether it shall stop.
const ARRIVALS_AT_ONCE: u64 = 1024;
/// For so many intervals after the last unit the crowd is still looked at: until every node has heard.
const TAIL: u32 = 3;
const ONE: Wanted = Wanted { pool: 0, legs: Legs { from: 0, to: 1 }, units: 1 };

/// Runs a scenario with one buffer; `None` if it was told to stop.
pub(super) fn run(
    scenario: &Scenario,
    buffer: Buffer,
    (seed, inventory): (u64, MakeInventory),
    stop: &AtomicBool,
) -> Option<Row> {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().ok()?;
    let work = async {
        let world = World::new(scenario, buffer, inventory, stop).await?;
        world.story(scenario, seed, stop).await?;
        Some(world.row(scenario, buffer))
    };
    // What simulated nodes log is no news of this process.
    tracing::subscriber::with_default(NoSubscriber::default(), || runtime.block_on(work))
}

/// A site and what its buyers have heard.
#[derive(Debug)]
struct World {
    server: Arc<Server>,
    nodes: Vec<Arc<Node>>,
    heard: Arc<Mutex<Heard>>,
    buyers: Shutdown,
    begun: Instant,
    /// From the death of nodes until the others have noticed.
    death: Mutex<Option<(Instant, Instant)>>,
}

#[derive(Debug, Default)]
struct Heard {
    granted: u64,
    waited: u64,
    false_refusals: u64,
    in_death: u64,
    pending: u64,
    cut_off: u64,
    /// Milliseconds to an answer of yes.
    times: Vec<u64>,
}

impl World {
    /// A site whose nodes know each other and the sale; `None` if it was told to stop before they did.
    async fn new(scenario: &Scenario, buffer: Buffer, make: MakeInventory, stop: &AtomicBool) -> Option<Arc<Self>> {
        let clock = Arc::new(VirtualClock::new());
        let inner = make(clock.clone());
        // A call takes one step at the least, its place in line included.
        let way = scenario.round_trip.max(STEP);
        let pace = (scenario.budget, way, scenario.gateway.inventory_timeout);
        let server = Arc::new(Server::new(inner, scenario.stock, pace));
        let snapshot = Snapshot { sales: vec![sale(scenario.stock)], orders: Vec::new() };
        server.rebuild(SCOPE, &snapshot).await.expect("an inventory in memory takes a sale");
        server.open(SCOPE).await.expect("an inventory in memory opens");
        let site = Site {
            inventory: Arc::clone(&server) as Arc<dyn Inventory>,
            clock,
            meters: Meters::new(),
            buffer,
            gateway: scenario.gateway,
        };
        let nodes: Vec<_> = (0..scenario.nodes as usize).map(|index| Arc::new(Node::start(&site, index))).collect();
        // Until each has heard of all others, and of the sale.
        let knows = |node: &Arc<Node>| node.shards.nodes().len() == nodes.len() && node.shards.sale(SALE).is_some();
        while !nodes.iter().all(knows) {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            tokio::time::sleep(STEP).await;
        }
        server.count_from_now();
        Some(Arc::new(Self {
            server,
            nodes,
            heard: Arc::default(),
            buyers: Shutdown::new(),
            begun: Instant::now(),
            death: Mutex::new(None),
        }))
    }

    /// Lets the crowd come until all is sold and everybody has heard, or until everybody has come.
    async fn story(self: &Arc<Self>, scenario: &Scenario, seed: u64, stop: &AtomicBool) -> Option<()> {
        let mut crowd = Crowd::new((scenario.buyers, scenario.shape, scenario.within), seed);
        let tail = scenario.gateway.refill_interval * TAIL;
        let mut living = self.nodes.clone();
        let mut next = crowd.next();
        while let Some((number, comes)) = next {
            let now = self.begun.elapsed();
            if comes > now {
                tokio::time::sleep(comes.saturating_sub(now).min(scenario.gateway.refill_interval)).await;
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                let sold_out_at = self.server.seen().sold_out_at;
                if sold_out_at.is_some_and(|at| at.elapsed() > tail) {
                    break;
                }
                if living.len() == self.nodes.len() && self.server.free() <= scenario.stock / 2 {
                    self.kill(&mut living, scenario);
                }
                continue;
            }
            let door = crowd.door(living.len(), scenario.skew);
            self.ask(number, &living, door);
            if number % ARRIVALS_AT_ONCE == ARRIVALS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
            }
            next = crowd.next();
        }
        // Each of those who wait has a deadline.
        self.buyers.finish(scenario.gateway.request_timeout * 2).await;
        Some(())
    }

    fn kill(&self, living: &mut Vec<Arc<Node>>, scenario: &Scenario) {
        let left = self.nodes.len().saturating_sub(scenario.survive as usize).max(1);
        if left == living.len() {
            return;
        }
        living.drain(left..).for_each(|node| node.kill());
        let (now, timeout) = (Instant::now(), scenario.gateway.node_timeout);
        // It is missed after the timeout and, at the most, one heartbeat.
        *self.death.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now, now + timeout + registry::interval(timeout)));
    }

    /// A buyer asks at this door. What memory refuses at a look needs no task.
    fn ask(self: &Arc<Self>, number: u64, living: &[Arc<Node>], door: usize) {
        let node = &living[door];
        if let Some(refusal) = node.claims.refusal(&request(number)) {
            return self.hear(&Answer::Refused(refusal), Instant::now());
        }
        if node.shards.look(SALE, |shard| shard.shut(&[ONE])) == Some(Some(Shut::Empty)) {
            self.heard().waited += 1;
        }
        let (world, node) = (Arc::clone(self), Arc::clone(node));
        // Where a balancer sends who was cut off there: nodes die from the last on, so the first lives.
        let other = Arc::clone(&living[0]);
        self.buyers.spawn(async move {
            let asked = Instant::now();
            let mut answer = node.claim(request(number)).await;
            if node.is_dead() {
                world.heard().cut_off += 1;
                answer = other.claim(request(number)).await;
            }
            world.hear(&answer, asked);
        });
    }

    fn hear(&self, answer: &Answer, asked: Instant) {
        let is_free = self.server.free() > 0;
        let now = Instant::now();
        let death = *self.death.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard = self.heard();
        match answer {
            Answer::Granted { .. } => {
                heard.granted += 1;
                heard.times.push(u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX));
            }
            Answer::Pending { .. } => heard.pending += 1,
            Answer::Unserved(_) | Answer::Refused(Refusal::SoldOut | Refusal::AllHeld { .. }) if is_free => {
                heard.false_refusals += 1;
                heard.in_death += u64::from(death.is_some_and(|(from, to)| (from..=to).contains(&now)));
            }
            Answer::Unserved(_) | Answer::Refused(_) | Answer::Invalid(_) => {}
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, scenario: &Scenario, buffer: Buffer) -> Row {
        let seen = self.server.seen();
        let mut heard = self.heard();
        heard.times.sort_unstable();
        let p99 = heard.times.get(heard.times.len() * 99 / 100).copied().unwrap_or(0);
        let since_begun = |at: Instant| u64::try_from((at - self.begun).as_millis()).unwrap_or(u64::MAX);
        Row {
            buffer: buffer.to_string(),
            units: units(scenario, buffer),
            sold_out_ms: seen.sold_out_at.map(since_begun),
            calls: seen.calls(),
            needless: seen.needless,
            waited: heard.waited,
            false_refusals: heard.false_refusals,
            false_refusals_in_death: heard.in_death,
            pending: heard.pending,
            cut_off: heard.cut_off,
            granted: heard.granted,
            p99_ms: p99,
        }
    }
}

/// Each buyer is another, and has a key, as those have who may ask again.
fn request(number: u64) -> Request<'static> {
    let name = format!("b{number}");
    let (buyer, key) = (name.parse().expect("a name"), name.parse().expect("a key"));
    Request { sale: SALE, buyer, key: Some(key), ask: Ask::Quantity(1), trace: None }
}

fn sale(stock: u32) -> Sale {
    let document = serde_json::json!({
        "name": "Plan", "currency": "CNY", "opens_at": "2020-01-01T00:00:00Z", "hold": "7days",
        "pools": [{"id": "standard", "capacity": stock, "price": 1}],
    });
    let document: SaleDocument = serde_json::from_value(document).expect("a document");
    document.into_sale(SALE.parse().expect("a name")).expect("a sale")
}

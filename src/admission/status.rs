//! What a node tells the others about itself with every heartbeat. Operators see it; nothing is decided by it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::admission::{SaleShard, Shards};
use crate::clock::Clock;
use crate::domain::{NodeId, Phase, UnixMillis};
use crate::meters::Meters;
use crate::readiness::Readiness;

/// Sales that a heartbeat tells of; for the rest an operator asks the node itself.
pub const SALES_TOLD: usize = 32;
/// Every node hears every other's at every heartbeat, so all of them together stay small: sales for which there is no room are left out.
const SITE_BYTES: usize = 64 * 1024;
const BYTES_MAX: usize = 4096;
const BYTES_MIN: usize = 512;

/// By outcome, such as `held` or `sold_out`: claims answered since the process began.
pub type Outcomes = BTreeMap<String, u64>;

/// One node's status. A version that is older than a field leaves it out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    /// Grows by one with each heartbeat; 0: it does not say.
    pub beat: u64,
    /// How long it has been beating: the time of its figures, on its own clock.
    pub up_seconds: f64,
    /// Until its next heartbeat.
    pub interval_seconds: f64,
    pub ready: Option<bool>,
    pub connections: Option<u64>,
    /// Of all sales.
    pub claims: Outcomes,
    /// Of each sale that is told.
    pub sale_claims: BTreeMap<String, Outcomes>,
    /// What it may still let through: by sale and pool, leg by leg.
    pub shards: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
}

impl Status {
    /// Reads what a node tells; nothing, if it cannot be read.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// Speaks for a node.
#[derive(Debug, Clone)]
pub struct Speaker {
    pub(super) node: NodeId,
    sources: Option<Sources>,
    beats: u64,
    begun: Instant,
}

/// Where a node's figures come from.
#[derive(Clone)]
pub struct Sources {
    pub meters: Meters,
    pub readiness: Arc<Readiness>,
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// One that tells of its shards alone.
impl From<NodeId> for Speaker {
    fn from(node: NodeId) -> Self {
        Self { node, sources: None, beats: 0, begun: Instant::now() }
    }
}

impl Speaker {
    pub fn new(node: NodeId, sources: Sources) -> Self {
        Self { sources: Some(sources), ..Self::from(node) }
    }

    /// What is to be told now; the next heartbeat comes after `interval`.
    pub(super) fn speak(&mut self, shards: &Shards, interval: Duration) -> String {
        self.beats += 1;
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            beat: self.beats,
            up_seconds: self.begun.elapsed().as_secs_f64(),
            interval_seconds: interval.as_secs_f64(),
            ..Status::default()
        };
        let now = self.sources.as_ref().map_or(UnixMillis(0), |sources| sources.clock.now());
        let mut told = foremost(shards, now);
        told.truncate(SALES_TOLD);
        let mut of_sales = BTreeMap::new();
        if let Some(Sources { meters, readiness, .. }) = &self.sources {
            status.ready = Some(readiness.is_ready());
            status.connections = connections(meters);
            (status.claims, of_sales) = claims(meters, &told);
        }
        let mut room = Room(bytes_max(shards.nodes().len()).saturating_sub(length(&status)));
        // Claims come first, be they none: nobody has a sum for a sale of which one node does not tell, while shards stand alone.
        for shard in &told {
            let id = shard.sale.id.to_string();
            let outcomes = of_sales.remove(&id).unwrap_or_default();
            if room.take(&id, &outcomes) {
                status.sale_claims.insert(id, outcomes);
            }
        }
        for shard in &told {
            let (id, pools) = (shard.sale.id.to_string(), left(shards, shard));
            if room.take(&id, &pools) {
                status.shards.insert(id, pools);
            }
        }
        serde_json::to_string(&status).unwrap_or_default()
    }
}

/// What one status may take where so many nodes are alive.
fn bytes_max(nodes: usize) -> usize {
    (SITE_BYTES / nodes.max(1)).clamp(BYTES_MIN, BYTES_MAX)
}

/// Bytes that are left.
struct Room(usize);

impl Room {
    /// Takes room for one field of an object, if there is enough: the name in quotes, a colon, the value, a comma.
    fn take(&mut self, name: &str, value: &impl Serialize) -> bool {
        let left = self.0.checked_sub(name.len() + 4 + length(value));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// All sales of this node, those first that sell or are about to.
pub fn foremost(shards: &Shards, now: UnixMillis) -> Vec<Arc<SaleShard>> {
    let rank = |phase| match phase {
        Phase::Open => 0,
        Phase::Paused | Phase::NotOpen { opens_at: Some(_) } => 1,
        Phase::NotOpen { opens_at: None } => 2,
        Phase::Closed => 3,
    };
    let mut sales = shards.sales();
    sales.sort_by_cached_key(|shard| (rank(shard.sale.phase(now)), shard.sale.id.clone()));
    sales
}

/// Claims that this process has answered: of all sales, and of each of these.
pub fn claims(meters: &Meters, sales: &[Arc<SaleShard>]) -> (Outcomes, BTreeMap<String, Outcomes>) {
    let empty = |shard: &Arc<SaleShard>| (shard.sale.id.to_string(), Outcomes::new());
    let (mut all, mut of_sales) = (Outcomes::new(), sales.iter().map(empty).collect::<BTreeMap<_, _>>());
    meters.read("rushgate_claims_total", |labels, count| {
        let label = |name| labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str());
        let (Some(sale), Some(outcome)) = (label("sale"), label("outcome")) else { return };
        let count = whole(count);
        match all.get_mut(outcome) {
            Some(sum) => *sum += count,
            None => drop(all.insert(outcome.to_owned(), count)),
        }
        if let Some(of_sale) = of_sales.get_mut(sale) {
            of_sale.insert(outcome.to_owned(), count);
        }
    });
    (all, of_sales)
}

/// Open connections of the public listener.
pub fn connections(meters: &Meters) -> Option<u64> {
    let mut open = None;
    meters.read("rushgate_connections", |_, count| open = Some(whole(count)));
    open
}

/// What each pool of a sale may still let through, leg by leg.
pub fn left(shards: &Shards, shard: &SaleShard) -> BTreeMap<String, Vec<u32>> {
    shard.sale.pools.iter().map(|pool| pool.id.to_string()).zip(shards.left(shard)).collect()
}

fn length(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |text| text.len())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, positive and below 2^53"
)]
fn whole(count: f64) -> u64 {
    count.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Buffer, Sale, SaleDocument};
    use crate::inventory::{Changes, NodeBeat};
    use crate::planted::{NOW, Planted, SCOPE};

    fn sale(id: &str, opens_at: Option<i64>, stops: usize) -> Sale {
        let json = serde_json::json!({
            "name": id, "currency": "CNY", "opens_at": opens_at.map(|at| UnixMillis(NOW.0 + at).to_string()),
            "stops": (0..stops).map(|stop| format!("S{stop}")).collect::<Vec<_>>(),
            "pools": [if stops > 0 { serde_json::json!({"id": "p", "capacity": 100_000, "fares": vec![100; stops - 1]}) }
                      else { serde_json::json!({"id": "p", "capacity": 10, "price": 100}) }],
        });
        serde_json::from_value::<SaleDocument>(json).unwrap().into_sale(id.parse().unwrap()).unwrap()
    }

    fn shards_of(sales: Vec<Sale>) -> Shards {
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        shards.learn(SCOPE, &Changes { version: 1, sales, ..Changes::default() });
        shards
    }

    async fn speaker(meters: &Meters) -> Speaker {
        let (readiness, clock) = (Arc::new(Readiness::new()), Planted::new().await.clock);
        Speaker::new("n".parse().unwrap(), Sources { meters: meters.clone(), readiness, clock })
    }

    #[tokio::test]
    async fn a_status_tells_what_was_answered_and_grows_with_each_beat() {
        let meters = Meters::new();
        meters.counter("rushgate_claims_total", &[("sale", "s"), ("outcome", "held")]).increment(2);
        meters.counter("rushgate_claims_total", &[("sale", "t"), ("outcome", "held")]).increment(3);
        meters.counter("rushgate_claims_total", &[("sale", ""), ("outcome", "unknown_sale")]).increment(1);
        meters.gauge("rushgate_connections", &[]).set(7.0);
        let shards = shards_of(vec![sale("s", Some(0), 0)]);
        let mut speaker = speaker(&meters).await;
        let first = Status::parse(&speaker.speak(&shards, Duration::from_millis(500)));
        let outcomes =
            |outcomes: &[(&str, u64)]| outcomes.iter().map(|(o, n)| ((*o).to_owned(), *n)).collect::<Outcomes>();
        assert_eq!(first.claims, outcomes(&[("held", 5), ("unknown_sale", 1)]));
        assert_eq!(first.sale_claims, [("s".to_owned(), outcomes(&[("held", 2)]))].into());
        assert_eq!((first.ready, first.connections, first.interval_seconds), (Some(true), Some(7), 0.5));
        assert_eq!(first.shards["s"]["p"], [0]);
        assert_eq!(first.beat, 1);
        assert_eq!(Status::parse(&speaker.speak(&shards, Duration::ZERO)).beat, 2);
    }

    #[tokio::test]
    async fn a_status_stays_small_however_many_sales_and_legs_there_are() {
        let sales = (0..200).map(|n| sale(&format!("a-train-with-a-long-name-{n:03}"), Some(0), 30)).collect();
        let text = speaker(&Meters::new()).await.speak(&shards_of(sales), Duration::ZERO);
        assert!(text.len() <= BYTES_MAX, "{}", text.len());
        let told = Status::parse(&text);
        assert!(told.shards.len() > 8 && told.shards.contains_key("a-train-with-a-long-name-000"), "{text}");
        let sales = (0..200).map(|n| sale(&format!("s{n:03}"), Some(0), 0)).collect();
        let told = Status::parse(&speaker(&Meters::new()).await.speak(&shards_of(sales), Duration::ZERO));
        assert_eq!((told.shards.len(), told.sale_claims.len()), (SALES_TOLD, SALES_TOLD));
    }

    #[tokio::test]
    async fn the_more_nodes_there_are_the_less_each_tells_and_claims_before_shards() {
        assert_eq!([0, 1, 16, 32, 128, 1000].map(bytes_max), [4096, 4096, 4096, 2048, 512, 512]);
        let sales = (0..32).map(|n| sale(&format!("s{n:03}"), Some(0), 30)).collect();
        let shards = shards_of(sales);
        let node = |n: usize| NodeBeat { node: format!("n{n}").parse().unwrap(), weight: 1.0, status: String::new() };
        shards.learn_nodes((0..64).map(node).collect());
        let text = speaker(&Meters::new()).await.speak(&shards, Duration::ZERO);
        assert!(text.len() <= 1024, "{}", text.len());
        let told = Status::parse(&text);
        assert!(told.sale_claims.len() == 32 && told.shards.len() < 32, "{text}");
    }

    #[test]
    fn what_sells_comes_first() {
        let shards = shards_of(vec![
            sale("a-draft", None, 0),
            sale("b-later", Some(60_000), 0),
            sale("d-open", Some(0), 0),
            sale("c-open", Some(-1), 0),
        ]);
        let order: Vec<_> = foremost(&shards, NOW).iter().map(|shard| shard.sale.id.to_string()).collect();
        assert_eq!(order, ["c-open", "d-open", "b-later", "a-draft"]);
    }

    #[test]
    fn what_cannot_be_read_tells_nothing_and_an_older_version_little() {
        assert_eq!(Status::parse("no JSON"), Status::default());
        let old = Status::parse(r#"{"version":"0.0.9","shards":{"s":{"p":[4,5]}}}"#);
        assert_eq!((old.beat, old.ready, &old.shards["s"]["p"]), (0, None, &vec![4, 5]));
    }
}

//! Who is heard: alive, late, gone or left, and how many claims each node answers per second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::live::snapshot::{Claims, NodeView, Rates, State};
use crate::admission::status::{Outcomes, Status};
use crate::domain::NodeId;
use crate::inventory::NodeBeat;

/// After so many intervals without a new heartbeat a node is late.
const LATE: u32 = 2;
/// One that goes off the registry within so many intervals of its last heartbeat said so; who dies stays on it for six.
const LEFT: u32 = 3;
/// For so long a node that is no more is shown.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Rates are told over this time: heartbeats come unevenly.
const RATE_SECONDS: f64 = 2.0;

/// All nodes that are heard, or were lately.
#[derive(Debug)]
pub(super) struct Nodes {
    this: NodeId,
    known: BTreeMap<NodeId, Node>,
    /// What was heard last; the same again says nothing.
    heard: Option<Arc<Vec<NodeBeat>>>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) weight: f64,
    pub(super) status: Status,
    /// When its number grew; `None`: it does not number its heartbeats.
    beat_at: Option<Instant>,
    state: State,
    ended_at: Option<Instant>,
    counts: VecDeque<Counts>,
    shown: NodeView,
}

/// What a node has answered up to one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    /// On the node's own clock.
    pub(super) at_seconds: f64,
    pub(super) all: Outcomes,
    /// Of the sales that it tells of, be it that nobody asked for them.
    pub(super) of_sales: BTreeMap<String, Outcomes>,
}

impl Nodes {
    /// With this node alone.
    pub(super) fn new(this: NodeId) -> Self {
        let known = [(this.clone(), Node::new(1.0))].into();
        Self { this, known, heard: None }
    }

    /// Takes note of who is on the registry. Who is silent is judged when something is heard: where nothing is, it is this node that does
    /// not hear.
    pub(super) fn hear(&mut self, heard: &Arc<Vec<NodeBeat>>, now: Instant) {
        if self.heard.as_ref().is_some_and(|last| Arc::ptr_eq(last, heard)) || heard.is_empty() {
            return;
        }
        self.heard = Some(Arc::clone(heard));
        for beat in heard.iter() {
            let is_this = beat.node == self.this;
            self.known.entry(beat.node.clone()).or_insert_with(|| Node::new(beat.weight)).hear(beat, is_this, now);
        }
        let own = self.known[&self.this].interval();
        let on_list: BTreeSet<_> = heard.iter().map(|beat| &beat.node).collect();
        for (_, node) in self.known.iter_mut().filter(|(id, _)| !on_list.contains(id) && **id != self.this) {
            node.miss(own, now);
        }
    }

    /// Takes what this node has answered up to now.
    pub(super) fn count_own(&mut self, counts: Counts) {
        if let Some(node) = self.known.get_mut(&self.this) {
            node.count(counts);
        }
    }

    /// Each node as it is shown; one that is no more stays as it was, for a while. `fill` adds what is known elsewhere.
    pub(super) fn view(&mut self, now: Instant, fill: impl Fn(&Node, &mut NodeView)) -> Vec<NodeView> {
        self.known.retain(|_, node| node.ended_at.is_none_or(|at| now.duration_since(at) < REMEMBERED));
        for (id, node) in &mut self.known {
            let has_ended = node.ended_at.is_some();
            if !has_ended || node.shown.node.is_empty() {
                let mut view = NodeView {
                    node: id.to_string(),
                    this: *id == self.this,
                    weight: node.weight,
                    version: node.status.version.clone(),
                    ready: node.status.ready,
                    connections: node.status.connections,
                    claims: node.rates(|counts| Some(&counts.all)).unwrap_or_default(),
                    ..NodeView::default()
                };
                fill(node, &mut view);
                node.shown = view;
            }
            if has_ended {
                node.shown.claims.clear();
            }
            node.shown.state = node.state;
            node.shown.silent_seconds = node.beat_at.map(|at| now.duration_since(at).as_secs_f64());
        }
        self.known.values().map(|node| node.shown.clone()).collect()
    }

    /// Claims of all sales, over all nodes that are heard.
    pub(super) fn claims(&self) -> Claims {
        self.sum(|counts| Some(&counts.all))
    }

    /// Those of one sale; nothing where a node that is heard does not tell of it, since a part would pass for the whole.
    pub(super) fn claims_of(&self, sale: &str) -> Claims {
        let tells = |node: &Node| node.counts.back().is_some_and(|counts| counts.of_sales.contains_key(sale));
        if self.known.values().filter(|node| node.ended_at.is_none()).all(tells) {
            self.sum(|counts| counts.of_sales.get(sale))
        } else {
            Claims::new()
        }
    }

    fn sum(&self, of: impl Fn(&Counts) -> Option<&Outcomes>) -> Claims {
        let mut claims = Claims::new();
        for node in self.known.values().filter(|node| node.ended_at.is_none()) {
            for (outcome, total) in node.counts.back().and_then(&of).into_iter().flatten() {
                claims.entry(outcome.clone()).or_default().total += total;
            }
            for (outcome, rate) in node.rates(&of).into_iter().flatten() {
                let sum = claims.entry(outcome).or_default();
                sum.per_second = Some(sum.per_second.unwrap_or(0.0) + rate);
            }
        }
        claims
    }
}

impl Node {
    fn new(weight: f64) -> Self {
        Self {
            weight,
            status: Status::default(),
            beat_at: None,
            state: State::Alive,
            ended_at: None,
            counts: VecDeque::new(),
            shown: NodeView::default(),
        }
    }

    /// This node's own counts are taken where they are made.
    fn hear(&mut self, beat: &NodeBeat, is_this: bool, now: Instant) {
        let status = Status::parse(&beat.status);
        if status.beat != self.status.beat {
            self.beat_at = Some(now);
            if !is_this {
                self.count(Counts::told(&status));
            }
        }
        self.weight = beat.weight;
        self.status = status;
        let silent = self.beat_at.map_or(Duration::ZERO, |at| now.duration_since(at));
        let is_late = !is_this && self.status.beat > 0 && silent >= self.interval().saturating_mul(LATE);
        (self.state, self.ended_at) = (if is_late { State::Late } else { State::Alive }, None);
    }

    /// It is not on the registry any more.
    fn miss(&mut self, own_interval: Duration, now: Instant) {
        if self.ended_at.is_none() {
            let interval = self.interval().min(own_interval);
            let said_so = self.beat_at.is_some_and(|at| now.duration_since(at) < interval.saturating_mul(LEFT));
            (self.state, self.ended_at) = (if said_so { State::Left } else { State::Gone }, Some(now));
        }
    }

    fn count(&mut self, counts: Counts) {
        // One whose clock went back has begun anew.
        if self.counts.back().is_some_and(|last| counts.at_seconds <= last.at_seconds) {
            self.counts.clear();
        }
        let begins = counts.at_seconds - RATE_SECONDS;
        while self.counts.get(1).is_some_and(|second| second.at_seconds <= begins) {
            self.counts.pop_front();
        }
        self.counts.push_back(counts);
    }

    /// Per second, while it is heard and has been heard twice.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn rates(&self, of: impl Fn(&Counts) -> Option<&Outcomes>) -> Option<Rates> {
        let (first, last) = (self.counts.front()?, self.counts.back()?);
        let seconds = last.at_seconds - first.at_seconds;
        if self.state != State::Alive || seconds <= 0.0 {
            return None;
        }
        let (before, after) = (of(first)?, of(last)?);
        let rate = |(outcome, count): (&String, &u64)| {
            let grown = count.saturating_sub(before.get(outcome).copied().unwrap_or(0));
            (outcome.clone(), grown as f64 / seconds)
        };
        Some(after.iter().map(rate).collect())
    }

    fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.status.interval_seconds).unwrap_or_default()
    }
}

impl Counts {
    fn told(status: &Status) -> Self {
        Self { at_seconds: status.up_seconds, all: status.claims.clone(), of_sales: status.sale_claims.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::live::snapshot::Rate;

    const INTERVAL: f64 = 0.5;

    /// What nodes say; each by its name, the number of its heartbeat, and the claims that it granted.
    fn beats(nodes: &[(&str, u64, u64)]) -> Arc<Vec<NodeBeat>> {
        let beat = |(node, beat, held): &(&str, u64, u64)| {
            #[expect(clippy::cast_precision_loss, reason = "they are few")]
            let up_seconds = INTERVAL * *beat as f64;
            let held = Outcomes::from([("held".to_owned(), *held)]);
            let status = Status {
                beat: *beat,
                up_seconds,
                interval_seconds: INTERVAL,
                claims: held.clone(),
                sale_claims: [("s".to_owned(), held)].into(),
                shards: [("s".to_owned(), BTreeMap::new())].into(),
                ..Status::default()
            };
            NodeBeat { node: node.parse().unwrap(), weight: 1.0, status: serde_json::to_string(&status).unwrap() }
        };
        Arc::new(nodes.iter().map(beat).collect())
    }

    struct Watch {
        nodes: Nodes,
        begun: Instant,
        steps: u32,
    }

    impl Watch {
        fn new() -> Self {
            Self { nodes: Nodes::new("a".parse().unwrap()), begun: Instant::now(), steps: 0 }
        }

        /// One interval later this is heard.
        fn hear(&mut self, heard: &[(&str, u64, u64)]) {
            self.steps += 1;
            self.nodes.hear(&beats(heard), self.now());
        }

        fn now(&self) -> Instant {
            self.begun + Duration::from_millis(500) * self.steps
        }

        fn states(&mut self) -> String {
            let now = self.now();
            let state = |view: &NodeView| format!("{} {:?}", view.node, view.state);
            self.nodes.view(now, |_, _| {}).iter().map(state).collect::<Vec<_>>().join(", ")
        }
    }

    #[test]
    fn a_node_that_falls_silent_is_late_then_gone_and_then_forgotten() {
        let mut watch = Watch::new();
        watch.hear(&[("a", 1, 0), ("b", 1, 7)]);
        assert_eq!(watch.states(), "a Alive, b Alive");
        watch.hear(&[("a", 2, 0), ("b", 1, 7)]);
        assert_eq!(watch.states(), "a Alive, b Alive", "one heartbeat may be between two looks");
        watch.hear(&[("a", 3, 0), ("b", 1, 7)]);
        assert_eq!(watch.states(), "a Alive, b Late");
        assert_eq!(watch.nodes.claims()["held"].total, 7, "it is heard of all the same");
        watch.hear(&[("a", 4, 0), ("b", 1, 7)]);
        watch.hear(&[("a", 5, 0)]);
        assert_eq!(watch.states(), "a Alive, b Gone");
        assert_eq!(watch.nodes.claims(), Claims::new());
        watch.hear(&[("a", 6, 0)]);
        let now = watch.now();
        let view = watch.nodes.view(now, |_, _| {});
        assert_eq!((view[1].claims.clone(), view[1].silent_seconds), (Rates::new(), Some(2.5)));
        watch.steps += 120;
        assert_eq!(watch.states(), "a Alive");
    }

    #[test]
    fn a_node_that_says_that_it_goes_has_left_and_may_come_back() {
        let mut watch = Watch::new();
        watch.hear(&[("a", 1, 0), ("b", 8, 0)]);
        watch.hear(&[("a", 2, 0)]);
        assert_eq!(watch.states(), "a Alive, b Left");
        watch.hear(&[("a", 3, 0), ("b", 1, 0)]);
        assert_eq!(watch.states(), "a Alive, b Alive");
    }

    #[test]
    fn who_hears_nothing_does_not_take_the_others_for_dead() {
        let mut watch = Watch::new();
        watch.hear(&[("a", 1, 0), ("b", 1, 0)]);
        let heard = watch.nodes.heard.clone().unwrap();
        watch.steps += 20;
        let now = watch.now();
        watch.nodes.hear(&heard, now);
        assert_eq!(watch.states(), "a Alive, b Alive");
        assert_eq!(watch.nodes.view(now, |_, _| {})[1].silent_seconds, Some(10.0));
    }

    #[test]
    fn rates_are_per_second_of_the_node_that_counts_and_never_negative() {
        let mut watch = Watch::new();
        let nothing = Counts { of_sales: [("s".to_owned(), Outcomes::new())].into(), ..Counts::default() };
        watch.nodes.count_own(nothing);
        watch.hear(&[("b", 1, 100)]);
        assert_eq!(watch.nodes.claims()["held"], Rate { total: 100, per_second: None }, "it was counted once");
        watch.hear(&[("b", 2, 110)]);
        assert_eq!(watch.nodes.claims()["held"], Rate { total: 110, per_second: Some(20.0) });
        assert_eq!(watch.nodes.claims_of("s"), watch.nodes.claims());
        assert_eq!(watch.nodes.claims_of("t"), Claims::new());
        // It was started again.
        watch.hear(&[("b", 1, 3)]);
        assert_eq!(watch.nodes.claims()["held"], Rate { total: 3, per_second: None });
        for beat in 2..20 {
            watch.hear(&[("b", beat, 3 * beat)]);
        }
        assert_eq!(watch.nodes.claims()["held"], Rate { total: 57, per_second: Some(6.0) });
        assert!(watch.nodes.known["b"].counts.len() <= 6, "no more than the time that rates are told over");
    }

    #[test]
    fn this_nodes_own_counts_are_added_to_what_is_heard() {
        let mut watch = Watch::new();
        watch.hear(&[("a", 1, 999), ("b", 1, 5)]);
        let own = |at_seconds, held| Counts {
            at_seconds,
            all: [("held".to_owned(), held)].into(),
            of_sales: BTreeMap::new(),
        };
        watch.nodes.count_own(own(1.0, 10));
        watch.nodes.count_own(own(2.0, 14));
        assert_eq!(watch.nodes.claims()["held"], Rate { total: 19, per_second: Some(4.0) });
    }

    #[test]
    fn a_sale_of_which_one_node_does_not_tell_has_no_sum_until_that_node_is_gone() {
        let mut watch = Watch::new();
        let own = |at_seconds| Counts {
            at_seconds,
            all: [("held".to_owned(), 7)].into(),
            of_sales: ["s", "t"].map(|sale| (sale.to_owned(), [("held".to_owned(), 3)].into())).into(),
        };
        watch.nodes.count_own(own(1.0));
        watch.nodes.count_own(own(2.0));
        watch.hear(&[("a", 1, 0), ("b", 1, 5)]);
        assert_eq!(watch.nodes.claims_of("s")["held"].total, 8);
        assert_eq!(watch.nodes.claims_of("t"), Claims::new(), "b does not tell of it");
        assert_eq!(watch.nodes.claims()["held"].total, 12);
        watch.hear(&[("a", 2, 0)]);
        assert_eq!(watch.nodes.claims_of("t")["held"], Rate { total: 3, per_second: Some(0.0) });
    }

    #[test]
    fn an_interval_beyond_all_measure_ends_nothing() {
        let mut watch = Watch::new();
        let status = Status { beat: 1, interval_seconds: 1e19, ..Status::default() };
        let status = serde_json::to_string(&status).unwrap();
        let beat = |node: &str| NodeBeat { node: node.parse().unwrap(), weight: 1.0, status: status.clone() };
        let now = watch.now();
        watch.nodes.hear(&Arc::new(vec![beat("a"), beat("b")]), now);
        watch.nodes.hear(&Arc::new(vec![beat("a"), beat("b")]), now);
        watch.nodes.hear(&Arc::new(vec![beat("a")]), now);
        assert_eq!(watch.states(), "a Alive, b Left");
    }

    #[test]
    fn a_node_that_does_not_number_its_heartbeats_is_never_late() {
        let mut watch = Watch::new();
        let old = |node: &str| NodeBeat { node: node.parse().unwrap(), weight: 1.0, status: "{}".to_owned() };
        for _ in 0..9 {
            watch.steps += 1;
            let now = watch.now();
            watch.nodes.hear(&Arc::new(vec![old("b")]), now);
        }
        assert_eq!(watch.states(), "a Alive, b Alive");
    }
}

//! One run, from its seed: faults for some seconds, then none, then quiet, then the last units are sold, and everything is looked at.

use std::sync::Arc;
use std::time::Duration;

use rushgate::clock::Clock;
use rushgate::domain::{Legs, Partition, Scope, UnixMillis};
use rushgate::meters::Meters;
use rushgate::shutdown::Shutdown;
use rushgate::store::{Change, PartitionState, PaymentState, Sales, StaleState, Store};

use crate::checker::Violation;
use crate::clients::{self, Wish};
use crate::faults::{Backend, Event, plan};
use crate::world::{NODES, World};

/// How long faults and buyers come.
const LENGTH: Duration = Duration::from_secs(5);
/// How long it may take until nothing moves any more: several takeovers, a patience of the writers, a hold.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Vec<String>,
    pub(crate) answers: Vec<(&'static str, u64)>,
    pub(crate) rows: usize,
    pub(crate) epochs: u64,
}

/// Runs one seed. With `recording` the outcome has the trace.
pub(crate) fn run(seed: u64, meters: &Meters, recording: bool) -> Outcome {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(async {
        let world = World::new(meters, recording);
        let clients = Shutdown::new();
        tokio::select! {
            biased;
            () = world.watcher.violated.cancelled() => {}
            () = story(&world, &clients) => {}
        }
        let state = world.store.state();
        Outcome {
            violation: world.watcher.violation(),
            trace: world.sky.trace.lines(),
            answers: world.watcher.ledger().answers.iter().map(|(answer, count)| (*answer, *count)).collect(),
            rows: state.orders.len(),
            epochs: state.partitions.values().map(|row| row.epoch.0).sum(),
        }
    });
    drop(runtime);
    meters.upkeep();
    outcome
}

async fn story(world: &Arc<World>, clients: &Shutdown) {
    set_up(world).await;
    (0..NODES).for_each(|node| world.start(node));
    for number in 0..fastrand::usize(30..60) {
        let comes = LENGTH.mul_f64(fastrand::f64());
        clients.spawn(clients::buyer(Arc::clone(world), number, comes));
    }
    let events = Shutdown::new();
    let mut now = Duration::ZERO;
    for (at, event) in plan(NODES, LENGTH) {
        tokio::time::sleep(at.saturating_sub(now)).await;
        now = at;
        world.sky.trace.note(|| format!("{event:?}"));
        events.spawn(befall(Arc::clone(world), event));
    }
    tokio::time::sleep(LENGTH.saturating_sub(now)).await;
    events.force();
    heal(world);
    if !settles(world, clients).await {
        return;
    }
    let scopes = scopes(world);
    world.watcher.check_quiet(&world.store, &world.inventory.raw(), &scopes);
    sell_the_rest(world).await;
    if settles(world, &Shutdown::new()).await {
        world.watcher.check_quiet(&world.store, &world.inventory.raw(), &scopes);
    }
}

async fn set_up(world: &World) {
    world.store.migrate().await.unwrap();
    for sale in world.watcher.sales() {
        let (who, what, subject) = ("operator".to_owned(), "sale.put".to_owned(), sale.id.to_string());
        let at = UnixMillis(0);
        let change = Change { at, who, what, subject, before: String::new(), after: String::new() };
        world.store.put_sale(sale, &change).await.unwrap();
    }
}

async fn befall(world: Arc<World>, event: Event) {
    match event {
        Event::Crash { node, back } => {
            world.kill(node);
            tokio::time::sleep(back).await;
            world.start(node);
        }
        Event::Cut { node, backend, time } => {
            world.sky.cuts(|cuts| cuts.insert((node, backend)));
            tokio::time::sleep(time).await;
            world.sky.cuts(|cuts| cuts.remove(&(node, backend)));
        }
        Event::Restart { away, keeps } => {
            let everybody = (None, Backend::Inventory);
            world.inventory.restart(keeps);
            world.sky.cuts(|cuts| cuts.insert(everybody));
            tokio::time::sleep(away).await;
            world.sky.cuts(|cuts| cuts.remove(&everybody));
        }
        Event::Fence => world.inventory.fence_all(),
        Event::DropLanes => world.broker.drop_lanes(),
        Event::Jump { node, millis } => {
            node.map_or(&world.store_clock, |node| &world.clocks[node]).jump(millis);
        }
    }
}

fn heal(world: &World) {
    world.sky.trace.note(|| "calm".to_owned());
    world.sky.calm_down();
    (0..NODES).for_each(|node| world.start(node));
    world.clocks.iter().chain([&world.store_clock]).for_each(|clock| clock.jump(0));
}

/// Waits until nothing moves: no client waits, nothing is on its way, no hold is left to expire. Says what does not come to rest.
async fn settles(world: &World, clients: &Shutdown) -> bool {
    let everybody = clients.finish(QUIET_WITHIN);
    if !everybody.await {
        world.watcher.breaks("I10", "a client does not come to an end");
        return false;
    }
    let mut restless = String::new();
    let begun = tokio::time::Instant::now();
    let mut quiet = 0;
    while begun.elapsed() < QUIET_WITHIN {
        restless = what_moves(world).await;
        quiet = if restless.is_empty() { quiet + 1 } else { 0 };
        if quiet == 3 {
            if let Some(node) = world.failed() {
                world.watcher.breaks("alive", format!("node {node} stopped by itself"));
            }
            return true;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    world.watcher.breaks("I11", restless);
    false
}

async fn what_moves(world: &World) -> String {
    use rushgate::inventory::Inventory;
    let (messages, dead) = world.broker.left().await;
    let mut outbox = 0;
    for scope in scopes(world) {
        outbox += world.inventory.raw().outbox_len(scope).await.unwrap_or(0);
    }
    let state = world.store.state();
    let now = world.store_clock.now();
    let held = state.orders.values().filter(|row| row.status == rushgate::domain::OrderStatus::Held).count();
    let is_open = state.partitions.len() == usize::from(world.partitions)
        && state.partitions.values().all(|row| row.state == PartitionState::Open);
    let late = state.payments.values().filter(|payment| payment.row.state == PaymentState::Late).count();
    let unasked = state.stale.values().filter(|kept| kept.state == StaleState::Waiting).count();
    let waiting = state.moves.len() + late + unasked;
    let dead = dead + state.letters.len() as u64;
    let still = messages == 0 && dead == 0 && outbox == 0 && waiting == 0 && held == 0;
    if still && is_open && world.all_joined() {
        return String::new();
    }
    format!(
        "at {now}: {messages} messages, {dead} dead letters, {outbox} outbox entries, {} moves, {late} late payments, {unasked} stale orders, {held} held, open: {is_open}, joined: {}",
        state.moves.len(),
        world.all_joined()
    )
}

fn scopes(world: &World) -> Vec<Scope> {
    let state = world.store.state();
    let rows = Partition::all(world.partitions).filter_map(|partition| state.partitions.get(&partition));
    rows.map(|row| Scope { partition: row.partition, epoch: row.epoch }).collect()
}

/// I9: fresh buyers get every unit that is left, leg by leg, and none more.
async fn sell_the_rest(world: &Arc<World>) {
    let left: Vec<_> = {
        let state = world.store.state();
        let free =
            |(key, guard): (&(_, _, u8), &crate::memory_store::Guard)| (key.clone(), guard.capacity - guard.live);
        state.guard.iter().map(free).collect()
    };
    for ((id, _, leg), free) in left {
        let sale = world.watcher.sales().iter().find(|sale| sale.id == id).expect("it has a guard");
        for n in 0..=free {
            let name = format!("fresh-{id}-{leg}-{n}");
            let (wish, request) = Wish::of(sale, &name, &name, (Legs { from: leg, to: leg + 1 }, 1), None);
            world.watcher.ledger().requests.insert(wish.id, request);
            let granted = clients::claim(world, &wish).await;
            // Paid at once, so that nobody has to wait for the holds to end.
            if let Some(order) = &granted {
                clients::pay_for(world, order).await;
            }
            let granted = granted.is_some();
            if granted != (n < free) {
                return world
                    .watcher
                    .breaks("I9", format!("unit {n} of {free} that are free on {id}/{leg}: {granted}"));
            }
        }
    }
}

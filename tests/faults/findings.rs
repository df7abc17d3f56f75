//! What lies in the store, the inventory and the queue when a run is over, read with SQL, Redis and AMQP, never through the program.

use std::collections::BTreeMap;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection as Amqp, ConnectionProperties};
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};

/// Which unit: sale, pool and leg.
pub(crate) type Leg = (String, String, u32);

/// A row of `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderRow {
    pub(crate) id: String,
    pub(crate) sale: String,
    pub(crate) buyer: String,
    pub(crate) status: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    /// `pool/from/to/quantity/passenger/seat` each.
    pub(crate) lines: Vec<String>,
}

/// A row of `payment_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PaymentRow {
    pub(crate) event: String,
    pub(crate) order: String,
    pub(crate) state: String,
}

/// The units of one leg, as the inventory counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counter {
    pub(crate) capacity: i64,
    pub(crate) free: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// The key under which order ids are derived.
    pub(crate) secret: Vec<u8>,
    pub(crate) epoch: i64,
    pub(crate) orders: Vec<OrderRow>,
    /// Order, status, instant.
    pub(crate) events: Vec<(String, String, i64)>,
    pub(crate) payments: Vec<PaymentRow>,
    /// Orders whose end the inventory has not followed, by the store's own list.
    pub(crate) moves: Vec<String>,
    /// The guard: capacity and live units.
    pub(crate) guard: BTreeMap<Leg, (i64, i64)>,
    pub(crate) quarantined: Vec<String>,
    pub(crate) counters: BTreeMap<Leg, Counter>,
    /// Order → the letter of its status.
    pub(crate) inventory_orders: BTreeMap<String, char>,
    pub(crate) outbox: u64,
    /// Queue → messages that wait.
    pub(crate) lanes: BTreeMap<String, u64>,
    /// What a look at the counters or the guard, while the run went on, found wrong.
    pub(crate) sampled: Vec<String>,
}

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) mysql: String,
    pub(crate) redis: String,
    pub(crate) amqp: String,
    pub(crate) namespace: String,
    pub(crate) lanes: u16,
}

impl Findings {
    /// Reads everything. Whoever wants it quiet waits before, see [`Findings::unrest`].
    pub(crate) async fn read(from: &Sources) -> Result<Self, String> {
        let mut found = Self::default();
        found.read_store(from).await.map_err(|error| format!("the store: {error}"))?;
        found.read_inventory(from).await.map_err(|error| format!("the inventory: {error}"))?;
        found.read_queue(from).await.map_err(|error| format!("the queue: {error}"))?;
        Ok(found)
    }

    /// What is still on its way; nothing when all is quiet.
    pub(crate) fn unrest(&self) -> Vec<String> {
        let mut unrest = Vec::new();
        if self.outbox > 0 {
            unrest.push(format!("{} outbox entries", self.outbox));
        }
        unrest.extend(
            self.lanes.iter().filter(|(_, depth)| **depth > 0).map(|(lane, depth)| format!("{depth} in {lane}")),
        );
        if !self.moves.is_empty() {
            unrest.push(format!("{} moves that the inventory has not followed", self.moves.len()));
        }
        let waiting = self.payments.iter().filter(|payment| ["unmatched", "late"].contains(&payment.state.as_str()));
        unrest.extend(waiting.map(|payment| format!("payment {} is {}", payment.event, payment.state)));
        unrest
    }

    async fn read_store(&mut self, from: &Sources) -> Result<(), sqlx::Error> {
        let mut store = MySqlConnection::connect(&from.mysql).await?;
        // One view of everything, or a move could be seen without its order.
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut store).await?;
        let mut tx = store.begin().await?;
        self.secret = sqlx::query_scalar("SELECT order_secret FROM deployment").fetch_one(&mut *tx).await?;
        let orders = "SELECT LOWER(HEX(order_id)), sale_id, buyer_id, status, amount, currency, line_items FROM orders";
        for row in sqlx::query(orders).fetch_all(&mut *tx).await? {
            let lines: String = row.try_get(6)?;
            self.orders.push(OrderRow {
                id: row.try_get(0)?,
                sale: row.try_get(1)?,
                buyer: row.try_get(2)?,
                status: row.try_get(3)?,
                amount: row.try_get(4)?,
                currency: row.try_get(5)?,
                lines: lines.split(',').map(str::to_owned).collect(),
            });
        }
        let events = "SELECT LOWER(HEX(order_id)), status, at FROM order_events";
        self.events = sqlx::query_as(events).fetch_all(&mut *tx).await?;
        let payments = "SELECT event_id, LOWER(HEX(order_id)), state FROM payment_events";
        let payments: Vec<(String, String, String)> = sqlx::query_as(payments).fetch_all(&mut *tx).await?;
        self.payments = payments.into_iter().map(|(event, order, state)| PaymentRow { event, order, state }).collect();
        self.moves = sqlx::query_scalar("SELECT LOWER(HEX(order_id)) FROM stock_moves").fetch_all(&mut *tx).await?;
        self.quarantined =
            sqlx::query_scalar("SELECT LOWER(HEX(order_id)) FROM quarantined_orders").fetch_all(&mut *tx).await?;
        for (sale, pool, leg, capacity, live) in guard(&mut tx).await? {
            self.guard.insert((sale, pool, leg), (capacity, live));
        }
        tx.rollback().await
    }

    async fn read_inventory(&mut self, from: &Sources) -> Result<(), String> {
        let epoch = epoch(from).await?;
        self.epoch = epoch;
        let client = redis::Client::open(from.redis.as_str()).map_err(|error| error.to_string())?;
        let mut redis = client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())?;
        let key = |part: &str| format!("{}:{{0}}:{epoch}:{part}", from.namespace);
        let (counters, orders, outbox): (BTreeMap<String, String>, BTreeMap<String, String>, u64) = redis::pipe()
            .atomic()
            .cmd("HGETALL")
            .arg(key("counters"))
            .cmd("HGETALL")
            .arg(key("orders"))
            .cmd("XLEN")
            .arg(key("outbox"))
            .query_async(&mut redis)
            .await
            .map_err(|error| error.to_string())?;
        self.counters = counters.iter().filter_map(|(field, text)| parse_counter(field, text)).collect();
        let letter = |(id, record): (String, String)| record.chars().next().map(|letter| (id, letter));
        self.inventory_orders = orders.into_iter().filter_map(letter).collect();
        self.outbox = outbox;
        Ok(())
    }

    async fn read_queue(&mut self, from: &Sources) -> Result<(), lapin::Error> {
        let broker = Amqp::connect(&from.amqp, ConnectionProperties::default()).await?;
        let channel = broker.create_channel().await?;
        let names =
            (0..from.lanes).map(|lane| format!("lane.{lane}")).chain(["unroutable".to_owned(), "dead".to_owned()]);
        for name in names {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = format!("{}.{name}", from.namespace);
            let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
            self.lanes.insert(name, queue.message_count().into());
        }
        broker.close(200, "".into()).await
    }
}

/// One look at the guard and at the counters while a run goes on: what does not add up.
pub(crate) async fn sample(from: &Sources) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let mut store = MySqlConnection::connect(&from.mysql).await.map_err(|error| error.to_string())?;
    for (sale, pool, leg, capacity, live) in guard(&mut store).await.map_err(|error| error.to_string())? {
        if !(0..=capacity).contains(&live) {
            wrong.push(format!("I1: {live} of {capacity} units are live on {sale}/{pool}/{leg}"));
        }
    }
    let mut found = Findings::default();
    found.read_inventory(from).await?;
    for (leg, counter) in found.counters {
        let Counter { capacity, free, held, sold } = counter;
        if free + held + sold != capacity || free < 0 || held < 0 || sold < 0 {
            wrong.push(format!("I2: {leg:?} does not add up: {counter:?}"));
        }
    }
    Ok(wrong)
}

async fn guard(store: &mut MySqlConnection) -> Result<Vec<(String, String, u32, i64, i64)>, sqlx::Error> {
    let guard =
        "SELECT sale_id, pool_id, CAST(leg AS UNSIGNED), CAST(capacity AS SIGNED), CAST(live AS SIGNED) FROM pool_legs";
    let rows: Vec<(String, String, u64, i64, i64)> = sqlx::query_as(guard).fetch_all(store).await?;
    let narrow = |leg: u64| u32::try_from(leg).expect("a leg");
    Ok(rows.into_iter().map(|(sale, pool, leg, capacity, live)| (sale, pool, narrow(leg), capacity, live)).collect())
}

/// The epoch that the store says.
pub(crate) async fn epoch(from: &Sources) -> Result<i64, String> {
    let mut store = MySqlConnection::connect(&from.mysql).await.map_err(|error| error.to_string())?;
    let epoch = sqlx::query_scalar("SELECT epoch FROM inventory_partitions WHERE partition_id = 0");
    epoch.fetch_one(&mut store).await.map_err(|error| error.to_string())
}

fn parse_counter(field: &str, text: &str) -> Option<(Leg, Counter)> {
    let mut names = field.split('/');
    let leg = (names.next()?.to_owned(), names.next()?.to_owned(), names.next()?.parse().ok()?);
    let numbers: Vec<i64> = text.split(' ').map(|number| number.parse().unwrap_or(i64::MIN)).collect();
    let [capacity, free, held, sold] = numbers[..] else { return None };
    Some((leg, Counter { capacity, free, held, sold }))
}

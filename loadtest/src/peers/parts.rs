//! What an accepted order cannot do without, and nothing else: hyper, one script call per batch of claims, one confirmed message per batch
//! of orders, the answer. A buyer once, a unit less, the buyer's record.
//!
//! No shard, no outbox, no limits, no repetitions, no counters, no epoch, no guard: what is lost is lost, and nothing is sold again. It is the
//! floor of an accepted order as bare hyper is that of a refusal: nobody gets these parts for less, and what ours takes beyond it is what
//! those take.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::peers::cores::Seats;
use crate::peers::naive::{Body, PERSISTENT, channel};

/// Who has not come yet gets a unit and a record, all in four commands. Returns how many there are.
const SCRIPT: &str = r"
local claims = #ARGV / 2
local before = redis.call('HMGET', KEYS[2], unpack(ARGV, 1, claims))
local records = {}
for at = 1, claims do
  if not before[at] then
    records[#records + 1] = ARGV[at]
    records[#records + 1] = ARGV[claims + at]
  end
end
local granted = #records / 2
if tonumber(redis.call('GET', KEYS[1]) or '0') < granted then return -1 end
redis.call('DECRBY', KEYS[1], granted)
redis.call('HSET', KEYS[2], unpack(records))
return granted
";
/// As ours: claims in one call, calls and messages at one time.
const BATCH_MAX: usize = 512;
const CALLS_IN_FLIGHT: usize = 1;
const MESSAGES_IN_FLIGHT: usize = 2;

/// The parts alone.
#[derive(Debug, Args)]
pub(crate) struct Parts {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    redis: String,
    #[arg(long)]
    amqp: String,
    #[arg(long)]
    queue: String,
}

/// A claim, and who waits for its record.
struct Waiting {
    sale: Arc<str>,
    buyer: String,
    record: Bytes,
    answer: oneshot::Sender<bool>,
}

impl Parts {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let channel = channel(&self.amqp, &self.queue).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let redis = redis::Client::open(self.redis.as_str())?.get_multiplexed_async_connection().await?;
        let (sender, waiting) = mpsc::channel(BATCH_MAX * 32);
        let (granting, granted) = mpsc::channel(BATCH_MAX);
        tokio::spawn(decide(waiting, redis, granting));
        tokio::spawn(publish(granted, channel, self.queue));
        // On one runtime: on one for each core, this is the slower for it.
        super::serve(self.listen, Seats::default(), move |request| {
            let sender = sender.clone();
            async move {
                let (status, body) = match answer(request, &sender).await {
                    Ok(record) => (StatusCode::CREATED, record),
                    Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
                };
                let mut answer = Response::new(Full::new(body));
                *answer.status_mut() = status;
                answer
            }
        })
        .await
    }
}

async fn answer(request: Request<Incoming>, waiting: &mpsc::Sender<Waiting>) -> anyhow::Result<Bytes> {
    let sale = Arc::from(request.uri().path().split('/').nth(3).context("no sale")?);
    let buyer = request.headers().get("x-buyer-id").context("no buyer")?.to_str()?.to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let Body { quantity } = serde_json::from_slice(&body)?;
    let order = fastrand::u128(..);
    let record = Bytes::from(format!(
        r#"{{"order":"{order:032x}","sale":"{sale}","buyer":"{buyer}","quantity":{quantity},"amount":55350,"currency":"CNY"}}"#
    ));
    let (answer, answered) = oneshot::channel();
    waiting.send(Waiting { sale, buyer, record: record.clone(), answer }).await?;
    anyhow::ensure!(answered.await?, "not granted");
    Ok(record)
}

/// A batch is whatever waits while the last call is out.
async fn decide(
    mut waiting: mpsc::Receiver<Waiting>,
    redis: MultiplexedConnection,
    granted: mpsc::Sender<Vec<Waiting>>,
) {
    let script = Arc::new(Script::new(SCRIPT));
    let calls = Arc::new(Semaphore::new(CALLS_IN_FLIGHT));
    loop {
        let Ok(call) = Arc::clone(&calls).acquire_owned().await else { return };
        let mut batch = Vec::with_capacity(BATCH_MAX);
        if waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let (mut redis, script, granted) = (redis.clone(), Arc::clone(&script), granted.clone());
        tokio::spawn(async move {
            // All ask for the same sale.
            let sale = Arc::clone(&batch[0].sale);
            let mut invocation = script.key(format!("parts:{{{sale}}}:stock"));
            invocation.key(format!("parts:{{{sale}}}:buyers"));
            for claim in &batch {
                invocation.arg(&claim.buyer);
            }
            for claim in &batch {
                invocation.arg(&*claim.record);
            }
            let many: redis::RedisResult<usize> = invocation.invoke_async(&mut redis).await;
            drop(call);
            // Otherwise nobody is answered yes.
            if many.is_ok_and(|many| many == batch.len()) {
                let _ending = granted.send(batch).await;
            }
        });
    }
}

async fn publish(mut granted: mpsc::Receiver<Vec<Waiting>>, channel: Channel, queue: String) {
    let messages = Arc::new(Semaphore::new(MESSAGES_IN_FLIGHT));
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        tokio::select! {
            biased;
            message = Arc::clone(&messages).acquire_owned(), if !waiting.is_empty() => {
                let Ok(message) = message else { return };
                tokio::spawn(tell(channel.clone(), queue.clone(), std::mem::take(&mut waiting), message));
            }
            batch = granted.recv() => match batch {
                Some(batch) => waiting.extend(batch),
                None => return,
            },
        }
    }
}

async fn tell(channel: Channel, queue: String, orders: Vec<Waiting>, message: OwnedSemaphorePermit) {
    let mut body = Vec::with_capacity(orders.iter().map(|order| order.record.len() + 1).sum());
    for order in &orders {
        body.extend_from_slice(&order.record);
        body.push(b'\n');
    }
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let published =
        channel.basic_publish("".into(), queue.as_str().into(), BasicPublishOptions::default(), &body, properties);
    let is_stored = match published.await {
        Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(_))),
        Err(_) => false,
    };
    drop(message);
    for order in orders {
        // A client that has left is no concern of a peer.
        let _left = order.answer.send(is_stored);
    }
}

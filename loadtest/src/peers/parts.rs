//! What an accepted order cannot do without, and nothing else: hyper, one script call per batch of claims, one confirmed message per batch
//! of orders, the answer. For buyers who come once and want one unit of one sale.
//!
//! No shard, no outbox, no limits, no repetitions, no counters, no epoch, no guard, no metrics, no deadlines: what is lost is lost, and nothing
//! is sold again. Record, message and answer are as long as ours. It is the least that we know to build of these parts: a floor for accepted
//! orders, as bare hyper is one for refusals.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::peers::cores::Seats;
use crate::peers::{Body, PERSISTENT, Wiring, channel};

/// A unit and a record for each buyer, if none of them has come before; all in four commands. Returns how many there are.
const SCRIPT: &str = r"
local claims = #ARGV / 2
local buyers = {}
for at = 1, claims do buyers[at] = ARGV[2 * at - 1] end
local before = redis.call('HMGET', KEYS[2], unpack(buyers))
for at = 1, claims do
  if before[at] then return redis.error_reply('a buyer has come before') end
end
if tonumber(redis.call('GET', KEYS[1]) or '0') < claims then return redis.error_reply('nothing is left') end
redis.call('DECRBY', KEYS[1], claims)
redis.call('HSET', KEYS[2], unpack(ARGV))
return claims
";
/// As ours by default: claims in one call, calls and messages at one time, orders that make a message full.
const BATCH_MAX: usize = 128;
const CALLS_IN_FLIGHT: usize = 1;
const MESSAGES_IN_FLIGHT: usize = 2;
const FULL: usize = 512;

/// A claim, and who waits for its record.
struct Waiting {
    sale: Arc<str>,
    buyer: String,
    record: String,
    answer: oneshot::Sender<bool>,
}

pub(super) async fn run(wiring: Wiring) -> anyhow::Result<()> {
    let channel = channel(&wiring.amqp, &wiring.queue).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let redis = redis::Client::open(wiring.redis.as_str())?.get_multiplexed_async_connection().await?;
    let (sender, waiting) = mpsc::channel(BATCH_MAX * 32);
    let (granting, granted) = mpsc::channel(BATCH_MAX);
    tokio::spawn(decide(waiting, redis, granting));
    tokio::spawn(publish(granted, channel, wiring.queue));
    // On one runtime for all, as is usual.
    super::serve(wiring.listen, Seats::default(), move |request| {
        let sender = sender.clone();
        async move { answer(request, &sender).await.unwrap_or_else(|error| failed(&error)) }
    })
    .await
}

async fn answer(request: Request<Incoming>, waiting: &mpsc::Sender<Waiting>) -> anyhow::Result<Response<Full<Bytes>>> {
    let sale: Arc<str> = Arc::from(request.uri().path().split('/').nth(3).context("no sale")?);
    let buyer = request.headers().get("x-buyer-id").context("no buyer")?.to_str()?.to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let Body { quantity } = serde_json::from_slice(&body)?;
    let order = format!("{:032x}", fastrand::u128(..));
    let record = format!(
        "{order} H0123456789abcdef {sale} {buyer} 1795262400000 1795266000000 55350 CNY standard/0/1/{quantity}/-/-"
    );
    let document = format!(
        "{{\"order\":\"{order}\",\"sale\":\"{sale}\",\"status\":\"held\",\"amount\":55350,\"currency\":\"CNY\",\
         \"granted_at\":\"2026-11-21T12:00:00.123Z\",\"pay_by\":\"2026-11-21T13:00:00.123Z\",\
         \"lines\":[{{\"pool\":\"standard\",\"quantity\":{quantity}}}]}}"
    );
    let (answer, answered) = oneshot::channel();
    waiting.send(Waiting { sale, buyer, record, answer }).await?;
    anyhow::ensure!(answered.await?, "not confirmed");
    let mut reply = Response::new(Full::new(Bytes::from(document)));
    *reply.status_mut() = StatusCode::CREATED;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(LOCATION, HeaderValue::from_maybe_shared(Bytes::from(format!("/v1/orders/{order}")))?);
    headers.insert("x-request-id", HeaderValue::from_static("0123456789abcdef"));
    Ok(reply)
}

/// The benchmark accepts none of these; the log says why.
#[expect(clippy::print_stderr, reason = "the log of a peer")]
fn failed(error: &anyhow::Error) -> Response<Full<Bytes>> {
    eprintln!("{error:#}");
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    reply
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
            let sale = Arc::clone(&batch[0].sale);
            let mut invocation = script.key(format!("parts:{{{sale}}}:stock"));
            invocation.key(format!("parts:{{{sale}}}:buyers"));
            for claim in &batch {
                invocation.arg(&claim.buyer).arg(&claim.record);
            }
            let decided: redis::RedisResult<usize> = invocation.invoke_async(&mut redis).await;
            drop(call);
            // Without a grant the senders are dropped here, and the answers say so.
            if decided.is_ok() {
                let _ending = granted.send(batch).await;
            }
        });
    }
}

/// A message is whatever was granted while the last ones are out.
async fn publish(mut granted: mpsc::Receiver<Vec<Waiting>>, channel: Channel, queue: String) {
    let messages = Arc::new(Semaphore::new(MESSAGES_IN_FLIGHT));
    let tell = |orders: Vec<Waiting>, message: Option<OwnedSemaphorePermit>| {
        tokio::spawn(tell(channel.clone(), queue.clone(), orders, message));
    };
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        tokio::select! {
            biased;
            message = Arc::clone(&messages).acquire_owned(), if !waiting.is_empty() => {
                tell(std::mem::take(&mut waiting), message.ok());
            }
            batch = granted.recv() => match batch {
                Some(batch) => waiting.extend(batch),
                None => return,
            },
        }
        if waiting.len() >= FULL {
            tell(std::mem::take(&mut waiting), None);
        }
    }
}

async fn tell(channel: Channel, queue: String, orders: Vec<Waiting>, message: Option<OwnedSemaphorePermit>) {
    let mut body = Vec::with_capacity(orders.iter().map(|order| order.record.len() + 1).sum());
    for order in &orders {
        body.extend_from_slice(order.record.as_bytes());
        body.push(b'\n');
    }
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let published =
        channel.basic_publish("".into(), queue.as_str().into(), BasicPublishOptions::default(), &body, properties);
    let is_confirmed = match published.await {
        Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(_))),
        Err(_) => false,
    };
    drop(message);
    for order in orders {
        // A client that has left is no concern of a peer.
        let _left = order.answer.send(is_confirmed);
    }
}

//! The design that most gateways of this kind have: for each order a connection out of a pool, one script call, one message whose
//! confirm is waited for, and behind it a consumer that inserts one row per message and commits.
//!
//! It deducts, knows its buyers and keeps a record, like ours; it has no shard, no batch, no guard and no recovery.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use deadpool_redis::{Config, Pool, PoolConfig, Runtime};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use redis::Script;
use serde::Deserialize;
use sqlx::{Connection as _, MySqlConnection};

use crate::peers::cores::Seats;
use crate::peers::{Body, PERSISTENT, Wiring, channel};

/// A buyer once, a unit less, the buyer's record, and a stream entry.
const SCRIPT: &str = r"
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return -1 end
local left = tonumber(redis.call('GET', KEYS[1]) or '0')
if left < 1 then return 0 end
redis.call('DECRBY', KEYS[1], 1)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
redis.call('XADD', KEYS[4], '*', 'o', ARGV[2])
return 1
";
const CONNECTIONS: usize = 64;
const PREFETCH: u16 = 512;

/// The writer of the naive design.
#[derive(Debug, Args)]
pub(crate) struct Writer {
    #[arg(long)]
    amqp: String,
    #[arg(long)]
    queue: String,
    #[arg(long)]
    mysql: String,
}

struct Gateway {
    pool: Pool,
    script: Script,
    channel: Channel,
    queue: String,
}

/// The gateway of the naive design.
pub(super) async fn run(wiring: Wiring) -> anyhow::Result<()> {
    let mut config = Config::from_url(&wiring.redis);
    config.pool = Some(PoolConfig::new(CONNECTIONS));
    let channel = channel(&wiring.amqp, &wiring.queue).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let pool = config.create_pool(Some(Runtime::Tokio1))?;
    let gateway = Arc::new(Gateway { pool, script: Script::new(SCRIPT), channel, queue: wiring.queue });
    super::serve(wiring.listen, Seats::default(), move |request| {
        let gateway = Arc::clone(&gateway);
        async move {
            let (status, body) = gateway.answer(request).await.unwrap_or_else(|error| {
                (StatusCode::INTERNAL_SERVER_ERROR, format!(r#"{{"code":"{}"}}"#, error.to_string().replace('"', "'")))
            });
            let mut answer = Response::new(Full::new(Bytes::from(body)));
            *answer.status_mut() = status;
            answer
        }
    })
    .await
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<(StatusCode, String)> {
        let sale = request.uri().path().split('/').nth(3).context("no sale")?.to_owned();
        let buyer = request.headers().get("x-buyer-id").context("no buyer")?.to_str()?.to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let Body { quantity } = serde_json::from_slice(&body)?;
        let order = format!("{:032x}", fastrand::u128(..));
        let record = format!(
            r#"{{"order":"{order}","sale":"{sale}","buyer":"{buyer}","quantity":{quantity},"amount":55350,"currency":"CNY"}}"#
        );
        let mut connection = self.pool.get().await?;
        let verdict: i64 = self
            .script
            .key(format!("naive:{{{sale}}}:stock"))
            .key(format!("naive:{{{sale}}}:buyers"))
            .key(format!("naive:{{{sale}}}:orders"))
            .key(format!("naive:{{{sale}}}:outbox"))
            .arg(&buyer)
            .arg(&order)
            .arg(&record)
            .invoke_async(&mut connection)
            .await?;
        drop(connection);
        match verdict {
            0 => return Ok((StatusCode::CONFLICT, r#"{"code":"sold_out"}"#.to_owned())),
            -1 => return Ok((StatusCode::CONFLICT, r#"{"code":"limit_reached"}"#.to_owned())),
            _ => {}
        }
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let confirm = self
            .channel
            .basic_publish(
                "".into(),
                self.queue.as_str().into(),
                BasicPublishOptions::default(),
                record.as_bytes(),
                properties,
            )
            .await?;
        anyhow::ensure!(matches!(confirm.await?, Confirmation::Ack(_)), "not confirmed");
        Ok((StatusCode::CREATED, record))
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    order: &'a str,
    sale: &'a str,
    buyer: &'a str,
    quantity: u32,
    amount: i64,
    currency: &'a str,
}

impl Writer {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut store = MySqlConnection::connect(&self.mysql).await?;
        let channel = channel(&self.amqp, &self.queue).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut orders = channel
            .basic_consume(self.queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        while let Some(delivery) = orders.next().await {
            let delivery = delivery?;
            let record: Record<'_> = serde_json::from_slice(&delivery.data)?;
            sqlx::query(
                "INSERT IGNORE INTO naive_orders (order_id, sale_id, buyer_id, quantity, amount, currency) \
                 VALUES (UNHEX(?), ?, ?, ?, ?, ?)",
            )
            .bind(record.order)
            .bind(record.sale)
            .bind(record.buyer)
            .bind(record.quantity)
            .bind(record.amount)
            .bind(record.currency)
            .execute(&mut store)
            .await?;
            delivery.acker.ack(BasicAckOptions::default()).await?;
        }
        anyhow::bail!("the queue has ended")
    }
}

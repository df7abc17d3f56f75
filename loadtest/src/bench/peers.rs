//! The peers, started.

use std::net::SocketAddr;
use std::path::Path;

use redis::AsyncCommands as _;
use sqlx::{Connection as _, MySqlConnection};

use crate::bench::api::{self, Answer, until};
use crate::bench::process::{Class, Server};
use crate::bench::site::{Servers, free_port};

const QUEUE: &str = "naive-orders";
/// Nobody reads it: it is emptied.
const PARTS_QUEUE: &str = "parts-orders";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS naive_orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, order_id BINARY(16) NOT NULL UNIQUE, \
                     sale_id VARCHAR(64) NOT NULL, buyer_id VARCHAR(128) NOT NULL, quantity INT NOT NULL, amount BIGINT NOT NULL, \
                     currency CHAR(3) NOT NULL, UNIQUE KEY buyer (sale_id, buyer_id))";

/// A peer that answers.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Naive {
    pub(super) gateway: Peer,
    /// Another one, in the class of ours.
    pub(super) in_batch: Peer,
    pub(super) writer: Server,
}

fn listen(address: SocketAddr) -> Vec<String> {
    vec!["--listen".to_owned(), address.to_string()]
}

fn own(kind: &str, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    ["peer".to_owned(), kind.to_owned()].into_iter().chain(arguments).collect()
}

fn queue(servers: &Servers, name: &str) -> [String; 4] {
    ["--amqp".to_owned(), servers.amqp.clone(), "--queue".to_owned(), name.to_owned()]
}

/// Where a peer on Redis and the broker answers, and on what.
fn wiring(address: SocketAddr, servers: &Servers, name: &str) -> impl Iterator<Item = String> {
    let redis = ["--redis".to_owned(), servers.redis.clone()];
    listen(address).into_iter().chain(queue(servers, name)).chain(redis)
}

impl Peer {
    async fn start(
        program: &Path,
        arguments: &[String],
        (address, class): (SocketAddr, Class),
        log: &Path,
    ) -> anyhow::Result<Self> {
        let server = Server::start(program, arguments, log, class)?;
        until("a peer listens", async || Ok(Some(tokio::net::TcpStream::connect(address).await?))).await?;
        Ok(Self { server, address })
    }

    /// Hyper that answers what ours has answered once: as is usual, or as ours, on a runtime for each core and scheduled alike.
    pub(super) async fn bare(answer: &Answer, on_cores: bool, dir: &Path) -> anyhow::Result<Self> {
        let address = free_port()?;
        let mut arguments = own("bare", listen(address));
        arguments.extend(on_cores.then(|| "--on-cores".to_owned()));
        arguments.extend(["--status".to_owned(), answer.status.to_string(), "--body".to_owned(), answer.body.clone()]);
        // Hyper writes these itself; the connection stays open.
        let its_own = ["content-length", "date", "connection"];
        for header in &answer.headers {
            let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
            if !its_own.contains(&name.as_str()) {
                arguments.extend(["--header".to_owned(), header.clone()]);
            }
        }
        let class = if on_cores { Class::Batch } else { Class::AsItComes };
        Self::start(&std::env::current_exe()?, &arguments, (address, class), &dir.join("bare.log")).await
    }

    /// A batched script and a message per batch, and nothing else; scheduled as ours.
    pub(super) async fn parts(servers: &Servers, dir: &Path) -> anyhow::Result<Self> {
        let address = free_port()?;
        let arguments = own("parts", wiring(address, servers, PARTS_QUEUE));
        let arguments = &arguments[..];
        Self::start(&std::env::current_exe()?, arguments, (address, Class::Batch), &dir.join("parts.log")).await
    }

    /// The spikeSystem design: `redis` and a local stock.
    pub(super) async fn local_lock(program: &Path, servers: &Servers, stock: u32, dir: &Path) -> anyhow::Result<Self> {
        let key = format!("local-lock-{stock}");
        let client = redis::Client::open(servers.redis.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let () = connection.hset_multiple(&key, &[("total", stock), ("sold", 0)]).await?;
        let address = free_port()?;
        let redis = servers.redis.trim_start_matches("redis://").to_owned();
        let mut arguments = listen(address);
        arguments.extend([
            "--redis".to_owned(),
            redis,
            "--key".to_owned(),
            key,
            "--stock".to_owned(),
            stock.to_string(),
            "--log".to_owned(),
            dir.join("local-lock-stat.txt").display().to_string(),
        ]);
        Self::start(program, &arguments, (address, Class::AsItComes), &dir.join("local-lock.log")).await
    }
}

/// Forgets what the parts alone have sold: with a longer queue and more records, those who come next would meet other servers.
pub(super) async fn forget_parts(servers: &Servers, sale: &str) -> anyhow::Result<()> {
    let connection = lapin::Connection::connect(&servers.amqp, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.queue_purge(PARTS_QUEUE.into(), lapin::options::QueuePurgeOptions::default()).await?;
    connection.close(0, "".into()).await?;
    let client = redis::Client::open(servers.redis.as_str())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    Ok(redis.unlink(&[Stock::PARTS.key(sale, "stock"), Stock::PARTS.key(sale, "buyers")]).await?)
}

/// What a peer on Redis has to sell.
pub(super) struct Stock(&'static str);

impl Stock {
    pub(super) const NAIVE: Self = Self("naive");
    pub(super) const PARTS: Self = Self("parts");

    pub(super) async fn set(&self, servers: &Servers, sale: &str, units: u32) -> anyhow::Result<()> {
        let client = redis::Client::open(servers.redis.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        Ok(connection.set(self.key(sale, "stock"), units).await?)
    }

    /// Units that are gone, of so many, and buyers who have one.
    pub(super) async fn gone(&self, servers: &Servers, sale: &str, units: u32) -> anyhow::Result<(u64, u64)> {
        let client = redis::Client::open(servers.redis.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let left: u64 = connection.get(self.key(sale, "stock")).await?;
        Ok((u64::from(units) - left, connection.hlen(self.key(sale, "buyers")).await?))
    }

    /// As the peer itself calls it.
    fn key(&self, sale: &str, what: &str) -> String {
        format!("{}:{{{sale}}}:{what}", self.0)
    }
}

impl Naive {
    pub(super) async fn start(servers: &Servers, dir: &Path) -> anyhow::Result<Self> {
        let mut store = MySqlConnection::connect(&servers.mysql).await?;
        sqlx::query(TABLE).execute(&mut store).await?;
        let program = std::env::current_exe()?;
        let gateway = async |class, log: &str| {
            let address = free_port()?;
            let arguments = own("naive", wiring(address, servers, QUEUE));
            Peer::start(&program, &arguments, (address, class), &dir.join(log)).await
        };
        let in_batch = gateway(Class::Batch, "naive-in-batch.log").await?;
        let gateway = gateway(Class::AsItComes, "naive.log").await?;
        let arguments =
            own("naive-writer", queue(servers, QUEUE).into_iter().chain(["--mysql".to_owned(), servers.mysql.clone()]));
        let writer = Server::start(&program, &arguments, &dir.join("naive-writer.log"), Class::AsItComes)?;
        Ok(Self { gateway, in_batch, writer })
    }

    /// Waits until so many rows of all sales together are stored.
    pub(super) async fn stored(servers: &Servers, rows: u64) -> anyhow::Result<()> {
        let mut store = MySqlConnection::connect(&servers.mysql).await?;
        until(&format!("{rows} rows are stored"), async || {
            // Nobody else inserts, so the last number is the count.
            let last: Option<i64> =
                sqlx::query_scalar("SELECT MAX(id) FROM naive_orders").fetch_one(&mut store).await?;
            Ok((last.unwrap_or(0).cast_unsigned() >= rows).then_some(()))
        })
        .await
    }
}

/// What ours answers to a claim that is granted, and to one that finds nothing.
pub(super) async fn answers_of_ours(
    gateway: SocketAddr,
    sale: &str,
    sold_out: &str,
) -> anyhow::Result<(Answer, Answer)> {
    let granted = api::claim(gateway, sale, "somebody-1-1").await?;
    let refused = api::claim(gateway, sold_out, "somebody-1-1").await?;
    anyhow::ensure!((granted.status, refused.status) == (201, 409), "{granted:?} {refused:?}");
    Ok((granted, refused))
}

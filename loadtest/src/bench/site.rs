//! The deployment that is measured, and the servers under it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};

use crate::bench::api::{self, until};
use crate::bench::process::{Class, Server};
use crate::bench::workloads::OURS;

/// The private servers, and their processes, whose CPU is counted.
#[derive(Debug, Clone, Args)]
pub(crate) struct Servers {
    #[arg(long, env = "BENCH_REDIS_URL")]
    pub(super) redis: String,
    #[arg(long, env = "BENCH_REDIS_PID")]
    pub(super) redis_pid: u32,
    #[arg(long, env = "BENCH_AMQP_URL")]
    pub(super) amqp: String,
    #[arg(long, env = "BENCH_BROKER_PID")]
    pub(super) broker_pid: u32,
    /// With a database that may be filled.
    #[arg(long, env = "BENCH_MYSQL_URL")]
    pub(super) mysql: String,
    #[arg(long, env = "BENCH_MYSQL_PID")]
    pub(super) mysql_pid: u32,
}

/// A process of ours.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is called beside others.
    pub(super) design: &'static str,
    pub(super) server: Server,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// Ours, over the servers: some gateways and a writer.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) servers: Servers,
    pub(super) gateways: Vec<Node>,
    pub(super) writer: Node,
    dir: PathBuf,
    program: PathBuf,
}

/// Units of one sale, as inventory and store have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) inventory: u64,
    pub(super) guard: u64,
    pub(super) rows: u64,
    pub(super) buyers: u64,
}

impl Site {
    pub(super) async fn start(servers: &Servers, program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let config = dir.join("rushgate.toml");
        let Servers { redis, amqp, mysql, .. } = servers;
        // Everything else is as it comes.
        let text = format!(
            "inventory.backend = \"redis\"\ninventory.url = {redis:?}\nqueue.backend = \"rabbitmq\"\nqueue.url = {amqp:?}\n\
             store.backend = \"mysql\"\nstore.url = {mysql:?}\nlog.format = \"text\"\n"
        );
        std::fs::write(&config, text)?;
        let migrated =
            tokio::process::Command::new(program).arg("migrate").arg("--config").arg(&config).output().await?;
        anyhow::ensure!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        // The writer of a deployment of its own, as config/writer.toml has it.
        let writer = launch(OURS, program, dir, "writer", &["store.batch_max=1024"])?;
        let mut site = Self {
            servers: servers.clone(),
            gateways: Vec::new(),
            writer,
            dir: dir.to_owned(),
            program: program.to_owned(),
        };
        site.add_gateway(OURS, None, &[]).await?;
        Ok(site)
    }

    /// One more gateway, of this build if no other is given, with settings such as `shard.buffer=20%`.
    pub(super) async fn add_gateway(
        &mut self,
        design: &'static str,
        program: Option<&Path>,
        settings: &[&str],
    ) -> anyhow::Result<()> {
        let gateway = launch(design, program.unwrap_or(&self.program), &self.dir, "gateway", settings)?;
        let address = gateway.public;
        self.gateways.push(gateway);
        until("a gateway is ready", async || Ok((api::get(address, "/readyz").await?.status == 200).then_some(())))
            .await
    }

    /// Takes the last gateways away, all but so many.
    pub(super) async fn keep_gateways(&mut self, many: usize) -> anyhow::Result<()> {
        stop(self.gateways.split_off(many)).await
    }

    /// Stops all processes.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.gateways.push(self.writer);
        stop(self.gateways).await
    }

    /// A sale with one pool, open and known to every gateway.
    pub(super) async fn sale(&self, id: &str, capacity: u32) -> anyhow::Result<()> {
        self.announce(id, capacity).await?;
        self.knows(id).await
    }

    /// The same, without waiting for anybody to know it.
    pub(super) async fn announce(&self, id: &str, capacity: u32) -> anyhow::Result<()> {
        let pool = json!({"id": "standard", "capacity": capacity, "price": 55_350});
        let sale = json!({"name": "Bench", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY", "hold": "3600s",
            "limit_per_buyer": 1, "pools": [pool]});
        let answer = api::put(self.writer.admin, &format!("/admin/v1/sales/{id}"), &sale).await?;
        anyhow::ensure!(matches!(answer.status, 200 | 201), "{answer:?}");
        Ok(())
    }

    pub(super) async fn create(&self, id: &str, document: &Value) -> anyhow::Result<()> {
        let answer = api::put(self.writer.admin, &format!("/admin/v1/sales/{id}"), document).await?;
        anyhow::ensure!(matches!(answer.status, 200 | 201), "{answer:?}");
        self.knows(id).await
    }

    /// Waits until every gateway sells it.
    pub(super) async fn knows(&self, id: &str) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            let path = format!("/v1/sales/{id}");
            until(&format!("{id} is known"), async || {
                let sale = api::get(gateway.public, &path).await?;
                Ok((sale.status == 200 && sale.body.contains("\"open\"")).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// What is gone of a sale, in every place that counts it.
    pub(super) async fn gone(&self, sale: &str) -> anyhow::Result<Gone> {
        let balance = api::get(self.writer.admin, &format!("/admin/v1/sales/{sale}/balance")).await?.json()?;
        let legs = balance["legs"].as_array().with_context(|| format!("{balance}"))?;
        let units = |of: fn(&Value) -> Option<u64>| -> anyhow::Result<u64> {
            legs.iter().map(|leg| of(leg).with_context(|| format!("{leg}"))).sum()
        };
        let inventory = units(|leg| Some(leg["held"].as_u64()? + leg["sold"].as_u64()?))?;
        let guard = units(|leg| leg["store"]["live"].as_u64())?;
        let mut store = MySqlConnection::connect(&self.servers.mysql).await?;
        let (rows, buyers): (i64, i64) =
            sqlx::query_as("SELECT COUNT(*), COUNT(DISTINCT buyer_id) FROM orders WHERE sale_id = ?")
                .bind(sale)
                .fetch_one(&mut store)
                .await?;
        Ok(Gone { inventory, guard, rows: rows.cast_unsigned(), buyers: buyers.cast_unsigned() })
    }

    /// Orders of all sales together.
    pub(super) async fn orders(&self) -> anyhow::Result<u64> {
        let mut store = MySqlConnection::connect(&self.servers.mysql).await?;
        let orders: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM orders").fetch_one(&mut store).await?;
        Ok(orders.cast_unsigned())
    }

    /// Commands that Redis has been sent so far.
    pub(super) async fn redis_commands(&self) -> anyhow::Result<u64> {
        self.redis_info("stats", "total_commands_processed:").await
    }

    /// Bytes that Redis holds.
    pub(super) async fn redis_memory(&self) -> anyhow::Result<u64> {
        self.redis_info("memory", "used_memory:").await
    }

    async fn redis_info(&self, section: &str, field: &str) -> anyhow::Result<u64> {
        let client = redis::Client::open(self.servers.redis.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg(section).query_async(&mut connection).await?;
        let value = info.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
        Ok(value.trim().parse()?)
    }

    /// A figure of a process' metrics: the sum over its labels.
    pub(super) async fn metric(&self, admin: SocketAddr, name: &str) -> anyhow::Result<f64> {
        let text = api::get(admin, "/metrics").await?.body;
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        };
        Ok(text.lines().filter_map(of).sum())
    }
}

/// Asks these to stop, and waits until all have: each ends well by itself, whatever it was loaded with. A build that counts what it does
/// writes that down then.
async fn stop(nodes: Vec<Node>) -> anyhow::Result<()> {
    for node in &nodes {
        node.server.ask_to_stop();
    }
    let mut first = Ok(());
    for Node { design, public, server, .. } in nodes {
        let stopped = server.stopped().await.with_context(|| format!("{design} at {public}"));
        first = first.and(stopped);
    }
    first
}

fn launch(design: &'static str, program: &Path, dir: &Path, role: &str, settings: &[&str]) -> anyhow::Result<Node> {
    let (public, admin) = (free_port()?, free_port()?);
    let mut arguments: Vec<String> = ["serve", "--config"].map(str::to_owned).to_vec();
    arguments.push(dir.join("rushgate.toml").display().to_string());
    arguments.extend(
        ["--role", role, "--listen", &public.to_string(), "--admin-listen", &admin.to_string()].map(str::to_owned),
    );
    for setting in settings {
        arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    let log = dir.join(format!("{role}-{}.log", public.port()));
    Ok(Node { design, server: Server::start(program, &arguments, &log, Class::AsItComes)?, public, admin })
}

/// A port of loopback that is free now, below those that the kernel gives to the ten thousand who connect. No two calls are given the
/// same.
pub(super) fn free_port() -> anyhow::Result<SocketAddr> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..100 {
        let port = fastrand::u16(12_000..20_000);
        let is_new = GIVEN.lock().expect("the ports").insert(port);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if is_new && std::net::TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port")
}

/// Waits until the store has so many units of these sales.
pub(super) async fn stored(mysql: &str, sales: &[String], units: u64) -> anyhow::Result<()> {
    let mut store = MySqlConnection::connect(mysql).await?;
    let what = format!("{units} units are stored");
    until(&what, async || Ok((units_in(&mut store, sales).await? >= units).then_some(()))).await
}

/// Units of these sales that the store has now.
pub(super) async fn live(mysql: &str, sales: &[String]) -> anyhow::Result<u64> {
    units_in(&mut MySqlConnection::connect(mysql).await?, sales).await
}

/// The guard tells without a count.
async fn units_in(store: &mut MySqlConnection, sales: &[String]) -> anyhow::Result<u64> {
    let marks = vec!["?"; sales.len()].join(", ");
    let select = format!("SELECT CAST(COALESCE(SUM(live), 0) AS SIGNED) FROM pool_legs WHERE sale_id IN ({marks})");
    let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(select.as_str()));
    for sale in sales {
        query = query.bind(sale);
    }
    Ok(query.fetch_one(store).await?.cast_unsigned())
}

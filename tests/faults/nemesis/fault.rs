//! What the nemesis can do, and how it is undone.

use std::time::Duration;

use lapin::options::ExchangeDeleteOptions;
use lapin::types::FieldTable;
use lapin::{Connection as Amqp, ConnectionProperties};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::deployment::{Deployment, Private};
use crate::findings::epoch;
use crate::tcp_proxy::{Proxy, Rule, Snare, Way};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Redis,
    RabbitMq,
    MariaDb,
}

/// The other end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Redis,
    RabbitMq,
    MariaDb,
    /// Of a gateway; of a writer, nothing.
    Buyers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Cut both ways, and nothing is lost.
    Hold,
    HoldRequests,
    HoldAnswers,
    /// What is answered is gone.
    SwallowAnswers,
    Delay,
    Reset,
    /// The request arrives, its answer is cut.
    CutAnswer,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillProcess(usize),
    FreezeProcess(usize),
    Kill(Server),
    Freeze(Server),
    /// Killed, and back with nothing.
    EmptyRedis,
    DemoteRedis,
    FlushRedis,
    FlushScripts,
    DeleteKey(&'static str),
    CloseConnections,
    MemoryAlarm,
    DeleteExchange,
    DeleteBinding,
    KillSessions,
    ReadOnly,
    LockOrders,
    Link(usize, End, Harm),
}

impl Fault {
    /// What it is called in the report.
    pub(crate) fn kind(self) -> String {
        match self {
            Self::KillProcess(_) => "a process is killed".to_owned(),
            Self::FreezeProcess(_) => "a process is frozen".to_owned(),
            Self::Kill(server) => format!("{server:?} is killed"),
            Self::Freeze(server) => format!("{server:?} is frozen"),
            Self::EmptyRedis => "Redis comes back empty".to_owned(),
            Self::DemoteRedis => "Redis becomes a replica".to_owned(),
            Self::FlushRedis => "FLUSHALL".to_owned(),
            Self::FlushScripts => "SCRIPT FLUSH".to_owned(),
            Self::DeleteKey(_) => "a key is deleted".to_owned(),
            Self::CloseConnections => "RabbitMQ closes all connections".to_owned(),
            Self::MemoryAlarm => "RabbitMQ has a memory alarm".to_owned(),
            Self::DeleteExchange => "the exchange is deleted".to_owned(),
            Self::DeleteBinding => "a binding is deleted".to_owned(),
            Self::KillSessions => "MariaDB kills all sessions".to_owned(),
            Self::ReadOnly => "MariaDB is read-only".to_owned(),
            Self::LockOrders => "the orders are locked".to_owned(),
            Self::Link(_, end, harm) => format!("link to {end:?}: {harm:?}"),
        }
    }
}

/// Servers and deployment in the hands of the nemesis.
pub(crate) struct Victim {
    pub(crate) private: Private,
    pub(crate) deployment: Deployment,
    /// Sessions that hold a lock for as long as they are there.
    locks: Vec<MySqlConnection>,
}

impl Victim {
    pub(crate) fn new(private: Private, deployment: Deployment) -> Self {
        Self { private, deployment, locks: Vec::new() }
    }

    pub(crate) async fn inject(&mut self, fault: Fault, chance: &mut fastrand::Rng) {
        match fault {
            Fault::KillProcess(index) => self.deployment.kill(index),
            Fault::FreezeProcess(index) => self.deployment.freeze(index),
            Fault::Kill(server) => self.process(server).kill(),
            Fault::Freeze(server) => self.process(server).freeze(),
            Fault::EmptyRedis => self.private.redis.process().kill(),
            Fault::DemoteRedis => self.redis(&["REPLICAOF", "127.0.0.1", "1"]).await,
            Fault::FlushRedis => self.redis(&["FLUSHALL"]).await,
            Fault::FlushScripts => self.redis(&["SCRIPT", "FLUSH"]).await,
            Fault::DeleteKey(part) => {
                let sources = self.deployment.sources();
                let epoch = epoch(sources).await.unwrap_or_default();
                self.redis(&["DEL", &format!("{}:{{0}}:{epoch}:{part}", sources.namespace)]).await;
            }
            Fault::CloseConnections => self.control(&["close_all_connections", "nemesis"]),
            Fault::MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.0001"]),
            Fault::DeleteExchange | Fault::DeleteBinding => {
                // Where the broker is already harmed, there is nothing to delete.
                let _ = self.delete(fault == Fault::DeleteExchange, chance).await;
            }
            Fault::KillSessions => self.kill_sessions().await,
            Fault::ReadOnly => self.private.mariadb.execute("SET GLOBAL read_only = 1").await,
            Fault::LockOrders => {
                let mut session = self.private.mariadb.connection().await;
                let lock = format!("LOCK TABLES {}.orders WRITE", self.deployment.sources().namespace);
                // Behind a transaction that is stuck it waits; the fault is then that one's.
                if let Ok(Ok(_)) =
                    tokio::time::timeout(Duration::from_secs(2), session.execute(AssertSqlSafe(lock))).await
                {
                    self.locks.push(session);
                }
            }
            Fault::Link(index, end, harm) => {
                if let Some(proxy) = self.proxy(index, end) {
                    hurt(proxy, harm, chance);
                }
            }
        }
    }

    pub(crate) async fn undo(&mut self, fault: Fault) {
        match fault {
            Fault::KillProcess(index) => self.deployment.restart(index, &[]),
            Fault::FreezeProcess(index) => self.deployment.resume(index),
            Fault::Kill(Server::Redis) => self.private.redis.restart().await,
            Fault::Kill(Server::RabbitMq) => self.private.rabbitmq.restart().await,
            Fault::Kill(Server::MariaDb) => self.private.mariadb.restart().await,
            Fault::Freeze(server) => self.process(server).resume(),
            Fault::EmptyRedis => self.private.redis.restart_empty().await,
            Fault::DemoteRedis => self.redis(&["REPLICAOF", "NO", "ONE"]).await,
            Fault::MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "absolute", "768MiB"]),
            Fault::ReadOnly => self.private.mariadb.execute("SET GLOBAL read_only = 0").await,
            Fault::LockOrders => self.locks.clear(),
            Fault::Link(index, end, _) => {
                if let Some(proxy) = self.proxy(index, end) {
                    proxy.heal();
                }
            }
            Fault::FlushRedis
            | Fault::FlushScripts
            | Fault::DeleteKey(_)
            | Fault::CloseConnections
            | Fault::DeleteExchange
            | Fault::DeleteBinding
            | Fault::KillSessions => {}
        }
    }

    fn process(&self, server: Server) -> &crate::process::Process {
        match server {
            Server::Redis => self.private.redis.process(),
            Server::RabbitMq => self.private.rabbitmq.process(),
            Server::MariaDb => self.private.mariadb.process(),
        }
    }

    fn proxy(&self, index: usize, end: End) -> Option<&Proxy> {
        let links = &self.deployment.links[index];
        match end {
            End::Redis => Some(&links.redis),
            End::RabbitMq => Some(&links.amqp),
            End::MariaDb => Some(&links.mysql),
            End::Buyers => links.door.as_ref(),
        }
    }

    async fn redis(&self, words: &[&str]) {
        let _: redis::Value = self.private.redis.ask(words).await;
    }

    fn control(&self, words: &[&str]) {
        tokio::task::block_in_place(|| self.private.rabbitmq.control(words));
    }

    async fn delete(&self, exchange: bool, chance: &mut fastrand::Rng) -> Result<(), String> {
        let sources = self.deployment.sources();
        let name = format!("{}.orders.p0.e{}", sources.namespace, epoch(sources).await?);
        let deleted = async {
            let broker = Amqp::connect(&sources.amqp, ConnectionProperties::default()).await?;
            let channel = broker.create_channel().await?;
            if exchange {
                channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
            } else {
                let lane = chance.u16(..sources.lanes);
                let queue = format!("{}.lane.{lane}", sources.namespace);
                let key = lane.to_string();
                channel.queue_unbind(queue.into(), name.into(), key.into(), FieldTable::default()).await?;
            }
            broker.close(200, "".into()).await
        };
        deleted.await.map_err(|error: lapin::Error| error.to_string())
    }

    async fn kill_sessions(&self) {
        let mut session = self.private.mariadb.connection().await;
        let of_program = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'rushgate'";
        let ids: Vec<i64> = sqlx::query_scalar(of_program).fetch_all(&mut session).await.unwrap_or_default();
        for id in ids {
            // It may have ended by itself.
            let _ = session.execute(AssertSqlSafe(format!("KILL {id}"))).await;
        }
    }
}

fn hurt(proxy: &Proxy, harm: Harm, chance: &mut fastrand::Rng) {
    match harm {
        Harm::Hold => {
            proxy.rule(Way::ToServer, Rule::Hold);
            proxy.rule(Way::ToClient, Rule::Hold);
        }
        Harm::HoldRequests => proxy.rule(Way::ToServer, Rule::Hold),
        Harm::HoldAnswers => proxy.rule(Way::ToClient, Rule::Hold),
        Harm::SwallowAnswers => proxy.rule(Way::ToClient, Rule::Swallow),
        Harm::Delay => {
            proxy.rule(Way::ToServer, Rule::Delay(Duration::from_millis(chance.u64(20..200))));
            proxy.rule(Way::ToClient, Rule::Delay(Duration::from_millis(chance.u64(20..200))));
        }
        Harm::Reset => proxy.reset(),
        Harm::CutAnswer => {
            for _ in 0..8 {
                // Any request, and any part of its answer.
                proxy.snare(Snare { request: Vec::new(), passing: chance.usize(..12) });
            }
        }
    }
}

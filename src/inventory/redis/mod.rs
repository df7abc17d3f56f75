//! The inventory in Redis, for many nodes at once. Redis 6.2 or newer, or Valkey.
//!
//! - `keys`: every key and field
//! - `scripts`: the Lua files under `lua/`, one typed function each, and why `NOSCRIPT` is a fence
//! - `plan`: a batch of claims as the confirm script takes it; `codec`: the texts that Redis holds and answers
//! - `connection`: the hot path's connections; `fault`: what an error means
//! - [`doctor`]: what is wrong with the server, for operators
//!
//! Two ways lead to the server. What every claim, payment or refill needs goes over a few shared connections that never wait for
//! each other. All else goes through a pool, where each use pays a ping but also finds out about a dead connection.
//!
//! Each call carries the run id of the server at its connection's other end, and the scripts compare it with the one in which
//! the scope was rebuilt. So even a replica that took over together with its master's scripts is found out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use redis::{Cmd, RedisError, Value};

use crate::bugs::{self, Bug};
use crate::config::settings;
use crate::domain::{BuyerId, Claim, NodeId, OrderId, OutboxId, Partition, Sale, SaleId, Scope, UnixMillis};
use crate::inventory::footprint::Person;
use crate::inventory::redis::codec::Reply;
use crate::inventory::redis::connection::{Links, Target};
use crate::inventory::redis::plan::Plan;
use crate::inventory::redis::scripts::{Call, Scripts};
use crate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove,
};
use crate::shutdown::Shutdown;

mod codec;
mod connection;
pub mod doctor;
mod fault;
mod keys;
mod plan;
mod planted;
mod rebuild;
mod scripts;

/// Connections for what is not hot.
const POOL: usize = 4;
/// How many changed counters one call reads. A first look reads all there are, and Redis does nothing else meanwhile.
const CHANGES_PAGE: usize = 2000;
/// How many batches of granted orders one call reads, for the same reason: some hundred hints of 12 bytes each.
const GRANTED_PAGE: usize = 250;
/// About how many orders one page has.
const ORDERS_PAGE: usize = 500;
/// How many epochs back an opening looks for keys to drop. Each failed recovery leaves one.
const DROPPED_EPOCHS: u64 = 8;

/// The URL is none of a Redis.
#[derive(Debug, thiserror::Error)]
#[error("inventory.url: {0}")]
pub struct BadUrl(#[from] RedisError);

/// Counts units for many nodes, in Redis.
pub struct RedisInventory {
    namespace: String,
    links: Links,
    pool: Pool,
    scripts: Mutex<HashMap<Scope, Arc<Scripts>>>,
}

impl fmt::Debug for RedisInventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisInventory").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl RedisInventory {
    /// Begins to connect and returns at once. Until a connection is there, and whenever there is none, every call answers
    /// [`Fault::NotDone`] and says why. To be called within a Tokio runtime.
    pub fn connect(settings: &settings::Inventory, shutdown: &Shutdown) -> Result<Self, BadUrl> {
        let target = Target::new(settings.url.as_str(), settings.timeout)?;
        let timeout = Some(settings.timeout);
        let pool = Pool::builder(Manager::new_with_config(target.info.clone(), target.config())?)
            .max_size(POOL)
            .wait_timeout(timeout)
            .create_timeout(timeout)
            .recycle_timeout(timeout)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with timeouts is given its runtime");
        Ok(Self {
            namespace: settings.namespace.clone(),
            links: Links::new(&target, shutdown)?,
            pool,
            scripts: Mutex::default(),
        })
    }

    fn scripts(&self, scope: Scope) -> Arc<Scripts> {
        let mut known = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scripts) = known.get(&scope) {
            return Arc::clone(scripts);
        }
        // An epoch that is over is asked for by stragglers only; theirs are made again.
        known.retain(|other, _| other.partition != scope.partition || other.epoch > scope.epoch);
        let scripts = Arc::new(Scripts::of(&self.namespace, scope));
        known.insert(scope, Arc::clone(&scripts));
        scripts
    }

    /// Makes a call over a shared connection.
    async fn hot(&self, call: &Call) -> Result<Reply, Fault> {
        Reply::of(self.links.send(|run_id| call.command(run_id)).await?)
    }

    /// Makes a call over a connection of the pool.
    async fn cold(&self, call: &Call) -> Result<Reply, Fault> {
        let (mut connection, run_id) = self.checkout().await?;
        Reply::of(query(&mut connection, &call.command(&run_id)).await?)
    }

    /// A connection of the pool, and the run id of the server at its other end.
    async fn checkout(&self) -> Result<(Connection, String), Fault> {
        // Nothing has been asked yet, so nothing can have been done.
        let not_done = |error: &dyn fmt::Display| Fault::NotDone(format!("no connection to Redis: {error}"));
        let mut connection = self.pool.get().await.map_err(|error| not_done(&error))?;
        let run_id = connection::run_id(&mut connection).await.map_err(|error| not_done(&error))?;
        Ok((connection, run_id))
    }
}

/// An id of another form is no entry here, and Redis would refuse the whole call for it.
fn is_entry(id: &OutboxId) -> bool {
    id.as_str().split_once('-').is_some_and(|(at, n)| at.parse::<u64>().is_ok() && n.parse::<u64>().is_ok())
}

async fn query(connection: &mut Connection, command: &Cmd) -> Result<Value, Fault> {
    command.query_async(connection).await.map_err(|error| fault::of(&error))
}

#[async_trait]
impl Inventory for RedisInventory {
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault> {
        let Plan { args, legs } = Plan::of(claims, now)?;
        self.hot(&self.scripts(scope).confirm(args)).await?.confirmed(claims, legs)
    }

    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault> {
        self.hot(&self.scripts(scope).apply(moves)).await.map(drop)
    }

    async fn revive(&self, scope: Scope, order: OrderId) -> Result<Revived, Fault> {
        self.hot(&self.scripts(scope).revive(order)).await?.revived()
    }

    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        let scripts = self.scripts(scope);
        let mut changes = Changes { version: since, ..Changes::default() };
        while self.hot(&scripts.changes(changes.version, (CHANGES_PAGE, GRANTED_PAGE))).await?.changes(&mut changes)? {}
        Ok(changes)
    }

    async fn define(&self, scope: Scope, sale: &Sale) -> Result<Defined, Fault> {
        self.cold(&self.scripts(scope).define(sale)).await?.defined()
    }

    async fn stock(&self, scope: Scope, sale: &SaleId) -> Result<Vec<LegStock>, Fault> {
        self.cold(&self.scripts(scope).stock(sale)).await?.stock()
    }

    async fn order(&self, scope: Scope, id: OrderId) -> Result<Option<KnownOrder>, Fault> {
        self.hot(&self.scripts(scope).order(id)).await?.order(id)
    }

    async fn orders_of(&self, scope: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, Fault> {
        let buyer = Person::Buyer(sale.clone(), buyer.clone());
        self.cold(&self.scripts(scope).orders_of(&buyer)).await?.orders_of()
    }

    async fn orders(&self, scope: Scope, cursor: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), Fault> {
        let cursor = cursor.unwrap_or_else(|| "0".to_owned());
        if !cursor.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::NotDone("this is no cursor of mine".to_owned()));
        }
        self.cold(&self.scripts(scope).orders(cursor, ORDERS_PAGE)).await?.orders()
    }

    async fn outbox_behind(
        &self,
        scope: Scope,
        entry: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, Fault> {
        let entry = entry.filter(|id| is_entry(id));
        self.cold(&self.scripts(scope).outbox(entry, min_age, limit)).await?.outbox()
    }

    async fn outbox_len(&self, scope: Scope) -> Result<u64, Fault> {
        self.hot(&self.scripts(scope).outbox_len()).await?.number()
    }

    async fn outbox_remove(&self, scope: Scope, entries: &[OutboxId]) -> Result<(), Fault> {
        self.hot(&self.scripts(scope).outbox_remove(entries.iter().filter(|id| is_entry(id)))).await.map(drop)
    }

    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault> {
        let (mut connection, _) = self.checkout().await?;
        Reply::of(query(&mut connection, &scripts::beat(&self.namespace, beat, timeout)).await?)?.nodes()
    }

    async fn leave(&self, node: &NodeId) -> Result<(), Fault> {
        let (mut connection, _) = self.checkout().await?;
        let command = Cmd::hdel(keys::nodes(&self.namespace), node.as_str());
        query(&mut connection, &command).await.map(drop)
    }

    async fn join(&self, scope: Scope) -> Result<(), Fault> {
        let scripts = self.scripts(scope);
        let looked = self.hot(&scripts.outbox_len()).await;
        let may_lack_scripts = matches!(looked, Ok(_) | Err(Fault::Fenced(_)));
        // Perhaps nothing is missing but this version's scripts, or some of them. Asked after the look: another version may come at any time,
        // and a look that failed for it is no fence.
        if may_lack_scripts && !self.has_all(&scripts).await? {
            self.load_beside_anchor(&scripts).await?;
            return self.hot(&scripts.outbox_len()).await.map(drop);
        }
        looked.map(drop)
    }

    async fn identity(&self, _partition: Partition) -> Result<String, Fault> {
        if bugs::is_planted(Bug::NoRestartCheck) {
            return Ok("whatever it is".to_owned());
        }
        let (mut connection, run_id) = self.checkout().await?;
        connection::history(&mut connection, &run_id).await
    }

    async fn salvage(&self, scope: Scope, after: Option<OutboxId>, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        let reply = self.cold(&self.scripts(scope).salvage(after.as_ref(), limit)).await?;
        // Nothing was to be done, so what cannot be read is not a move that may have been made.
        reply.outbox().map_err(|fault| Fault::Fenced(format!("the data is broken: {fault}")))
    }

    async fn rebuild(&self, scope: Scope, snapshot: &Snapshot) -> Result<(), Fault> {
        self.rebuild_from(&self.scripts(scope), snapshot).await
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        self.load_and_open(scope, &self.scripts(scope)).await
    }

    async fn fence(&self, scope: Scope) -> Result<(), Fault> {
        self.cold(&self.scripts(scope).fence()).await.map(drop)
    }
}

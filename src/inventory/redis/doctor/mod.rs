//! A look at the server for `rushgate doctor`: reads only, over a connection of its own.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, RedisError};
use tokio::time::Instant;

use self::meet::{refused, told};
use crate::clock::{Clock, SystemClock};
use crate::config::settings;
use crate::domain::{Scope, UnixMillis};
use crate::finding::{Findings, Silence, remedy};
use crate::inventory::Fault;
use crate::inventory::redis::connection::{Target, field, run_id};
use crate::inventory::redis::fault;
use crate::inventory::redis::keys::{self, Part};
use crate::inventory::redis::scripts::Scripts;
use crate::reach;

mod meet;

/// The oldest version whose scripts and streams do what is asked of them.
const OLDEST: (u64, u64) = (6, 2);
/// How long one answer may take here; what the gateways allow is another matter, and judged.
const PATIENCE: Duration = Duration::from_secs(3);
/// Answers of which the median is taken: odd, and enough that one slow one says nothing.
const PINGS: usize = 11;
/// A server in the same building answers in less. Each batch of claims waits for it once.
const NEAR: Duration = Duration::from_millis(5);
/// Parts of the memory, or of the clients, in percent.
const FILLING: u64 = 75;
const FULL: u64 = 95;

/// Looks at the server of these settings, from its name to its clock.
pub async fn examine(settings: &settings::Inventory, mut findings: Findings) {
    if reach::examine(&mut findings, &settings.url, ("inventory.url", "redis-server")).await.is_none() {
        return;
    }
    match connect(settings).await {
        Ok(connection) => {
            let silence = Silence::default();
            let look =
                Look { settings, connection, findings: findings.clone(), silence: silence.clone(), answered: false };
            if !silence.bounds(look.all()).await {
                findings.stopped(PATIENCE);
            }
        }
        Err(error) => {
            let (check, remedy) = refused(&error, settings);
            findings.wrong(check, told(&error), remedy);
        }
    }
}

/// Looks whether each of these scopes, which the store says are open, is open here, with this version's scripts.
pub async fn examine_scopes(settings: &settings::Inventory, scopes: &[Scope], mut findings: Findings) {
    let mut connection = match connect(settings).await {
        Ok(connection) => connection,
        Err(error) => {
            return findings.unknown("inventory", told(&error));
        }
    };
    let mut open = 0;
    for scope in scopes {
        match is_open(&mut connection, settings, *scope).await {
            Ok(()) => open += 1,
            Err(Fault::Fenced(why)) => findings.wrong(
                "inventory",
                format!("{scope}: {why}"),
                remedy(
                    "claims of its sales hear 'recovering' until a writer has rebuilt it",
                    "run a writer; rushgate ready",
                ),
            ),
            // Whoever does not answer for one answers for none.
            Err(fault) => {
                findings.unknown("inventory", format!("{scope} and those behind it: {fault}"));
                break;
            }
        }
    }
    if open > 0 {
        findings.ok("inventory", format!("{open} of {} can be joined", scopes.len()));
    }
}

/// By the cheapest script that changes nothing. It goes by digest, as those that sell do, so it also tells whether they are there.
async fn is_open(
    connection: &mut MultiplexedConnection,
    settings: &settings::Inventory,
    scope: Scope,
) -> Result<(), Fault> {
    let run_id = run_id(connection).await.map_err(|error| fault::of(&error))?;
    let command = Scripts::of(&settings.namespace, scope).outbox_len().command(&run_id);
    let answer: redis::Value = command.query_async(connection).await.map_err(|error| fault::of(&error))?;
    super::Reply::of(answer)?.number().map(drop)
}

async fn connect(settings: &settings::Inventory) -> Result<MultiplexedConnection, RedisError> {
    let target = Target::new(settings.url.as_str(), PATIENCE)?;
    let client = Client::open(target.info.clone())?;
    client.get_multiplexed_async_connection_with_config(&target.config()).await
}

struct Look<'a> {
    settings: &'a settings::Inventory,
    connection: MultiplexedConnection,
    findings: Findings,
    silence: Silence,
    /// It has answered here once.
    answered: bool,
}

impl Look<'_> {
    async fn all(mut self) {
        let info = match self.ask::<String>(&["INFO", "everything"]).await {
            Ok(info) => info,
            Err(error) => {
                let (check, remedy) = refused(&error, self.settings);
                return self.findings.wrong(check, told(&error), remedy);
            }
        };
        self.version(&info);
        self.role(&info);
        self.eviction(&info);
        self.persistence(&info).await;
        self.memory(&info);
        self.clients(&info);
        self.cluster(&info).await;
        self.scripts().await;
        self.latency().await;
        self.clock().await;
    }

    /// An answer. Once there was one, the first that does not come ends the look.
    async fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, RedisError> {
        let answer = redis::cmd(words[0]).arg(&words[1..]).query_async(&mut self.connection).await;
        match &answer {
            Err(error) if error.is_timeout() && self.answered => self.silence.end().await,
            answer => self.answered |= answer.is_ok(),
        }
        answer
    }

    /// A setting of the server's; none where CONFIG is not for us, as with many providers.
    async fn config(&mut self, name: &str) -> Option<String> {
        self.ask::<HashMap<String, String>>(&["CONFIG", "GET", name]).await.ok()?.remove(name)
    }

    fn version(&mut self, info: &str) {
        let (name, version) = match field(info, "valkey_version") {
            "" => ("Redis", field(info, "redis_version")),
            valkey => ("Valkey", valkey),
        };
        let mut numbers = version.split('.').filter_map(|number| number.parse::<u64>().ok());
        let found = format!("{name} {version}");
        if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
            let (major, minor) = OLDEST;
            let why = format!("the scripts need {major}.{minor} or later");
            self.findings.wrong("version", found, remedy(why, "upgrade the server"));
        } else {
            self.findings.ok("version", found);
        }
    }

    fn role(&mut self, info: &str) {
        if field(info, "role") == "master" {
            let replicas = field(info, "connected_slaves");
            return self.findings.ok("role", format!("master, {replicas} replicas"));
        }
        let master = format!("{}:{}", field(info, "master_host"), field(info, "master_port"));
        let mend = format!("set inventory.url to its master, redis://{master}");
        let why = "a replica takes no writes, so nothing can be granted";
        self.findings.wrong("role", format!("a replica of {master}"), remedy(why, mend));
    }

    fn eviction(&mut self, info: &str) {
        let policy = field(info, "maxmemory_policy");
        if policy == "noeviction" {
            return self.findings.ok("eviction", policy);
        }
        let why = "when the memory is full it throws keys away, and each of them is stock or somebody's order";
        let mend = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf";
        self.findings.wrong("eviction", format!("maxmemory-policy {policy}"), remedy(why, mend));
    }

    async fn persistence(&mut self, info: &str) {
        let refuses = |check: &str| field(info, check) == "err";
        let stops = if refuses("aof_last_write_status") {
            Some(true)
        } else if refuses("rdb_last_bgsave_status") {
            self.stops_without_snapshots().await
        } else {
            Some(false)
        };
        match stops {
            Some(false) => {}
            Some(true) => {
                let why = "it takes no writes while it cannot write to its disk, so nothing can be granted";
                let mend = "look at its log and its disk (df); redis-cli INFO persistence";
                return self.findings.wrong("persistence", "its last write to the disk failed", remedy(why, mend));
            }
            None => {
                let found = "its last snapshot failed, and whether it takes no writes for that is not told (no right to CONFIG)";
                return self.findings.unknown("persistence", found);
            }
        }
        if field(info, "aof_enabled") != "1" {
            let why = "a restart of Redis loses what it holds. No order is lost: the partitions are rebuilt from the \
                       store in a new \
                       epoch, and until then nobody buys";
            let mend = "redis-cli CONFIG SET appendonly yes, and the same in redis.conf";
            return self.findings.warn("persistence", "appendonly no", remedy(why, mend));
        }
        match self.config("appendfsync").await.as_deref() {
            Some("no") => {
                let why = "the system decides when the log is on the disk: half a minute of it is lost with the \
                           machine, and with it the \
                           epoch";
                let mend = "redis-cli CONFIG SET appendfsync everysec, and the same in redis.conf";
                self.findings.warn("persistence", "appendonly yes, appendfsync no", remedy(why, mend));
            }
            Some(fsync) => self.findings.ok("persistence", format!("appendonly yes, appendfsync {fsync}")),
            None => {
                self.findings.unknown("persistence", "appendonly yes; appendfsync is not told (no right to CONFIG)");
            }
        }
    }

    /// Only a server that is to make snapshots stops when one fails.
    async fn stops_without_snapshots(&mut self) -> Option<bool> {
        let stops = self.config("stop-writes-on-bgsave-error").await? == "yes";
        let saves = !self.config("save").await?.is_empty();
        Some(stops && saves)
    }

    fn memory(&mut self, info: &str) {
        let number = |name: &str| field(info, name).parse::<u64>().unwrap_or(0);
        let (used, max) = (number("used_memory"), number("maxmemory"));
        if max == 0 {
            let all = number("total_system_memory");
            let found = format!("{} used, no maxmemory, {} in the machine", mebibytes(used), mebibytes(all));
            let why = "without a bound the system kills it when the memory ends, in place of a clear no to new claims";
            let mend = "redis-cli CONFIG SET maxmemory 2gb (half of the machine's), and the same in redis.conf";
            return self.findings.warn("memory", found, remedy(why, mend));
        }
        let percent = used.saturating_mul(100) / max;
        let found = format!("{} of {} used ({percent} %)", mebibytes(used), mebibytes(max));
        let why = "a full Redis grants nothing: claims hear 'unavailable'";
        let mend = "redis-cli CONFIG SET maxmemory to more, and the same in redis.conf; or archive sales that are over";
        match percent {
            FULL.. => self.findings.wrong("memory", found, remedy(why, mend)),
            FILLING.. => self.findings.warn("memory", found, remedy(why, mend)),
            _ => self.findings.ok("memory", found),
        }
    }

    fn clients(&mut self, info: &str) {
        let number = |name: &str| field(info, name).parse::<u64>().ok();
        let (Some(open), Some(most)) = (number("connected_clients"), number("maxclients")) else {
            return self.findings.unknown("clients", "it does not tell how many it takes");
        };
        let found = format!("{open} of {most}");
        if open.saturating_mul(100) / most.max(1) >= FILLING {
            let why = "a node that comes finds no place, and a place that is lost is not found again";
            let mend = "redis-cli CONFIG SET maxclients to more; redis-cli CLIENT LIST tells who keeps them";
            return self.findings.warn("clients", found, remedy(why, mend));
        }
        self.findings.ok("clients", found);
    }

    /// All keys of a partition lie in one slot, but the program speaks to one server: it must have them all.
    async fn cluster(&mut self, info: &str) {
        if field(info, "cluster_enabled") != "1" {
            return self.findings.ok("cluster", "none: one server");
        }
        let nodes = match self.ask::<String>(&["CLUSTER", "NODES"]).await {
            Ok(nodes) => nodes,
            Err(error) => return self.findings.unknown("cluster", format!("cluster mode: {}", told(&error))),
        };
        let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
        if own.split_whitespace().any(|slots| slots == "0-16383") {
            return self.findings.ok("cluster", "cluster mode, and all slots are here");
        }
        let why = "keys of slots that are elsewhere are answered with MOVED, and this program does not follow it";
        let mend = "set inventory.url to a server that is no part of a cluster, or give one node all slots";
        self.findings.wrong("cluster", "cluster mode, and not all slots are here", remedy(why, mend));
    }

    /// A script that reads one of our keys: the right to run scripts, and to our keys.
    async fn scripts(&mut self) {
        let scope = Scope { partition: crate::domain::Partition(0), epoch: crate::domain::Epoch(0) };
        let key = keys::of_scope(&self.settings.namespace, scope, Part::Meta);
        let asked = self.ask::<i64>(&["EVAL", "return redis.call('HLEN', KEYS[1])", "1", &key]).await;
        match asked {
            Ok(_) => self.findings.ok("scripts", "may be run"),
            Err(error) => {
                let why = "every grant is one script; without the right to run it nothing is sold";
                let namespace = &self.settings.namespace;
                let mend = format!("redis-cli ACL SETUSER NAME +@all ~{namespace}:*");
                self.findings.wrong("scripts", told(&error), remedy(why, mend));
            }
        }
    }

    async fn latency(&mut self) {
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let begun = Instant::now();
            if let Err(error) = self.ask::<String>(&["PING"]).await {
                let (check, remedy) = refused(&error, self.settings);
                return self.findings.wrong(check, told(&error), remedy);
            }
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let (median, worst) = (times[PINGS / 2], times[PINGS - 1]);
        let found = format!("{median:.1?} (median of {PINGS}), {worst:.1?} at most");
        let timeout = self.settings.timeout;
        if median >= timeout / 2 {
            let why = format!("inventory.timeout is {timeout:?}: calls count as unknown while they are on their way");
            self.findings.wrong(
                "latency",
                found,
                remedy(why, "put Redis near the gateways, or raise inventory.timeout"),
            );
        } else if median > NEAR {
            let why = "a buyer waits for it once, and a sale sells at most one batch in it";
            let mend = "put Redis near the gateways; else raise inventory.batches_in_flight to 2";
            self.findings.warn("latency", found, remedy(why, mend));
        } else {
            self.findings.ok("latency", found);
        }
    }

    async fn clock(&mut self) {
        let before = SystemClock.now();
        match self.ask::<(i64, i64)>(&["TIME"]).await {
            Ok((seconds, micros)) => self.findings.clock("clock", UnixMillis(seconds * 1000 + micros / 1000), before),
            Err(error) => self.findings.unknown("clock", told(&error)),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

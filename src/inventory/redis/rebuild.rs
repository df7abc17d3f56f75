//! The recovery's part: filling a scope from a snapshot, and opening it. And the scripts of those who join it then.

use deadpool_redis::Connection;
use redis::{Cmd, Value};

use crate::bugs::{self, Bug};
use crate::domain::{Epoch, Scope};
use crate::inventory::footprint::{LegKey, Tally};
use crate::inventory::redis::keys::{self, Part};
use crate::inventory::redis::scripts::{Scripts, Text};
use crate::inventory::redis::{DROPPED_EPOCHS, RedisInventory, codec, fault, query};
use crate::inventory::{Fault, KnownOrder, Snapshot};

/// How many pairs one call writes; some milliseconds of the server's time.
const CHUNK: usize = 1000;
/// How many hints one entry of the stream of granted orders has.
const HINTS: usize = 128;

impl RedisInventory {
    /// Fills the scope in parts. A token of its own keeps two recoveries from filling it together, and the last part counts.
    pub(super) async fn rebuild_from(&self, scripts: &Scripts, snapshot: &Snapshot) -> Result<(), Fault> {
        let parts = parts(snapshot)?;
        let token = format!("{:032x}", fastrand::u128(..));
        self.cold(&scripts.rebuild_begin(&token)).await?;
        for (part, pairs) in &parts {
            for chunk in pairs.chunks(2 * CHUNK) {
                self.cold(&scripts.rebuild_fill(&token, *part, chunk)).await?;
            }
        }
        let size = |wanted| parts.iter().find(|(part, _)| *part == wanted).map_or(0, |(_, pairs)| pairs.len() / 2);
        let sizes = [Part::Sales, Part::Counters, Part::Orders, Part::People].map(size);
        let version = snapshot.sales.len().max(size(Part::Granted)) as u64;
        self.cold(&scripts.rebuild_end(&token, version, sizes)).await.map(drop)
    }

    /// Loads the scripts, opens the scope, and drops what earlier epochs have left.
    pub(super) async fn load_and_open(&self, scope: Scope, scripts: &Scripts) -> Result<(), Fault> {
        let (mut connection, run_id) = self.checkout().await?;
        // The anchor first: what follows is loaded by anyone who finds it.
        load(&mut connection, scripts.anchor()).await?;
        for script in scripts.texts() {
            load(&mut connection, script).await?;
        }
        let opened = query(&mut connection, &scripts.open().command(&run_id)).await?;
        codec::Reply::of(opened)?;
        let first = scope.epoch.0.saturating_sub(DROPPED_EPOCHS);
        for epoch in (first..scope.epoch.0).map(Epoch) {
            let earlier = Scope { epoch, ..scope };
            let command = Cmd::unlink(&Part::ALL.map(|part| keys::of_scope(&self.namespace, earlier, part))[..]);
            query(&mut connection, &command).await?;
        }
        Ok(())
    }

    /// Has the server every script of this version?
    pub(super) async fn has_all(&self, scripts: &Scripts) -> Result<bool, Fault> {
        let (mut connection, _) = self.checkout().await?;
        let mut exists = redis::cmd("SCRIPT");
        exists.arg("EXISTS");
        scripts.texts().for_each(|script| {
            exists.arg(&script.digest);
        });
        let Value::Array(found) = query(&mut connection, &exists).await? else { return Ok(false) };
        Ok(found.iter().all(|one| *one == Value::Int(1)))
    }

    /// Loads this version's scripts beside another's. On one connection, and so in one run of one server: where the anchor is not,
    /// the script cache is another than the recovery's, and nothing may be loaded into it.
    pub(super) async fn load_beside_anchor(&self, scripts: &Scripts) -> Result<(), Fault> {
        let (mut connection, _) = self.checkout().await?;
        let exists = query(&mut connection, redis::cmd("SCRIPT").arg("EXISTS").arg(&scripts.anchor().digest)).await?;
        if exists != Value::Array(vec![Value::Int(1)]) && !bugs::is_planted(Bug::NoRestartCheck) {
            return Err(fault::no_script());
        }
        for script in scripts.texts() {
            load(&mut connection, script).await.map_err(|fault| match fault {
                Fault::NotDone(why) if why.to_ascii_uppercase().starts_with("NOPERM") => {
                    Fault::NotDone(format!("the scripts are another version's; upgrade the writers first: {why}"))
                }
                other => other,
            })?;
        }
        Ok(())
    }
}

async fn load(connection: &mut Connection, script: &Text) -> Result<(), Fault> {
    let loaded = query(connection, redis::cmd("SCRIPT").arg("LOAD").arg(&script.text)).await?;
    if loaded != Value::BulkString(script.digest.clone().into_bytes()) {
        return Err(Fault::NotDone(format!("Redis has another digest for a script: {loaded:?}")));
    }
    Ok(())
}

/// All that a scope holds, as fields and values by turns.
fn parts(snapshot: &Snapshot) -> Result<[(Part, Vec<String>); 6], Fault> {
    let tally = Tally::of(snapshot).map_err(Fault::NotDone)?;
    let (mut sales, mut counters, mut orders) = (Vec::new(), Vec::new(), Vec::new());
    let (mut people, mut versions) = (Vec::new(), Vec::new());
    // Each sale changed at a version of its own, so that whoever reads all of it reads page by page.
    for (sale, version) in snapshot.sales.iter().zip(1_u64..) {
        sales.extend([keys::header(&sale.id), codec::header(sale), keys::document(&sale.id), codec::document(sale)]);
        versions.extend([version.to_string(), sale.id.to_string()]);
        for (key, _) in crate::inventory::footprint::counters_of(sale) {
            versions.extend([version.to_string(), keys::counter(&key)]);
        }
    }
    for stock in &tally.stock {
        let key = LegKey { sale: stock.sale.clone(), pool: stock.pool.clone(), leg: stock.leg };
        counters.extend([keys::counter(&key), codec::counter(stock)]);
    }
    for known in &snapshot.orders {
        orders.extend([keys::order(known.order.id), codec::record(&known.order, known.status)]);
    }
    for (person, has) in &tally.people {
        people.extend([keys::person(person), codec::entry(has)]);
    }
    Ok([
        (Part::Sales, sales),
        (Part::Counters, counters),
        (Part::Orders, orders),
        (Part::People, people),
        (Part::Versions, versions),
        (Part::Granted, granted(snapshot)),
    ])
}

/// The hints of all orders, in entries of the stream: each as granted at a version of its own, for who reads them page by page.
fn granted(snapshot: &Snapshot) -> Vec<String> {
    let entries = snapshot.orders.chunks(HINTS).zip(1..);
    let entry = |(orders, number): (&[KnownOrder], u64)| {
        let hints: Vec<_> = orders.iter().map(|known| known.order.id.hint().to_string()).collect();
        [format!("{number}-1"), hints.concat()]
    };
    entries.flat_map(entry).collect()
}

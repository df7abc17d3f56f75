//! The Lua scripts: one file per move, one typed function per file.
//!
//! A scope's scripts end in a comment that names the scope, so that their digests are its own, and they are called by digest
//! only. It is a recovery that loads them. Hence a server that lost its script cache, which every restart does, answers `NOSCRIPT`
//! until a recovery has rebuilt what else it may have lost: that *is* the fence.
//!
//! Another version of this program has other texts, and they are missing though nothing was lost. So a recovery also loads an
//! *anchor*, first of all, whose text is the same in every version. Where a scope's anchor is, the script cache has lived on since
//! the recovery, and whoever misses only its own scripts may load them.
//!
//! The moves of a recovery itself, and those that concern no scope, are sent as text.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Script};

use crate::domain::{OrderId, OutboxId, Sale, SaleId, Scope};
use crate::inventory::footprint::{Person, counters_of};
use crate::inventory::redis::codec;
use crate::inventory::redis::keys::{self, Part};
use crate::inventory::redis::planted;
use crate::inventory::{NodeBeat, StockMove};

/// What stands in front of every script of a scope.
const SHARED: &str = concat!(include_str!("../../../lua/shared.lua"), include_str!("../../../lua/shared_counters.lua"));

/// The text of every anchor, before the name of its scope. It is never called, and never changes.
const ANCHOR: &str = "return 'rushgate'\n";

/// Declares the scripts that are called by digest, one field per file.
macro_rules! by_digest {
    ($($name:ident),+) => {
        #[derive(Debug)]
        struct ByDigest {
            $($name: Text,)+
        }

        impl ByDigest {
            #[cfg(test)]
            const NAMES: &[&str] = &[$(stringify!($name)),+];

            fn of(mark: &str) -> Self {
                Self { $($name: Text::new(include_str!(concat!("../../../lua/", stringify!($name), ".lua")), mark),)+ }
            }

            fn all(&self) -> impl Iterator<Item = &Text> {
                [$(&self.$name),+].into_iter()
            }
        }
    };
}

by_digest!(confirm, apply, revive, define, changes, stock, order, orders, orders_of, outbox, outbox_len, outbox_remove);

/// Declares the scripts that are sent as text, one constant per file.
macro_rules! by_text {
    ($($constant:ident = $name:literal),+) => {
        $(const $constant: &str = include_str!(concat!("../../../lua/", $name, ".lua"));)+

        #[cfg(test)]
        const NAMES_BY_TEXT: &[&str] = &[$($name),+];
    };
}

by_text!(
    SALVAGE = "salvage",
    REBUILD_BEGIN = "rebuild_begin",
    REBUILD_FILL = "rebuild_fill",
    REBUILD_END = "rebuild_end",
    OPEN = "open",
    FENCE = "fence",
    BEAT = "beat"
);

/// A script's text as the server gets it, and its digest.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) digest: String,
}

impl Text {
    fn new(own: &str, mark: &str) -> Self {
        Self::marked(&[SHARED, own], mark)
    }

    fn marked(texts: &[&str], mark: &str) -> Self {
        let text = format!("{}-- {mark}\n", planted::with_bug(texts.concat()));
        let digest = Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }
}

/// A script with its keys and arguments, all but the first: the run id of the server that it goes to.
#[derive(Debug)]
pub(super) struct Call {
    command: &'static str,
    script: String,
    keys: Arc<[String; 8]>,
    args: Args,
}

/// Arguments one behind the other: a batch has hundreds, and a place on the heap for each would cost more than to write them.
#[derive(Debug, Default)]
pub(super) struct Args {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Where texts are written.
    text: String,
}

impl Args {
    pub(super) fn with_room(arguments: usize, bytes: usize) -> Self {
        let (bytes, ends) = (Vec::with_capacity(bytes), Vec::with_capacity(arguments));
        Self { bytes, ends, text: String::new() }
    }

    pub(super) fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        self.ends.push(self.bytes.len());
    }

    /// Adds the text that is written.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut String)) {
        self.text.clear();
        write(&mut self.text);
        self.bytes.extend_from_slice(self.text.as_bytes());
        self.ends.push(self.bytes.len());
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }
}

impl FromIterator<String> for Args {
    fn from_iter<I: IntoIterator<Item = String>>(texts: I) -> Self {
        let mut args = Self::default();
        texts.into_iter().for_each(|text| args.push(text.as_bytes()));
        args
    }
}

impl Call {
    /// The command for the server with this run id.
    pub(super) fn command(&self, run_id: &str) -> Cmd {
        let mut command = redis::cmd(self.command);
        command.arg(&self.script).arg(self.keys.len()).arg(&self.keys[..]).arg(run_id);
        self.args.each().for_each(|argument| {
            command.arg(argument);
        });
        command
    }
}

/// The scripts of one scope.
#[derive(Debug)]
pub(super) struct Scripts {
    keys: Arc<[String; 8]>,
    anchor: Text,
    loaded: ByDigest,
}

impl Scripts {
    pub(super) fn of(namespace: &str, scope: Scope) -> Self {
        let mark = format!("{namespace} {scope}");
        Self {
            keys: Arc::new(Part::ALL.map(|part| keys::of_scope(namespace, scope, part))),
            anchor: Text::marked(&[ANCHOR], &mark),
            loaded: ByDigest::of(&mark),
        }
    }

    pub(super) fn anchor(&self) -> &Text {
        &self.anchor
    }

    /// All that are called by digest.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.loaded.all()
    }

    /// `plan`: the arguments of a [`Plan`](crate::inventory::redis::plan::Plan).
    pub(super) fn confirm(&self, plan: Args) -> Call {
        self.by_digest(&self.loaded.confirm, plan)
    }

    pub(super) fn apply(&self, moves: &[StockMove]) -> Call {
        let letters = moves.iter().map(|stock_move| stock_move.to.letter()).collect();
        let ids = moves.iter().map(|stock_move| keys::order(stock_move.order));
        self.digest(&self.loaded.apply, std::iter::once(letters).chain(ids).collect())
    }

    pub(super) fn revive(&self, id: OrderId) -> Call {
        self.digest(&self.loaded.revive, vec![keys::order(id)])
    }

    pub(super) fn define(&self, sale: &Sale) -> Call {
        let mut args = vec![sale.id.to_string(), sale.version.to_string(), codec::header(sale), codec::document(sale)];
        for (key, capacity) in counters_of(sale) {
            args.extend([keys::counter(&key), capacity.to_string()]);
        }
        self.digest(&self.loaded.define, args)
    }

    pub(super) fn changes(&self, since: u64, (changed, granted): (usize, usize)) -> Call {
        self.digest(&self.loaded.changes, vec![since.to_string(), changed.to_string(), granted.to_string()])
    }

    pub(super) fn stock(&self, sale: &SaleId) -> Call {
        self.digest(&self.loaded.stock, vec![sale.to_string()])
    }

    pub(super) fn order(&self, id: OrderId) -> Call {
        self.digest(&self.loaded.order, vec![keys::order(id)])
    }

    pub(super) fn orders_of(&self, person: &Person) -> Call {
        self.digest(&self.loaded.orders_of, vec![keys::person(person)])
    }

    pub(super) fn orders(&self, cursor: String, page: usize) -> Call {
        self.digest(&self.loaded.orders, vec![cursor, page.to_string()])
    }

    pub(super) fn outbox(&self, behind: Option<&OutboxId>, min_age: Duration, limit: usize) -> Call {
        let behind = behind.map(ToString::to_string).unwrap_or_default();
        self.digest(&self.loaded.outbox, vec![min_age.as_millis().to_string(), limit.to_string(), behind])
    }

    pub(super) fn outbox_len(&self) -> Call {
        self.digest(&self.loaded.outbox_len, Vec::new())
    }

    pub(super) fn outbox_remove<'a>(&self, entries: impl Iterator<Item = &'a OutboxId>) -> Call {
        self.digest(&self.loaded.outbox_remove, entries.map(ToString::to_string).collect())
    }

    pub(super) fn salvage(&self, after: Option<&OutboxId>, limit: usize) -> Call {
        let after = after.map_or("", |id| id.as_str());
        self.text(SALVAGE, vec![after.to_owned(), limit.to_string()])
    }

    pub(super) fn rebuild_begin(&self, token: &str) -> Call {
        self.text(REBUILD_BEGIN, vec![token.to_owned()])
    }

    /// `pairs` has field and value by turns.
    pub(super) fn rebuild_fill(&self, token: &str, part: Part, pairs: &[String]) -> Call {
        let args = [token.to_owned(), part.number().to_string()].into_iter().chain(pairs.iter().cloned());
        self.text(REBUILD_FILL, args.collect())
    }

    /// `sizes`: how many fields sales, counters, orders and people must have.
    pub(super) fn rebuild_end(&self, token: &str, version: u64, sizes: [usize; 4]) -> Call {
        let args = [token.to_owned(), version.to_string()].into_iter().chain(sizes.map(|size| size.to_string()));
        self.text(REBUILD_END, args.collect())
    }

    pub(super) fn open(&self) -> Call {
        self.text(OPEN, Vec::new())
    }

    pub(super) fn fence(&self) -> Call {
        self.text(FENCE, Vec::new())
    }

    fn digest(&self, script: &Text, args: Vec<String>) -> Call {
        self.by_digest(script, args.into_iter().collect())
    }

    fn by_digest(&self, script: &Text, args: Args) -> Call {
        Call { command: "EVALSHA", script: script.digest.clone(), keys: Arc::clone(&self.keys), args }
    }

    fn text(&self, script: &str, args: Vec<String>) -> Call {
        let args = args.into_iter().collect();
        Call { command: "EVAL", script: format!("{SHARED}{script}"), keys: Arc::clone(&self.keys), args }
    }
}

/// Concerns no scope.
pub(super) fn beat(namespace: &str, beat: &NodeBeat, timeout: Duration) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(BEAT).arg(1).arg(keys::nodes(namespace));
    command.arg(beat.node.as_str()).arg(beat.weight.to_string()).arg(&beat.status);
    command.arg(timeout.as_millis().to_string());
    command
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::{Epoch, Partition};

    fn scripts(namespace: &str, partition: u16, epoch: u64) -> Scripts {
        Scripts::of(namespace, Scope { partition: Partition(partition), epoch: Epoch(epoch) })
    }

    #[test]
    fn every_file_has_its_head_is_short_and_is_used() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let used = ByDigest::NAMES
                .iter()
                .chain(NAMES_BY_TEXT)
                .chain(&["shared", "shared_counters"])
                .any(|known| *known == name);
            assert!(used, "{name}.lua is loaded by nobody");
            assert!(text.lines().count() <= 120, "{name}.lua is long");
            assert!(text.starts_with("-- ") && text.lines().next().unwrap().ends_with(['.', ',', 'd']), "{name}.lua");
            for part in ["-- KEYS: ", "-- ARGV: ", "-- Returns: ", "-- Keeps: "] {
                assert_eq!(text.matches(part).count(), 1, "{name}.lua, {part}");
            }
            seen += 1;
        }
        assert_eq!(seen, ByDigest::NAMES.len() + NAMES_BY_TEXT.len() + 2);
    }

    #[test]
    fn an_anchor_is_the_same_in_every_version() {
        let anchor = scripts("rg", 3, 7).anchor;
        assert_eq!(anchor.text, "return 'rushgate'\n-- rg p3.e7\n");
    }

    #[test]
    fn a_digest_belongs_to_one_namespace_one_partition_and_one_epoch() {
        let digest = |scripts: Scripts| scripts.loaded.confirm.digest;
        let others = [scripts("other", 0, 1), scripts("rg", 1, 1), scripts("rg", 0, 2)];
        assert_eq!(digest(scripts("rg", 0, 1)), digest(scripts("rg", 0, 1)));
        assert!(others.into_iter().map(digest).all(|other| other != digest(scripts("rg", 0, 1))));
    }
}

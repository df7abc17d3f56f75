//! Every key of the configuration: one line of this table parses it, prints it, explains it, and writes it into the template.
//!
//! A new key is a field of [`crate::config::settings`] and a line here; then `rushgate config template` writes the new
//! `config/rushgate.toml`.

use std::fmt;
use std::time::Duration;

use crate::config::form::{
    Extra, FILTER, Form, Hidden, LISTEN, NAMESPACE, NODE_ID, Networks, Number, OneOf, OrEmpty, Ratio, Roles, Server,
    Size, Time, Weight, read,
};
use crate::config::given::Given;
use crate::config::nearest::nearest;
use crate::config::settings::{
    AnswerAfter, Auth, InventoryBackend, LogFormat, PaymentProvider, QueueBackend, Scheduling, Settings, StoreBackend,
};
use crate::domain::Sale;

/// One key: what it may be, why it is there, and the way between a text and its field in [`Settings`].
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub about: &'static str,
    pub change: Change,
    /// What its value must be.
    pub describe: fn() -> String,
    /// Takes a value into the settings, or says what it should have been.
    pub read: fn(&mut Settings, Given<'_>) -> Result<(), String>,
    /// The value as it stands in a file, without what must not be seen.
    pub print: fn(&Settings) -> String,
    /// Have the two the same value?
    pub is_same: fn(&Settings, &Settings) -> bool,
    /// Gives the first the value of the second.
    pub copy: fn(&mut Settings, &Settings),
}

/// What it takes for a changed value to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new process.
    Restart,
    /// A reload.
    Live,
}

impl Change {
    /// As the template and `config explain` tell it.
    pub fn about(self) -> &'static str {
        match self {
            Self::Restart => "needs a restart",
            Self::Live => "live: a reload takes it",
        }
    }
}

impl Key {
    /// Every key, in the order of the template.
    pub const ALL: &'static [Self] = KEYS;

    /// `section.name`
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable of this key.
    pub fn variable(&self) -> String {
        format!("RUSHGATE__{}__{}", self.section, self.name).to_uppercase()
    }

    /// The path of the known key that is nearest to an unknown one.
    pub fn nearest(path: &str) -> String {
        let paths: Vec<_> = Self::ALL.iter().map(Self::path).collect();
        nearest(path, paths.iter().map(String::as_str)).to_owned()
    }

    /// The place in [`Key::ALL`] of the key with this path.
    pub fn position(path: &str) -> Option<usize> {
        Self::ALL.iter().position(|key| key.path() == path)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.path())
    }
}

macro_rules! keys {
    ($($(#[doc = $section_about:literal])+ $section:ident {
        $($(#[doc = $about:literal])+ $name:ident = $form:expr, $change:ident;)+
    })+) => {
        /// Every section, with what it is about.
        pub const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($section_about),+))),+];

        const KEYS: &[Key] = &[$($(Key {
            section: stringify!($section),
            name: stringify!($name),
            about: concat!($($about),+),
            change: Change::$change,
            describe: || $form.describe(),
            read: |settings, given| {
                settings.$section.$name = read(&$form, given)?;
                Ok(())
            },
            print: |settings| $form.print(&settings.$section.$name),
            is_same: |one, other| is_same(&one.$section.$name, &other.$section.$name),
            copy: |to, from| to.$section.$name.clone_from(&from.$section.$name),
        },)+)+];
    };
}

/// Also for numbers, which nobody has counted with: what was read twice from one text is the same.
fn is_same<T: PartialEq>(one: &T, other: &T) -> bool {
    one == other
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

keys! {
    /// Who this process is and what it does.
    node {
        /// The name of this process among the others, in the node registry, in logs and in the audit log.
        /// It must be its own. Empty: the host's name and a random suffix, made when the process starts.
        id = NODE_ID, Restart;

        /// What this process does. A gateway answers buyers; a writer moves orders from the queue into
        /// the store, closes unpaid ones and gives their units back.
        roles = Roles, Restart;

        /// How Linux schedules it. batch: a thread that wakes takes an idle core at once, and otherwise waits
        /// for its turn, which saves switches and leaves servers on the same machine their cores. inherited:
        /// as it was started; beside neighbours that never rest most answers then come a little sooner, and
        /// the slowest later. Who started it in a class other than the usual one, as chrt does, has chosen
        /// in both cases.
        scheduling = OneOf(&[("batch", Scheduling::Batch), ("inherited", Scheduling::Inherited)]), Restart;

        /// This node's part of the free stock, relative to the other nodes' weights. Give a machine that
        /// serves twice the crowd twice the weight.
        weight = Weight, Live;

        /// How long a process that is asked to stop says that it is not ready before it closes its
        /// listener. Behind a load balancer, longer than two of its health checks.
        drain_delay = Time(secs(0), secs(600)), Live;

        /// How long it then waits for what is in flight. Less than the supervisor's kill timeout, or the
        /// work is cut off by that instead.
        drain_timeout = Time(ms(100), secs(3600)), Live;
    }

    /// The public listener, behind the load balancer.
    http {
        /// Where buyers come in.
        listen = LISTEN, Restart;

        /// How the buyer is known. header: the balancer or the app in front sets X-Buyer-Id, and nobody
        /// else can reach this listener. jwt: Authorization: Bearer, where the buyer is the token's
        /// subject.
        auth = OneOf(&[("header", Auth::Header), ("jwt", Auth::Jwt)]), Restart;

        /// The HS256 key of the bearer tokens. Required for auth = "jwt"; better set by
        /// RUSHGATE__HTTP__JWT_SECRET than in a file.
        jwt_secret = Hidden, Restart;

        /// Networks of the proxies whose X-Forwarded-For is believed, read from the right. Empty: the
        /// peer is the client.
        trusted_proxies = Networks, Restart;

        /// Open connections at most. Each costs a file descriptor; mind the limit of the process (ulimit -n).
        max_connections = Number(1, 1_000_000), Live;

        /// The largest body of a request, of a claim with all its passengers.
        max_body = Size(256, 1 << 20), Live;

        /// How long a client may take to send its headers, so that slow ones cannot hold connections.
        header_timeout = Time(ms(100), secs(60)), Live;

        /// How long a buyer waits for an answer at most. Less than the load balancer's own timeout, so that the
        /// answer is ours.
        request_timeout = Time(ms(50), secs(60)), Live;

        /// Claims that one buyer may send per second and node; 0: no limit. A person who clicks fast
        /// sends fewer than ten.
        claims_per_buyer = Number(0, 1_000_000), Live;

        /// Claims that one client address may send per second and node; 0: no limit. Mind that a mobile
        /// carrier puts thousands of buyers behind one address.
        claims_per_address = Number(0, 1_000_000), Live;
    }

    /// The admin listener: sales, orders, audits, metrics. Never through the load balancer.
    admin {
        /// Where operators and the metrics collector come in.
        listen = LISTEN, Restart;

        /// The bearer token of the admin API. Required unless it listens on loopback; better set by
        /// RUSHGATE__ADMIN__TOKEN than in a file.
        token = Hidden, Restart;
    }

    /// The authority on what is free, held and sold.
    inventory {
        /// memory: inside this one process, rebuilt from the store when it starts. redis: shared by all
        /// nodes.
        backend = OneOf(&[("memory", InventoryBackend::Memory), ("redis", InventoryBackend::Redis)]), Restart;

        /// The Redis server, for backend = "redis". A user and a password may stand before the host;
        /// rediss:// is TLS.
        url = Server(&["redis", "rediss"]), Restart;

        /// The first part of every key, so that several deployments can share a server. The same on all
        /// nodes of one.
        namespace = NAMESPACE, Restart;

        /// Into how many parts sales are put by hash: the unit of placement, of batching and of recovery.
        /// More than one pays where a Redis Cluster has several primaries. The same on all nodes; it
        /// cannot change while a sale is open.
        partitions = Number(1, 1024), Restart;

        /// Claims in one call of the script, at most. Larger ones lift the throughput; while one runs, the
        /// server does nothing else.
        batch_max = Number(1, 4096), Restart;

        /// Calls that are out at once, per partition. More make batches smaller, and so dearer: two took an
        /// eighth of the throughput of one where Redis is near. Two pay where an answer travels for long.
        batches_in_flight = Number(1, 64), Restart;

        /// Who must have an order before its buyer hears yes. broker: Redis and the broker, so that either
        /// may be lost and no yes is broken. inventory: Redis alone, which is faster by a broker's confirm;
        /// a yes that was said in the moment before Redis is lost is then broken.
        answer_after = OneOf(&[("broker", AnswerAfter::Broker), ("inventory", AnswerAfter::Inventory)]), Restart;

        /// After how long a call counts as unknown. It is then asked again under the same order ids;
        /// nothing is given back because of it.
        timeout = Time(ms(10), secs(60)), Restart;
    }

    /// Orders in motion.
    queue {
        /// memory: inside this one process, for the memory inventory. rabbitmq: durable quorum queues,
        /// for the shared one.
        backend = OneOf(&[("memory", QueueBackend::Memory), ("rabbitmq", QueueBackend::Rabbitmq)]), Restart;

        /// The RabbitMQ broker, for backend = "rabbitmq". The path is the virtual host: %2f is the one
        /// called /. amqps:// is TLS.
        url = Server(&["amqp", "amqps"]), Restart;

        /// The first part of every exchange's and queue's name. The same on all nodes of one deployment.
        namespace = NAMESPACE, Restart;

        /// Parallel, ordered parts of the queue, each stored by one writer at a time. The same on all
        /// nodes; it cannot shrink while messages wait.
        lanes = Number(1, 64), Restart;

        /// How long a publish may take before the buyer is told to ask again. It may still arrive; the
        /// outbox makes sure that it does.
        confirm_timeout = Time(ms(50), secs(60)), Restart;

        /// How old an outbox entry must be before any node publishes it again. Too early costs the broker
        /// duplicates, which the store drops.
        relay_after = Time(ms(100), secs(3600)), Live;

        /// Granted batches of a partition that may wait to be stored before claims are told to come back
        /// (503 busy); they are taken again at half of it. An entry has at most inventory.batch_max orders
        /// of 32 bytes: 20000 of 128 are 80 MB of Redis.
        outbox_max = Number(1, 10_000_000), Live;

        /// The same for the messages of a lane, copies and those of other partitions included. A lane holds
        /// 100000; there the broker refuses more, and what it refuses is granted and cannot be confirmed.
        lane_max = Number(1, 100_000), Live;

        /// The same for the age of a message that the broker has not confirmed. Half of confirm_timeout: who
        /// came later would most likely wait in vain.
        unconfirmed_max = Time(ms(10), secs(60)), Live;

        /// How long a recovery waits after it has deleted an exchange, before it asks the writers for all that
        /// was confirmed: other nodes of a broker's cluster hear of the deletion a moment later. One broker
        /// alone needs none of it; before a cluster, as long as confirm_timeout covers whatever delay there
        /// is inside it.
        fence_margin = Time(ms(0), secs(60)), Restart;
    }

    /// Orders at rest.
    store {
        /// sqlite: a file of this one process. mysql: MySQL 8 or later, or MariaDB 10.11 or later.
        backend = OneOf(&[("sqlite", StoreBackend::Sqlite), ("mysql", StoreBackend::Mysql)]), Restart;

        /// The database: sqlite://FILE, or mysql://USER:PASSWORD@HOST:PORT/DATABASE; the latter better
        /// set by RUSHGATE__STORE__URL than in a file.
        url = Server(&["sqlite", "mysql", "mariadb"]), Restart;

        /// A replica in which orders are searched; nothing is decided or audited from it. Empty: none.
        read_url = OrEmpty(Server(&["mysql", "mariadb"])), Restart;

        /// Orders in one transaction of the writer, at most. Larger ones lift the throughput and the time
        /// that a lock is held.
        batch_max = Number(1, 4096), Restart;

        /// After how long a statement counts as failed. The writer rolls its batch back and replays it.
        timeout = Time(ms(50), secs(300)), Restart;
    }

    /// The local part of the free stock, which spares the inventory the crowd.
    shard {
        /// How much a shard may hold beyond the node's fair part, per pool and leg: a percentage of that
        /// part, or a number of units. It sells the units of a dead or idle node until its heartbeat
        /// times out; each unit of it is at most one needless call of the inventory per node. A sale may
        /// have its own. How much to set `rushgate plan` tells.
        buffer = Extra, Live;

        /// How often a node looks at the inventory for what has changed. Returned units can be bought
        /// within two of these.
        refill_interval = Time(ms(10), secs(10)), Live;

        /// After how long without a heartbeat a node's part of the stock is the others'. The same on all
        /// nodes.
        node_timeout = Time(ms(100), secs(300)), Live;
    }

    /// Defaults of a new sale.
    sale {
        /// How long a hold waits for its payment.
        hold = Time(secs(1), Sale::MAX_HOLD), Live;

        /// How many units one buyer may have in a sale, held or paid.
        limit_per_buyer = Number(1, 1_000_000), Live;
    }

    /// How money comes in, and what becomes of an order that nobody pays.
    payment {
        /// sandbox: whoever asks has paid; for trials only. signed-callback: a provider reports each
        /// payment, signed with HMAC-SHA256.
        provider = OneOf(&[("sandbox", PaymentProvider::Sandbox), ("signed-callback", PaymentProvider::SignedCallback)]), Restart;

        /// The key of the provider's signature. Required for signed-callback; better set by
        /// RUSHGATE__PAYMENT__CALLBACK_SECRET than in a file.
        callback_secret = Hidden, Restart;

        /// How long after pay_by a payment is still taken: what a provider's report may be late. The same
        /// on all nodes.
        grace = Time(secs(0), secs(3600)), Restart;

        /// How often overdue orders are looked for. Their units come back that much later, at most.
        expiry_interval = Time(ms(50), secs(60)), Live;
    }

    /// Where the spans of traces go. It takes a build with the feature otlp; without, traces are only passed on.
    trace {
        /// The OpenTelemetry collector, for OTLP over HTTP: /v1/traces is put behind it. Best one on this machine,
        /// which knows the way on, and TLS. Empty: no spans.
        otlp_endpoint = OrEmpty(Server(&["http"])), Restart;

        /// How many of the requests that come without a traceparent begin a trace: 0.01 is one in a hundred. Those
        /// that come with one follow it: who sent it said whether it is recorded. Of no use without otlp_endpoint.
        sample_ratio = Ratio, Live;
    }

    /// What is written to the standard error.
    log {
        /// auto: text on a terminal, JSON in a pipe.
        format = OneOf(&[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)]), Restart;

        /// What is logged: a level, then exceptions by module.
        filter = FILTER, Live;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_by_section_and_explains_each_key() {
        let mut sections: Vec<_> = Key::ALL.iter().map(|key| key.section).collect();
        sections.dedup();
        assert_eq!(sections, SECTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (at, key) in Key::ALL.iter().enumerate() {
            assert!(key.about.ends_with('.'), "{key:?}");
            assert_eq!(Key::position(&key.path()), Some(at));
        }
    }

    #[test]
    fn every_default_keeps_the_form_of_its_key() {
        let defaults = Settings::default();
        for key in Key::ALL {
            let printed = (key.print)(&defaults);
            let table = format!("value = {printed}");
            let table = toml::de::DeTable::parse(&table).unwrap();
            let mut settings = Settings::default();
            (key.read)(&mut settings, Given::Toml(table.get_ref()["value"].get_ref()))
                .unwrap_or_else(|why| panic!("{key:?} {why}"));
            assert_eq!(settings, defaults, "{key:?}");
        }
    }

    #[test]
    fn every_field_of_the_settings_has_its_key() {
        let debug = format!("{:#?}", Settings::default());
        let fields = debug.lines().filter(|line| line.starts_with("        ") && !line.starts_with("         "));
        let fields: Vec<_> = fields.filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name).collect();
        assert_eq!(fields, Key::ALL.iter().map(|key| key.name).collect::<Vec<_>>());
    }
}

//! Every setting, with its default. What each may be, and why it is there, stands in the table of [`crate::config::keys`].

use std::time::Duration;

pub use crate::config::private::{Secret, ServerUrl};
use crate::domain::Buffer;

/// All settings of a process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    pub node: Node,
    pub http: Http,
    pub admin: Admin,
    pub inventory: Inventory,
    pub queue: Queue,
    pub store: Store,
    pub shard: Shard,
    pub sale: Sale,
    pub payment: Payment,
    pub trace: Trace,
    pub log: Log,
}

/// Who this process is and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Empty: the host's name and a random suffix.
    pub id: String,
    pub roles: Vec<Role>,
    pub scheduling: Scheduling,
    /// This node's part of the free stock, relative to the other nodes' weights.
    pub weight: f64,
    /// How long a node that is asked to stop says that it is not ready before it closes its listener.
    pub drain_delay: Duration,
    /// How long it then waits for what is in flight.
    pub drain_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Gateway,
    Writer,
}

/// How the kernel is to schedule a process that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheduling {
    /// A thread that wakes waits for its turn, unless a core is idle.
    Batch,
    /// As it was started.
    Inherited,
}

/// The public listener, behind the load balancer.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    pub listen: String,
    pub auth: Auth,
    /// HS256 key of the bearer tokens, for `auth = "jwt"`.
    pub jwt_secret: Secret,
    /// CIDRs of the proxies whose `X-Forwarded-For` is believed, from the right.
    pub trusted_proxies: Vec<String>,
    pub max_connections: usize,
    /// Bytes.
    pub max_body: usize,
    pub header_timeout: Duration,
    pub request_timeout: Duration,
    /// Claims that one buyer may send per second; 0: no limit.
    pub claims_per_buyer: u32,
    /// Claims that one client address may send per second; 0: no limit.
    pub claims_per_address: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Auth {
    /// The balancer or app in front vouches for `X-Buyer-Id`.
    Header,
    /// `Authorization: Bearer`, the buyer is the token's `sub`.
    Jwt,
}

/// The admin listener; never through the load balancer.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    pub listen: String,
    /// Required unless it listens on loopback.
    pub token: Secret,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    pub backend: InventoryBackend,
    pub url: ServerUrl,
    /// The first part of every key, so that several deployments can share a server.
    pub namespace: String,
    pub partitions: u16,
    /// Claims in one call of the script, at most.
    pub batch_max: usize,
    pub batches_in_flight: usize,
    pub answer_after: AnswerAfter,
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InventoryBackend {
    Memory,
    Redis,
}

/// Who must have an order before its buyer hears yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerAfter {
    /// The inventory and the broker: the order outlives either of them.
    Broker,
    /// The inventory alone: an order whose inventory is lost before the broker has it is lost, though its buyer heard yes.
    Inventory,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub backend: QueueBackend,
    pub url: ServerUrl,
    /// The first part of every exchange's and queue's name.
    pub namespace: String,
    pub lanes: u16,
    /// How long a publish may take before the buyer is told to ask again.
    pub confirm_timeout: Duration,
    /// How old an outbox entry must be before any node publishes it again.
    pub relay_after: Duration,
    /// Entries that a partition's outbox may have before claims are told to come back.
    pub outbox_max: u64,
    /// Messages that a lane may have before that.
    pub lane_max: u64,
    /// How long a message may be without its confirm before that.
    pub unconfirmed_max: Duration,
    /// How long a recovery waits between the deletion of an exchange and the barriers.
    pub fence_margin: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueBackend {
    Memory,
    Rabbitmq,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    pub backend: StoreBackend,
    pub url: ServerUrl,
    /// Replica in which orders are searched; nothing is decided or audited from it. Empty: none.
    pub read_url: ServerUrl,
    /// Orders in one transaction, at most.
    pub batch_max: usize,
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreBackend {
    Sqlite,
    Mysql,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// Beyond a node's fair part, per pool, leg and node.
    pub buffer: Buffer,
    pub refill_interval: Duration,
    /// After how long without a heartbeat a node's part is the others'.
    pub node_timeout: Duration,
}

/// Defaults of a new sale.
#[derive(Debug, Clone, PartialEq)]
pub struct Sale {
    pub hold: Duration,
    pub limit_per_buyer: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    pub provider: PaymentProvider,
    /// Key of the provider's signature. Required for `signed-callback`.
    pub callback_secret: Secret,
    /// How long after `pay_by` a payment is still taken.
    pub grace: Duration,
    /// How often overdue orders are looked for.
    pub expiry_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentProvider {
    Sandbox,
    SignedCallback,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// Empty: nowhere.
    pub otlp_endpoint: ServerUrl,
    /// Of the requests that come without a trace, how many begin one.
    pub sample_ratio: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A filter such as `info` or `info,rushgate::writer=debug`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// Text on a terminal, JSON in a pipe.
    Auto,
    Text,
    Json,
}

impl Log {
    /// Is JSON wanted, given whether the logs go to a terminal?
    pub fn wants_json(&self, terminal: bool) -> bool {
        match self.format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: String::new(),
            roles: vec![Role::Gateway, Role::Writer],
            scheduling: Scheduling::Batch,
            weight: 1.0,
            drain_delay: Duration::from_secs(0),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            auth: Auth::Header,
            jwt_secret: Secret::default(),
            trusted_proxies: Vec::new(),
            max_connections: 20_000,
            max_body: 16 * 1024,
            header_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(3),
            claims_per_buyer: 20,
            claims_per_address: 0,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9090".to_owned(), token: Secret::default() }
    }
}

impl Default for Inventory {
    fn default() -> Self {
        Self {
            backend: InventoryBackend::Memory,
            url: ServerUrl::from("redis://127.0.0.1:6379"),
            namespace: "rg".to_owned(),
            partitions: 1,
            batch_max: 128,
            batches_in_flight: 1,
            answer_after: AnswerAfter::Broker,
            timeout: Duration::from_millis(250),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            backend: QueueBackend::Memory,
            url: ServerUrl::from("amqp://127.0.0.1:5672/%2f"),
            namespace: "rushgate".to_owned(),
            lanes: 4,
            confirm_timeout: Duration::from_secs(2),
            relay_after: Duration::from_secs(5),
            outbox_max: 20_000,
            lane_max: 50_000,
            unconfirmed_max: Duration::from_secs(1),
            fence_margin: Duration::from_millis(200),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            backend: StoreBackend::Sqlite,
            url: ServerUrl::from("sqlite://rushgate.db"),
            read_url: ServerUrl::default(),
            batch_max: 512,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            buffer: Buffer::Fraction(0.1),
            refill_interval: Duration::from_millis(100),
            node_timeout: Duration::from_secs(3),
        }
    }
}

impl Default for Sale {
    fn default() -> Self {
        Self { hold: Duration::from_secs(300), limit_per_buyer: 1 }
    }
}

impl Default for Payment {
    fn default() -> Self {
        Self {
            provider: PaymentProvider::Sandbox,
            callback_secret: Secret::default(),
            grace: Duration::from_secs(5),
            expiry_interval: Duration::from_millis(500),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

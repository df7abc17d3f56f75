//! A deployment that can be broken anywhere: its own servers, processes of the program, and a proxy on every link between them.

use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::client::Client;
use crate::database::with_database;
use crate::findings::Sources;
use crate::private_mariadb::PrivateMariaDb;
use crate::private_rabbitmq::PrivateRabbitMq;
use crate::private_redis::{Persistence, PrivateRedis};
use crate::process::free_port;
use crate::sales::SaleSpec;
use crate::site::{Node, PATIENCE, Servers, Site};
use crate::tcp_proxy::{Mode, Proxy};

/// What every fault test runs on unless it says otherwise: quick to notice, quick to try again.
const SETTINGS: &str = "queue.confirm_timeout = \"1s\"\nqueue.relay_after = \"1500ms\"\npayment.grace = \"500ms\"\n\
                        payment.expiry_interval = \"200ms\"\nshard.node_timeout = \"2s\"\nhttp.claims_per_buyer = 0\n\
                        node.drain_timeout = \"5s\"\n";
/// The lanes of these deployments.
const LANES: u16 = 4;

/// Redis, RabbitMQ and MariaDB of a test's own.
pub(crate) struct Private {
    pub(crate) redis: PrivateRedis,
    pub(crate) rabbitmq: PrivateRabbitMq,
    pub(crate) mariadb: PrivateMariaDb,
}

impl Private {
    pub(crate) async fn start(persistence: Persistence) -> Self {
        let (redis, rabbitmq, mariadb) =
            tokio::join!(PrivateRedis::start(persistence), PrivateRabbitMq::start(), PrivateMariaDb::start());
        Self { redis, rabbitmq, mariadb }
    }

    /// The set that tests share which leave it as they found it, one test at a time. It is started by the first who comes while
    /// nobody has it, and ends with the last.
    pub(crate) async fn shared() -> OwnedMutexGuard<Self> {
        static SHARED: Mutex<Weak<Mutex<Private>>> = Mutex::const_new(Weak::new());
        let set = {
            let mut shared = SHARED.lock().await;
            if let Some(set) = shared.upgrade() {
                set
            } else {
                let set = Arc::new(Mutex::new(Self::start(Persistence::Nothing).await));
                *shared = Arc::downgrade(&set);
                set
            }
        };
        let mut set = set.lock_owned().await;
        set.revive().await;
        set
    }

    /// Whatever a test did that failed half-way.
    async fn revive(&mut self) {
        for process in [self.redis.process(), self.rabbitmq.process(), self.mariadb.process()] {
            process.resume();
        }
        if self.redis.process().status().is_some() {
            self.redis.restart().await;
        }
        if self.rabbitmq.process().status().is_some() {
            self.rabbitmq.restart().await;
        }
        if self.mariadb.process().status().is_some() {
            self.mariadb.restart().await;
        }
    }

    fn urls(&self) -> Servers {
        Servers { redis: self.redis.url(), amqp: self.rabbitmq.url(), mysql: self.mariadb.url() }
    }
}

/// The processes of a deployment, and the links between them.
pub(crate) struct Deployment {
    pub(crate) site: Site,
    pub(crate) links: Vec<Links>,
    recipes: Vec<Recipe>,
    ports: (u16, u16, u16),
    sources: Sources,
}

/// How a process is started, each time again.
struct Recipe {
    role: &'static str,
    settings: Vec<String>,
    /// Where it listens: the public port, and the admin's.
    ports: (u16, u16),
}

/// The links of one process.
pub(crate) struct Links {
    pub(crate) redis: Proxy,
    pub(crate) amqp: Proxy,
    pub(crate) mysql: Proxy,
    /// Of a gateway: the one that buyers come through.
    pub(crate) door: Option<Proxy>,
}

impl Links {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Proxy> {
        [&self.redis, &self.amqp, &self.mysql].into_iter().chain(&self.door)
    }
}

impl Deployment {
    /// Nothing runs yet. `settings` are TOML lines.
    pub(crate) async fn over(private: &Private, settings: &str) -> Self {
        let site = Site::empty(Some(private.urls()), SETTINGS).await;
        site.configure(settings);
        site.run(&["migrate"]).success("migrate");
        let sources = Sources {
            mysql: site.store_url(),
            redis: private.redis.url(),
            amqp: private.rabbitmq.url(),
            namespace: site.namespace().to_owned(),
            lanes: LANES,
        };
        let ports = (private.redis.port(), private.rabbitmq.port(), private.mariadb.port());
        Self { site, links: Vec::new(), recipes: Vec::new(), ports, sources }
    }

    /// Gateways first, then writers.
    pub(crate) async fn start(&mut self, gateways: usize, writers: usize) {
        for _ in 0..gateways {
            self.add("gateway", &[]).await;
        }
        for _ in 0..writers {
            self.add("writer", &[]).await;
        }
        self.ready().await;
    }

    /// Starts a process with variables of its own, such as `("RUSHGATE_CRASH", "writer.inserted")`, and returns its number.
    pub(crate) async fn add(&mut self, role: &'static str, environment: &[(&str, &str)]) -> usize {
        let (redis, amqp, mysql) = self.ports;
        let links =
            Links { redis: before(redis).await, amqp: before(amqp).await, mysql: before(mysql).await, door: None };
        let name = self.site.namespace().to_owned();
        let store = with_database(&format!("mysql://rushgate@{}/rushgate", links.mysql.address), &name);
        let (public, admin) = (free_port(), free_port());
        let settings = vec![
            format!("http.listen=127.0.0.1:{public}"),
            format!("admin.listen=127.0.0.1:{admin}"),
            format!("inventory.url=redis://{}", links.redis.address),
            format!("queue.url=amqp://{}/%2f", links.amqp.address),
            format!("store.url={store}"),
        ];
        let index = self.links.len();
        let recipe = Recipe { role, settings, ports: (public, admin) };
        let node = self.launch(index, &recipe, environment);
        self.site.nodes.push(node);
        let door = if role == "writer" { None } else { Some(before(public).await) };
        self.links.push(Links { door, ..links });
        self.recipes.push(recipe);
        index
    }

    /// Starts a process again that has ended or is killed now, at the same addresses and under the same name.
    pub(crate) fn restart(&mut self, index: usize, environment: &[(&str, &str)]) {
        self.kill(index);
        self.site.nodes[index] = self.launch(index, &self.recipes[index], environment);
    }

    /// It may die before it has said where it listens, so that is settled before.
    fn launch(&self, index: usize, recipe: &Recipe, environment: &[(&str, &str)]) -> Node {
        let name = format!("{}-{index}", recipe.role);
        let (child, said, _) = self.site.launch(recipe.role, &name, &recipe.settings, environment);
        let client = |port: u16| Client::new(&format!("http://127.0.0.1:{port}"));
        let public = (recipe.role != "writer").then(|| client(recipe.ports.0));
        Node { child, name, said, public, admin: client(recipe.ports.1) }
    }

    pub(crate) fn kill(&mut self, index: usize) {
        let child = &mut self.site.nodes[index].child;
        let _ = child.kill();
        child.wait().expect("it ends");
    }

    pub(crate) fn freeze(&self, index: usize) {
        self.signal(index, "STOP");
    }

    pub(crate) fn resume(&self, index: usize) {
        self.signal(index, "CONT");
    }

    /// How a process ended, if it has.
    pub(crate) fn ended(&mut self, index: usize) -> Option<ExitStatus> {
        self.site.nodes[index].child.try_wait().expect("its state")
    }

    pub(crate) fn pid(&self, index: usize) -> u32 {
        self.site.nodes[index].child.id()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// The gateways as buyers reach them, through their proxies.
    pub(crate) fn doors(&self) -> Vec<Client> {
        let doors = self.links.iter().filter_map(|links| links.door.as_ref());
        doors.map(|door| Client::new(&format!("http://{}", door.address))).collect()
    }

    pub(crate) async fn ready(&self) {
        self.site.ready().await;
    }

    pub(crate) async fn create(&self, sales: &[SaleSpec]) {
        for sale in sales {
            self.site.sale(&sale.id, &sale.document()).await;
        }
    }

    /// Where the checker finds what it holds the log against: past all proxies.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Every process runs and every link passes again. What has ended is started again without its variables.
    pub(crate) async fn heal(&mut self) {
        for links in &self.links {
            links.all().for_each(Proxy::heal);
        }
        for index in 0..self.len() {
            self.resume(index);
            if self.ended(index).is_some() {
                self.restart(index, &[]);
            }
        }
        self.ready().await;
    }

    fn signal(&self, index: usize, signal: &str) {
        let child = &self.site.nodes[index].child;
        // It has not been waited for, so the number is still its own.
        let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    }
}

/// Waits until this holds; fails with what it last was.
pub(crate) async fn until<T: std::fmt::Debug>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(reason) => assert!(begun.elapsed() < patience, "not in {patience:?}: {what}: {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same, with the patience that a busy machine needs.
pub(crate) async fn soon<T: std::fmt::Debug>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    until(what, PATIENCE, look).await
}

async fn before(port: u16) -> Proxy {
    Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)), Mode::Forward).await
}

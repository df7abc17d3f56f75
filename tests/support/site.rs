//! A whole deployment for a test: real processes of the program, over embedded backends or over the run's real servers.
//!
//! Every site has names of its own (database, keys, queues), so that tests run side by side. What it started it kills when it is
//! dropped, by process handle; what the processes said is printed if the test fails.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Client, Reply};
use crate::database;
use crate::servers;

/// How long anything that must happen may take on a busy machine. Nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A deployment.
pub(crate) struct Site {
    dir: TempDir,
    config: PathBuf,
    servers: Option<Servers>,
    database: Option<(String, String)>,
    /// Variables of every process that is started from now on.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) nodes: Vec<Node>,
}

/// The URLs of the servers that a site stands on.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    pub(crate) redis: String,
    pub(crate) amqp: String,
    /// Of a user who may create databases.
    pub(crate) mysql: String,
}

/// One process of it.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) name: String,
    pub(crate) said: Arc<Mutex<Vec<String>>>,
    /// Of a gateway.
    pub(crate) public: Option<Client>,
    pub(crate) admin: Client,
}

/// Which servers a site stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backends {
    /// One process, nothing outside it.
    Embedded,
    /// Redis, RabbitMQ, and the run's first MySQL or MariaDB.
    Real,
    /// The same over the run's second store, a real MySQL.
    RealMysql,
}

impl Site {
    /// One process that does everything over these backends, with `settings` as TOML lines such as `payment.grace = "0s"`.
    pub(crate) async fn start(backends: Backends, settings: &str) -> Self {
        let mut site = Self::new(backends, settings).await;
        site.add("all");
        site.ready().await;
        site
    }

    /// Gateways and writers, each a process of its own, over the real servers. The gateways come first in `nodes`.
    pub(crate) async fn cluster(gateways: usize, writers: usize, settings: &str) -> Self {
        let mut site = Self::new(Backends::Real, settings).await;
        for _ in 0..gateways {
            site.add("gateway");
        }
        for _ in 0..writers {
            site.add("writer");
        }
        site.ready().await;
        site
    }

    /// A site in which nothing runs yet.
    pub(crate) async fn new(backends: Backends, settings: &str) -> Self {
        let site = Self::unmigrated(backends, settings).await;
        if backends != Backends::Embedded {
            site.run(&["migrate"]).success("migrate");
        }
        site
    }

    /// A site in which nothing runs yet, and whose database is empty.
    pub(crate) async fn unmigrated(backends: Backends, settings: &str) -> Self {
        let mysql = match backends {
            Backends::Embedded => return Self::empty(None, settings).await,
            Backends::Real => servers::mysql_url(),
            Backends::RealMysql => servers::real_mysql_url().expect("a real MySQL"),
        };
        let servers = Servers { redis: servers::redis_url(), amqp: servers::amqp_url(), mysql };
        Self::empty(Some(servers), settings).await
    }

    /// The same over these servers, or over none.
    pub(crate) async fn empty(servers: Option<Servers>, settings: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let config = dir.path().join("rushgate.toml");
        let mut text =
            String::from("http.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nlog.format = \"text\"\n");
        text.push_str(settings);
        text.push('\n');
        let mut database = None;
        if let Some(Servers { redis, amqp, mysql }) = &servers {
            let name = servers::unique("rushgate");
            database::create_database(mysql, &name).await;
            let store = database::with_database(mysql, &name);
            let backends = format!(
                "inventory.backend = \"redis\"\ninventory.url = {redis:?}\ninventory.namespace = {name:?}\n\
                 queue.backend = \"rabbitmq\"\nqueue.url = {amqp:?}\nqueue.namespace = {name:?}\n\
                 store.backend = \"mysql\"\nstore.url = {store:?}\n",
            );
            text.push_str(&backends);
            database = Some((mysql.clone(), name));
        } else {
            let file = dir.path().join("rushgate.db");
            text.extend(["store.url = \"sqlite://", &file.display().to_string(), "\"\n"]);
        }
        std::fs::write(&config, text).expect("a config file");
        Self { dir, config, servers, database, environment: Vec::new(), nodes: Vec::new() }
    }

    /// The file that all processes read.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Changes settings: live ones for all processes, others for those that are started from now on.
    pub(crate) fn configure(&self, settings: &str) {
        let text = std::fs::read_to_string(&self.config).expect("the config");
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let changed: Vec<_> = settings.lines().map(key).collect();
        let kept = text.lines().filter(|line| !changed.contains(&key(line))).chain(settings.lines());
        std::fs::write(&self.config, kept.collect::<Vec<_>>().join("\n")).expect("the config");
    }

    /// The URL of the site's own database.
    pub(crate) fn store_url(&self) -> String {
        let (server, name) = self.database.as_ref().expect("a real store");
        database::with_database(server, name)
    }

    /// What the names of this site's keys, exchanges and queues begin with.
    pub(crate) fn namespace(&self) -> &str {
        self.database.as_ref().map(|(_, name)| name.as_str()).expect("a real site")
    }

    /// Deletes every key of this site in Redis, as a restart without persistence would.
    pub(crate) async fn lose_the_inventory(&self) {
        let name = self.namespace();
        let redis = &self.servers.as_ref().expect("a real site").redis;
        let client = redis::Client::open(redis.as_str()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("*{name}*")).query_async(&mut connection).await.expect("keys");
        assert!(!keys.is_empty(), "the site has keys");
        let _: u64 = redis::cmd("DEL").arg(keys).query_async(&mut connection).await.expect("deleted");
    }

    /// Starts one more process with this role.
    pub(crate) fn add(&mut self, role: &str) -> usize {
        let node = self.node(role, &format!("{role}-{}", self.nodes.len()), &[]);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Starts a process with this role, name and settings, and waits until it has told where it listens.
    pub(crate) fn node(&self, role: &str, name: &str, settings: &[String]) -> Node {
        let (child, said, lines) = self.launch(role, name, settings, &[]);
        let address = |what: &str| loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(url) = line.trim_start().strip_prefix(what) {
                        break url.trim().to_owned();
                    }
                }
                Err(error) => panic!(
                    "{name} told no {what} address ({error}); it said:\n{}",
                    said.lock().expect("lines").join("\n")
                ),
            }
        };
        let public = (role != "writer").then(|| Client::new(&address("public")));
        let admin = Client::new(&address("admin"));
        Node { child, name: name.to_owned(), said, public, admin }
    }

    /// Starts a process with this role and name, with settings such as `http.listen=127.0.0.1:0` and variables of its own. Returns it
    /// with what it says, and with the lines of its standard output as they come.
    pub(crate) fn launch(
        &self,
        role: &str,
        name: &str,
        settings: &[String],
        environment: &[(&str, &str)],
    ) -> (Child, Arc<Mutex<Vec<String>>>, Receiver<String>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rushgate"))
            .args(["serve", "--role", role, "--set", &format!("node.id={name}")])
            .args(settings.iter().flat_map(|setting| ["--set", setting.as_str()]))
            .arg("--config")
            .arg(&self.config)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (tell, lines) = std::sync::mpsc::channel();
        let (out, err) = (child.stdout.take().expect("its output"), child.stderr.take().expect("its log"));
        listen(out, Arc::clone(&said), Some(tell));
        listen(err, Arc::clone(&said), None);
        (child, said, lines)
    }

    /// Waits until every process says that it is ready, with nothing to note.
    pub(crate) async fn ready(&self) {
        for node in &self.nodes {
            eventually(&format!("{} is ready", node.name), || async {
                let reply = node.admin.get("/readyz?verbose", &[]).await?;
                // A partition that is out, or closed, is noted and makes no node unready.
                let noted = reply.body.as_str().is_some_and(|said| said.contains("[!]partition"));
                if reply.status == 200 && !noted { Ok(()) } else { Err(format!("{reply:?}")) }
            })
            .await;
        }
    }

    /// The public API of a gateway.
    pub(crate) fn gateway(&self, index: usize) -> &Client {
        self.nodes[index].public.as_ref().expect("a gateway")
    }

    /// Every gateway that still runs.
    pub(crate) fn gateways(&self) -> Vec<Client> {
        self.nodes.iter().filter_map(|node| node.public.clone()).collect()
    }

    pub(crate) fn admin(&self) -> &Client {
        &self.nodes.last().expect("a process").admin
    }

    /// Creates a sale and waits until every gateway has heard of it.
    pub(crate) async fn sale(&self, id: &str, document: &Value) {
        let path = format!("/admin/v1/sales/{id}");
        let reply =
            self.admin().send(hyper::Method::PUT, &path, &[], Some(document.to_string())).await.expect("an answer");
        assert!(matches!(reply.status, 200 | 201), "{reply:?}");
        self.knows(id, version_after(&reply)).await;
    }

    /// Waits until every gateway has heard of this version of a sale.
    pub(crate) async fn knows(&self, id: &str, version: u64) {
        for gateway in self.gateways() {
            eventually(&format!("{} knows {id}", gateway.base()), || async {
                let reply = gateway.get(&format!("/v1/sales/{id}"), &[]).await?;
                let heard = reply.body["version"].as_u64().unwrap_or(0);
                if reply.status == 200 && heard >= version { Ok(()) } else { Err(format!("{reply:?}")) }
            })
            .await;
        }
    }

    /// Says something to a sale, such as `pause`.
    pub(crate) async fn tell(&self, id: &str, what: &str, body: &Value) -> Reply {
        let reply = self.admin().post(&format!("/admin/v1/sales/{id}/{what}"), &[], body).await.expect("an answer");
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
        self.knows(id, version_after(&reply)).await;
        reply
    }

    /// Runs a command of the program with this site's config, or its admin address where the command wants that.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rushgate"));
        command.args(arguments).stdin(Stdio::null());
        match self.nodes.last() {
            Some(node) if matches!(arguments.first(), Some(&"sale" | &"audit" | &"dead-letters" | &"top")) => {
                command.env("RUSHGATE_ADMIN_URL", node.admin.base())
            }
            _ => command.arg("--config").arg(&self.config),
        };
        let output = command.output().expect("the program runs");
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The proof that a sale is exact once things are quiet, by the program's own command.
    pub(crate) fn audit(&self, sale: &str) -> Value {
        let ran = self.run(&["audit", sale, "--json", "--wait", "30s"]);
        ran.success("audit");
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Kills a process where it stands.
    pub(crate) fn kill(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.child.kill().expect("it runs");
        node.child.wait().expect("it ends");
        node.public = None;
    }

    /// Asks a process to stop, and returns its exit code.
    pub(crate) async fn terminate(&mut self, index: usize) -> Option<i32> {
        let node = &mut self.nodes[index];
        node.public = None;
        let asked = Command::new("kill").args(["-TERM", &node.child.id().to_string()]).status().expect("kill runs");
        assert!(asked.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = node.child.try_wait().expect("its state") {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "{} does not stop", node.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Everything that a process said so far.
    pub(crate) fn said(&self, index: usize) -> String {
        self.nodes[index].said.lock().expect("lines").join("\n")
    }
}

#[expect(clippy::print_stderr, reason = "whoever reads a failed test wants to know what its processes said")]
impl Drop for Site {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.kill();
            let _ = node.child.wait();
            if std::thread::panicking() {
                let said = node.said.lock().expect("lines");
                let tail = said.len().saturating_sub(40);
                eprintln!("---- {} said last:\n{}", node.name, said[tail..].join("\n"));
            }
        }
        if let Some((server, name)) = self.database.take() {
            database::drop_database(&server, &name);
        }
    }
}

fn version_after(change: &Reply) -> u64 {
    change.body["after"]["version"].as_u64().unwrap_or_else(|| panic!("no version: {change:?}"))
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn success(&self, what: &str) {
        assert_eq!(self.code, Some(0), "{what}:\n{}\n{}", self.out, self.err);
    }
}

fn listen(from: impl std::io::Read + Send + 'static, said: Arc<Mutex<Vec<String>>>, tell: Option<Sender<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            said.lock().expect("lines").push(line.clone());
            if let Some(tell) = &tell {
                let _ = tell.send(line);
            }
        }
    });
}

/// Tries until it works; fails with the last reason when patience ends.
pub(crate) async fn eventually<T, F, W>(what: &str, mut attempt: F) -> T
where
    F: FnMut() -> W,
    W: Future<Output = Result<T, String>>,
{
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(reason) if begun.elapsed() > PATIENCE => panic!("not in {PATIENCE:?}: {what}: {reason}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A sale of one pool, open now.
pub(crate) fn concert(capacity: u32) -> Value {
    json!({
        "name": "Concert", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY",
        "pools": [{"id": "standard", "capacity": capacity, "price": 55350}],
    })
}

//! A RabbitMQ of a test's own, with a port mapper of its own, to be killed, frozen and set on alarm.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use lapin::{Connection, ConnectionProperties};
use tempfile::TempDir;

use crate::process::{Process, free_port, owned};

/// Where Debian keeps the script without the change of user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Ends with the test.
pub(crate) struct PrivateRabbitMq {
    // The broker goes before its port mapper, and both before their folder.
    process: Process,
    mapper: Arc<Process>,
    ports: Ports,
    dir: TempDir,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    mapper: u16,
    distribution: u16,
    amqp: u16,
}

impl PrivateRabbitMq {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let mut mapper = owned("epmd");
        mapper.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        let mapper = Process::start("epmd", mapper, &dir.path().join("epmd.log"));
        let probe = || async {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            connected.map(|_| ()).map_err(|error| error.to_string())
        };
        mapper.answers(probe).await;
        Self::launched(dir, Arc::new(mapper), port).await
    }

    /// Another one, in one cluster with it.
    pub(crate) async fn start_beside(&self) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        // Nodes of one cluster have one secret; a copy keeps that nobody else may read it.
        let secret = ".erlang.cookie";
        std::fs::copy(self.dir.path().join(secret), dir.path().join(secret)).expect("the cluster's secret");
        let other = Self::launched(dir, Arc::clone(&self.mapper), self.ports.mapper).await;
        other.control(&["stop_app"]);
        other.control(&["join_cluster", &name(self.ports)]);
        other.control(&["start_app"]);
        other.answers().await;
        other
    }

    async fn launched(dir: TempDir, mapper: Arc<Process>, mapper_port: u16) -> Self {
        let ports = Ports { mapper: mapper_port, distribution: free_port(), amqp: free_port() };
        let settings = format!(
            "listeners.tcp.local = 127.0.0.1:{}\nlog.console = true\nlog.file = false\n\
             vm_memory_high_watermark.absolute = 768MiB\ndisk_free_limit.absolute = 50MB\n\
             # In memory up to this size, half a gigabyte by default.\nraft.wal_max_size_bytes = 33554432\n",
            ports.amqp,
        );
        std::fs::write(dir.path().join("rabbitmq.conf"), settings).expect("its settings");
        std::fs::write(dir.path().join("enabled_plugins"), "[].\n").expect("its plugins");
        let broker = Self { process: launch(dir.path(), ports), mapper, ports, dir };
        broker.answers().await;
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}/%2f", self.ports.amqp)
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.amqp
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it again on the same port, with what is in its folder. A process that still runs is killed.
    pub(crate) async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.dir.path(), self.ports);
        self.answers().await;
    }

    /// Says something to it as an administrator would, such as `["close_all_connections", "a test"]`. Takes about a second.
    pub(crate) fn control(&self, words: &[&str]) -> String {
        let mut command = Command::new(CONTROL);
        command.envs(environment(self.dir.path(), self.ports)).arg("-q").args(words).stdin(Stdio::null());
        let output = command.output().expect("rabbitmqctl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    async fn answers(&self) {
        let url = self.url();
        let probe = || async {
            // Who connects while it starts waits for ever.
            let connected = Connection::connect(&url, ConnectionProperties::default()).await;
            let connection = connected.map_err(|error| error.to_string())?;
            connection.close(200, "".into()).await.map_err(|error| error.to_string())
        };
        let port = self.ports.amqp;
        let listens = || async move {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            connected.map(|_| ()).map_err(|error| error.to_string())
        };
        self.process.answers(listens).await;
        self.process.answers(probe).await;
    }
}

fn launch(dir: &Path, ports: Ports) -> Process {
    let mut command = owned(SERVER);
    command.env_clear().envs(environment(dir, ports));
    Process::start("rabbitmq", command, &dir.join("log"))
}

/// The node's name.
fn name(ports: Ports) -> String {
    format!("rushgate-{}@localhost", ports.amqp)
}

/// All that the broker's scripts go by, so that nothing of the machine's redirects them.
fn environment(dir: &Path, ports: Ports) -> Vec<(&'static str, OsString)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let inside = |name: &str| dir.join(name).into_os_string();
    vec![
        ("PATH", format!("{path}:/usr/sbin:/sbin").into()),
        ("HOME", dir.into()),
        ("LANG", "C.UTF-8".into()),
        // Said to run under systemd, the script becomes the virtual machine, so that its process id is the broker's.
        ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ("ERL_EPMD_PORT", ports.mapper.to_string().into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("ERL_CRASH_DUMP_SECONDS", "0".into()),
        ("RABBITMQ_NODENAME", name(ports).into()),
        ("RABBITMQ_DIST_PORT", ports.distribution.to_string().into()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
        ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", inside("data")),
        ("RABBITMQ_LOG_BASE", inside("logs")),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}".into(),
        ),
    ]
}

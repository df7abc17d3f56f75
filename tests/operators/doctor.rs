//! `rushgate doctor` against servers that are really set wrong, one thing at a time.

use std::path::Path;
use std::process::{Command, Stdio};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use sqlx::Executor;
use tempfile::TempDir;

use crate::private_mariadb::PrivateMariaDb;
use crate::private_rabbitmq::PrivateRabbitMq;
use crate::private_redis::{Persistence, PrivateRedis};
use crate::process::free_port;
use crate::site::{Backends, Site, concert};

/// Where nobody listens, for what a test does not look at.
const NOBODY: &str = "127.0.0.1:1";

/// What the program found, and its exit code.
#[derive(Debug)]
struct Examined {
    code: Option<i32>,
    told: Value,
}

impl Examined {
    /// The states of a check, and what was found, in one line.
    #[track_caller]
    fn check(&self, part: &str, check: &str) -> (&str, String) {
        let findings = self.told["findings"].as_array().expect("findings");
        let found: Vec<_> =
            findings.iter().filter(|finding| finding["part"] == part && finding["check"] == check).collect();
        assert_eq!(found.len(), 1, "{part} {check} in {:#}", self.told);
        let text = |name: &str| found[0][name].as_str().expect("a text").to_owned();
        let state = found[0]["state"].as_str().expect("a state");
        let ill = matches!(state, "warning" | "wrong");
        assert_eq!((text("why").is_empty(), text("mend").is_empty()), (!ill, !ill), "{:#}", found[0]);
        (state, format!("{} · {}", text("found"), text("mend")))
    }

    /// The check has this state, and what was found or what mends it has this in it.
    #[track_caller]
    fn has(&self, (part, check): (&str, &str), state: &str, text: &str) {
        let (is, told) = self.check(part, check);
        assert!(is == state && told.contains(text), "{part} {check} is {is}, not {state} with {text}: {told}");
        assert_eq!(self.code, Some(i32::from(self.told["wrong"] != 0)), "{:#}", self.told);
        assert!(!self.told.to_string().contains("canary"), "a secret was printed: {:#}", self.told);
    }
}

fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
    command.args(["doctor", "--json"]).stdin(Stdio::null());
    command.args(settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]));
    command
}

fn run(mut command: Command) -> Examined {
    let output = command.output().expect("the program runs");
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("canary"), "{output:?}");
    Examined { code: output.status.code(), told }
}

/// Of a deployment over these three servers.
fn examined(redis: &str, amqp: &str, mysql: &str, more: &[(&str, &str)]) -> Examined {
    let mut settings = vec![
        ("inventory.backend", "redis"),
        ("queue.backend", "rabbitmq"),
        ("store.backend", "mysql"),
        ("http.listen", "127.0.0.1:0"),
        ("admin.listen", "127.0.0.1:0"),
        ("inventory.url", redis),
        ("queue.url", amqp),
        ("store.url", mysql),
    ];
    settings.extend_from_slice(more);
    run(command(&settings))
}

fn nobody(scheme: &str) -> String {
    at(scheme, NOBODY)
}

fn at(scheme: &str, address: &str) -> String {
    let path = if scheme.starts_with("redis") { "" } else { "/rushgate" };
    format!("{scheme}://user:canary@{address}{path}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_followed_from_an_empty_store_to_a_node_that_runs() {
    let mut site = Site::unmigrated(Backends::Real, "").await;
    let (public, admin) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    site.configure(&format!("http.listen = {public:?}\nadmin.listen = {admin:?}\nhttp.max_connections = 1000"));
    let doctor = |site: &Site| {
        let mut command = command(&[]);
        command.arg("--config").arg(site.config());
        run(command)
    };
    let before = doctor(&site);
    before.has(("mysql", "schema"), "wrong", "rushgate migrate");
    before.has(("mysql", "writes"), "unknown", "tried when the schema");
    before.has(("rabbitmq", "queues"), "ok", "none yet");
    before.has(("listeners", "public"), "ok", "is free");
    before.has(("partitions", "epochs"), "unknown", "schema");

    site.run(&["migrate"]).success("migrate");
    let migrated = doctor(&site);
    assert_eq!((migrated.code, &migrated.told["wrong"]), (Some(0), &0.into()), "{:#}", migrated.told);
    migrated.has(("mysql", "writes"), "ok", "rolled back");
    migrated.has(("mysql", "deployment"), "ok", "not begun");
    migrated.has(("partitions", "epochs"), "warning", "run a writer");

    site.add("all");
    site.ready().await;
    site.sale("concert", &concert(1)).await;
    // Of a name of its own the process was told by a flag.
    let running = doctor(&site);
    assert_eq!((running.code, &running.told["wrong"]), (Some(0), &0.into()), "{:#}", running.told);
    for check in ["isolation", "sql mode", "time zone", "locks", "clock", "connections"] {
        running.has(("mysql", check), "ok", "");
    }
    running.has(("partitions", "epochs"), "ok", "p0.e1 open");
    running.has(("partitions", "inventory"), "ok", "1 of 1");
    running.has(("partitions", "exchange"), "ok", "1 of 1");
    running.has(("redis", "latency"), "ok", "median");
    running.has(("rabbitmq", "queues"), "ok", "with the right arguments");
    running.has(("rabbitmq", "permissions"), "ok", "configure, write and read");
    running.has(("rabbitmq", "alarms"), "ok", "came back");
    running.has(("rabbitmq", "backlog"), "ok", "0: 0 (1)");
    running.has(("listeners", "public"), "ok", "ready");
    running.has(("listeners", "admin"), "ok", "ready");
    running.has(("listeners", "version"), "ok", env!("CARGO_PKG_VERSION"));
    running.has(("listeners", "running config"), "ok", "the same");

    // It has changed nothing: what it published nobody has, and no sale of its name is there.
    site.audit("concert");
    let sales = site.run(&["sale", "list"]);
    assert!(sales.out.contains("concert") && !sales.out.contains("doctor"), "{sales:?}");

    let other = {
        let mut command = command(&[("inventory.partitions", "7"), ("shard.buffer", "50%")]);
        command.arg("--config").arg(site.config());
        run(command)
    };
    other.has(("listeners", "running config"), "warning", "inventory.partitions = 1, here 7");
    other.has(("mysql", "deployment"), "wrong", "set inventory.partitions to 1");
    // A partition whose keys are gone is found by who asks for them, and by nobody else before.
    site.kill(0);
    site.lose_the_inventory().await;
    doctor(&site).has(("partitions", "inventory"), "wrong", "run a writer");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_get_to_a_server_hears_at_which_step() {
    let refused = examined(&nobody("redis"), &nobody("amqp"), &nobody("mysql"), &[]);
    for part in ["redis", "rabbitmq", "mysql"] {
        refused.has((part, "tcp"), "wrong", "connection refused");
    }
    refused.has(("partitions", "epochs"), "unknown", "refused");

    let unknown = |scheme| at(scheme, "no-such-host.invalid");
    let lost = examined(&unknown("redis"), &unknown("amqp"), &unknown("mysql"), &[]);
    for part in ["redis", "rabbitmq", "mysql"] {
        lost.has((part, "name"), "wrong", "no-such-host.invalid");
    }

    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let at = |scheme| at(scheme, &address.to_string());
    let begun = tokio::time::Instant::now();
    let silence = examined(&at("redis"), &at("amqp"), &at("mysql"), &[]);
    for part in ["redis", "rabbitmq", "mysql"] {
        silence.has((part, "answers"), "wrong", "");
    }
    assert!(begun.elapsed().as_secs() < 20, "side by side and bounded: {:?}", begun.elapsed());
    let tls = examined(&at("rediss"), &at("amqps"), &nobody("mysql"), &[]);
    for part in ["redis", "rabbitmq"] {
        tls.has((part, "tls"), "wrong", "TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_redis_is_told() {
    let redis = PrivateRedis::start(Persistence::Nothing).await;
    let doctor = |url: &str| examined(url, &nobody("amqp"), &nobody("mysql"), &[]);
    let as_it_is = doctor(&redis.url());
    as_it_is.has(("redis", "eviction"), "ok", "noeviction");
    as_it_is.has(("redis", "persistence"), "warning", "appendonly yes");
    as_it_is.has(("redis", "memory"), "warning", "CONFIG SET maxmemory");
    as_it_is.has(("redis", "scripts"), "ok", "may be run");

    for (name, value) in
        [("maxmemory-policy", "allkeys-lru"), ("appendonly", "yes"), ("appendfsync", "no"), ("maxmemory", "700kb")]
    {
        let _: () = redis.ask(&["CONFIG", "SET", name, value]).await;
    }
    let set_wrong = doctor(&redis.url());
    set_wrong.has(("redis", "eviction"), "wrong", "CONFIG SET maxmemory-policy noeviction");
    set_wrong.has(("redis", "persistence"), "warning", "CONFIG SET appendfsync everysec");
    set_wrong.has(("redis", "memory"), "wrong", "maxmemory");
    for (name, value) in [("maxmemory-policy", "noeviction"), ("appendfsync", "everysec"), ("maxmemory", "1gb")] {
        let _: () = redis.ask(&["CONFIG", "SET", name, value]).await;
    }
    let mended = doctor(&redis.url());
    for check in ["version", "role", "eviction", "persistence", "memory", "clients", "cluster", "latency", "clock"] {
        mended.has(("redis", check), "ok", "");
    }

    doctor(&format!("{}/99", redis.url().trim_end_matches("/0"))).has(
        ("redis", "database"),
        "wrong",
        "CONFIG GET databases",
    );

    // Users, right and wrong. The one of the tests has no password.
    let user = |name: &str, password: &str| redis.url().replace("redis://", &format!("redis://{name}:{password}@"));
    let _: () = redis.ask(&["ACL", "SETUSER", "app", "on", ">canary1", "~rg:*", "+@all", "-eval"]).await;
    doctor(&user("app", "canary2")).has(("redis", "authentication"), "wrong", "WRONGPASS");
    doctor(&user("app", "canary1")).has(("redis", "scripts"), "wrong", "ACL SETUSER");
    let _: () = redis.ask(&["ACL", "SETUSER", "app", "+@all", "-config"]).await;
    doctor(&user("app", "canary1")).has(("redis", "persistence"), "unknown", "no right to CONFIG");
    let _: () = redis.ask(&["ACL", "SETUSER", "default", "off"]).await;
    doctor(&redis.url()).has(("redis", "authentication"), "wrong", "USER:PASSWORD@");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_a_frozen_redis_are_told() {
    let (master, replica) =
        tokio::join!(PrivateRedis::start(Persistence::Nothing), PrivateRedis::start(Persistence::Nothing));
    let _: () = replica.ask(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    let doctor = |redis: &PrivateRedis| examined(&redis.url(), &nobody("amqp"), &nobody("mysql"), &[]);
    doctor(&replica).has(("redis", "role"), "wrong", &format!("redis://127.0.0.1:{}", master.port()));
    master.process().freeze();
    doctor(&master).has(("redis", "answers"), "wrong", "SLOWLOG");
    master.process().resume();
}

async fn channel(broker: &PrivateRabbitMq) -> (Connection, Channel) {
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn declare(channel: &Channel, name: &str) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_rabbitmq_is_told() {
    let broker = PrivateRabbitMq::start().await;
    let doctor = |url: &str| examined(&nobody("redis"), url, &nobody("mysql"), &[]);
    let fresh = doctor(&broker.url());
    fresh.has(("rabbitmq", "version"), "ok", "RabbitMQ");
    fresh.has(("rabbitmq", "queues"), "ok", "none yet");
    fresh.has(("rabbitmq", "alarms"), "ok", "");
    fresh.has(("rabbitmq", "permissions"), "ok", "configure, write and read");
    let queues = broker.control(&["list_queues", "name"]);
    assert!(!queues.contains("rushgate"), "doctor has declared {queues}");

    let user = |name: &str, password: &str| broker.url().replace("amqp://", &format!("amqp://{name}:{password}@"));
    broker.control(&["add_user", "app", "canary1"]);
    doctor(&user("app", "canary2")).has(("rabbitmq", "authentication"), "wrong", "authenticate_user");
    doctor(&user("app", "canary1")).has(("rabbitmq", "virtual host"), "wrong", "set_permissions");
    doctor(&broker.url().replace("%2f", "nowhere")).has(("rabbitmq", "virtual host"), "wrong", "add_vhost nowhere");

    // A fresh broker declares nothing for a user who may not.
    broker.control(&["set_permissions", "-p", "/", "app", "^$", "^$", "^$"]);
    let powerless = doctor(&user("app", "canary1"));
    powerless.has(("rabbitmq", "queues"), "ok", "none yet");
    powerless.has(("rabbitmq", "permissions"), "wrong", "no right to configure");
    broker.control(&["set_vhost_limits", "-p", "/", r#"{"max-connections": 0}"#]);
    doctor(&broker.url()).has(("rabbitmq", "connections"), "wrong", "list_vhost_limits");
    broker.control(&["clear_vhost_limits", "-p", "/"]);

    broker.control(&["import_definitions", "config/deploy/rabbitmq/definitions.json"]);
    let well = doctor(&broker.url());
    well.has(("rabbitmq", "queues"), "ok", "with the right arguments");
    well.has(("rabbitmq", "permissions"), "ok", "configure, write and read");
    let exact = [r"^rushgate\.", r"^(rushgate\.|amq\.default$)", r"^rushgate\."];
    let grant = |rights: [&str; 3]| {
        broker.control(&[&["set_permissions", "-p", "/", "app"][..], &rights[..]].concat());
        doctor(&user("app", "canary1"))
    };
    grant(exact).has(("rabbitmq", "permissions"), "ok", "configure, write and read");
    let none = "^$";
    for (rights, missing) in [
        ([none, exact[1], exact[2]], "no right to configure: "),
        ([exact[0], "^amq.default$", exact[2]], "no right to write: "),
        ([exact[0], exact[1], none], "no right to read: "),
    ] {
        let told = grant(rights);
        told.has(("rabbitmq", "permissions"), "wrong", missing);
        told.has(("rabbitmq", "permissions"), "wrong", r"set_permissions -p / USER '^rushgate\.'");
    }

    // A lane with messages and without a writer, and one of another making.
    let (connection, channel) = channel(&broker).await;
    let properties = BasicProperties::default();
    let publish =
        channel.basic_publish("".into(), "rushgate.lane.1".into(), BasicPublishOptions::default(), b"x", properties);
    publish.await.unwrap().await.unwrap();
    channel.queue_delete("rushgate.lane.2".into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    declare(&channel, "rushgate.lane.2").await;
    connection.close(200, "".into()).await.unwrap();
    crate::site::eventually("the message is counted", || async {
        let ill = doctor(&broker.url());
        let (state, told) = ill.check("rabbitmq", "backlog");
        if state == "wrong" && told.contains("1: 1 (0)") { Ok(()) } else { Err(told) }
    })
    .await;
    let ill = doctor(&broker.url());
    ill.has(("rabbitmq", "queues"), "wrong", "rushgate.lane.2 has other arguments");
    an_alarm_and_silence_are_told(&broker).await;
}

async fn an_alarm_and_silence_are_told(broker: &PrivateRabbitMq) {
    let doctor = |url: &str| examined(&nobody("redis"), url, &nobody("mysql"), &[]);
    broker.control(&["set_vm_memory_high_watermark", "0.0001"]);
    crate::site::eventually("the broker is on alarm", || async {
        let (state, told) = {
            let ill = doctor(&broker.url());
            let (state, told) = ill.check("rabbitmq", "alarms");
            (state.to_owned(), told)
        };
        if state == "wrong" && told.contains("blocks") { Ok(()) } else { Err(told) }
    })
    .await;
    broker.control(&["set_vm_memory_high_watermark", "absolute", "768MiB"]);
    broker.process().freeze();
    doctor(&broker.url()).has(("rabbitmq", "answers"), "wrong", "check_running");
    broker.process().resume();
}

/// Settings for a server of this test, as a file.
fn settings(folder: &Path, lines: &str) -> String {
    let path = folder.join("my.cnf");
    std::fs::write(&path, format!("[mysqld]\nmax_connections = 200\n{lines}\n")).unwrap();
    path.display().to_string()
}

fn migrate(url: &str) {
    let status = Command::new(env!("CARGO_BIN_EXE_rushgate"))
        .args(["migrate", "--json", "--set", "store.backend=mysql", "--set", "node.roles=gateway,writer"])
        .args(["--set", &format!("store.url={url}")])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_mariadb_is_told() {
    let folder = TempDir::new().unwrap();
    let risky = "log_bin = on\nbinlog_format = STATEMENT\nsync_binlog = 0\ninnodb_flush_log_at_trx_commit = 2\n\
                 transaction_isolation = READ-UNCOMMITTED\nsql_mode = ''\ndefault_time_zone = +05:00";
    let server = PrivateMariaDb::start_with(&settings(folder.path(), risky)).await;
    let doctor = |url: &str| examined(&nobody("redis"), &nobody("amqp"), url, &[]);
    doctor(&server.url()).has(("mysql", "schema"), "wrong", "rushgate migrate");
    server.execute("SET GLOBAL binlog_format = ROW").await;
    migrate(&server.url());
    // What the server would have, each session has otherwise.
    let rows = doctor(&server.url());
    rows.has(("mysql", "version"), "ok", "MariaDB");
    rows.has(("mysql", "isolation"), "ok", "READ COMMITTED");
    rows.has(("mysql", "sql mode"), "ok", "strict");
    rows.has(("mysql", "time zone"), "ok", "UTC");
    rows.has(("mysql", "clock"), "ok", "");
    rows.has(("mysql", "commits"), "warning", "SET GLOBAL innodb_flush_log_at_trx_commit = 1");
    rows.has(("mysql", "binary log"), "warning", "SET GLOBAL sync_binlog = 1");
    rows.has(("mysql", "writes"), "ok", "rolled back");
    rows.has(("mysql", "prepared statements"), "warning", "SET GLOBAL max_prepared_stmt_count = 51200");
    server.execute("SET GLOBAL binlog_format = STATEMENT").await;
    let statements = doctor(&server.url());
    statements.has(("mysql", "binary log"), "wrong", "SET GLOBAL binlog_format = ROW");
    statements.has(("mysql", "writes"), "wrong", "binlog_format");
    for statement in [
        "SET GLOBAL binlog_format = ROW",
        "SET GLOBAL sync_binlog = 1",
        "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        "SET GLOBAL max_connections = 10",
    ] {
        server.execute(statement).await;
    }
    let few = doctor(&server.url());
    few.has(("mysql", "binary log"), "ok", "ROW");
    few.has(("mysql", "commits"), "ok", "");
    few.has(("mysql", "connections"), "wrong", "max_connections");
    few.has(("mysql", "prepared statements"), "ok", "16382");
    server.execute("SET GLOBAL max_connections = 200").await;

    // Users, and what they may.
    server.execute("CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'canary1'").await;
    let user = |name: &str, password: &str| server.url().replace("root@", &format!("{name}:{password}@"));
    doctor(&user("reader", "canary2")).has(("mysql", "authentication"), "wrong", "Access denied");
    doctor(&user("reader", "canary1")).has(("mysql", "permission"), "wrong", "GRANT");
    server.execute("GRANT SELECT ON rushgate.* TO reader@'127.0.0.1'").await;
    let reader = doctor(&user("reader", "canary1"));
    reader.has(("mysql", "writes"), "wrong", "GRANT SELECT, INSERT, UPDATE, DELETE");
    reader.has(("mysql", "locks"), "unknown", "PROCESS");
    doctor(&server.url().replace("/rushgate", "")).has(("mysql", "database"), "wrong", "names none");
    server.execute("CREATE USER locked@'127.0.0.1' IDENTIFIED BY 'canary1' ACCOUNT LOCK").await;
    doctor(&user("locked", "canary1")).has(("mysql", "authentication"), "wrong", "ACCOUNT UNLOCK");
    let tls = format!("{}?ssl-mode=REQUIRED", server.url());
    doctor(&tls).has(("mysql", "tls"), "wrong", "ssl-mode=PREFERRED");
    doctor(&server.url().replace("/rushgate", "/nowhere")).has(("mysql", "database"), "wrong", "CREATE DATABASE");
    server.execute("CREATE USER app@'127.0.0.1'").await;
    server.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON rushgate.* TO app@'127.0.0.1'").await;
    let app = server.url().replace("root@", "app@");
    doctor(&app).has(("mysql", "writes"), "ok", "rolled back");
    server.execute("SET GLOBAL read_only = ON").await;
    doctor(&app).has(("mysql", "writes"), "wrong", "read-only");
    server.execute("SET GLOBAL read_only = OFF").await;

    // A schema of a later version, and what a replica is not.
    server
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES \
                    (9999, 'later', 1, 'x', 1)",
        )
        .await;
    let url = server.url();
    let ahead = examined(&nobody("redis"), &nobody("amqp"), &url, &[("store.read_url", &url)]);
    ahead.has(("mysql", "schema"), "wrong", "newer than this program");
    ahead.has(("replica", "lag"), "warning", "it is no replica");
    server.process().freeze();
    doctor(&url).has(("mysql", "answers"), "wrong", "mysqladmin ping");
    server.process().resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_transaction_is_right_in_whatever_zone_the_server_lives() {
    // Five hours west of UTC, and eight east.
    for zone in ["EST5", "CST-8"] {
        let server = PrivateMariaDb::start_in(zone).await;
        server.execute("CREATE TABLE held (n INT) ENGINE = InnoDB").await;
        let mut holder = server.connection().await;
        holder.execute("BEGIN; INSERT INTO held VALUES (1)").await.unwrap();
        crate::site::eventually("the transaction is a second old", || async {
            let examined = examined(&nobody("redis"), &nobody("amqp"), &server.url(), &[]);
            let (state, told) = examined.check("mysql", "locks");
            let age = told.split("open for ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            if state == "ok" && age.is_some_and(|age| age > 0) { Ok(()) } else { Err(format!("{zone}: {told}")) }
        })
        .await;
        holder.execute("ROLLBACK").await.unwrap();
    }
}

#[test]
fn a_machine_with_too_few_files_is_told() {
    let limited = |limit: &str| {
        let program = format!(
            "ulimit {limit} && exec {} doctor --json --set http.listen=127.0.0.1:0 --set admin.listen=127.0.0.1:0 \
             --set http.max_connections=5000",
            env!("CARGO_BIN_EXE_rushgate")
        );
        let mut command = Command::new("sh");
        command.args(["-c", &program]).current_dir(std::env::temp_dir()).stdin(Stdio::null());
        run(command)
    };
    let needed = 5256 + 4 * std::thread::available_parallelism().unwrap().get();
    // The process that is meant may be started with others.
    limited("-n 300").has(("machine", "open files"), "warning", &format!("ulimit -n {needed}"));
    limited("-Sn 300").has(("machine", "open files"), "warning", &format!("LimitNOFILE={needed}"));
    limited("-Sn 6000").has(("machine", "open files"), "ok", &format!("needed: {needed}"));
}

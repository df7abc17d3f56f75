//! The settings of the servers as they are delivered. (Redis has them in every test: `tests/run` starts it with the delivered file.)

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::private_mariadb::PrivateMariaDb;
use crate::private_rabbitmq::PrivateRabbitMq;
use crate::process::{Process, free_port, owned};
use crate::servers;
use crate::site::{Servers, Site, concert};

const DEFINITIONS: &str = "config/deploy/rabbitmq/definitions.json";

/// What a broker has, or is to have, of this kind; without what brokers add by themselves.
fn declared(definitions: &Value, kind: &str) -> BTreeSet<String> {
    let ours = |thing: &&Value| {
        let names = ["name", "source"].map(|key| thing[key].as_str().unwrap_or_default());
        names.iter().any(|name| name.starts_with("rushgate.")) && !names.iter().any(|name| name.contains(".orders."))
    };
    let told = |thing: &Value| {
        // Some brokers tell a queue's type twice.
        let of_kind = if kind == "exchanges" { "type" } else { "name" };
        let kept = [of_kind, "name", "source", "destination", "durable", "auto_delete", "routing_key", "arguments"];
        Value::Object(kept.iter().map(|key| ((*key).to_owned(), thing[*key].clone())).collect()).to_string()
    };
    definitions[kind].as_array().unwrap().iter().filter(ours).map(told).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Where the program declares a queue with other arguments than it has, the broker refuses (406), and nothing would be sold.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_the_delivered_definitions_and_no_more_rights_than_needed_serves_and_has_nothing_else_afterwards()
{
    let broker = PrivateRabbitMq::start().await;
    broker.control(&["import_definitions", DEFINITIONS]);
    broker.control(&["add_user", "rushgate", "secret"]);
    let (ours, also_default) = (r"^rushgate\.", r"^(rushgate\.|amq\.default$)");
    broker.control(&["set_permissions", "-p", "/", "rushgate", ours, also_default, ours]);
    let amqp = broker.url().replace("amqp://", "amqp://rushgate:secret@");
    let servers = Servers { redis: servers::redis_url(), amqp, mysql: servers::mysql_url() };
    let mut site = Site::empty(Some(servers), "").await;
    site.configure("queue.namespace = \"rushgate\"");
    site.run(&["migrate"]).success("migrate");
    site.add("all");
    site.ready().await;
    site.sale("concert", &concert(3)).await;
    for buyer in ["a", "b", "c", "d"] {
        let reply = site.gateway(0).claim("concert", buyer, None, &json!({"quantity": 1})).await.unwrap();
        assert_eq!(reply.status, if buyer == "d" { 409 } else { 201 }, "{reply:?}");
    }
    site.audit("concert");
    let said = site.nodes[0].said.lock().unwrap().join("\n");
    assert!(!said.contains("PRECONDITION") && !said.contains("ACCESS_REFUSED"), "{said}");

    let exported = site.path().join("exported.json");
    broker.control(&["export_definitions", exported.to_str().unwrap()]);
    let (delivered, exported) = (read(Path::new(DEFINITIONS)), read(&exported));
    for kind in ["queues", "exchanges", "bindings"] {
        let delivered = declared(&delivered, kind);
        assert!(!delivered.is_empty());
        assert_eq!(declared(&exported, kind), delivered, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_the_delivered_settings_keeps_what_it_commits_and_needs_few_rights() {
    let server = PrivateMariaDb::start_with("config/deploy/mysql.cnf").await;
    let mut connection = server.connection().await;
    for (variable, value) in
        [("innodb_flush_log_at_trx_commit", "1"), ("sync_binlog", "1"), ("innodb_doublewrite", "ON")]
    {
        let ask = sqlx::AssertSqlSafe(format!("SELECT CAST(@@GLOBAL.{variable} AS CHAR)"));
        let (set,): (String,) = sqlx::query_as(ask).fetch_one(&mut connection).await.unwrap();
        assert_eq!(set, value, "{variable}");
    }
    let servers = Servers { redis: servers::redis_url(), amqp: servers::amqp_url(), mysql: server.url() };
    let mut site = Site::empty(Some(servers), "").await;
    site.run(&["migrate"]).success("migrate");
    // The user of the migration may do all; the processes do with less.
    server.execute("CREATE USER app@'127.0.0.1'").await;
    let rights = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {}.* TO app@'127.0.0.1'", site.namespace());
    server.execute(&rights).await;
    site.configure(&format!("store.url = {:?}", site.store_url().replace("root@", "app@")));
    site.add("all");
    site.ready().await;
    site.sale("concert", &concert(1)).await;
    let reply = site.gateway(0).claim("concert", "a", None, &json!({"quantity": 1})).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    site.audit("concert");
}

#[tokio::test]
async fn a_redis_starts_with_the_delivered_settings_and_keeps_what_is_there() {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let mut command = owned("redis-server");
    command.args(["config/deploy/redis.conf", "--port", &port.to_string(), "--dir"]).arg(folder.path());
    let server = Process::start("redis", command, &folder.path().join("log"));
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let connect = || async {
        let connected = client.get_multiplexed_async_connection().await;
        connected.map(|_| ()).map_err(|error| error.to_string())
    };
    server.answers(connect).await;
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for (name, value) in [
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", ""),
        ("auto-aof-rewrite-min-size", "1073741824"),
    ] {
        let set: Vec<String> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
        assert_eq!(set, [name, value]);
    }
}

//! The command line from outside: what it says, where it says it, and what it tells the shell.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty, is_match, starts_with};
use tempfile::NamedTempFile;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 64;
const CONFIG: i32 = 78;

/// `rushgate` with these arguments, separated by spaces, and with no settings from the environment of the test.
fn rushgate(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments.split_whitespace());
    command
}

fn run(arguments: &str) -> Assert {
    rushgate(arguments).assert()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room for a config");
    file
}

#[test]
fn help_and_version_are_no_errors_and_every_command_has_an_example() {
    run("--version").code(DONE).stdout(starts_with("rushgate ")).stderr(is_empty());
    let commands = [
        "",
        "serve",
        "migrate",
        "config",
        "config check",
        "config show",
        "config explain",
        "config template",
        "plan",
        "doctor",
    ];
    for command in commands {
        run(&format!("{command} --help")).code(DONE).stdout(contains("Example:\n  rushgate ")).stderr(is_empty());
    }
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    run("").code(USAGE).stdout(is_empty()).stderr(contains("Usage:"));
    run("serv").code(USAGE).stderr(contains("a similar subcommand exists: 'serve'"));
    run("serve --rolle writer").code(USAGE).stderr(contains("a similar argument exists: '--role'"));
    run("serve --role seller").code(USAGE).stderr(contains("[possible values: gateway, writer, all]"));
    run("config check --set http.listen").code(USAGE).stderr(contains("SECTION.KEY=VALUE"));
}

#[test]
fn a_wrong_config_tells_all_its_errors_and_the_nearest_keys_before_anything_binds() {
    let config = file("[inventory]\ntimout = \"1s\"\npartitions = 0\n");
    let path = config.path().display();
    for command in ["serve", "migrate", "config check", "config show", "config explain"] {
        rushgate(command)
            .arg("--config")
            .arg(config.path())
            .env("RUSHGATE__QUEUE__LANE", "4")
            .args(["--set", "sale.hold=soon"])
            .assert()
            .code(CONFIG)
            .stdout(is_empty())
            .stderr(contains("the configuration has 4 errors\n"))
            .stderr(contains(format!(
                "{path}:2:1: unknown key `inventory.timout`; the nearest is `inventory.timeout`\n"
            )))
            .stderr(contains(format!(
                "{path}:3:14: inventory.partitions must be a whole number from 1 to 1024; it is 0\n"
            )))
            .stderr(contains("env RUSHGATE__QUEUE__LANE: unknown variable; the nearest is RUSHGATE__QUEUE__LANES\n"))
            .stderr(contains("flag --set: sale.hold must be a duration such as \"300s\""));
    }
    run("config check --config no/such/file.toml").code(CONFIG).stderr(contains("no/such/file.toml: cannot be read"));
}

#[test]
fn a_right_config_is_said_to_be_right() {
    run("config check").code(DONE).stdout("The configuration is right; 0 keys are set.\n");
    for example in ["config/rushgate.toml", "config/gateway.toml", "config/writer.toml"] {
        run(&format!("config check --config {example}")).code(DONE).stdout(contains(format!("in {example} is right")));
    }
}

#[test]
fn the_config_may_be_named_by_the_environment() {
    let named = || {
        let mut command = rushgate("config show");
        command.env("RUSHGATE_CONFIG", "config/gateway.toml");
        command
    };
    named().assert().code(DONE).stdout(contains("inventory.backend = \"redis\"  # config/gateway.toml:"));
    let flag_wins = named().args(["--config", "config/writer.toml"]).assert();
    flag_wins.code(DONE).stdout(contains("node.roles = [\"writer\"]  # config/writer.toml:"));
}

#[test]
fn every_value_is_shown_with_its_origin_and_without_its_secrets() {
    let config = file("[admin]\ntoken = \"canary\"\n[store]\nbackend = \"mysql\"\n");
    rushgate("config show --set sale.limit_per_buyer=4")
        .arg("--config")
        .arg(config.path())
        .env("RUSHGATE__STORE__URL", "mysql://user:canary@host/rushgate")
        .assert()
        .code(DONE)
        .stdout(contains(format!("admin.token = \"…\"  # {}:2\n", config.path().display())))
        .stdout(contains("store.url = \"mysql://…@host/rushgate\"  # env RUSHGATE__STORE__URL\n"))
        .stdout(contains("sale.limit_per_buyer = 4  # flag --set\n"))
        .stdout(contains("queue.lanes = 4  # default\n"))
        .stdout(is_match("node.id = \".+-[0-9a-f]{8}\"  # default\n").unwrap())
        .stdout(contains("canary").not())
        .stderr(is_empty());
}

#[test]
fn a_named_flag_stands_above_set_and_is_told_by_its_own_name() {
    run("serve --role gateway --set node.roles=writer,gateway")
        .code(CONFIG)
        .stderr(contains("flag --role: a memory inventory is known to its own process only"));
    run("serve --listen nowhere").code(CONFIG).stderr(contains("flag --listen: http.listen must be an address"));
    run("serve --admin-listen 0.0.0.0:0").code(CONFIG).stderr(contains("admin.token must be set"));
}

#[test]
fn a_key_is_explained_and_an_unknown_one_finds_its_nearest() {
    run("config explain shard.buffer")
        .code(DONE)
        .stdout(starts_with("shard.buffer = \"10%\"  # default\n    reason   How much a shard may hold beyond"))
        .stdout(contains("    env      RUSHGATE__SHARD__BUFFER\n"))
        .stdout(contains("    change   live: a reload takes it\n"));
    run("config explain shard").code(DONE).stdout(contains("shard.node_timeout = "));
    run("config explain shard.bufer").code(USAGE).stderr(contains("the nearest is `shard.buffer`"));
}

#[test]
fn the_template_is_the_file_of_all_keys() {
    run("config template").code(DONE).stdout(std::fs::read_to_string("config/rushgate.toml").unwrap());
}

#[test]
fn servers_that_cannot_be_reached_are_named_without_their_passwords() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rushgate("config check --online --config config/writer.toml")
        .args(["--set", &format!("inventory.url=redis://{}", open.local_addr().unwrap())])
        .args(["--set", &format!("queue.url=amqp://user:canary@{closed}/%2f")])
        .args(["--set", &format!("store.url=mysql://user:canary@{closed}/rushgate")])
        .assert()
        .code(FAILED)
        .stdout(is_match("inventory.url: redis://.* can be reached").unwrap())
        .stdout(contains(format!("queue.url: amqp://…@{closed}/%2f cannot be reached")))
        .stdout(contains(format!("store.url: mysql://…@{closed}/rushgate cannot be reached")))
        .stdout(contains("canary").not());
}

#[test]
fn a_migration_without_a_named_store_is_refused() {
    run("migrate").code(USAGE).stderr(contains("which store?"));
    run("migrate --dry-run").code(USAGE).stderr(contains("which store?"));
}

#[test]
fn a_store_is_migrated_once_and_a_dry_run_only_tells() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let migrate = |flags: &str| {
        let mut command = rushgate("migrate");
        command.args(["--set", &format!("store.url=sqlite://{}", path.display())]).args(flags.split_whitespace());
        command.assert().code(DONE)
    };
    let up_to_date = "orders.db is up to date.\n";
    let told = contains("orders.db misses ").and(contains(" of its migrations; nothing was changed.\n"));
    migrate("--dry-run").stdout(told);
    assert!(!path.exists(), "a dry run has made a database");
    migrate("").stdout(starts_with("applied 0001 ").and(contains(up_to_date)));
    migrate("").stdout(contains("applied").not().and(contains(up_to_date)));
    migrate("--dry-run").stdout(contains(up_to_date));
}

#[test]
fn a_store_that_cannot_be_migrated_is_named() {
    let odd = file("this is no database, and long enough to be looked at as one");
    rushgate("migrate")
        .args(["--set", &format!("store.url=sqlite://{}", odd.path().display())])
        .assert()
        .code(FAILED)
        .stdout(is_empty())
        .stderr(contains(odd.path().display().to_string()).and(contains("file is not a database")));
}

#[test]
fn a_port_in_use_is_said_once_and_nothing_is_left_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    for flags in [
        ["--listen", &address, "--admin-listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0", "--admin-listen", &address],
    ] {
        let mut serve = rushgate("serve");
        let said = serve.args(flags).current_dir(folder.path()).assert().code(FAILED).stdout(is_empty());
        let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
        assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
        assert_eq!(said.matches("in use").count(), 1, "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn who_asks_a_running_process_needs_none_of_its_backends() {
    for command in ["sale list", "audit", "plan --from-live concert-1"] {
        rushgate(command)
            .args(["--admin", "http://127.0.0.1:1"])
            .env("RUSHGATE__STORE__URL", "mysql://db.internal/rushgate")
            .assert()
            .code(FAILED)
            .stderr(contains("nobody answers at http://127.0.0.1:1"));
    }
}

#[test]
fn who_asks_a_running_process_does_so_whatever_became_of_the_rest_of_its_file() {
    let admin = "[admin]\nlisten = \"127.0.0.1:1\"\n";
    let wrong = file(&format!("{admin}[queue]\nlanes = 0\n[inventory]\nbackend = \"redis\"\n[shop]\nx = 1\n"));
    for command in ["ready", "sale list", "audit", "dead-letters list"] {
        let said = rushgate(command).arg("--config").arg(wrong.path()).assert();
        said.code(FAILED).stderr(contains("nobody answers at http://127.0.0.1:1"));
    }
    let broken = file(&format!("{admin}[queue]\nlanes = = 4\n"));
    let ask = |command: &str| rushgate(command).arg("--config").arg(broken.path()).assert();
    ask("ready").code(FAILED).stderr(contains("nobody answers at http://127.0.0.1:1"));
    ask("sale list").code(CONFIG);
    run("ready --config no/such/file.toml --set admin.listen=127.0.0.1:1")
        .code(FAILED)
        .stderr(contains("nobody answers at http://127.0.0.1:1"));
    run("sale list --config no/such/file.toml").code(CONFIG);
}

#[test]
fn a_hang_up_has_the_config_read_again_and_a_request_to_stop_ends_a_node_with_success() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("shop.toml");
    std::fs::write(&config, "[shard]\nbuffer = 5\n").unwrap();
    let mut node = std::process::Command::new(env!("CARGO_BIN_EXE_rushgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = node.id().to_string();
    let tell =
        |signal| assert!(std::process::Command::new("kill").args([signal, pid.as_str()]).status().unwrap().success());
    let mut said = BufReader::new(node.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("admin ")));
    let mut logged = BufReader::new(node.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Who follows the file does not take an empty one; who is asked does.
    std::fs::write(&config, "").unwrap();
    assert!(logged.any(|line| line.contains("it is empty")));
    tell("-HUP");
    let changed = logged.find(|line| line.contains("the configuration has changed")).unwrap();
    assert!(changed.contains("\"who\":\"signal\"") && changed.contains("10%"), "{changed}");
    std::fs::write(&config, "[shard]\nbufer = 5\n").unwrap();
    assert!(logged.any(|line| line.contains("unknown key `shard.bufer`")));
    tell("-HUP");
    assert!(logged.any(|line| line.contains("unknown key `shard.bufer`")));
    tell("-TERM");
    assert!(logged.any(|line| line.contains("stopping")));
    tell("-HUP");
    assert_eq!(node.wait().unwrap().code(), Some(DONE));
}

#[test]
fn a_plan_is_the_same_twice_and_tells_the_same_on_paper() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |flags: &str| {
        let mut command = rushgate("plan --stock 200 --nodes 3 --within 5s --round-trip 10ms --buffers 0%,50%,100");
        command.args(flags.split_whitespace()).current_dir(folder.path());
        let said = command.assert().code(DONE).stderr(is_empty());
        String::from_utf8_lossy(&said.get_output().stdout).into_owned()
    };
    let table = plan("--seed 7");
    assert_eq!(table, plan("--seed 7"));
    assert!(table.contains("BUFFER") && table.contains("recommended") && table.contains("By formula: 50%"), "{table}");
    let told: serde_json::Value = serde_json::from_str(&plan("--seed 7 --json --out curves")).unwrap();
    assert_eq!((&told["formula"]["buffer"], told["rows"].as_array().unwrap().len()), (&"50%".into(), 3));
    assert_eq!(told["files"][1], "curves/plan.html");
    let page = std::fs::read_to_string(folder.path().join("curves/plan.html")).unwrap();
    for row in told["rows"].as_array().unwrap() {
        assert!(table.contains(&format!(" {} ", row["waited"])), "{row} is not in\n{table}");
        assert!(page.contains(&format!("<td>{}</td>", row["waited"])), "{row} is not in\n{page}");
    }
    assert!(folder.path().join("curves/plan.svg").exists());
}

#[test]
fn a_stock_that_is_too_large_to_be_simulated_is_planned_by_formula_alone() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |flags: &str| {
        let mut command = rushgate("plan --stock 1000000 --nodes 3 --out curves");
        command.args(flags.split_whitespace()).current_dir(folder.path());
        let said = command.assert().code(DONE).stderr(is_empty());
        String::from_utf8_lossy(&said.get_output().stdout).into_owned()
    };
    let said = plan("");
    assert!(said.contains("By formula: 50%") && said.contains("100000 units are simulated at the most"), "{said}");
    assert!(!said.contains("BUFFER") && !said.contains("of the table"), "{said}");
    let told: serde_json::Value = serde_json::from_str(&plan("--json")).unwrap();
    assert_eq!((&told["formula"]["buffer"], &told["recommended"]), (&"50%".into(), &serde_json::Value::Null));
    assert!(told["notes"][0].as_str().unwrap().contains("without simulation and curves"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_plan_that_makes_no_sense_is_wrong_usage_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |flags: &str| {
        let mut command = rushgate("plan --out curves");
        command.args(flags.split_whitespace()).current_dir(folder.path());
        command.assert().code(USAGE).stdout(is_empty())
    };
    plan("").stderr(contains("--stock").and(contains("--nodes")));
    plan("--stock 10 --nodes 2 --survive 2").stderr(contains("one must be left"));
    plan("--stock 0 --nodes 2 --skew 9").stderr(contains("1 to 100000000 units").and(contains("the skew must be 1")));
    plan("--stock 10 --nodes 2 --detection 0s").stderr(contains("noticed within 100ms to 5m"));
    plan("--stock 10 --nodes 64 --redis-budget 10").stderr(contains("a call of Redis would take"));
    plan("--stock 10 --nodes 2 --buyers 9999999999 --within 1s").stderr(contains("claims per second are too many"));
    plan("--stock 10 --nodes 2 --buffers 10%,much").stderr(contains("a number of units such as 50"));
    plan("--stock 10 --nodes 2 --arrivals burst").stderr(contains("spike, steady or ramp"));
    plan("--stock 10 --nodes 2 --pool standard").stderr(contains("--from-live"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let unwritable = rushgate("plan --stock 10 --nodes 2 --buffers 0 --out /dev/null/curves").assert();
    unwritable.code(FAILED).stdout(is_empty()).stderr(contains("cannot make /dev/null/curves"));
}

fn json(arguments: &str) -> serde_json::Value {
    let said = run(arguments).code(DONE).stderr(is_empty());
    let out = &said.get_output().stdout;
    serde_json::from_slice(out).unwrap_or_else(|error| panic!("{arguments}: {error}: {}", String::from_utf8_lossy(out)))
}

#[test]
fn the_settings_are_told_as_json_and_without_their_secrets() {
    let checked = json("config check --config config/gateway.toml --json");
    assert_eq!((&checked["right"], &checked["file"]), (&true.into(), &"config/gateway.toml".into()));
    let key = |told: &serde_json::Value, name: &str| {
        let keys = told["keys"].as_array().unwrap();
        keys.iter().find(|key| key["key"] == name).unwrap_or_else(|| panic!("{name} is not in {told}")).clone()
    };
    let shown = json(
        "config show --json --set sale.limit_per_buyer=4 --set admin.token=canary --set store.backend=mysql --set \
         store.url=mysql://u:canary@h/d",
    );
    let limit = key(&shown, "sale.limit_per_buyer");
    assert_eq!((&limit["value"], &limit["origin"]), (&4.into(), &"flag --set".into()));
    assert_eq!(key(&shown, "node.roles")["value"], serde_json::json!(["gateway", "writer"]));
    assert_eq!(key(&shown, "store.url")["value"], "mysql://…@h/d");
    assert!(!shown.to_string().contains("canary"));
    let explained = json("config explain shard --json");
    let buffer = key(&explained, "shard.buffer");
    let told = ["default", "env", "change"].map(|field| buffer[field].as_str().unwrap());
    assert_eq!(told, ["10%", "RUSHGATE__SHARD__BUFFER", "live"]);
    assert_eq!(explained["keys"].as_array().unwrap().len(), 3);
    let all = json("config template --json");
    assert_eq!(key(&all, "http.listen")["default"], "127.0.0.1:8080");
    assert_eq!(all["keys"].as_array().unwrap().len(), shown["keys"].as_array().unwrap().len());
    run("config explain shard.bufer --json").code(USAGE).stdout(is_empty()).stderr(contains("shard.buffer"));
}

#[test]
fn a_migration_is_told_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("orders.db").display());
    let dry = json(&format!("migrate --json --dry-run --set store.url={url}"));
    assert!(dry["missing"].as_u64().unwrap() > 0 && dry["applied"] == serde_json::json!([]), "{dry}");
    let done = json(&format!("migrate --json --set store.url={url}"));
    assert_eq!(
        (&done["missing"], done["applied"].as_array().unwrap().len() as u64),
        (&0.into(), dry["missing"].as_u64().unwrap())
    );
}

#[test]
fn a_process_tells_where_it_listens_as_one_json_document() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = std::process::Command::new(env!("CARGO_BIN_EXE_rushgate"))
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = serde_json::Deserializer::from_reader(node.stdout.take().unwrap()).into_iter::<serde_json::Value>();
    let told = out.next().unwrap().unwrap();
    assert_eq!(told["roles"], serde_json::json!(["gateway", "writer"]));
    let admin = told["admin"].as_str().unwrap();
    assert!(
        told["public"].as_str().unwrap().starts_with("http://127.0.0.1:") && admin.starts_with("http://127.0.0.1:")
    );
    // It has joined, and its sample sale is there, when nothing more is to come.
    let sample = || rushgate(&format!("sale balance demo --admin {admin}")).output().unwrap();
    assert!((0..1000).any(|_| sample().status.success()), "no sample sale: {:?}", sample());
    let pid = node.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(out.next().is_none(), "one document and no more");
    assert_eq!(node.wait().unwrap().code(), Some(DONE));
}

#[test]
fn doctor_tells_what_is_wrong_with_settings_that_are_none() {
    let wrong = file("[inventory]\ntimout = \"1s\"\n[queue]\nlanes = 0\n");
    let mut doctor = rushgate("doctor --json");
    let said = doctor.arg("--config").arg(wrong.path()).assert().code(FAILED).stderr(is_empty());
    let told: serde_json::Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    assert_eq!((&told["verdict"], &told["wrong"]), (&"wrong".into(), &2.into()), "{told}");
    assert!(told["findings"][0]["found"].as_str().unwrap().contains("the nearest is `inventory.timeout`"), "{told}");
    let mut doctor = rushgate("doctor --set shard.bufer=1");
    let said = doctor.env("RUSHGATE__QUEUE__LANE", "4").assert().code(FAILED);
    said.stdout(contains("RUSHGATE__QUEUE__LANES").and(contains("`shard.buffer`")).and(contains("2 wrong")));
    run("doctor --config no/such/file.toml").code(FAILED).stdout(contains("no/such/file.toml: cannot be read"));
}

#[test]
fn doctor_of_one_process_looks_at_its_file_and_its_ports_and_makes_neither() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let doctor = |settings: &[&str]| {
        let mut command = rushgate("doctor --json --set http.max_connections=10");
        command.args(settings.iter().flat_map(|setting| ["--set", setting])).current_dir(folder.path());
        let said = command.output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(said.status.code(), Some(i32::from(told["wrong"] != 0)), "{told:#}");
        let findings = told["findings"].as_array().unwrap().clone();
        move |part: &str, check: &str| {
            let found = findings.iter().find(|finding| finding["part"] == part && finding["check"] == check);
            let found = found.unwrap_or_else(|| panic!("{part} {check} is not in {findings:#?}"));
            format!(
                "{}: {} {}",
                found["state"].as_str().unwrap(),
                found["found"].as_str().unwrap(),
                found["mend"].as_str().unwrap()
            )
        }
    };
    let free = ["http.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"];
    let fresh = doctor(&free);
    assert!(fresh("sqlite", "file").starts_with("ok: rushgate.db is not there yet"), "{}", fresh("sqlite", "file"));
    assert!(fresh("listeners", "admin").contains("is free"));
    let shared = doctor(&[
        free[0],
        free[1],
        "store.url=sqlite://new/folder/orders.db",
        "inventory.backend=redis",
        "inventory.url=redis://127.0.0.1:1",
        "queue.backend=rabbitmq",
        "queue.url=amqp://127.0.0.1:1",
    ]);
    assert!(shared("partitions", "epochs").starts_with("unknown: looked at when the store is there"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "doctor has made a file");

    let listen = format!("admin.listen={taken}");
    let held = doctor(&[free[0], &listen]);
    // Whoever holds it takes connections and says nothing.
    assert!(
        held("listeners", "admin").starts_with(&format!("wrong: {taken} is held, ")),
        "{}",
        held("listeners", "admin")
    );
    let foreign = doctor(&["http.listen=192.0.2.1:8080", free[1]]);
    assert!(foreign("listeners", "public").contains("an address of this machine"));

    std::fs::write(folder.path().join("rushgate.db"), "this is no database, and long enough to be looked at as one")
        .unwrap();
    let odd = doctor(&free);
    assert!(odd("sqlite", "content").contains("file is not a database"), "{}", odd("sqlite", "content"));
    std::fs::remove_file(folder.path().join("rushgate.db")).unwrap();
    rushgate("migrate --set store.url=sqlite://rushgate.db").current_dir(folder.path()).assert().code(DONE);
    let names = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        files.collect::<BTreeSet<_>>()
    };
    let before = names();
    let current = doctor(&free);
    assert!(current("sqlite", "schema").starts_with("ok: current: "), "{}", current("sqlite", "schema"));
    assert!(current("sqlite", "lock").starts_with("ok: no process "), "{}", current("sqlite", "lock"));
    let shared = doctor(&[
        free[0],
        free[1],
        "inventory.backend=redis",
        "inventory.url=redis://127.0.0.1:1",
        "queue.backend=rabbitmq",
        "queue.url=amqp://127.0.0.1:1",
    ]);
    assert!(shared("partitions", "epochs").contains("never brought up"), "{}", shared("partitions", "epochs"));
    assert_eq!(names(), before, "doctor has made a file");
}

#[test]
fn doctor_tells_of_a_process_that_is_named_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let mut elsewhere = rushgate("doctor --json --admin http://127.0.0.1:1 --set http.listen=127.0.0.1:0");
    let said = elsewhere.current_dir(folder.path()).assert().code(FAILED);
    said.stdout(contains("nobody answers at http://127.0.0.1:1").and(contains("is free")));
    let mut tunnelled = rushgate("doctor --json --admin https://127.0.0.1:1 --set http.listen=127.0.0.1:0");
    let said = tunnelled.current_dir(folder.path()).assert().code(FAILED);
    said.stdout(contains("named process").and(contains("it has TLS; put a tunnel in between")));
}

/// What a real bash offers for a line that is begun.
fn completed(script: &Path, line: &str) -> BTreeSet<String> {
    let words: Vec<_> = line.split(' ').collect();
    let last = words.len() - 1;
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let program = format!(
        "source '{}'; COMP_WORDS=({}); COMP_CWORD={last}; COMP_LINE='{line}'; COMP_POINT={}; \
         _rushgate rushgate '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        quoted.join(" "),
        line.len(),
        words[last],
        words[last - 1]
    );
    let output = std::process::Command::new("bash").args(["--norc", "-c", &program]).output().expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_real_bash_completes_commands_and_flags() {
    let script = run("completions bash").code(DONE).stderr(is_empty());
    let script = file(&String::from_utf8_lossy(&script.get_output().stdout));
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(completed(script.path(), "rushgate do"), set(&["doctor"]));
    assert_eq!(completed(script.path(), "rushgate sale ad"), set(&["add-stock"]));
    assert_eq!(completed(script.path(), "rushgate serve --role "), set(&["gateway", "writer", "all"]));
    assert_eq!(completed(script.path(), "rushgate migrate --dr"), set(&["--dry-run"]));
    assert_eq!(completed(script.path(), "rushgate nothing"), set(&[""]));
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        run(&format!("completions {shell}")).code(DONE).stdout(contains("rushgate").and(contains("dead-letters")));
    }
    run("completions tcsh").code(USAGE).stderr(contains("possible values: bash, elvish, fish, powershell, zsh"));
    // Not even a config that is none keeps a shell from starting.
    rushgate("completions bash").env("RUSHGATE_CONFIG", "no/such/file.toml").assert().code(DONE);
}

#[test]
fn every_command_has_a_page_of_the_manual_with_its_example() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    rushgate("man --dir").arg(&pages).assert().code(DONE).stdout(contains("wrote the pages to"));
    let mut expected = BTreeSet::new();
    let mut open = vec![<rushgate::cli::Cli as clap::CommandFactory>::command()];
    while let Some(command) = open.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let page =
            std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        well_formed(&name, &page);
        let example = command.get_after_help().unwrap().to_string().lines().nth(1).unwrap().trim().to_owned();
        let plain = page.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\\\", "\\");
        assert!(plain.contains(&example), "{example} is not in {name}.1:\n{plain}");
        expected.insert(format!("{name}.1"));
        open.extend(
            command.get_subcommands().map(|below| below.clone().display_name(format!("{name}-{}", below.get_name()))),
        );
    }
    let written = std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(written.collect::<BTreeSet<_>>(), expected);
    let main = run("man").code(DONE).stderr(is_empty());
    assert_eq!(
        String::from_utf8_lossy(&main.get_output().stdout),
        std::fs::read_to_string(pages.join("rushgate.1")).unwrap()
    );
    run("man --dir /dev/null/man").code(FAILED).stdout(is_empty()).stderr(contains("cannot make /dev/null/man"));
}

/// A title, the sections that `man` looks for, known requests only, and every fold of the font undone.
fn well_formed(name: &str, page: &str) {
    const REQUESTS: &[&str] =
        &[".TH", ".SH", ".SS", ".TP", ".PP", ".IP", ".RS", ".RE", ".br", ".ie", ".el", ".nf", ".fi", ".sp"];
    let requests = page.lines().filter(|line| line.starts_with('.'));
    let unknown: Vec<_> =
        requests.filter(|line| !REQUESTS.contains(&line.split(' ').next().unwrap_or_default())).collect();
    assert_eq!(unknown, [""; 0], "{name}");
    for section in [".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH OPTIONS\n"] {
        assert_eq!(page.matches(section).count(), 1, "{section} in {name}");
    }
    assert_eq!(page.matches("\n.RS").count(), page.matches("\n.RE").count(), "{name}");
    let escapes: BTreeSet<_> = page.match_indices('\\').map(|(at, _)| page[at + 1..].chars().next()).collect();
    assert!(
        escapes.iter().all(|escape| matches!(escape, Some('f' | '-' | '*' | '(' | '\\' | '&' | 'n' | '.' | 'e'))),
        "{name}: {escapes:?}"
    );
}

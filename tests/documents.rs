//! What the documents name is there: tests, files, commands, alerts, metrics.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::commands::misunderstood;

#[path = "documents/commands.rs"]
mod commands;
#[path = "documents/quick_start.rs"]
mod quick_start;

/// Longer than this, nobody reads it.
const README_LINES: usize = 200;

fn readme() -> String {
    fs::read_to_string("README.md").expect("a readme")
}

/// The texts of all Rust files below this folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a file of sources").path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("a source");
        }
    }
    text
}

/// Whatever stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The promises of a document whose proof is no function of these sources; each is a row of its table.
fn unproven<'a>(document: &'a str, tests: &str) -> Vec<&'a str> {
    let rows = document.lines().filter(|line| line.starts_with('|')).skip(2);
    let is_there = |name: &str| tests.contains(&format!("fn {name}("));
    rows.filter(|row| {
        let proofs = row.rsplit('|').nth(1).unwrap_or_default();
        let mut names = quoted(proofs).filter(|text| text.contains('_') && !text.contains('/')).peekable();
        let linked = proofs.contains("](tests/");
        (names.peek().is_none() && !linked) || !names.all(is_there)
    })
    .collect()
}

#[test]
fn every_promise_of_the_readme_is_held_by_tests_that_exist() {
    let tests = "async fn a_sells_b() {}";
    let table = |proof| format!("| promise | held by |\n|---|---|\n| `201` is yes | {proof} |\n");
    assert_eq!(unproven(&table("`a_sells_b`"), tests), [""; 0]);
    assert_eq!(unproven(&table("one per row in [`tests/a_b.rs`](tests/a_b.rs)"), tests), [""; 0]);
    for broken in ["`a_sells`", "`a_sells_b`, `a_sells_c`", "hope"] {
        assert_eq!(unproven(&table(broken), tests).len(), 1, "{broken}");
    }
    let readme = readme();
    // Other tables promise nothing.
    let promises = readme.split("\n## ").find(|section| section.starts_with("What it promises")).unwrap_or_default();
    assert!(
        promises.lines().filter(|line| line.starts_with('|')).count() > 5,
        "there is no table of promises any more"
    );
    assert_eq!(unproven(promises, &sources(Path::new("tests"))), [""; 0]);
}

#[test]
fn every_trap_of_the_table_has_tests_that_exist() {
    let head = fs::read_to_string("tests/contracts/traps.rs").expect("the table of traps");
    let table: String =
        head.lines().filter_map(|line| line.strip_prefix("//! ")).fold(String::new(), |text, line| text + line + "\n");
    assert!(table.lines().filter(|line| line.starts_with('|')).count() > 20, "there is no table of traps any more");
    let tests = sources(Path::new("tests")) + &sources(Path::new("src"));
    assert_eq!(unproven(&table, &tests), [""; 0]);
}

#[test]
fn every_file_that_the_readme_links_to_is_there_and_it_is_short_enough_to_be_read() {
    let readme = readme();
    assert_eq!(missing_links(Path::new("README.md")), [""; 0]);
    assert!(readme.lines().count() < README_LINES);
}

/// The links of a document that lead nowhere: to no file, or to no heading of the document itself.
fn missing_links(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).expect("a document");
    let folder = document.parent().expect("its folder");
    let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    let headings: BTreeSet<_> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let leads = |link: &str| match link.strip_prefix('#') {
        Some(heading) => headings.contains(heading),
        None => link.contains("://") || folder.join(link).exists(),
    };
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    links.filter(|link| !leads(link)).map(Into::into).collect()
}

// ── for operators ──

const RUNBOOK: &str = "config/RUNBOOK.md";
const RULES: &str = "config/monitoring/rules.yaml";
/// Programs of others that operators are told to run.
const TOOLS: &[&str] = &[
    "curl",
    "docker",
    "install",
    "journalctl",
    "kubectl",
    "mysql",
    "rabbitmq-diagnostics",
    "rabbitmqctl",
    "redis-cli",
    "systemctl",
    "systemd-run",
];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands behind this on a line of its own, such as `- alert: `.
fn told<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(before)).map(str::trim).collect()
}

/// Every word that begins so, in the alphabet of metrics.
fn words(text: &str, beginning: &str) -> BTreeSet<String> {
    let of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = text.split(|letter| !of_a_name(letter)).map(|word| word.trim_matches(':'));
    words.filter(|word| word.starts_with(beginning)).map(Into::into).collect()
}

/// What the shell is told in a document: the lines of its blocks, without comments.
fn shell_lines(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).collect()
}

/// Why a line of a document cannot be run, if it cannot.
fn not_runnable(line: &str) -> Option<String> {
    let program = line.split_whitespace().next().unwrap_or_default();
    match program {
        "rushgate" => misunderstood(line),
        "curl" => not_a_call(line),
        program => (!TOOLS.contains(&program)).then(|| format!("{line}: what is {program}?")),
    }
}

/// Why the admin API does not know what this asks, if it does not.
fn not_a_call(line: &str) -> Option<String> {
    let url = line.split_whitespace().map(|word| word.trim_matches('"')).find_map(|word| word.split_once(":9090"));
    let Some((_, target)) = url else { return Some(format!("{line}: it asks no admin listener")) };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let call = rushgate::admin::routes::call(&hyper::Method::GET, path, query);
    call.err().map(|problem| format!("{line}: {}", problem.document()))
}

#[test]
fn every_alert_has_its_entry_in_the_runbook_and_the_other_way_round() {
    let (rules, runbook) = (read(RULES), read(RUNBOOK));
    let alerts = told(&rules, "- alert: ");
    let entries = told(&runbook, "## ");
    assert!(alerts.len() > 15, "there are hardly any alerts any more");
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>(), entries.iter().collect::<BTreeSet<_>>());
    let linked: Vec<_> = told(&rules, "runbook: config/RUNBOOK.md#");
    assert_eq!(linked, alerts.iter().map(|alert| alert.to_lowercase()).collect::<Vec<_>>());
    for entry in runbook.split("\n## ").skip(1) {
        let told = ["**Buyers:**", "**See", "**Do:**", "**Never:**"];
        let short = entry.contains("**See** and **do** as for");
        assert!(short || told.iter().all(|part| entry.contains(part)), "{entry}");
    }
    // Each is tried: promtool runs the tests, and this sees that there is one.
    let tests = read("config/monitoring/rules.test.yaml");
    let untried: Vec<_> = alerts.iter().filter(|alert| !tests.contains(&format!("alertname: {alert}\n"))).collect();
    assert_eq!(untried, [&""; 0]);
}

#[test]
fn every_metric_that_operators_are_told_of_is_counted_by_the_program_or_recorded_by_the_rules() {
    let metrics = words(&read("src/meters.rs"), "rushgate_");
    let rules = read(RULES);
    let recorded: BTreeSet<String> = told(&rules, "- record: ").into_iter().map(Into::into).collect();
    let is_known = |name: &String| {
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        // `rushgate_shard_buffer_…` are all that begin so.
        let begins = name.ends_with('_') && metrics.iter().any(|metric| metric.starts_with(name.as_str()));
        metrics.contains(name) || metrics.contains(base) || begins
    };
    let documents = [
        RULES,
        "config/monitoring/rules.test.yaml",
        "config/monitoring/dashboard.json",
        RUNBOOK,
        "config/README.md",
        "README.md",
        "loadtest/README.md",
    ];
    let mut used = BTreeSet::new();
    for document in documents {
        let text = read(document);
        let plain = words(&text, "rushgate_").into_iter().filter(|name| !name.contains(':'));
        let unknown: Vec<_> = plain.filter(|name| !is_known(name)).collect();
        assert_eq!(unknown, [""; 0], "{document}");
        let mut series = words(&text, "");
        series.retain(|name| name.contains(":rushgate_") || name.starts_with("rushgate:"));
        let unknown: Vec<_> = series.difference(&recorded).collect();
        assert_eq!(unknown, [""; 0], "{document}");
        // Where it is recorded is no use of it.
        series.retain(|name| document != RULES || text.matches(name.as_str()).count() > 1);
        used.extend(series);
    }
    assert_eq!(recorded, used, "whatever is recorded is for something");
    let outcomes = read("src/http/problem.rs");
    for outcome in ["busy", "recovering", "unavailable"] {
        assert!(rules.contains(outcome) && outcomes.contains(&format!("= \"{outcome}\" ")), "{outcome}");
    }
}

#[test]
fn every_command_and_every_link_of_the_operators_pages_is_there() {
    let broken = [
        "rushgate sale sell concert-1",
        "rushgate-ctl ready",
        "curl http://127.0.0.1:9090/admin/v1/nods",
        "curl http://127.0.0.1:8080/livez",
    ];
    assert!(broken.iter().all(|line| not_runnable(line).is_some()));
    for page in [RUNBOOK, "config/README.md"] {
        let text = read(page);
        let lines = shell_lines(&text);
        assert!(lines.len() > 5, "{page} shows no commands any more");
        let wrong: Vec<_> = lines.into_iter().filter_map(not_runnable).collect();
        assert_eq!(wrong, [""; 0], "{page}");
        let inline = quoted(&text).filter(|text| text.starts_with("rushgate ") && !text.contains('\n'));
        let wrong: Vec<_> = inline.filter_map(not_runnable).collect();
        assert_eq!(wrong, [""; 0], "{page}");
        assert_eq!(missing_links(Path::new(page)), [""; 0], "{page}");
    }
}

/// All files below this folder, by their paths.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("a text")));
        }
    }
    found
}

/// The seconds that stand behind this in a text.
fn seconds(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("there is no {before}"));
    let digits: String = rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number of seconds")
}

#[test]
fn every_setting_in_the_files_of_a_deployment_is_a_key_of_the_config() {
    let all = read("config/rushgate.toml");
    let mut keys = BTreeSet::new();
    let mut section = "";
    for line in all.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.insert(format!("RUSHGATE__{section}__{key}").to_uppercase());
        }
    }
    assert!(keys.contains("RUSHGATE__SHARD__BUFFER"));
    for (path, text) in files(Path::new("config/deploy")) {
        let unknown: Vec<_> = words(&text, "RUSHGATE__").into_iter().filter(|name| !keys.contains(name)).collect();
        assert_eq!(unknown, [""; 0], "{path}");
    }
}

#[test]
fn a_wrong_config_is_not_tried_again_and_one_place_says_how_many_gateways_there_are() {
    for unit in ["gateway", "writer"] {
        let unit = read(&format!("config/deploy/systemd/rushgate-{unit}.service"));
        // The failure of a command before the start is not among those that RestartPreventExitStatus is about.
        assert!(unit.contains("\nRestartPreventExitStatus=64 78\n") && !unit.contains("\nExecStartPre="), "{unit}");
    }
    let gateway = read("config/deploy/kubernetes/gateway.yaml");
    assert!(gateway.contains("\nkind: HorizontalPodAutoscaler\n") && !gateway.contains("\n  replicas:"));
}

#[test]
fn what_a_unit_forbids_leaves_a_process_what_node_scheduling_asks_for() {
    for unit in ["gateway", "writer"] {
        let unit = read(&format!("config/deploy/systemd/rushgate-{unit}.service"));
        // What a later line names is taken out of what an earlier one forbids.
        let filters: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
        let forbidden = filters.iter().position(|calls| calls.starts_with('~') && calls.contains("@resources"));
        let left = filters
            .iter()
            .position(|calls| ["sched_setscheduler", "setpriority"].map(|call| calls.contains(call)) == [true; 2]);
        assert!(forbidden.is_none() || left > forbidden, "{filters:?}");
    }
}

#[test]
fn whoever_kills_a_process_waits_until_it_has_drained() {
    // How long a process takes to end its back, and to export its last spans.
    let back = 12;
    let drain_timeout = seconds(&read("config/rushgate.toml"), "\ndrain_timeout = ");
    let gateway = seconds(&read("config/gateway.toml"), "\ndrain_delay = ");
    for unit in ["gateway", "writer"] {
        let unit = read(&format!("config/deploy/systemd/rushgate-{unit}.service"));
        assert!(seconds(&unit, "\nTimeoutStopSec=") > gateway + drain_timeout + back);
        assert!(seconds(&unit, "\nWatchdogSec=") > back, "nobody tells the watchdog anything while the back ends");
    }
    let compose = read("config/deploy/compose.yaml");
    let delay = seconds(&compose, "DRAIN_DELAY:");
    assert!(seconds(&compose, "stop_grace_period:") > delay + drain_timeout + back);
    let settings = read("config/deploy/kubernetes/config.yaml");
    let drain = seconds(&settings, "drain_delay =") + seconds(&settings, "drain_timeout =");
    for pods in ["gateway", "writer"] {
        let pods = read(&format!("config/deploy/kubernetes/{pods}.yaml"));
        assert!(seconds(&pods, "\n      terminationGracePeriodSeconds:") > drain + back);
    }
}

//! The layout is a rule, and these tests hold it: who may import whom, who may name a vendor, how long a file may grow.
//!
//! Each rule looks at a tree of files and tells what breaks it. Each test first plants a breach, to see that the rule finds it,
//! and then looks at the real tree. What stands under `#[cfg(test)]` may import what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The floors, from the ground up. A module imports lower floors only, never its neighbour; `main.rs` stands above them all.
const FLOORS: &[&[&str]] = &[
    &["atomic", "bell", "domain", "tasks"],
    &["bugs", "clock", "config", "cores", "crash", "meters", "readiness", "scheduling", "shutdown", "telemetry"],
    &["finding"],
    &["reach"],
    &["inventory", "queue", "spans", "store"],
    &["epochs"],
    &["admission"],
    &[
        "confirm",
        "relay",
        "writer",
        "expiry",
        "recovery",
        "returns",
        "payment",
        "readmission",
        "audit",
        "sales",
        "reload",
    ],
    &["http", "admin", "supervisor", "plan"],
    &["roles", "rehearsal"],
    &["doctor"],
    &["cli"],
];

/// Vendors, and the only rooms in which their crates are named.
const VENDORS: &[(&str, &[&str])] = &[
    ("redis", &["inventory/redis"]),
    ("deadpool_redis", &["inventory/redis"]),
    ("lapin", &["queue/rabbitmq"]),
    ("sqlx", &["store"]),
    ("hyper", &["http", "admin", "rehearsal"]),
    ("hyper_util", &["http", "admin", "rehearsal"]),
    ("http_body_util", &["http", "admin", "rehearsal"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("tokio_rustls", &["reach"]),
    ("ratatui", &["cli"]),
    ("rust_embed", &["admin"]),
    ("listenfd", &["supervisor"]),
    ("sd_notify", &["supervisor"]),
    ("opentelemetry", &["spans"]),
    ("opentelemetry_otlp", &["spans"]),
    ("opentelemetry_sdk", &["spans"]),
    ("metrics", &["meters"]),
    ("metrics_exporter_prometheus", &["meters"]),
];

/// The backends. Besides their own rooms, only these modules name one.
const BACKENDS: &[&str] =
    &["inventory::memory", "inventory::redis", "queue::memory", "queue::rabbitmq", "store::mysql", "store::sqlite"];
const CHOOSERS: &[&str] = &["roles", "doctor", "cli"];

/// The most lines that a file may have before its tests, by the beginning of its path. The first that fits counts.
const LENGTHS: &[(&str, usize)] = &[("src/main.rs", 60), ("src/roles/embedded.rs", 60), ("src/", 400), ("lua/", 120)];

#[test]
fn a_module_imports_only_lower_floors_and_never_its_neighbour() {
    for (path, text) in [
        ("src/domain/sale.rs", "use crate::clock::Clock;"),
        ("src/inventory/memory.rs", "use crate::queue::Envelope;"),
        ("src/writer/mod.rs", "fn f() { let _ = crate::http::serve; }"),
        ("src/relay.rs", "use crate::queue::{self};\nuse crate::writer::{Lane, Writer};"),
        ("src/domain/sale.rs", "macro_rules! m { () => { $crate::cli::run() } }"),
        ("src/domain/sale.rs", "use crate::{clock, domain};"),
        ("src/domain/sale.rs", "use crate::*;"),
        ("src/domain/sale.rs", "use crate::cellar::Wine;"),
        ("src/cellar.rs", ""),
    ] {
        finds(imports, path, text);
    }
    for (path, text) in [
        ("src/relay.rs", "use crate::queue::Publisher;\nuse crate::relay::pace;"),
        ("src/domain/sale.rs", "/// See [`crate::clock`].\nconst A: &str = \"crate::clock\";"),
        ("src/domain/sale.rs", "#[cfg(test)]\nmod tests {\n    use crate::clock::ManualClock;\n}"),
        ("src/main.rs", "use rushgate::cli::Cli;"),
    ] {
        passes(imports, path, text);
    }
    let beside = [
        ("src/lib.rs", "mod sales;"),
        ("src/sales/mod.rs", "#[cfg(test)]\nmod tests;"),
        ("src/sales/tests.rs", "use crate::http::Routes;"),
    ];
    assert_eq!(imports(&Tree::of(&beside)), [""; 0], "tests in a file of their own are tests too");
    holds(imports);
}

#[test]
fn a_vendor_is_named_in_its_room_only() {
    for (path, text) in [
        ("src/inventory/mod.rs", "use redis::Value;"),
        ("src/queue/rabbitmq/mod.rs", "fn f() -> ::sqlx::Result<()> { Ok(()) }"),
        ("src/roles/gateway.rs", "fn f(p: deadpool_redis::Pool) {}"),
        ("src/confirm/mod.rs", "use metrics::{counter, gauge};"),
        ("src/roles/mod.rs", "use clap;"),
        ("src/storehouse.rs", "use sqlx::Row;"),
    ] {
        finds(vendors, path, text);
    }
    for (path, text) in [
        ("src/store/mysql/mod.rs", "use sqlx::Row;"),
        ("src/meters.rs", "use metrics::Counter;"),
        ("src/roles/backends.rs", "use crate::inventory::redis;\nfn f() { redis::open(); }"),
        ("src/admin/mod.rs", "mod metrics;\nfn f() { metrics::page(); }"),
        ("src/roles/backends.rs", "fn f(redis: &str) -> &str { redis }"),
    ] {
        passes(vendors, path, text);
    }
    holds(vendors);
}

#[test]
fn only_the_roles_and_the_command_line_choose_a_backend() {
    for (path, text) in [
        ("src/confirm/mod.rs", "use crate::inventory::redis::RedisInventory;"),
        ("src/admission/mod.rs", "use crate::inventory::{Inventory, memory::MemoryInventory};"),
        ("src/store/sqlite/mod.rs", "use crate::store::mysql::rows;"),
        ("src/writer/mod.rs", "use crate::queue;\nfn f() { queue::rabbitmq::open(); }"),
    ] {
        finds(backends, path, text);
    }
    for (path, text) in [
        ("src/roles/backends.rs", "use crate::store::mysql::MySqlStore;"),
        ("src/inventory/redis/calls.rs", "use crate::inventory::redis::keys;"),
        ("src/confirm/mod.rs", "use crate::inventory::Inventory;"),
    ] {
        passes(backends, path, text);
    }
    holds(backends);
}

#[test]
fn a_file_stays_short() {
    finds(lengths, "src/http/mod.rs", &"//\n".repeat(401));
    finds(lengths, "src/main.rs", &"//\n".repeat(61));
    finds(lengths, "src/roles/embedded.rs", &"//\n".repeat(61));
    finds(lengths, "lua/claim.lua", &"--\n".repeat(121));
    passes(
        lengths,
        "src/http/mod.rs",
        &format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(400), "//\n".repeat(99)),
    );
    holds(lengths);
}

#[test]
fn a_file_begins_with_what_it_is_for() {
    finds(doc_lines, "src/http/mod.rs", "use std::fmt;\n//! The public API.");
    passes(doc_lines, "src/http/mod.rs", "//! The public API.\nuse std::fmt;");
    holds(doc_lines);
}

#[test]
fn no_file_is_dead() {
    finds(dead_files, "src/http/old.rs", "");
    finds(dead_files, "src/http.rs", "mod routes;");
    let alive = [("src/lib.rs", "pub mod http;"), ("src/http/mod.rs", "mod routes;"), ("src/http/routes.rs", "")];
    assert_eq!(dead_files(&Tree::of(&alive)), [""; 0]);
    holds(dead_files);
}

#[test]
fn only_a_process_that_serves_nothing_pauses_its_clock() {
    finds(pauses, "src/roles/gateway.rs", "use crate::plan;\nfn f() { plan::simulate(); }");
    finds(pauses, "src/roles/gateway.rs", "use crate::plan::{Scenario, simulate};");
    finds(pauses, "src/cli/plan.rs", "fn f() { Builder::new_current_thread().start_paused(true); }");
    finds(pauses, "src/clock.rs", "fn f() { tokio::time::pause(); }");
    finds(pauses, "src/clock.rs", "use tokio::time::{Instant, pause};");
    passes(pauses, "src/cli/plan.rs", "use crate::plan;\nfn f() { plan::simulate(); }");
    passes(pauses, "src/plan/run.rs", "fn f() { Builder::new_current_thread().start_paused(true); }");
    passes(pauses, "src/relay.rs", "use crate::relay::pause;\nfn f() { pause(); }");
    holds(pauses);
}

#[test]
fn a_wait_for_one_of_several_says_which_comes_first() {
    finds(chances, "src/writer/mod.rs", "fn f() { tokio::select! {\n    () = a => {}\n    () = b => {}\n} }");
    finds(chances, "src/shutdown.rs", "fn f() { select! { biased; () = a => {} }\nselect!(() = a => {}) }");
    finds(chances, "src/epochs.rs", "use tokio::sync::{Notify, watch};");
    passes(chances, "src/writer/mod.rs", "fn f() { tokio::select! {\n    biased;\n    () = a => {}\n} }");
    passes(chances, "src/writer/mod.rs", "// Unlike select! { () = a => {} }, it waits.");
    passes(chances, "src/http/mod.rs", "fn f() { tokio::select! { () = a => {} } }");
    holds(chances);
}

// ── the rules ──

fn imports(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in tree.sources().filter(|file| !["lib", "main"].contains(&file.module())) {
        let Some(floor) = floor_of(file.module()) else {
            breaches.push(format!("{}: {} stands on no floor", file.path, file.module()));
            continue;
        };
        let code = without_tests(&code(file.text));
        for path in crate_paths(&code) {
            let imported = path.split("::").nth(1).unwrap_or_default();
            let allowed = imported == file.module() || floor_of(imported).is_some_and(|below| below < floor);
            if !allowed {
                breaches.push(format!("{}: {path} is not below {}", file.path, file.module()));
            }
        }
        if code.contains("crate::{") {
            breaches.push(format!("{}: `use crate::{{…}}` hides who is imported; write one `use` each", file.path));
        }
    }
    breaches
}

fn vendors(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in tree.sources() {
        let code = without_tests(&code(file.text));
        let outside = |rooms: &[&str]| !rooms.iter().any(|room| file.is_in(room));
        for (vendor, _) in VENDORS.iter().filter(|(vendor, rooms)| outside(rooms) && names_crate(&code, vendor)) {
            breaches.push(format!("{}: names {vendor}", file.path));
        }
    }
    breaches
}

fn backends(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in tree.sources().filter(|file| !CHOOSERS.contains(&file.module())) {
        let code = without_tests(&code(file.text));
        let paths = crate_paths(&code);
        for backend in BACKENDS.iter().filter(|backend| !file.is_in(&backend.replace("::", "/"))) {
            let imported = paths.iter().any(|path| format!("{path}::").starts_with(&format!("crate::{backend}::")));
            if imported || words(&code, backend).next().is_some() {
                breaches.push(format!("{}: names {backend}", file.path));
            }
        }
    }
    breaches
}

fn lengths(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for (path, text) in &tree.0 {
        let most =
            LENGTHS.iter().find(|(beginning, _)| path.starts_with(beginning)).map_or(usize::MAX, |(_, most)| *most);
        let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = before_tests.trim_end().lines().count();
        if lines > most {
            breaches.push(format!("{path}: {lines} lines, at most {most}"));
        }
    }
    breaches
}

fn doc_lines(tree: &Tree) -> Vec<String> {
    let silent = tree.sources().filter(|file| !file.text.starts_with("//! "));
    silent.map(|file| format!("{}: does not begin with a `//!` line", file.path)).collect()
}

fn dead_files(tree: &Tree) -> Vec<String> {
    let alive = tree.reached(str::to_owned);
    let dead = tree.0.keys().filter(|path| path.starts_with("src/") && !alive.contains(*path));
    dead.map(|path| format!("{path}: neither lib.rs nor main.rs leads here")).collect()
}

/// What the simulation runs repeats itself from a seed: everything up to the stages, but for the rooms of vendors. Both a `select!` and
/// Tokio's `watch`, whose waiters are woken in an order of its own, draw from a chance that cannot be seeded.
fn chances(tree: &Tree) -> Vec<String> {
    let stages = floor_of("writer");
    let simulated = |file: &Source<'_>| {
        floor_of(file.module()) <= stages && !VENDORS.iter().any(|(_, rooms)| rooms.iter().any(|room| file.is_in(room)))
    };
    let mut breaches = Vec::new();
    for file in tree.sources().filter(simulated) {
        let code = without_tests(&code(file.text));
        if words(&code, "watch").any(|at| code[..at].ends_with(['{', ' ', ':']) && code.contains("tokio::sync")) {
            breaches.push(format!("{}: wakes by `watch`", file.path));
        }
        for at in words(&code, "select") {
            let chosen = code[at + "select".len()..]
                .strip_prefix('!')
                .map(|rest| rest.trim_start_matches([' ', '{', '(', '\n']));
            if chosen.is_some_and(|branches| !branches.starts_with("biased;")) {
                breaches.push(format!("{}: a `select!` that is not `biased;`", file.path));
            }
        }
    }
    breaches
}

/// Tokio notes for the whole process that a clock was paused once: from then on each look at the time, on whatever thread, asks its
/// runtime for it. So only the planner pauses one, and only the command line, in a process that serves nothing, has it simulate.
fn pauses(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in tree.sources().filter(|file| !file.is_in("plan")) {
        let code = without_tests(&code(file.text));
        let by_path = words(&code, "pause").any(|at| code[..at].ends_with("time::"));
        let imported = words(&code, "pause")
            .any(|at| code[..at].rfind("tokio::time::{").is_some_and(|from| !code[from..at].contains('}')));
        if by_path || imported || words(&code, "start_paused").next().is_some() {
            breaches.push(format!("{}: pauses a clock", file.path));
        }
        let called = words(&code, "simulate").any(|at| code[..at].ends_with("plan::"));
        let imported = crate_paths(&code).iter().any(|path| path == "crate::plan::simulate");
        if !file.is_in("cli") && (called || imported) {
            breaches.push(format!("{}: simulates", file.path));
        }
    }
    breaches
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

// ── the trees ──

type Rule = fn(&Tree) -> Vec<String>;

#[track_caller]
fn finds(rule: Rule, path: &str, text: &str) {
    assert_ne!(rule(&Tree::of(&[(path, text)])), [""; 0], "a breach was overlooked in {path}: {text}");
}

#[track_caller]
fn passes(rule: Rule, path: &str, text: &str) {
    assert_eq!(rule(&Tree::of(&[(path, text)])), [""; 0], "{path}: {text}");
}

#[track_caller]
fn holds(rule: Rule) {
    let tree = Tree::here();
    assert!(tree.0.contains_key("src/main.rs"), "the tree was not found");
    let breaches = rule(&tree);
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// Texts by their paths, such as `src/domain/sale.rs`.
struct Tree(BTreeMap<String, String>);

struct Source<'a> {
    path: &'a str,
    text: &'a str,
}

impl Tree {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// What the package has under `src` and `lua`.
    fn here() -> Self {
        let mut tree = Self(BTreeMap::new());
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["src", "lua"] {
            tree.read(package, &package.join(folder));
        }
        tree
    }

    fn read(&mut self, package: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                self.read(package, &path);
            } else if path.extension().is_some_and(|end| end == "rs" || end == "lua") {
                let name = path.strip_prefix(package).expect("a path inside of the package").display().to_string();
                self.0.insert(name, fs::read_to_string(&path).expect("a readable file"));
            }
        }
    }

    /// The files under `src` that are more than tests.
    fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        let reached = self.reached(str::to_owned);
        let tests: BTreeSet<_> = reached.difference(&self.reached(without_tests)).cloned().collect();
        let sources = self.0.iter().filter(move |(path, _)| path.starts_with("src/") && !tests.contains(*path));
        sources.map(|(path, text)| Source { path, text })
    }

    /// The files to which lib.rs and main.rs lead by `mod`, in as much of each file as is looked at.
    fn reached(&self, looked_at: fn(&str) -> String) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()];
        while let Some(path) = open.pop() {
            let Some(text) = self.0.get(&path) else { continue };
            let stem = path.trim_end_matches(".rs");
            let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
            let folder = if ["lib", "main", "mod"].contains(&name) { folder } else { stem };
            let code = looked_at(&code(text));
            for at in words(&code, "mod") {
                let (child, rest) = word(code[at + "mod".len()..].trim_start());
                if rest.starts_with(';') {
                    open.extend([format!("{folder}/{child}.rs"), format!("{folder}/{child}/mod.rs")]);
                }
            }
            reached.insert(path);
        }
        reached
    }
}

impl Source<'_> {
    /// The top module that it belongs to: `domain` for `src/domain/sale.rs`.
    fn module(&self) -> &str {
        word(&self.path["src/".len()..]).0
    }

    /// Is it this file or in this folder, such as `inventory/redis`?
    fn is_in(&self, room: &str) -> bool {
        let rest = self.path["src/".len()..].strip_prefix(room);
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    }
}

// ── reading Rust, as far as it is needed ──

/// The source with its comments and the contents of its texts blanked; lines stay where they are.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let opaque = opaque_len(rest, code.chars().next_back());
        let (taken, left) = rest.split_at(if opaque > 0 { opaque } else { first.len_utf8() });
        if opaque > 0 {
            code.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            code.push(first);
        }
        rest = left;
    }
    code
}

/// How many bytes at the beginning are a comment, a text or a character; 0 if it is code.
fn opaque_len(rest: &str, before: Option<char>) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if rest.starts_with('r') && !before.is_some_and(|c| is_letter(c) && c != 'b') {
        let hashes = rest[1..].len() - rest[1..].trim_start_matches('#').len();
        if rest[1 + hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    if rest.starts_with('"') {
        return closed_by('"', rest);
    }
    // 'a' and '\n' are characters, 'a is a lifetime.
    let mut letters = rest.chars();
    match (letters.next(), letters.next(), letters.next()) {
        (Some('\''), Some('\\'), _) => closed_by('\'', rest),
        (Some('\''), Some(letter), Some('\'')) => 2 + letter.len_utf8(),
        _ => 0,
    }
}

/// The length of a text that begins and ends with this mark, where a backslash takes the next letter's meaning away.
fn closed_by(mark: char, text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == mark {
            return at + 1;
        }
    }
    text.len()
}

/// The code without the items that stand under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, item)) = rest.split_once(MARK) {
        kept.push_str(before);
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| {
            depth += i32::from("([{".contains(*c)) - i32::from(")]}".contains(*c));
            depth == 0 && ";}".contains(*c)
        });
        rest = end.map_or("", |(at, _)| &item[at + 1..]);
    }
    kept + rest
}

/// Every path that begins with `crate::`, its braces spelled out: `crate::a::{b, c}` is `crate::a::b` and `crate::a::c`.
fn crate_paths(code: &str) -> Vec<String> {
    words(code, "crate")
        .filter(|at| code[*at..].starts_with("crate::"))
        .flat_map(|at| spelled_out(&code[at..]).0)
        .collect()
}

/// The paths at the beginning of the text, and what follows them.
fn spelled_out(text: &str) -> (Vec<String>, &str) {
    let (head, rest) = word(text);
    let goes_on = |tail: &&str| tail.starts_with(|c| is_letter(c) || c == '{' || c == '*');
    let Some(tail) = rest.strip_prefix("::").filter(goes_on) else { return (vec![head.to_owned()], rest) };
    let (tails, rest) = match tail.strip_prefix('{') {
        Some(group) => {
            let (mut paths, mut rest) = (Vec::new(), group.trim_start());
            while !rest.is_empty() && !rest.starts_with('}') {
                let (more, left) = spelled_out(rest);
                paths.extend(more);
                // Past the comma, or past whatever else stands there, such as the name after `as`.
                let left = left.trim_start_matches(|c| c != ',' && c != '}');
                rest = left.strip_prefix(',').unwrap_or(left).trim_start();
            }
            (paths, rest.strip_prefix('}').unwrap_or(rest))
        }
        None => spelled_out(tail),
    };
    (tails.iter().map(|tail| format!("{head}::{tail}")).collect(), rest)
}

/// Is this crate named, and not something of ours that is called the same?
fn names_crate(code: &str, name: &str) -> bool {
    let ours = words(code, name).any(|at| {
        let before = code[..at].trim_end();
        before.ends_with("mod") || (before.ends_with("::") && code[at + name.len()..].starts_with([';', ',', '}']))
    });
    words(code, name).any(|at| {
        let (before, after) = (code[..at].trim_end(), &code[at + name.len()..]);
        let absolute = before.strip_suffix("::").is_some_and(|before| !before.ends_with(|c| is_letter(c) || c == '>'));
        let first = !before.ends_with("::") && (after.starts_with("::") || before.ends_with("use"));
        absolute || (first && !ours)
    })
}

/// Where this word stands, whole.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let whole = move |at: usize| !code[..at].ends_with(is_letter) && !code[at + word.len()..].starts_with(is_letter);
    code.match_indices(word).map(|(at, _)| at).filter(move |at| whole(*at))
}

/// The word at the beginning, and the rest.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_letter(c)).unwrap_or(text.len()))
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn comments_texts_and_characters_are_no_code() {
    for (source, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b */ c", "a         c"),
        (r#"a("\"b", '"', '\'') c"#, "a(     ,    ,     ) c"),
        ("r#\"a \" b\"# c", "           c"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
    ] {
        assert_eq!(code(source), expected);
    }
}

#[test]
fn items_under_cfg_test_are_left_out_whole() {
    for (code, expected) in [
        ("a #[cfg(test)] mod t { fn f() {} } b", "a  b"),
        ("a #[cfg(test)] use x; b", "a  b"),
        ("a #[cfg(test)] fn f(x: [u8; 2]) { g(); } b", "a  b"),
    ] {
        assert_eq!(without_tests(code), expected);
    }
}

#[test]
fn paths_are_spelled_out() {
    let paths = crate_paths("use crate::a::{self, b::{c, d as e}, f}; crate::g::<T>(); $crate::h::i");
    let expected = ["crate::a::self", "crate::a::b::c", "crate::a::b::d", "crate::a::f", "crate::g", "crate::h::i"];
    assert_eq!(paths, expected);
}

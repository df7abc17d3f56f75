//! The commands that documents, examples, units and manifests tell: the program takes each of them, and what it names is there.

use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory};
use hyper::Method;
use rushgate::cli::Cli;
use rushgate::config::Key;
use rushgate::config::keys::SECTIONS;

use crate::{RULES, RUNBOOK, files, quoted, read};

/// Documents for people.
const PAGES: &[&str] = &["README.md", "config/README.md", RUNBOOK, "loadtest/README.md"];

/// What stands for something of the reader's own, and something that is there in its place.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("FILE", "config/gateway.toml"),
    ("KEY", "shard.buffer"),
    ("URL", "http://127.0.0.1:9090"),
    ("shop.toml", "config/rushgate.toml"),
    ("/etc/rushgate/gateway.toml", "config/gateway.toml"),
    ("/etc/rushgate/writer.toml", "config/writer.toml"),
    // In the manifests this one is made of the ConfigMap.
    ("/etc/rushgate/rushgate.toml", "config/deploy/kubernetes/config.yaml"),
    // Of the document that the README shows.
    ("concert-1.json", "README.md"),
    ("concert.json", "README.md"),
];

/// Programs that start another, and the word behind which that stands.
const STARTERS: &[(&str, &[&str])] = &[
    ("docker", &["run", "exec"]),
    ("env", &["env"]),
    ("exec", &["exec"]),
    ("kubectl", &["--"]),
    ("sudo", &["sudo"]),
    ("systemd-run", &["systemd-run"]),
    ("time", &["time"]),
];
/// The image that the documents build.
const IMAGE: &str = "rushgate:latest";

/// Why the command line does not take this command, or what it names is not there; nothing if all is well.
pub(crate) fn misunderstood(line: &str) -> Option<String> {
    told_wrong(line, false)
}

/// `in_prose`: it is spoken of, and need not be whole: `rushgate sale create` makes sales.
fn told_wrong(line: &str, in_prose: bool) -> Option<String> {
    shell_commands(line).into_iter().find_map(|words| {
        let wrong = parse(&words, in_prose).and_then(|matches| names_what_is_there(&matches));
        wrong.err().map(|why| format!("{line}: {why}"))
    })
}

/// The calls of the program in a line for a shell, without comments, redirections, and the words that explain an example in a list.
fn shell_commands(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" # ").next().unwrap_or_default();
    let commands = line.split(['|', ';', '&']).map(|command| {
        let command = command.split("    ").find(|part| !part.trim().is_empty()).unwrap_or_default();
        let words = command.split_whitespace().take_while(|word| !word.starts_with(['>', '<', '#']));
        words.map(|word| word.trim_matches(['"', '\'']).to_owned()).collect::<Vec<_>>()
    });
    commands.filter_map(|words| called(&words)).collect()
}

/// The program's own words, also behind a program that starts it.
fn called(words: &[String]) -> Option<Vec<String>> {
    let is_ours = |word: &String| word == "rushgate" || word.ends_with("/rushgate");
    let first = words.first()?;
    if is_ours(first) {
        return Some(words.to_vec());
    }
    // Before that word stand the starter's own, in which the name may be that of a namespace.
    let (_, behind) = STARTERS.iter().find(|(starter, _)| starter == first)?;
    let own = words.iter().position(|word| behind.contains(&word.as_str()))?;
    // What follows the image's name are words for the program, which the image begins with.
    let at = own + 1 + words[own + 1..].iter().position(|word| is_ours(word) || word == IMAGE)?;
    let program = std::iter::once("rushgate".to_owned());
    Some(program.chain(words[at + 1..].iter().cloned()).collect())
}

fn parse(words: &[String], in_prose: bool) -> Result<ArgMatches, String> {
    let real = |word: &String| {
        let known = PLACEHOLDERS.iter().find(|(placeholder, _)| placeholder == word);
        known.map_or_else(|| word.clone(), |(_, real)| (*real).to_owned())
    };
    let parsed = Cli::command().try_get_matches_from(words.iter().map(real));
    parsed.map(|matches| innermost(&matches)).or_else(|error| {
        let is_partial = matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        // A call for help or for the version is one that it takes.
        let is_taken = !error.use_stderr() || (in_prose && is_partial);
        if is_taken { Ok(ArgMatches::default()) } else { Err(error.to_string()) }
    })
}

/// Flags that every command takes are found there too.
fn innermost(matches: &ArgMatches) -> ArgMatches {
    matches.subcommand().map_or_else(|| matches.clone(), |(_, matches)| innermost(matches))
}

/// The words that were given for this argument, if the command has one of that name.
fn given(matches: &ArgMatches, name: &str) -> Vec<String> {
    let words = matches.try_get_raw(name).ok().flatten().into_iter().flatten();
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn names_what_is_there(matches: &ArgMatches) -> Result<(), String> {
    for file in ["config", "file"].iter().flat_map(|name| given(matches, name)) {
        if file != "-" && !Path::new(&file).exists() {
            return Err(format!("there is no file {file}"));
        }
    }
    for setting in given(matches, "set") {
        is_key(setting.split('=').next().unwrap_or_default())?;
    }
    given(matches, "key").iter().try_for_each(|key| is_key(key))
}

fn is_key(path: &str) -> Result<(), String> {
    let is_section = SECTIONS.iter().any(|(section, _)| *section == path);
    if is_section || Key::position(path).is_some() { Ok(()) } else { Err(format!("there is no key {path}")) }
}

// ── where commands stand ──

/// The lines of the fenced blocks of a page that are for a shell; a line that ends in a backslash goes on in the next.
fn blocks(page: &str) -> Vec<String> {
    let (mut lines, mut fence) = (Vec::new(), None);
    let page = page.replace("\\\n", " ");
    for line in page.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) => fence = Some(language),
            (None, Some("sh")) => lines.push(line.trim_start().to_owned()),
            // Between what is typed stands what is answered.
            (None, Some("console")) => lines.extend(line.strip_prefix("$ ").map(str::to_owned)),
            (None, _) => {}
        }
    }
    lines
}

/// The texts in backticks outside of blocks; prose may break a line within one.
fn inline(page: &str) -> Vec<String> {
    let prose: Vec<_> = page.split("```").step_by(2).collect();
    let prose = prose.join("\n");
    quoted(&prose).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// What a line of a unit, a manifest or a comment in one has the program do.
fn deployed(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(command) = line.strip_prefix("ExecStart=").or_else(|| line.strip_prefix("ExecReload=")) {
        return command.contains("rushgate").then(|| command.to_owned());
    }
    let list = ["args: [", "command: [", "CMD ["].iter().find_map(|head| line.split_once(head));
    if let Some(words) = list.and_then(|(_, list)| list.strip_suffix(']')) {
        let words: Vec<_> = words.split(',').map(|word| word.trim().trim_matches('"')).collect();
        if words[0].ends_with("/rushgate") {
            return Some(words.join(" "));
        }
        // Those of another program's container begin with a flag, or with its name.
        let is_ours = Cli::command().get_subcommands().any(|command| command.get_name() == words[0]);
        return is_ours.then(|| format!("rushgate {}", words.join(" ")));
    }
    let comment = line.strip_prefix('#')?;
    let (_, command) = comment.split_once(" rushgate ")?;
    // Indented, or behind another program's words; what is said in prose is in backticks.
    (comment.starts_with("   ") && !comment.contains('`')).then(|| format!("rushgate {command}"))
}

fn examples(command: &Command, lines: &mut Vec<String>, prose: &mut Vec<String>) {
    let texts = [command.get_after_help(), command.get_long_about(), command.get_about()];
    for text in texts.into_iter().flatten().map(ToString::to_string) {
        lines.extend(text.lines().map(str::trim).filter(|line| line.starts_with("rushgate ")).map(Into::into));
        prose.extend(quoted(&text).filter(|text| text.starts_with("rushgate ")).map(Into::into));
    }
    command.get_subcommands().for_each(|below| examples(below, lines, prose));
}

/// A command that is told somewhere.
struct Told {
    place: String,
    line: String,
    in_prose: bool,
}

/// Every command that is told anywhere.
fn told() -> Vec<Told> {
    let mut told = Vec::new();
    let mut take = |place: &str, lines: Vec<String>, in_prose| {
        let ours = lines.into_iter().filter(|line| line.contains("rushgate "));
        told.extend(ours.map(|line| Told { place: place.to_owned(), line, in_prose }));
    };
    for page in PAGES {
        let text = read(page);
        take(page, blocks(&text), false);
        take(page, inline(&text).into_iter().filter(|text| text.starts_with("rushgate ")).collect(), true);
    }
    let deployment = files(Path::new("config/deploy"));
    let settings = ["config/gateway.toml", "config/writer.toml", "config/rushgate.toml", RULES];
    let settings = settings.map(|path| (path.to_owned(), read(path)));
    for (path, text) in deployment.into_iter().chain(settings) {
        take(&path, text.lines().filter_map(deployed).collect(), false);
        let comments = text.lines().flat_map(quoted).filter(|text| text.starts_with("rushgate "));
        take(&path, comments.map(str::to_owned).collect(), true);
    }
    let (mut lines, mut prose) = (Vec::new(), Vec::new());
    examples(&Cli::command(), &mut lines, &mut prose);
    take("--help", lines, false);
    take("--help", prose, true);
    told
}

#[test]
fn a_command_that_is_none_is_found_wherever_it_stands() {
    for wrong in [
        "rushgate sale sell concert-1",
        "rushgate config check --config no/such/file.toml",
        "rushgate config explain shard.bufer",
        "rushgate serve --set shard.bufer=20%",
        "rushgate sale create concert-1 nothing.json",
        "true && rushgate redy",
        "/usr/bin/rushgate serv",
        "systemd-run --pty --property=DynamicUser=yes rushgate docter --config FILE",
        "docker run --rm rushgate:latest redy",
        "kubectl exec deploy/gateway -- rushgate sale lst",
    ] {
        assert!(misunderstood(wrong).is_some(), "{wrong}");
    }
    for right in [
        "rushgate --version",
        "rushgate config check --config FILE && systemctl restart rushgate-gateway",
        "rushgate config show --config shop.toml | grep -v '# default'",
        "rushgate sale add-stock concert-1 standard -20 --dry-run    # nothing changes",
        "install rushgate",
        "kubectl -n rushgate get pods",
        "docker compose -f config/deploy/compose.yaml exec gateway-1 rushgate sale list",
    ] {
        assert_eq!(misunderstood(right), None);
    }
    assert_eq!(blocks("a\n```sh\nrushgate x \\\n  y\n```\n```json\nrushgate z\n```"), ["rushgate x    y"]);
    assert_eq!(inline("`rushgate\nready` ```sh\n`no`\n``` and `b`"), ["rushgate ready", "b"]);
    for (line, command) in [
        ("ExecStart=/usr/bin/rushgate serve", Some("/usr/bin/rushgate serve")),
        ("          args: [serve, --role, writer]", Some("rushgate serve --role writer")),
        ("CMD [\"serve\"]", Some("rushgate serve")),
        ("HEALTHCHECK CMD [\"/usr/bin/rushgate\", \"ready\"]", Some("/usr/bin/rushgate ready")),
        ("#   docker compose exec gateway-1 rushgate sale list", Some("rushgate sale list")),
        ("# A rushgate process.", None),
        ("args: [--port, 1]", None),
    ] {
        assert_eq!(deployed(line).as_deref(), command, "{line}");
    }
}

#[test]
fn every_command_that_is_told_anywhere_is_taken_and_names_what_is_there() {
    let told = told();
    let places =
        ["README.md", "config/README.md", RUNBOOK, "--help", "rushgate-gateway.service", "gateway.yaml", "Dockerfile"];
    for place in places {
        assert!(told.iter().any(|told| told.place.ends_with(place)), "no command was found in {place}");
    }
    let wrong = told
        .iter()
        .filter_map(|Told { place, line, in_prose }| told_wrong(line, *in_prose).map(|why| format!("{place}: {why}")));
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0]);
}

// ── keys and calls in prose ──

/// A setting that is named, such as `shard.buffer`, `queue.lanes = 4` or `RUSHGATE__ADMIN__TOKEN`, and is none.
fn no_key(text: &str) -> Option<String> {
    if let Some(variable) = text.strip_prefix("RUSHGATE__") {
        let variable = variable.split('=').next().unwrap_or_default();
        return is_key(&variable.to_lowercase().replacen("__", ".", 1)).err();
    }
    let path = text.split(" = ").next().unwrap_or_default();
    let (section, key) = path.split_once('.')?;
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_section = SECTIONS.iter().any(|(name, _)| *name == section);
    (is_section && is_word(key)).then(|| is_key(path).err()).flatten()
}

/// A call of the admin API that is named, such as `POST /admin/v1/drain`, and is none.
fn no_call(text: &str) -> Option<String> {
    let (method, target) = match text.split_once(" /") {
        Some((method, target)) => (Some(method), format!("/{target}")),
        None => (None, text.to_owned()),
    };
    if !target.starts_with("/admin/v1/") || target.contains('…') {
        return None;
    }
    let target = target.replace("{sale}", "concert-1").replace("{order}", &"ab".repeat(16));
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let methods = method.map_or(vec!["GET", "POST", "PUT", "PATCH", "DELETE"], |method| vec![method]);
    let is_taken = methods.into_iter().any(|method| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        rushgate::admin::routes::call(&method, path, query).is_ok()
    });
    (!is_taken).then(|| format!("the admin API does not take {text}"))
}

#[test]
fn every_key_and_every_call_that_a_page_names_is_there() {
    assert!(no_key("shard.bufer").is_some() && no_key("RUSHGATE__SHARD__BUFER=1").is_some());
    assert!(
        no_key("shard.buffer = \"10%\"").is_none() && no_key("writer.toml").is_none() && no_key("queue.rs").is_some()
    );
    assert!(no_call("GET /admin/v1/drain").is_some() && no_call("/admin/v1/nods").is_some());
    assert!(no_call("POST /admin/v1/drain").is_none() && no_call("GET /admin/v1/sales/{sale}/plan").is_none());
    let (mut wrong, mut keys, mut calls) = (Vec::new(), 0, 0);
    let pages = PAGES.iter().chain(&[RULES]);
    for page in pages {
        for text in inline(&fs::read_to_string(page).expect("a page")) {
            keys += usize::from(text.contains('.') && no_key(&text).is_none());
            calls += usize::from(text.contains("/admin/v1/"));
            wrong.extend(no_key(&text).or_else(|| no_call(&text)).map(|why| format!("{page}: {why}")));
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(keys > 20 && calls > 2, "hardly anything was found: {keys} keys, {calls} calls");
}

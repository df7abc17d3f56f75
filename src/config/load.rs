//! Reads the sources one over the other, and tells everything that is wrong with them at once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::config::given::Given;
use crate::config::keys::{Key, SECTIONS};
use crate::config::nearest::{nearest, variable_in_disguise};
use crate::config::origin::{Covered, Origin, Problem, Problems};
use crate::config::rules::RULES;
use crate::config::settings::Settings;
use crate::domain::NodeId;

/// Bytes of a file, at most; the one of all keys has a hundredth of it.
const MAX_FILE: u64 = 1 << 20;

/// Where a process takes its configuration from. It can be loaded again and again; what is drawn by chance is drawn here, once.
#[derive(Debug, Clone)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// Of the whole environment, what begins with `RUSHGATE_`.
    pub env: Vec<(OsString, OsString)>,
    /// The later one wins.
    pub flags: Vec<Flag>,
    /// What the node is called if nobody gives it a name.
    pub node_id: NodeId,
}

/// A value from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As the user knows it, such as `--set`.
    pub name: String,
    /// `section.key`
    pub path: String,
    pub value: String,
}

impl Sources {
    /// The sources of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let env = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")).collect();
        let host = gethostname::gethostname();
        Self { file, env, flags, node_id: node_id(&host.to_string_lossy(), fastrand::u32(..)) }
    }

    /// The text of the file as it is now; `None`: there is no file among the sources.
    pub fn read_file(&self) -> Option<io::Result<String>> {
        self.file.as_deref().map(read_text)
    }

    /// The same for a process that has read it before. What comes through a pipe is gone by then, and to wait for more would be for ever.
    pub fn read_file_again(&self) -> Option<io::Result<String>> {
        self.file.as_deref().map(|path| {
            let data = path.metadata()?;
            if data.is_file() || data.is_dir() { read_text(path) } else { Err(readable_once()) }
        })
    }
}

fn readable_once() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it can be read once; restart to change it")
}

/// A file that is larger is none of ours.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// Settings that are whole and right, and where each of them comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub settings: Settings,
    /// In the order of [`Key::ALL`].
    pub origins: Vec<Origin>,
    /// What was given and does not count, in the order of the sources. A value that is given twice alike is not among it.
    pub covered: Vec<Covered>,
}

/// How much of a file has to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All of it, and the rules between its values.
    Whole,
    /// This section of it, for who works with nothing else. What the others hold is not looked at, and the rest of a deployment's
    /// environment, which completes them, is not needed.
    Section(&'static str),
    /// What can be read of this section: who only looks goes on with the rest of the sources, whatever became of the file.
    Readable(&'static str),
    /// What can be read of all of it, wherever it comes from: for who tells what is wrong in another way, or needs no settings at all.
    Anything,
}

impl Need {
    fn has(self, section: &str) -> bool {
        match self {
            Self::Whole | Self::Anything => true,
            Self::Section(only) | Self::Readable(only) => only == section,
        }
    }
}

/// Reads all sources. Nothing of the outside is changed, and nothing is kept between two loads.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    load_from(sources, sources.read_file())
}

/// The same with a file that was read already.
pub fn load_from(sources: &Sources, file: Option<io::Result<String>>) -> Result<Loaded, Problems> {
    load_what(sources, file, Need::Whole)
}

/// Reads as much of the sources as is needed; what is not stays at its default.
pub fn load_needed(sources: &Sources, need: Need) -> Result<Loaded, Problems> {
    load_what(sources, sources.read_file(), need)
}

fn load_what(sources: &Sources, file: Option<io::Result<String>>, need: Need) -> Result<Loaded, Problems> {
    let mut loading = Loading {
        settings: Settings::default(),
        origins: vec![Origin::Default; Key::ALL.len()],
        beneath: Vec::new(),
        unread: BTreeSet::new(),
        problems: Vec::new(),
        need,
    };
    if let (Some(path), Some(text)) = (&sources.file, file) {
        loading.read_file(path, text);
    }
    if let Need::Readable(_) = need {
        loading.problems.clear();
    }
    for (name, value) in &sources.env {
        loading.read_variable(&name.to_string_lossy(), value.to_str());
    }
    for flag in &sources.flags {
        loading.read_flag(flag);
    }
    loading.finish(&sources.node_id)
}

struct Loading {
    settings: Settings,
    origins: Vec<Origin>,
    /// Keys that were given again, with what counted until then and where it came from.
    beneath: Vec<(usize, Origin, Settings)>,
    /// Keys that were given something unreadable somewhere, by their place in [`Key::ALL`].
    unread: BTreeSet<usize>,
    problems: Vec<Problem>,
    need: Need,
}

impl Loading {
    fn read_file(&mut self, path: &Path, text: io::Result<String>) {
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                let at = Origin::File { path: path.into(), line: 0, column: 0 };
                return self.wrong(at, format!("cannot be read: {why}"));
            }
        };
        let file = FileText { path: path.into(), text: &text };
        let (table, errors) = DeTable::parse_recoverable(&text);
        let broken: Vec<_> = errors.iter().map(|error| file.at(error.span().unwrap_or_default())).collect();
        let first = self.problems.len();
        self.read_table(&file, table.get_ref());
        // What the parser made of a broken line is not what was meant.
        self.problems.retain(|problem| !broken.iter().any(|at| line(at) == line(&problem.at)));
        for (at, error) in broken.into_iter().zip(&errors) {
            self.wrong(at, error.message().to_owned());
            // No rule is checked on half a file.
            self.unread.extend(0..Key::ALL.len());
        }
        self.problems[first..].sort_by(|one, other| one.at.cmp(&other.at));
    }

    fn read_table(&mut self, file: &FileText<'_>, table: &DeTable<'_>) {
        let need = self.need;
        for (section, value) in table.iter().filter(|(section, _)| need.has(section.get_ref())) {
            let name = section.get_ref().as_ref();
            let known = SECTIONS.iter().any(|(section, _)| *section == name);
            match value.get_ref() {
                DeValue::Table(keys) if known => {
                    keys.iter().for_each(|(key, value)| self.read_entry(file, name, (key, value)));
                }
                _ if known => self.wrong(file.at(value.span()), format!("`{name}` is a section: write [{name}]")),
                DeValue::Table(_) => {
                    let near = nearest(name, SECTIONS.iter().map(|(section, _)| *section));
                    self.wrong(file.at(section.span()), format!("unknown section `{name}`; the nearest is `{near}`"));
                }
                _ => {
                    let near = nearest_key(None, name);
                    let message = format!("unknown key `{name}`, outside of any section; the nearest is `{near}`");
                    self.wrong(file.at(section.span()), message);
                }
            }
        }
    }

    fn read_entry(&mut self, file: &FileText<'_>, section: &str, (key, value): Entry<'_, '_>) {
        let path = format!("{section}.{}", key.get_ref());
        if let Some(position) = Key::position(&path) {
            let (at, value_at) = (file.at(key.span()), file.at(value.span()));
            self.take(position, Given::Toml(value.get_ref()), at, Some(value_at));
        } else {
            let near = nearest_key(Some(section), key.get_ref());
            self.wrong(file.at(key.span()), format!("unknown key `{path}`; the nearest is `{near}`"));
        }
    }

    fn read_variable(&mut self, name: &str, value: Option<&str>) {
        let at = Origin::Env(name.to_owned());
        let Some(position) = Key::ALL.iter().position(|key| key.variable() == name) else {
            let variables: Vec<_> = Key::ALL.iter().map(Key::variable).collect();
            if variable_in_disguise(name, &variables) {
                let near = nearest(&name.to_uppercase(), variables.iter().map(String::as_str));
                self.wrong(at, format!("unknown variable; the nearest is {near}"));
            }
            return;
        };
        if let Some(value) = value {
            self.take(position, Given::Text(value), at, None);
        } else {
            self.unread.insert(position);
            self.wrong(at, "is not UTF-8".to_owned());
        }
    }

    fn read_flag(&mut self, flag: &Flag) {
        let at = Origin::Flag(flag.name.clone());
        if let Some(position) = Key::position(&flag.path) {
            self.take(position, Given::Text(&flag.value), at, None);
        } else {
            let near = Key::nearest(&flag.path);
            self.wrong(at, format!("unknown key `{}`; the nearest is `{near}`", flag.path));
        }
    }

    /// Takes a value from a source. What is wrong with it is told at `value_at`, if that is more exact.
    fn take(&mut self, position: usize, given: Given<'_>, at: Origin, value_at: Option<Origin>) {
        let key = &Key::ALL[position];
        if self.origins[position] != Origin::Default {
            self.beneath.push((position, self.origins[position].clone(), self.settings.clone()));
        }
        match (key.read)(&mut self.settings, given) {
            Ok(()) => self.origins[position] = at,
            Err(why) => {
                self.unread.insert(position);
                self.wrong(value_at.unwrap_or(at), format!("{} {why}", key.path()));
            }
        }
    }

    fn wrong(&mut self, at: Origin, message: String) {
        self.problems.push(Problem { at, message });
    }

    fn finish(mut self, node_id: &NodeId) -> Result<Loaded, Problems> {
        let rules = if self.need == Need::Whole { RULES } else { &[] };
        for rule in rules {
            let keys = rule.keys.iter().filter_map(|path| Key::position(path));
            let keys: Vec<_> = keys.collect();
            if keys.iter().any(|key| self.unread.contains(key)) || (rule.holds)(&self.settings) {
                continue;
            }
            let found = keys.iter().map(|key| self.found(*key)).collect::<Vec<_>>().join(", ");
            // A default is never at fault; what was set beside it is.
            let at = keys.iter().map(|key| &self.origins[*key]).find(|at| **at != Origin::Default);
            let at = at.unwrap_or(&Origin::Default).clone();
            self.wrong(at, format!("{}; here {found}", rule.says));
        }
        if !self.problems.is_empty() && self.need != Need::Anything {
            return Err(Problems(self.problems));
        }
        if self.settings.node.id.is_empty() {
            self.settings.node.id = node_id.to_string();
        }
        let covered = self.covered();
        Ok(Loaded { settings: self.settings, origins: self.origins, covered })
    }

    /// What was given and does not count.
    fn covered(&self) -> Vec<Covered> {
        let differs = |position: usize, beneath| !(Key::ALL[position].is_same)(beneath, &self.settings);
        let covered = self.beneath.iter().filter(|(position, _, beneath)| differs(*position, beneath));
        let told = covered.map(|(position, at, beneath)| Covered {
            key: Key::ALL[*position].path(),
            value: (Key::ALL[*position].print)(beneath),
            at: at.clone(),
            by: self.origins[*position].clone(),
        });
        told.collect()
    }

    fn found(&self, position: usize) -> String {
        let key = &Key::ALL[position];
        format!("{} = {} ({})", key.path(), (key.print)(&self.settings), self.origins[position])
    }
}

type Entry<'a, 'i> = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>);

struct FileText<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl FileText<'_> {
    fn at(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        Origin::File { path: Arc::clone(&self.path), line, column }
    }
}

fn line(at: &Origin) -> Option<usize> {
    if let Origin::File { line, .. } = at { Some(*line) } else { None }
}

/// The known key that is nearest to an unknown one: of the same section, unless another one has it almost by that name.
fn nearest_key(section: Option<&str>, name: &str) -> String {
    let distance = |key: &&Key| {
        let elsewhere = section.is_some_and(|section| section != key.section);
        strsim::damerau_levenshtein(name, key.name) + if elsewhere { 2 } else { 0 }
    };
    Key::ALL.iter().min_by_key(distance).map(Key::path).unwrap_or_default()
}

/// The host's name and a suffix, in the letters that a node's name may have.
fn node_id(host: &str, suffix: u32) -> NodeId {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let host: String = host.chars().map(letter).take(NodeId::MAX_LEN - 9).collect();
    let host = if host.is_empty() { "node" } else { &host };
    format!("{host}-{suffix:08x}").parse().expect("these letters and this length make a node's name")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::config::settings::{InventoryBackend, Role};
    use crate::config::show::template;
    use crate::domain::Buffer;

    struct Case {
        sources: Sources,
        _file: Option<NamedTempFile>,
    }

    impl Case {
        fn nothing() -> Self {
            let node_id = "host-1".parse().unwrap();
            Self { sources: Sources { file: None, env: Vec::new(), flags: Vec::new(), node_id }, _file: None }
        }

        fn file(text: &str) -> Self {
            let mut file = NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let mut given = Self::nothing();
            given.sources.file = Some(file.path().to_owned());
            Self { _file: Some(file), ..given }
        }

        fn env(mut self, name: &str, value: &str) -> Self {
            self.sources.env.push((OsString::from(name), OsString::from(value)));
            self
        }

        fn set(mut self, path: &str, value: &str) -> Self {
            self.sources.flags.push(Flag { name: "--set".to_owned(), path: path.to_owned(), value: value.to_owned() });
            self
        }

        fn load(&self) -> Result<Loaded, Problems> {
            load(&self.sources)
        }

        fn settings(&self) -> Settings {
            self.load().unwrap().settings
        }

        /// What is wrong, one line each, the file called `F`.
        fn problems(&self) -> Vec<String> {
            let path = self.sources.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            let problems = self.load().expect_err("this must not load").0;
            problems
                .iter()
                .map(|problem| problem.to_string().replacen(&path, "F", usize::from(!path.is_empty())))
                .collect()
        }
    }

    fn defaults() -> Settings {
        let mut settings = Settings::default();
        settings.node.id = "host-1".to_owned();
        settings
    }

    #[test]
    fn nothing_given_is_the_defaults() {
        assert_eq!(Case::nothing().settings(), defaults());
        assert_eq!(Case::file("").settings(), defaults());
    }

    #[test]
    fn flags_stand_above_the_environment_and_the_environment_above_the_file() {
        let file = "[queue]\nlanes = 2\n[sale]\nhold = \"2m\"\nlimit_per_buyer = 2\n[shard]\nbuffer = 50\n";
        let given = Case::file(file)
            .env("RUSHGATE__SALE__HOLD", "3m")
            .env("RUSHGATE__SALE__LIMIT_PER_BUYER", "3")
            .set("sale.limit_per_buyer", "4")
            .set("sale.limit_per_buyer", "5");
        let settings = given.settings();
        assert_eq!(settings.queue.lanes, 2);
        assert_eq!(settings.shard.buffer, Buffer::Units(50));
        assert_eq!(settings.sale.hold, Duration::from_secs(180));
        assert_eq!(settings.sale.limit_per_buyer, 5);
        let shown = given.load().unwrap().show();
        let path = given.sources.file.as_ref().unwrap().display();
        for line in [
            &format!("queue.lanes = 2  # {path}:2\n"),
            &format!("shard.buffer = 50  # {path}:7\n"),
            "sale.hold = \"180s\"  # env RUSHGATE__SALE__HOLD\n",
            "sale.limit_per_buyer = 5  # flag --set\n",
            "queue.relay_after = \"5s\"  # default\n",
        ] {
            assert!(shown.contains(line), "{line}{shown}");
        }
    }

    #[test]
    fn what_is_given_and_does_not_count_is_told_with_whose_word_does() {
        let given = Case::file("[sale]\nhold = \"2m\"\nlimit_per_buyer = 5\n[admin]\ntoken = \"canary\"\n")
            .env("RUSHGATE__SALE__HOLD", "3m")
            .env("RUSHGATE__ADMIN__TOKEN", "another")
            .set("sale.hold", "4m")
            .set("sale.limit_per_buyer", "5");
        let loaded = given.load().unwrap();
        let path = given.sources.file.as_ref().unwrap().display();
        let told: Vec<_> = loaded.covered.iter().map(ToString::to_string).collect();
        let expected = [
            format!("admin.token = \"…\" in {path}:5 is covered by env RUSHGATE__ADMIN__TOKEN"),
            format!("sale.hold = \"120s\" in {path}:2 is covered by flag --set"),
            "sale.hold = \"180s\" in env RUSHGATE__SALE__HOLD is covered by flag --set".to_owned(),
        ];
        for line in &expected {
            assert!(told.contains(line), "{line} is not in {told:?}");
        }
        assert_eq!(told.len(), expected.len(), "{told:?}");
        let explained = loaded.explain(Some("sale.hold")).unwrap();
        assert!(
            explained.contains(&format!("    covers   \"120s\" in {path}:2, which does not count\n")),
            "{explained}"
        );
        let document = loaded.explain_document(Some("sale.hold")).unwrap();
        assert_eq!(document["keys"][0]["covers"][1]["origin"], "env RUSHGATE__SALE__HOLD");
        let alike = loaded.explain_document(Some("sale.limit_per_buyer")).unwrap();
        assert_eq!(alike["keys"][0]["covers"], serde_json::json!([]));
    }

    #[test]
    fn every_error_is_told_at_once_in_the_order_of_the_sources() {
        let file = r#"
[inventroy]
timeout = "1s"
[http]
timeot = "3s"
listen = "localhost"
max_body = "16 kilo"
trusted_proxies = ["10.0.0.0/33"]
[inventory]
partitions = 1025
backend = "mem"
url = "http://u:canary@h"
[queue]
lanes = "4"
[node]
id = "a b"
weight = 0
"#;
        let given = Case::file(file)
            .env("RUSHGATE__SALE__HOLD", "soon")
            .env("RUSHGATE__SALE__HOLDS", "5s")
            .env("RUSHGATE_HTTP_LISTEN", "0.0.0.0:80")
            .env("RUSHGATE_SERVICE_HOST", "10.0.0.1")
            .set("store.btach_max", "9")
            .set("store.batch_max", "0");
        let problems = given.problems();
        let expected = [
            "F:2:2: unknown section `inventroy`; the nearest is `inventory`",
            "F:5:1: unknown key `http.timeot`; the nearest is `inventory.timeout`",
            "F:6:10: http.listen must be an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"; it is the text \"localhost\"",
            "F:7:12: http.max_body must be a size such as \"16KiB\", from 256B to 1MiB; it is the text \"16 kilo\"",
            "F:8:19: http.trusted_proxies must be a list of networks such as [\"10.0.0.0/8\", \"fd00::/8\"]; it is the list [the text \"10.0.0.0/33\"]",
            "F:10:14: inventory.partitions must be a whole number from 1 to 1024; it is 1025",
            "F:11:11: inventory.backend must be \"memory\" or \"redis\"; it is the text \"mem\"",
            "F:12:7: inventory.url must be a whole URL that begins with redis:// or rediss://; it is another text",
            "F:14:9: queue.lanes must be a whole number from 1 to 64; it is the text \"4\"",
            "F:16:6: node.id must be empty, or at most 128 letters, digits, '-', '_' and '.'; it is the text \"a b\"",
            "F:17:10: node.weight must be a number above 0, at most 1000; it is 0",
            "env RUSHGATE__SALE__HOLD: sale.hold must be a duration such as \"300s\" or \"100ms\", from 1s to 604800s; it is `soon`",
            "env RUSHGATE__SALE__HOLDS: unknown variable; the nearest is RUSHGATE__SALE__HOLD",
            "env RUSHGATE_HTTP_LISTEN: unknown variable; the nearest is RUSHGATE__HTTP__LISTEN",
            "flag --set: unknown key `store.btach_max`; the nearest is `store.batch_max`",
            "flag --set: store.batch_max must be a whole number from 1 to 4096; it is `0`",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn keys_outside_of_sections_are_told_with_where_they_belong() {
        let problems = Case::file("partitons = 3\nhttp = 8080\n").problems();
        assert_eq!(
            problems,
            [
                "F:1:1: unknown key `partitons`, outside of any section; the nearest is `inventory.partitions`",
                "F:2:8: `http` is a section: write [http]",
            ]
        );
    }

    #[test]
    fn syntax_errors_have_their_place_and_do_not_hide_the_others() {
        let problems =
            Case::file("[http]\nlisten = \nlistn = \"x\"\n[admin]\ntoken = \"canary\n[queue]\nlanes = 0\n").problems();
        assert!(problems[0].starts_with("F:2:10: "), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("F:3:1: unknown key `http.listn`")), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("F:5:")), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("F:7:9: queue.lanes must be")), "{problems:?}");
        assert!(!problems.join("\n").contains("canary"), "{problems:?}");
        let twice = Case::file("[queue]\nlanes = 1\nlanes = 2\n").problems();
        assert!(twice.len() == 1 && twice[0].starts_with("F:3:1: "), "{twice:?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_beside_the_other_errors() {
        let mut given = Case::nothing().set("queue.lanes", "0");
        given.sources.file = Some("no/such/file.toml".into());
        let problems = given.problems();
        assert!(problems[0].starts_with("F: cannot be read: No such file"), "{problems:?}");
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn what_must_hold_between_values_is_told_with_the_values_and_their_origins() {
        let problems = Case::file("[admin]\nlisten = \"0.0.0.0:9090\"\n").problems();
        let expected = "F:2:1: admin.token must be set unless admin.listen is a loopback address; \
                        here admin.token = \"\" (default), admin.listen = \"0.0.0.0:9090\" (";
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
        for (given, rule) in [
            (Case::nothing().set("http.auth", "jwt"), "http.jwt_secret must be set"),
            (Case::nothing().set("payment.provider", "signed-callback"), "payment.callback_secret must be set"),
            (Case::nothing().set("http.listen", "127.0.0.1:9090"), "must be two addresses"),
            (Case::nothing().set("inventory.backend", "redis"), "a memory inventory goes with a memory queue"),
            (Case::nothing().set("node.roles", "gateway"), "a memory inventory is known to its own process only"),
            (Case::nothing().set("node.roles", "gateway"), "a memory queue is known to its own process only"),
            (Case::nothing().set("node.roles", "gateway"), "a sqlite store belongs to one process"),
            (Case::nothing().set("store.backend", "mysql"), "store.url must begin with mysql://"),
            (Case::nothing().set("store.url", "mysql://h/d"), "store.url must begin with mysql://"),
            (Case::nothing().set("store.read_url", "mysql://h/d"), "store.read_url is for"),
            (Case::nothing().set("shard.node_timeout", "299ms"), "shard.node_timeout must be at least"),
            (Case::nothing().set("queue.relay_after", "2s"), "queue.relay_after must be longer"),
        ] {
            let problems = given.problems();
            assert!(problems.iter().any(|problem| problem.contains(rule)), "{rule}: {problems:?}");
        }
    }

    #[test]
    fn a_rule_is_not_checked_on_a_value_that_could_not_be_read() {
        let problems = Case::file("[admin]\nlisten = \"0.0.0.0:9090\"\ntoken = 5\n").problems();
        assert_eq!(problems, ["F:3:9: admin.token must be a text; it is a number"]);
    }

    #[test]
    fn mysql_under_a_memory_inventory_is_one_process() {
        let given = Case::nothing().set("store.backend", "mysql").set("store.url", "mysql://db/rushgate");
        assert_eq!(given.settings().inventory.backend, InventoryBackend::Memory);
        assert_eq!(given.set("node.roles", "writer").problems().len(), 2);
    }

    #[test]
    fn who_needs_a_section_is_not_told_what_is_wrong_elsewhere() {
        let need = |text: &str, need| load_needed(&Case::file(text).sources, need).map(|loaded| loaded.settings.admin);
        let (section, readable) = (Need::Section("admin"), Need::Readable("admin"));
        // Without the environment that completes it no process could serve with it.
        let admin = "[admin]\nlisten = \"0.0.0.0:9191\"\n";
        let elsewhere = format!(
            "lanes = 4\n[stor]\nx = 1\n[queue]\nlanes = 0\nlane = 1\n[inventory]\nbackend = \"redis\"\n{admin}"
        );
        for need_of in [section, readable] {
            assert_eq!(need(&elsewhere, need_of).unwrap().listen, "0.0.0.0:9191");
        }
        let broken = format!("{admin}[queue]\nlanes = = 4\n");
        assert!(need(&broken, section).is_err());
        assert_eq!(need(&broken, readable).unwrap().listen, "0.0.0.0:9191");
        let wrong = "[admin]\nlisten = \"nowhere\"\n";
        assert!(need(wrong, section).is_err());
        assert_eq!(need(wrong, readable).unwrap(), Settings::default().admin);
        let mut gone = Case::nothing().set("admin.listen", "127.0.0.1:9191").sources;
        gone.file = Some("no/such/file.toml".into());
        assert!(load_needed(&gone, section).is_err());
        assert_eq!(load_needed(&gone, readable).unwrap().settings.admin.listen, "127.0.0.1:9191");
        gone.flags[0].value = "nowhere".to_owned();
        assert!(load_needed(&gone, readable).is_err(), "what was typed for this very call is looked at");
    }

    #[test]
    fn a_node_without_a_name_keeps_the_one_that_it_was_given_over_all_loads() {
        let sources = Sources::of_process(None, Vec::new());
        let (one, other) = (load(&sources).unwrap(), load(&sources).unwrap());
        assert_eq!(one.settings.node.id, other.settings.node.id);
        assert_ne!(Sources::of_process(None, Vec::new()).node_id, sources.node_id);
    }

    #[test]
    fn no_secret_is_printed_in_any_way() {
        let mut given = Case::nothing();
        for path in ["admin.token", "http.jwt_secret", "payment.callback_secret"] {
            given = given.set(path, "canary");
        }
        for (path, scheme) in
            [("inventory.url", "redis"), ("queue.url", "amqp"), ("store.url", "mysql"), ("store.read_url", "mysql")]
        {
            given = given.set(path, &format!("{scheme}://canary:canary@host/0"));
        }
        given = given.set("store.backend", "mysql");
        let loaded = given.load().unwrap();
        assert_eq!(loaded.settings.admin.token.0, "canary");
        let settings = &loaded.settings;
        let printed = format!("{settings:?}{settings:#?}{settings}{}{}", loaded.show(), loaded.explain(None).unwrap());
        assert!(printed.contains("redis://…@host/0") && !printed.contains("canary"), "{printed}");
        // Rules repeat values; they are not to repeat these.
        let problems = given.set("store.backend", "sqlite").set("queue.lanes", "0").problems().join("\n");
        assert!(problems.contains("mysql://…@host/0") && !problems.contains("canary"), "{problems}");
    }

    #[test]
    fn a_key_is_explained_with_its_reason_its_form_and_its_rules() {
        let loaded = Case::nothing().load().unwrap();
        let text = loaded.explain(Some("admin.token")).unwrap();
        for part in [
            "admin.token = \"\"  # default\n",
            "    reason   The bearer token of the admin API.",
            "    value    a text\n",
            "    env      RUSHGATE__ADMIN__TOKEN\n",
            "    change   needs a restart\n",
            "    rule     admin.token must be set unless",
        ] {
            assert!(text.contains(part), "{part}{text}");
        }
        assert_eq!(loaded.explain(Some("admin")).unwrap().matches("    reason").count(), 2);
        assert_eq!(loaded.explain(Some("admin.tokn")), None);
    }

    #[test]
    fn the_file_of_all_keys_is_the_template_and_loads_to_the_defaults() {
        let text = include_str!("../../config/rushgate.toml");
        assert!(text == template(), "refresh it: cargo run -- config template > config/rushgate.toml");
        let loaded = Case::file(text).load().unwrap();
        assert_eq!(loaded.settings, defaults());
        assert_eq!(loaded.set_keys(), loaded.origins.len());
    }

    #[test]
    fn the_example_of_a_gateway_and_that_of_a_writer_load_and_belong_together() {
        let gateway = Case::file(include_str!("../../config/gateway.toml")).settings();
        let writer = Case::file(include_str!("../../config/writer.toml")).settings();
        assert_eq!(
            (gateway.node.roles.as_slice(), writer.node.roles.as_slice()),
            (&[Role::Gateway][..], &[Role::Writer][..])
        );
        assert_eq!(gateway.inventory, writer.inventory);
        assert_eq!(gateway.queue, writer.queue);
        assert_eq!(gateway.store.url, writer.store.url);
        assert_eq!(gateway.payment, writer.payment);
        assert_eq!(gateway.shard.node_timeout, writer.shard.node_timeout);
    }
}

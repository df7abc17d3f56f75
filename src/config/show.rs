//! The configuration as people read it: effective values with their origins, one key explained, a whole file to begin with.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use crate::config::keys::{Change, Key, SECTIONS};
use crate::config::load::Loaded;
use crate::config::origin::{Covered, Origin};
use crate::config::rules::RULES;
use crate::config::settings::Settings;

/// Width of a comment in the template, and of an explanation.
const WIDTH: usize = 100;

/// One line per key, without what must not be seen.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::ALL.iter().try_for_each(|key| writeln!(f, "{} = {}", key.path(), (key.print)(self)))
    }
}

impl Loaded {
    /// One line per key: `key = value  # origin`.
    pub fn show(&self) -> String {
        (0..Key::ALL.len()).map(|position| self.line(position)).collect()
    }

    /// Where the value of this key comes from.
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        Key::position(path).map(|position| &self.origins[position])
    }

    /// How many keys were set by somebody.
    pub fn set_keys(&self) -> usize {
        self.origins.iter().filter(|origin| **origin != Origin::Default).count()
    }

    /// All about a key, about each key of a section, or about every key. `None`: there is no such key or section.
    pub fn explain(&self, what: Option<&str>) -> Option<String> {
        let keys = Key::ALL.iter().enumerate();
        let asked = |key: &Key| what.is_none_or(|what| key.path() == what || key.section == what);
        let texts: Vec<_> = keys.filter(|(_, key)| asked(key)).map(|(at, key)| self.explain_key(at, key)).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }

    /// What [`Loaded::show`] tells, for programs.
    pub fn document(&self) -> Value {
        let keys = Key::ALL.iter().zip(&self.origins).map(|(key, origin)| {
            let value = value(key, &self.settings);
            json!({"key": key.path(), "value": value, "origin": origin.to_string()})
        });
        json!({"keys": keys.collect::<Vec<_>>()})
    }

    /// What [`Loaded::explain`] tells, for programs.
    pub fn explain_document(&self, what: Option<&str>) -> Option<Value> {
        let keys = Key::ALL.iter().zip(&self.origins);
        let asked = keys.filter(|(key, _)| what.is_none_or(|what| key.path() == what || key.section == what));
        let explained = asked.map(|(key, origin)| {
            let mut told = of_key(key);
            told["value"] = value(key, &self.settings);
            told["origin"] = origin.to_string().into();
            let path = key.path();
            let covers =
                self.beneath(&path).map(|beneath| json!({"value": beneath.value, "origin": beneath.at.to_string()}));
            told["covers"] = covers.collect();
            told
        });
        let keys: Vec<_> = explained.collect();
        (!keys.is_empty()).then(|| json!({"keys": keys}))
    }

    /// What was given for this key and does not count.
    fn beneath(&self, path: &str) -> impl Iterator<Item = &Covered> {
        self.covered.iter().filter(move |covered| covered.key == path)
    }

    fn line(&self, position: usize) -> String {
        let key = &Key::ALL[position];
        format!("{} = {}  # {}\n", key.path(), (key.print)(&self.settings), self.origins[position])
    }

    fn explain_key(&self, position: usize, key: &Key) -> String {
        let path = key.path();
        let mut text = self.line(position);
        let mut line = |head: &str, body: &str| {
            for (at, part) in wrapped(body).iter().enumerate() {
                writeln!(text, "    {:<9}{part}", if at == 0 { head } else { "" }).expect("a text takes any text");
            }
        };
        for beneath in self.beneath(&path) {
            line("covers", &format!("{} in {}, which does not count", beneath.value, beneath.at));
        }
        line("reason", key.about);
        line("value", &(key.describe)());
        line("default", &(key.print)(&Settings::default()));
        line("env", &key.variable());
        line("change", key.change.about());
        for rule in RULES.iter().filter(|rule| rule.keys.contains(&path.as_str())) {
            line("rule", rule.says);
        }
        text
    }
}

/// What is the same for everybody about a key.
fn of_key(key: &Key) -> Value {
    let path = key.path();
    let rules = RULES.iter().filter(|rule| rule.keys.contains(&path.as_str())).map(|rule| rule.says);
    json!({
        "key": path,
        "default": value(key, &Settings::default()),
        "reason": key.about.split_whitespace().collect::<Vec<_>>().join(" "),
        "may_be": (key.describe)(),
        "env": key.variable(),
        "change": if key.change == Change::Live { "live" } else { "restart" },
        "rules": rules.collect::<Vec<_>>(),
    })
}

/// A value as it stands in a file, read: a text without its quotes, a list as a list. What must not be seen is `"…"` here too.
fn value(key: &Key, settings: &Settings) -> Value {
    let printed = (key.print)(settings);
    let table = toml::from_str::<toml::Table>(&format!("value = {printed}"));
    let read = table.ok().and_then(|table| serde_json::to_value(table.get("value")?).ok());
    read.unwrap_or_else(|| printed.into())
}

/// What [`template`] tells, for programs: every key with its default and its reason.
pub fn template_document() -> Value {
    json!({"keys": Key::ALL.iter().map(of_key).collect::<Vec<_>>()})
}

/// A whole file: every key with its default and its reason.
pub fn template() -> String {
    let mut text = String::from(
        "# Every key of Rushgate with its default and its reason; a file needs only what differs.\n\
         #\n\
         # The environment stands above the file (RUSHGATE__SECTION__KEY), flags above both (--set section.key=value).\n\
         # `rushgate config check` finds what is wrong, `config show` tells where each value comes from, `config explain KEY`\n\
         # what it may be. A process takes the live ones while it runs: when this file changes, on SIGHUP, and by\n\
         # POST /admin/v1/reload. All or nothing: what is wrong changes nothing.\n\
         #\n\
         # This file is made by `rushgate config template`.\n",
    );
    let defaults = Settings::default();
    for (section, about) in SECTIONS {
        write!(text, "\n# {}\n[{section}]\n", about.trim()).expect("a text takes any text");
        for key in Key::ALL.iter().filter(|key| key.section == *section) {
            let about = wrapped(key.about).join("\n# ");
            let (change, value) = (key.change.about(), (key.print)(&defaults));
            write!(text, "\n# {about}\n# ({change})\n{} = {value}\n", key.name).expect("a text takes any text");
        }
    }
    text
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

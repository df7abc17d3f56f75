//! What a newer configuration changes: what of it a running process takes, and what needs a restart.

use serde_json::{Map, Value};

use crate::config::keys::{Change, Key};
use crate::config::load::Loaded;
use crate::config::origin::{Covered, Origin, Problem, Problems};
use crate::config::rules::RULES;
use crate::config::settings::Settings;

/// A key whose value differs, with both values as they stand in a file, without what must not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub key: String,
    pub before: String,
    pub after: String,
}

/// What becomes of running settings when a newer configuration is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// What runs from then on: the live keys of the newer one, and all others as they were.
    pub running: Settings,
    /// Live keys that change.
    pub live: Vec<Changed>,
    /// Keys that would change, and only a restart changes.
    pub restart: Vec<Changed>,
    /// What the file says and does not count, whatever is changed there. Only a file changes while a process runs.
    pub covered: Vec<Covered>,
}

impl Diff {
    /// Holds the newer one against what runs. What is live of it must also go together with what stays as it was.
    pub fn new(running: &Settings, newer: &Loaded) -> Result<Self, Problems> {
        let mut next = running.clone();
        for key in Key::ALL.iter().filter(|key| key.change == Change::Live) {
            (key.copy)(&mut next, &newer.settings);
        }
        let changed = |to: &Settings, change| {
            let differs = |key: &&Key| key.change == change && !(key.is_same)(running, to);
            let shown = |key: &Key| Changed { key: key.path(), before: (key.print)(running), after: (key.print)(to) };
            Key::ALL.iter().filter(differs).map(shown).collect()
        };
        let (live, restart) = (changed(&next, Change::Live), changed(&newer.settings, Change::Restart));
        let broken: Vec<_> = RULES.iter().filter(|rule| !(rule.holds)(&next)).collect();
        let problems = broken.iter().map(|rule| {
            let value = |path: &&str| Key::position(path).map(|at| format!("{path} = {}", (Key::ALL[at].print)(&next)));
            let values = rule.keys.iter().filter_map(value);
            let given = rule.keys.iter().filter_map(|path| newer.origin(path));
            let at = given.into_iter().find(|at| **at != Origin::Default).unwrap_or(&Origin::Default).clone();
            let values = values.collect::<Vec<_>>().join(", ");
            Problem { at, message: format!("{}; until a restart it would be {values}", rule.says) }
        });
        let problems: Vec<_> = problems.collect();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let of_file = |covered: &&Covered| matches!(covered.at, Origin::File { .. });
        let covered = newer.covered.iter().filter(of_file).cloned().collect();
        Ok(Self { running: next, live, restart, covered })
    }
}

impl Changed {
    /// The values before and after, each under its key.
    pub fn values(changed: &[Self]) -> (Value, Value) {
        let map = |value: fn(&Self) -> &str| {
            let entries = changed.iter().map(|changed| (changed.key.clone(), json(value(changed))));
            Value::Object(entries.collect::<Map<_, _>>())
        };
        (map(|changed| &changed.before), map(|changed| &changed.after))
    }
}

/// A value of a file as JSON, which writes nearly all of them in the same way.
fn json(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::given::Given;
    use crate::config::load::{Flag, Sources, load};

    fn loaded(set: &[(&str, &str)]) -> Loaded {
        let flag = |(path, value): &(&str, &str)| Flag {
            name: "--set".to_owned(),
            path: (*path).to_owned(),
            value: (*value).to_owned(),
        };
        let flags = set.iter().map(flag).collect();
        load(&Sources { file: None, env: Vec::new(), flags, node_id: "n".parse().unwrap() }).unwrap()
    }

    fn diff(before: &[(&str, &str)], after: &[(&str, &str)]) -> Result<Diff, Problems> {
        Diff::new(&loaded(before).settings, &loaded(after))
    }

    fn keys(changed: &[Changed]) -> Vec<&str> {
        changed.iter().map(|changed| changed.key.as_str()).collect()
    }

    #[test]
    fn a_configuration_that_is_the_same_changes_nothing() {
        let same = [("shard.buffer", "5"), ("admin.token", "hush")];
        let diff = diff(&same, &same).unwrap();
        assert_eq!((diff.live.len(), diff.restart.len()), (0, 0));
        assert_eq!(diff.running, loaded(&same).settings);
    }

    #[test]
    fn what_is_live_is_taken_and_what_is_not_stays_as_it_was() {
        let diff =
            diff(&[], &[("shard.buffer", "5"), ("inventory.partitions", "3"), ("queue.namespace", "x")]).unwrap();
        assert_eq!(keys(&diff.live), ["shard.buffer"]);
        assert_eq!(keys(&diff.restart), ["inventory.partitions", "queue.namespace"]);
        assert_eq!(diff.running, loaded(&[("shard.buffer", "5")]).settings);
        assert_eq!(Changed::values(&diff.live), (json!({"shard.buffer": "10%"}), json!({"shard.buffer": 5})));
    }

    #[test]
    fn a_changed_secret_is_told_as_changed_and_not_shown() {
        let url = |password: &str| format!("redis://u:{password}@host");
        let before = [("admin.token", "canary"), ("inventory.url", &url("canary"))];
        let diff = diff(&before, &[("admin.token", "canary2"), ("inventory.url", &url("canary2"))]).unwrap();
        assert_eq!(keys(&diff.restart), ["admin.token", "inventory.url"]);
        assert!(!format!("{:?}", diff.restart).contains("canary"), "{:?}", diff.restart);
    }

    #[test]
    fn what_is_live_must_go_together_with_what_runs_until_a_restart() {
        let slow = [("queue.confirm_timeout", "10s"), ("queue.relay_after", "20s")];
        let quick = [("queue.confirm_timeout", "1s"), ("queue.relay_after", "2s")];
        let problems = diff(&slow, &quick).unwrap_err().to_string();
        let expected = "queue.relay_after must be longer than queue.confirm_timeout: what is still on its way would be \
                        published twice; until a restart it would be queue.relay_after = \"2s\", \
                        queue.confirm_timeout = \"10s\"";
        assert!(problems.contains(expected), "{problems}");
        assert_eq!(keys(&diff(&quick, &slow).unwrap().restart), ["queue.confirm_timeout"]);
    }

    /// What a text makes of a key: the newer configuration and the difference, if there is one and no rule forbids it.
    fn with(base: &Loaded, key: &Key, text: &str) -> Option<(Loaded, Diff)> {
        let mut newer = base.clone();
        (key.read)(&mut newer.settings, Given::Text(text)).ok()?;
        let diff = Diff::new(&base.settings, &newer).ok()?;
        (!(key.is_same)(&base.settings, &newer.settings)).then_some((newer, diff))
    }

    #[test]
    fn every_key_changes_live_or_by_a_restart_and_never_both() {
        const OTHERS: &str = "7 5.5 61% 700ms 7s 301s 9KiB gateway 127.0.0.2:1 jwt 10.0.0.0/8 redis redis://h inventory \
                              rabbitmq amqp://h mysql mysql://h/d signed-callback json debug 0.7 http://h inherited x";
        let base = loaded(&[]);
        // A build that exports nothing takes no other value.
        let can_change = |key: &&Key| cfg!(feature = "otlp") || key.path() != "trace.otlp_endpoint";
        for key in Key::ALL.iter().filter(can_change) {
            let found = OTHERS.split_whitespace().find_map(|text| with(&base, key, text));
            let (newer, diff) = found.unwrap_or_else(|| panic!("none of these is another value of {key:?}"));
            let path = key.path();
            let (live, restart) = (keys(&diff.live), keys(&diff.restart));
            match key.change {
                Change::Live => assert_eq!((live, restart), (vec![path.as_str()], vec![])),
                Change::Restart => assert_eq!((live, restart), (vec![], vec![path.as_str()])),
            }
            assert_eq!((key.is_same)(&diff.running, &newer.settings), key.change == Change::Live, "{path}");
        }
    }
}

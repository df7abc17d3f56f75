//! What the planted bugs are in the scripts: a line of Lua, and what it says instead. See [`crate::bugs`].

use crate::bugs::{self, Bug};

const CHANGES: &[(Bug, &str, &str)] = &[
    // One unit more than is free, which no counter tells of.
    (Bug::GrantOneTooMany, "counter.free < plan[at + 1] then", "counter.free + 1 < plan[at + 1] then"),
    (
        Bug::GrantOneTooMany,
        "counter.free, counter.held = counter.free - units, counter.held + units",
        "counter.free, counter.held = counter.free - math.min(units, counter.free), counter.held + math.min(units, counter.free)",
    ),
    (Bug::ForgetTheLimit, "if units_of(plan[at]) + plan[at + 1] > limit then", "if units_of(plan[at]) < 0 then"),
    // An end that was followed is followed again.
    (
        Bug::ReleaseTwice,
        "  PR = { 'sold', 'free' },",
        "  PR = { 'sold', 'free' }, EE = { 'held', 'free' }, CC = { 'held', 'free' },",
    ),
    (
        Bug::NoRestartCheck,
        "if meta[2] ~= ARGV[1] then return 'it was opened in another run",
        "if false then return 'it was opened in another run",
    ),
];

/// The text with the bug in it that this process has, if it has one.
pub(super) fn with_bug(text: String) -> String {
    let planted = CHANGES.iter().filter(|(bug, ..)| bugs::is_planted(*bug));
    planted.fold(text, |text, (_, right, wrong)| text.replace(right, wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_finds_its_line_in_one_script() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
        let scripts = std::fs::read_dir(folder).unwrap();
        let texts: Vec<_> = scripts.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
        for (bug, right, wrong) in CHANGES {
            let places: usize = texts.iter().map(|text| text.matches(right).count()).sum();
            assert_eq!(places, 1, "{}: {right}", bug.as_str());
            assert_ne!(right, wrong);
        }
    }
}

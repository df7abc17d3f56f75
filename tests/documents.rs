//! What the documents name is there: tests, files, commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use rushgate::cli::Cli;

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
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let missing: Vec<_> = links.filter(|link| !link.contains("://") && !Path::new(link).exists()).collect();
    assert_eq!(missing, [""; 0]);
    assert!(readme.lines().count() < README_LINES);
}

#[test]
fn every_command_of_the_readme_and_of_every_example_is_understood() {
    let mut lines: BTreeSet<String> =
        readme().lines().filter(|line| line.starts_with("rushgate ")).map(Into::into).collect();
    assert!(lines.len() > 5, "the readme shows no commands any more");
    let mut open = vec![Cli::command()];
    while let Some(command) = open.pop() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        lines.extend(help.lines().map(str::trim).filter(|line| line.starts_with("rushgate ")).map(Into::into));
        open.extend(command.get_subcommands().cloned());
    }
    for line in lines {
        // Without its comment, what it is piped into, and the words that explain it in a list.
        let command = line.split(" # ").next().unwrap_or_default();
        let command = command.split(['|', '>']).next().unwrap_or_default().trim_end();
        let command = command.split("    ").next().unwrap_or_default();
        let parsed = Cli::command().try_get_matches_from(command.split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

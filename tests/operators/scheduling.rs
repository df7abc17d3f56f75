//! How the kernel schedules a process that serves: seen where the kernel tells it, for each of its threads.

use std::collections::BTreeSet;
use std::fs;

use tempfile::TempDir;

use crate::process::{Process, owned};

/// `sched(7)`: the numbers of the classes.
const OTHER: i64 = 0;
const BATCH: i64 = 3;
const IDLE: i64 = 5;
/// What is said when all parts of a process have begun.
const SELLS: &str = "A sample sale is open.";

/// The class and the niceness of a thread, by its entry in `/proc`; `None` if it has ended.
fn scheduled(thread: &str) -> Option<(i64, i64)> {
    let stat = fs::read_to_string(format!("{thread}/stat")).ok()?;
    // After the name in parentheses comes the third field.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let field = |number: usize| fields[number - 3].parse().unwrap();
    Some((field(41), field(19)))
}

/// Every class and niceness among the threads of a process that sells, started through this command.
async fn threads(started_through: &[&str], arguments: &[&str]) -> BTreeSet<(i64, i64)> {
    let folder = TempDir::new().unwrap();
    let mut command = owned(started_through[0]);
    command.args(&started_through[1..]).arg(env!("CARGO_BIN_EXE_rushgate")).arg("serve").args(arguments);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).current_dir(folder.path());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
    let log = folder.path().join("log");
    let process = Process::start("rushgate", command, &log);
    process
        .answers(async || {
            let said = fs::read_to_string(&log).unwrap();
            said.contains(SELLS).then_some(()).ok_or_else(|| "it sells nothing yet".to_owned())
        })
        .await;
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let tasks: Vec<_> = tasks.map(|task| task.unwrap().path().display().to_string()).collect();
    let names: Vec<_> = tasks.iter().filter_map(|task| fs::read_to_string(format!("{task}/comm")).ok()).collect();
    for name in ["core-0\n", "tokio-rt-worker\n"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    tasks.iter().filter_map(|task| scheduled(task)).collect()
}

fn own_niceness() -> i64 {
    scheduled("/proc/self").unwrap().1
}

#[tokio::test]
async fn every_thread_of_a_process_that_serves_is_in_the_batch_class_and_as_nice_as_it_was_started() {
    let started = ["chrt", "--other", "0", "nice", "-n", "3"];
    assert_eq!(threads(&started, &[]).await, [(BATCH, (own_niceness() + 3).min(19))].into());
}

#[tokio::test]
async fn it_stays_as_it_was_started_where_that_is_wanted() {
    let wanted = ["--set", "node.scheduling=inherited"];
    assert_eq!(threads(&["chrt", "--other", "0"], &wanted).await, [(OTHER, own_niceness())].into());
}

#[tokio::test]
async fn who_started_it_in_a_class_of_their_own_has_chosen() {
    assert_eq!(threads(&["chrt", "--idle", "0"], &[]).await, [(IDLE, own_niceness())].into());
}

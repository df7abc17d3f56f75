//! How the kernel schedules a process that serves: seen where the kernel tells it, for each of its threads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// `sched(7)`: the numbers of the classes.
const OTHER: i64 = 0;
const BATCH: i64 = 3;
const IDLE: i64 = 5;

/// Ends with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _it_may_have_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The classes and the niceness of all threads of a process that serves, started through this command.
fn threads(started_through: &[&str], arguments: &[&str]) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(started_through[0]);
    command.args(&started_through[1..]).arg(env!("CARGO_BIN_EXE_rushgate")).arg("serve").args(arguments);
    command.args(["--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut served = Served(command.spawn().unwrap());
    // It has all its threads when it says where it listens.
    let mut said = String::new();
    BufReader::new(served.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with('{'), "{said:?}");
    let tasks: Vec<_> = fs::read_dir(format!("/proc/{}/task", served.0.id())).unwrap().collect();
    assert!(tasks.len() > 3, "{}", tasks.len());
    let of_all = |field: usize| {
        let stats = tasks.iter().filter_map(|task| fs::read_to_string(task.as_ref().unwrap().path().join("stat")).ok());
        // After the name in parentheses comes the third field.
        stats
            .map(|stat| stat.rsplit(')').next().unwrap().split_whitespace().nth(field - 3).unwrap().parse().unwrap())
            .collect()
    };
    (of_all(41), of_all(19))
}

#[test]
fn every_thread_of_a_process_that_serves_is_in_the_batch_class_and_as_nice_as_it_was() {
    assert_eq!(threads(&["nice", "-n", "3"], &[]), ([BATCH].into(), [3].into()));
}

#[test]
fn it_stays_as_it_was_started_where_that_is_wanted() {
    assert_eq!(threads(&["env"], &["--set", "node.scheduling=inherited"]).0, [OTHER].into());
}

#[test]
fn who_started_it_in_a_class_of_their_own_has_chosen() {
    assert_eq!(threads(&["chrt", "--idle", "0"], &[]).0, [IDLE].into());
}

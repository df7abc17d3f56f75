//! How the kernel schedules a process that serves: seen where the kernel tells it, for each of its threads.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// `sched(7)`: the numbers of the classes.
const OTHER: i64 = 0;
const BATCH: i64 = 3;
const IDLE: i64 = 5;
/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(10);

/// Ends with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _it_may_have_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The class and the niceness of a thread, by its entry in `/proc`; `None` if it has ended.
fn scheduled(thread: &str) -> Option<(i64, i64)> {
    let stat = fs::read_to_string(format!("{thread}/stat")).ok()?;
    // After the name in parentheses comes the third field.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let field = |number: usize| fields[number - 3].parse().unwrap();
    Some((field(41), field(19)))
}

/// Every class and niceness among the threads of a process that sells, started through this command.
fn threads(started_through: &[&str], arguments: &[&str]) -> BTreeSet<(i64, i64)> {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(started_through[0]);
    command.args(&started_through[1..]).arg(env!("CARGO_BIN_EXE_rushgate")).arg("serve").args(arguments);
    command.args(["--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
    let said = folder.path().join("said");
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(fs::File::create(&said).unwrap());
    let served = Served(command.stderr(Stdio::null()).spawn().unwrap());
    // When the sample sale is open, the second thing that is said, its parts have all begun.
    let until = Instant::now() + PATIENCE;
    while fs::read_to_string(&said).unwrap().lines().count() < 2 {
        assert!(Instant::now() < until, "it did not open a sale");
        sleep(INTERVAL);
    }
    let tasks = fs::read_dir(format!("/proc/{}/task", served.0.id())).unwrap();
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

#[test]
fn every_thread_of_a_process_that_serves_is_in_the_batch_class_and_as_nice_as_it_was_started() {
    let started = ["chrt", "--other", "0", "nice", "-n", "3"];
    assert_eq!(threads(&started, &[]), [(BATCH, (own_niceness() + 3).min(19))].into());
}

#[test]
fn it_stays_as_it_was_started_where_that_is_wanted() {
    let wanted = ["--set", "node.scheduling=inherited"];
    assert_eq!(threads(&["chrt", "--other", "0"], &wanted), [(OTHER, own_niceness())].into());
}

#[test]
fn who_started_it_in_a_class_of_their_own_has_chosen() {
    assert_eq!(threads(&["chrt", "--idle", "0"], &[]), [(IDLE, own_niceness())].into());
}

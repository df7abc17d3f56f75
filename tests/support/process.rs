//! A server process that a test owns: in a session of its own, its output in a file, gone with the test however that ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// How long a server may take to start, or to end when it is killed, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when it is dropped, and by the kernel when the test's own process ends.
pub(crate) struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    ended: Arc<Ended>,
}

#[derive(Default)]
struct Ended {
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

/// The command that runs a program in a session of its own, under the same process id, for as long as whoever starts it lives.
pub(crate) fn owned(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "setsid", program]);
    command
}

impl Process {
    /// Starts a command made by [`owned`]; its output goes to this file.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("the log file")).stderr(out);
        let ended = Arc::new(Ended::default());
        let (tell, started) = std::sync::mpsc::channel();
        // The kernel kills the process when the thread that started it ends: this one stays until the process has ended.
        let end = Arc::clone(&ended);
        std::thread::spawn(move || {
            let mut child = command.spawn().expect("the program starts");
            let _ = tell.send(child.id());
            let status = child.wait().expect("its status");
            *end.status.lock().expect("a status") = Some(status);
            end.changed.notify_all();
        });
        let pid = started.recv().unwrap_or_else(|_| panic!("{name} cannot be started"));
        Self { name: name.to_owned(), pid, log: log.to_owned(), ended }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.ended.status.lock().expect("a status")
    }

    /// Ends it and all of its session as by `kill -9`, frozen or not, and waits until it is gone.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
        let status = self.ended.status.lock().expect("a status");
        let (status, _) =
            self.ended.changed.wait_timeout_while(status, PATIENCE, |status| status.is_none()).expect("a status");
        assert!(status.is_some(), "{} was killed and lives", self.name);
    }

    /// Stops its clockwork: it keeps its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        // A process that has ended has been waited for, and its number may be another's.
        if self.status().is_none() {
            let group = format!("-{}", self.pid);
            let _ = Command::new("kill").args([&format!("-{signal}"), "--", &group]).stderr(Stdio::null()).status();
        }
    }

    /// Waits until the probe succeeds. Fails with the last lines that the process wrote.
    pub(crate) async fn answers<F, W>(&self, mut probe: F)
    where
        F: FnMut() -> W,
        W: Future<Output = Result<(), String>>,
    {
        let begun = Instant::now();
        loop {
            let reason = match tokio::time::timeout(PATIENCE / 12, probe()).await {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason,
                Err(_) => "no answer".to_owned(),
            };
            assert!(self.status().is_none(), "{} has ended before it answered: {}", self.name, self.last_words());
            assert!(begun.elapsed() < PATIENCE, "{} does not answer: {reason}: {}", self.name, self.last_words());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status().is_none() {
            self.kill();
        }
    }
}

/// A loopback port below the kernel's ephemeral range that nobody uses now. No two calls in a process are given the same: whoever asked
/// first may not listen yet, or may be between two starts.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = fastrand::u16(20_000..32_000);
        let is_new = GIVEN.lock().expect("the ports").insert(port);
        if is_new && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

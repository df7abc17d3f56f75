//! Memory, sockets and queue lengths: what must come back to its level.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::run::quiet;

/// Growth that is none: caches that fill, arenas of threads.
const MEMORY_SLACK: u64 = 96 << 20;
const SOCKET_SLACK: usize = 24;

/// Of each process of a deployment.
#[derive(Debug, Clone)]
pub(crate) struct Vitals {
    /// Resident bytes.
    memory: Vec<u64>,
    sockets: Vec<usize>,
    /// Messages in all lanes, and outbox entries; `None` while buyers are busy.
    waiting: Option<u64>,
}

impl Vitals {
    /// Of a deployment that is at work.
    pub(crate) fn at_work(deployment: &Deployment) -> Self {
        let pids: Vec<_> = (0..deployment.len()).map(|index| deployment.pid(index)).collect();
        Self {
            memory: pids.iter().map(|pid| memory(*pid)).collect(),
            sockets: pids.iter().map(|pid| sockets(*pid)).collect(),
            waiting: None,
        }
    }

    /// Of one that has nothing more to do.
    pub(crate) async fn at_rest(deployment: &Deployment) -> Self {
        let found = quiet(deployment.sources(), Duration::from_secs(60)).await;
        let waiting = found.lanes.values().sum::<u64>() + found.outbox;
        Self { waiting: Some(waiting), ..Self::at_work(deployment) }
    }

    /// What has not come back to the level of `before`.
    pub(crate) fn grown_since(&self, before: &Self) -> Vec<String> {
        let mut grown = Vec::new();
        for (index, (now, then)) in self.memory.iter().zip(&before.memory).enumerate() {
            if *now > then * 2 + MEMORY_SLACK {
                grown.push(format!("process {index} has {} MiB, {} before", now >> 20, then >> 20));
            }
        }
        for (index, (now, then)) in self.sockets.iter().zip(&before.sockets).enumerate() {
            if *now > then + SOCKET_SLACK {
                grown.push(format!("process {index} has {now} sockets, {then} before"));
            }
        }
        if let Some(waiting) = self.waiting.filter(|waiting| *waiting > 0) {
            grown.push(format!("{waiting} messages or outbox entries wait"));
        }
        grown
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory: Vec<_> = self.memory.iter().map(|bytes| bytes >> 20).collect();
        write!(f, "memory {memory:?} MiB, sockets {:?}", self.sockets)?;
        self.waiting.map_or(Ok(()), |waiting| write!(f, ", {waiting} messages and outbox entries wait"))
    }
}

fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn sockets(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_socket = |link: std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).filter(|link| is_socket(link.clone())).count()
}

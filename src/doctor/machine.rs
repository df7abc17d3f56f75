//! The machine: what a process may open, hold and count on. Linux tells it in files; where there are none, it is not known.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use rustix::process::{Resource, getrlimit};

use crate::config::Settings;
use crate::config::settings::Role;
use crate::doctor::has_role;
use crate::finding::{Findings, remedy};
use crate::http::BACKLOG;

/// Descriptors beside those of buyers: backends, the admin listener's callers, files.
const OTHER_FILES: u64 = 256;
/// Descriptors of the runtime of a core: its poller, and what wakes it.
const CORE_FILES: u64 = 4;
/// Bytes of a process without buyers, and of each idle connection, of which 15 KB were measured.
const EMPTY_PROCESS: u64 = 64 << 20;
const CONNECTION: u64 = 16 << 10;

/// Looks at this machine, as far as these settings ask for something of it.
pub fn examine(settings: &Settings, mut findings: Findings) {
    let connections = if has_role(settings, Role::Gateway) { settings.http.max_connections as u64 } else { 0 };
    open_files(&mut findings, connections);
    memory(&mut findings, connections);
    cpu(&mut findings);
    if connections > 0 {
        queue_of_the_kernel(&mut findings);
    }
    ports(&mut findings, settings);
    clock(&mut findings);
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn open_files(findings: &mut Findings, connections: u64) {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    // Only a gateway has them.
    let cores = if connections > 0 { available_parallelism().map_or(1, NonZero::get) as u64 } else { 0 };
    let needed = connections + OTHER_FILES + cores * CORE_FILES;
    let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let found = format!(
        "{} may be open by what this shell starts ({} at most); needed: {needed}. A unit or a container has limits of its own",
        shown(soft),
        shown(hard)
    );
    let why = "past the limit nobody new comes in, neither buyers nor operators, and no lost connection to a backend \
               comes back";
    let mend = format!(
        "ulimit -n {needed} before rushgate serve; in a unit LimitNOFILE={needed}, which systemctl show \
         rushgate-gateway --property LimitNOFILE \
         tells; or lower http.max_connections"
    );
    // Never more than a risk: whoever starts the process may give it others.
    if soft < needed {
        findings.warn("open files", found, remedy(why, mend));
    } else {
        findings.ok("open files", found);
    }
}

/// The least that the process's control groups allow, from its own up to the root's.
fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = Path::new("/sys/fs/cgroup");
    let own: PathBuf = root.join(own.trim_start_matches('/'));
    let limits = own
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| number(folder.join("memory.max")));
    let older = number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    limits.chain(older).min()
}

/// A line of `/proc/meminfo`, in bytes.
fn of_meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn memory(findings: &mut Findings, connections: u64) {
    let Some(available) = of_meminfo("MemAvailable") else {
        return findings.unknown("memory", "this system does not tell it in /proc/meminfo");
    };
    let total = of_meminfo("MemTotal").unwrap_or(available);
    // What an older kernel calls no limit is larger than any machine.
    let limit = memory_limit().filter(|limit| *limit < total);
    let may_have = limit.unwrap_or(u64::MAX).min(available);
    let needed = EMPTY_PROCESS + connections * CONNECTION;
    let bound = limit
        .map_or_else(|| "no limit of the control group".to_owned(), |limit| format!("limited to {} MiB", limit >> 20));
    let found =
        format!("{} MiB free, {bound}; full of connections it takes some {} MiB", available >> 20, needed >> 20);
    if may_have < needed {
        let why = "a process that takes more than it may is killed in the middle of a sale; nothing is lost, and its \
                   buyers come back all at once";
        let mend = "give it more (MemoryMax=, resources.limits.memory), or lower http.max_connections";
        findings.warn("memory", found, remedy(why, mend));
    } else {
        findings.ok("memory", found);
    }
}

fn cpu(findings: &mut Findings) {
    match available_parallelism() {
        Ok(count) => findings.ok("cpu", format!("{count} to run on")),
        Err(error) => findings.unknown("cpu", error.to_string()),
    }
}

fn queue_of_the_kernel(findings: &mut Findings) {
    let Some(most) = number("/proc/sys/net/core/somaxconn") else {
        return findings.unknown("backlog", "this system does not tell net.core.somaxconn");
    };
    if most < u64::from(BACKLOG) {
        let why = format!(
            "of {BACKLOG} who come at once the kernel turns away those past {most}, and they try again a second later"
        );
        let mend = format!("sysctl -w net.core.somaxconn={BACKLOG}");
        findings.warn("backlog", format!("net.core.somaxconn {most}"), remedy(why, mend));
    } else {
        findings.ok("backlog", format!("net.core.somaxconn {most}"));
    }
}

/// A listener's port among those that the kernel gives to outgoing connections is taken one day when the process restarts.
fn ports(findings: &mut Findings, settings: &Settings) {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u16>().ok());
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else {
        return findings.unknown("ephemeral ports", "this system does not tell net.ipv4.ip_local_port_range");
    };
    let mut listeners = vec![("admin.listen", &settings.admin.listen)];
    if has_role(settings, Role::Gateway) {
        listeners.push(("http.listen", &settings.http.listen));
    }
    let port = |listen: &str| listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let among = listeners.iter().find(|(_, listen)| port(listen).is_some_and(|port| (first..=last).contains(&port)));
    match among {
        Some((key, listen)) => {
            let found = format!("{key} = {listen} lies between {first} and {last}");
            let why = "the kernel may give this port to an outgoing connection while the process restarts, and then \
                       it cannot listen";
            let mend = format!("set {key} below {first}, or sysctl -w net.ipv4.ip_local_reserved_ports=PORT");
            findings.warn("ephemeral ports", found, remedy(why, mend));
        }
        None => findings.ok("ephemeral ports", format!("{first} to {last}, and no listener among them")),
    }
}

fn clock(findings: &mut Findings) {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        findings.ok("clock", "synchronised by systemd-timesyncd");
    } else {
        findings.unknown(
            "clock",
            "only systemd-timesyncd says in a file that it is synchronised; else timedatectl or chronyc tracking tell",
        );
    }
}

//! The listeners: free, held by a process of this program, or by somebody else.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::admin::client::{Client, ClientError};
use crate::config::Settings;
use crate::config::settings::Role;
use crate::doctor::has_role;
use crate::finding::{Findings, Remedy, remedy};

/// Keys that are not asked to be the same: a name may be drawn by chance.
const OWN: &[&str] = &["node.id"];
/// How long whoever holds a listener may take to answer each question.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many keys that differ are named.
const NAMED: usize = 5;

/// Who to ask whether a process runs with these settings.
#[derive(Debug)]
pub struct Asked {
    /// Whoever holds the admin listener of these settings.
    pub here: Client,
    pub named: Option<Named>,
}

/// A process that was named, whatever the settings say.
#[derive(Debug)]
pub struct Named {
    pub url: String,
    /// Or why it cannot be asked.
    pub client: Result<Client, ClientError>,
}

/// Looks at the listeners of these settings. If the admin listener is held, whoever holds it is asked who they are; and whoever was named
/// is, wherever that is.
pub async fn examine(settings: &Settings, asked: &Asked, mut findings: Findings) {
    if has_role(settings, Role::Gateway) {
        match look(&settings.http.listen).await {
            Ok(false) => findings.ok("public", format!("{} is free", settings.http.listen)),
            Ok(true) => public(&mut findings, &settings.http.listen).await,
            Err(error) => unusable(&mut findings, "public", ("http.listen", &settings.http.listen), &error),
        }
    }
    let listen = &settings.admin.listen;
    match look(listen).await {
        Ok(false) => findings.ok("admin", format!("{listen} is free: no process of this config runs here")),
        Ok(true) => {
            if holds(&mut findings, listen, &asked.here).await && asked.named.is_none() {
                runs(&mut findings, settings, &asked.here).await;
            }
        }
        Err(error) => unusable(&mut findings, "admin", ("admin.listen", listen), &error),
    }
    if let Some(Named { url, client }) = &asked.named {
        match client {
            Ok(client) => {
                if named(&mut findings, url, client).await {
                    runs(&mut findings, settings, client).await;
                }
            }
            Err(error) => {
                let mend = "name it by --admin http://HOST:PORT (RUSHGATE_ADMIN_URL)";
                let why = "the process that was named is not looked at";
                findings.wrong("named process", error.to_string(), remedy(why, mend));
            }
        }
    }
}

/// Is it held? The socket is bound as the program's own would be, and never listens: it is in nobody's way.
async fn look(listen: &str) -> io::Result<bool> {
    let addresses = tokio::net::lookup_host(listen).await?;
    let mut outcome = Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        outcome = match bind(address) {
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(true),
            Err(error) => Err(error),
        };
    }
    outcome
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn unusable(findings: &mut Findings, check: &'static str, (key, listen): (&str, &str), error: &io::Error) {
    let mend = match error.kind() {
        ErrorKind::AddrNotAvailable => format!("set {key} to an address of this machine: ip address"),
        ErrorKind::PermissionDenied => {
            format!("set {key} to a port above 1023, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE")
        }
        _ => format!("rushgate config explain {key}"),
    };
    findings.wrong(check, format!("{listen}: {error}"), remedy("no process starts that cannot listen", mend));
}

/// What a listener that is held by another means.
fn stranger(listen: &str, key: &str) -> Remedy {
    let port = listen.rsplit_once(':').map_or(listen, |(_, port)| port);
    let mend = format!("ss -ltnp 'sport = :{port}' tells who; end it, or set {key} to another port");
    remedy("no process starts whose port another has", mend)
}

async fn public(findings: &mut Findings, listen: &str) {
    let key = "http.listen";
    let asked = match Client::new(&url_of(listen), "", "") {
        Ok(client) => in_time(client.ready()).await,
        Err(error) => Err(error.to_string()),
    };
    match asked.map(readiness) {
        Ok(Some(Ok(()))) => findings.ok("public", format!("{listen} is held, by a gateway that is ready")),
        Ok(Some(Err(_))) => {
            let why = "the balancer sends nobody here";
            findings.warn(
                "public",
                format!("{listen} is held, by a gateway that is not ready"),
                remedy(why, "rushgate ready"),
            );
        }
        Ok(None) | Err(_) => {
            findings.wrong("public", format!("{listen} is held, and not by a gateway"), stranger(listen, key));
        }
    }
}

/// What a process says of its readiness; none if that is not how this program says it.
fn readiness((is_ready, text): (bool, String)) -> Option<Result<(), String>> {
    match (is_ready, text.lines().last()?) {
        (true, "ready") => Some(Ok(())),
        (false, "not ready") => {
            let failing: Vec<_> = text.lines().filter(|line| line.starts_with("[-]")).collect();
            Some(Err(failing.join("; ")))
        }
        _ => None,
    }
}

fn not_ready(findings: &mut Findings, check: &'static str, found: String) {
    let why = "it is out of the balancer until all its checks hold";
    findings.wrong(check, found, remedy(why, "mend what it names; see below"));
}

/// Is it a process of this program that was named? Tells how it stands.
async fn named(findings: &mut Findings, url: &str, client: &Client) -> bool {
    let check = "named process";
    match in_time(client.ready()).await.map(readiness) {
        Ok(Some(Ok(()))) => findings.ok(check, format!("{url} is ready")),
        Ok(Some(Err(failing))) => not_ready(findings, check, format!("{url} is not ready: {failing}")),
        Ok(None) => {
            let mend = "name the admin API of a process by --admin URL (RUSHGATE_ADMIN_URL)";
            let why = "the process that was named is none of rushgate's";
            findings.wrong(check, format!("{url} answers, and not as rushgate does"), remedy(why, mend));
            return false;
        }
        Err(error) => {
            let mend = "rushgate serve there, or name another by --admin URL (RUSHGATE_ADMIN_URL)";
            findings.wrong(check, error, remedy("the process that was named does not run, or hangs", mend));
            return false;
        }
    }
    true
}

/// Is it a process of this program that holds the admin listener? Tells how it stands.
async fn holds(findings: &mut Findings, listen: &str, client: &Client) -> bool {
    match in_time(client.ready()).await.map(readiness) {
        Ok(Some(Ok(()))) => findings.ok("admin", format!("{listen} is held, by a process that is ready")),
        Ok(Some(Err(failing))) => not_ready(findings, "admin", format!("{listen} is held, not ready: {failing}")),
        Ok(None) => {
            let found = format!("{listen} is held, and not by rushgate");
            findings.wrong("admin", found, stranger(listen, "admin.listen"));
            return false;
        }
        Err(error) => {
            let found = format!("{listen} is held, by something else or by a process that hangs: {error}");
            let Remedy(why, mend) = stranger(listen, "admin.listen");
            let mend = format!(
                "{mend}. If it is rushgate, look at its log and restart it: systemctl restart rushgate-gateway"
            );
            findings.wrong("admin", found, Remedy(why, mend));
            return false;
        }
    }
    true
}

/// Who runs there: of this version, with these settings?
async fn runs(findings: &mut Findings, settings: &Settings, running: &Client) {
    match in_time(running.text("/metrics")).await {
        Ok(metrics) => version(findings, &metrics),
        Err(error) => findings.unknown("version", error),
    }
    match in_time(running.text("/admin/v1/config")).await {
        Ok(running) => compare(findings, settings, &running),
        Err(error) => findings.unknown("running config", error),
    }
}

/// An answer, or why there is none, on one line.
async fn in_time<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ClientError::Problem { status: 401, .. })) => {
            Err("it wants an admin token: RUSHGATE_ADMIN_TOKEN".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string().replace(['\r', '\n'], " ")),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

fn version(findings: &mut Findings, metrics: &str) {
    let ours = env!("CARGO_PKG_VERSION");
    let line = metrics.lines().find(|line| line.starts_with("rushgate_build_info{"));
    let told = line.and_then(|line| line.split_once("version=\"")?.1.split_once('"')).map(|(version, _)| version);
    match told {
        Some(version) if version == ours => findings.ok("version", format!("{version} runs, and this is the same")),
        Some(version) => {
            let why = "this program's answers may be of another version's rules";
            findings.warn(
                "version",
                format!("{version} runs, and this is {ours}"),
                remedy(why, "restart it, or use the program that it runs"),
            );
        }
        None => findings.unknown("version", "it does not tell its version"),
    }
}

/// One line per key, as the process tells it; what a restart would change stands behind `#`.
fn lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = ")).collect()
}

fn compare(findings: &mut Findings, settings: &Settings, running: &str) {
    let ours = settings.to_string();
    let (ours, running) = (lines(&ours), lines(running));
    let differs = |(key, value): &(&&str, &&str)| !OWN.contains(*key) && running.get(*key) != Some(*value);
    let differing: Vec<_> = ours
        .iter()
        .filter(differs)
        .map(|(key, value)| {
            let theirs = running.get(key).copied().unwrap_or("unknown");
            format!("{key} = {theirs}, here {value}")
        })
        .collect();
    if differing.is_empty() {
        return findings.ok("running config", "the same as here, but for secrets, which are not compared");
    }
    let more = differing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let found = format!("{}{more}", differing[..differing.len().min(NAMED)].join("; "));
    let why = "what is looked at here is not what runs: another file, other variables, a flag, or a change that waits \
               for a restart";
    let mend = "give doctor the process's --config and environment, or restart the process to have it take these";
    findings.warn("running config", found, remedy(why, mend));
}

/// A listener on all addresses is asked on loopback.
pub fn url_of(listen: &str) -> String {
    let listen = match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    };
    format!("http://{listen}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::State;

    #[test]
    fn a_listener_is_asked_where_it_can_be_reached() {
        assert_eq!(url_of("127.0.0.1:9090"), "http://127.0.0.1:9090");
        assert_eq!(url_of("0.0.0.0:9191"), "http://127.0.0.1:9191");
        assert_eq!(url_of("[::]:9090"), "http://[::1]:9090");
        assert_eq!(url_of("10.0.0.1:9090"), "http://10.0.0.1:9090");
    }

    #[test]
    fn settings_that_differ_are_named_and_a_name_that_was_drawn_is_not() {
        let mut running = Settings::default();
        running.node.id = "other".to_owned();
        let found = |running: &Settings| {
            let mut findings = Findings::of("listeners");
            compare(&mut findings, &Settings::default(), &format!("{running}# store.url = after a restart\n"));
            findings.done().remove(0)
        };
        assert_eq!(found(&running).state, State::Ok);
        running.inventory.partitions = 7;
        assert_eq!(found(&running).found, "inventory.partitions = 7, here 1");
    }

    #[test]
    fn a_running_version_is_compared() {
        let state = |metrics: &str| {
            let mut findings = Findings::of("listeners");
            version(&mut findings, metrics);
            findings.done()[0].state
        };
        let ours = env!("CARGO_PKG_VERSION");
        assert_eq!(state(&format!("a 1\nrushgate_build_info{{version=\"{ours}\"}} 1\n")), State::Ok);
        assert_eq!(state("rushgate_build_info{version=\"0.0.1\"} 1\n"), State::Warning);
        assert_eq!(state("a 1\n"), State::Unknown);
    }

    #[test]
    fn a_web_server_that_answers_anything_with_200_is_no_gateway() {
        let said = |status: u16, text: &str| readiness((status == 200, text.to_owned()));
        assert_eq!(said(200, "[+]store ok\nready\n"), Some(Ok(())));
        assert_eq!(said(503, "[+]store ok\n[-]queue: away\nnot ready\n"), Some(Err("[-]queue: away".to_owned())));
        for (status, text) in [(200, "<html>welcome</html>"), (200, ""), (200, "not ready\n"), (503, "already\n")] {
            assert_eq!(said(status, text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_is_free_or_held_and_a_foreign_address_is_neither() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        assert!(look(&address).await.unwrap());
        drop(held);
        assert!(!look(&address).await.unwrap());
        assert_eq!(look("192.0.2.1:80").await.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }
}

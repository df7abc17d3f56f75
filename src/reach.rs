//! The way to a server, step by step, so that whoever cannot get there hears at which step: its name, its port, its TLS.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::config::settings::ServerUrl;
use crate::finding::{Findings, Remedy, remedy};

/// How long each step may take. More than any network between two rooms needs, and enough for a name server's second try.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// A way that was gone to its end.
#[derive(Debug)]
pub struct Way {
    /// Such as `10.0.0.5:6379`.
    pub address: SocketAddr,
    pub took: Duration,
    pub stream: Box<dyn Stream>,
}

/// Bytes in and out, in clear or through TLS.
pub trait Stream: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin> Stream for S {}

/// Where the way ends, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    #[error("the URL names no host")]
    NoHost,
    #[error("the name {host} cannot be resolved: {cause}")]
    Name { host: String, cause: String },
    #[error("{address}: connection refused: the machine is there, and nothing listens on this port")]
    Refused { address: SocketAddr },
    #[error("{address}: no route: {cause}")]
    NoRoute { address: SocketAddr, cause: String },
    #[error("{address}: no answer within {PATIENCE:?}: a firewall drops it, or the machine is down")]
    TimedOut { address: SocketAddr },
    #[error("{address}: {cause}")]
    Tcp { address: SocketAddr, cause: String },
    #[error("{address}: TLS fails: {cause}")]
    Tls { address: SocketAddr, cause: String },
}

/// The port of a server whose URL names none.
fn default_port(url: &ServerUrl) -> u16 {
    match url.scheme() {
        Some("redis" | "rediss") => 6379,
        Some("amqp") => 5672,
        Some("amqps") => 5671,
        _ => 3306,
    }
}

/// Goes the whole way. The name may have several addresses; the first that takes the connection counts, and of the others the cause
/// that tells most.
pub async fn reach(url: &ServerUrl) -> Result<Way, Blocked> {
    let begun = Instant::now();
    let (host, port) = url.address().ok_or(Blocked::NoHost)?;
    let addresses = resolve(host, port.unwrap_or_else(|| default_port(url))).await?;
    let (address, stream) = first(addresses).await?;
    let stream: Box<dyn Stream> = match url.scheme() {
        Some("rediss" | "amqps") => Box::new(secure(host, address, stream).await?),
        _ => Box::new(stream),
    };
    Ok(Way { address, took: begun.elapsed(), stream })
}

/// The first of these that takes a connection.
async fn first(addresses: Vec<SocketAddr>) -> Result<(SocketAddr, TcpStream), Blocked> {
    let mut blocked = Blocked::NoHost;
    for address in addresses {
        match connect(address).await {
            Ok(stream) => return Ok((address, stream)),
            Err(why) if why.tells() > blocked.tells() => blocked = why,
            Err(_) => {}
        }
    }
    Err(blocked)
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Blocked> {
    let unknown = |cause: String| Blocked::Name { host: host.to_owned(), cause };
    match timeout(PATIENCE, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(addresses) }
        }
        Ok(Err(cause)) => Err(unknown(cause.to_string())),
        Err(_) => Err(unknown(format!("the name server does not answer within {PATIENCE:?}"))),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Blocked> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            ErrorKind::ConnectionRefused => Blocked::Refused { address },
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Blocked::NoRoute { address, cause: error.to_string() }
            }
            ErrorKind::TimedOut => Blocked::TimedOut { address },
            _ => Blocked::Tcp { address, cause: error.to_string() },
        }),
        Err(_) => Err(Blocked::TimedOut { address }),
    }
}

/// Believes whom this machine believes, as the servers' clients do.
async fn secure(
    host: &str,
    address: SocketAddr,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Blocked> {
    let failed = |cause: String| Blocked::Tls { address, cause };
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(failed("this machine has no certificates to believe in; install ca-certificates".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    match timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(told(&error))),
        Err(_) => Err(failed(format!("no handshake within {PATIENCE:?}; does the server speak TLS on this port?"))),
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
            format!("{error}; the server hung up: it speaks no TLS on this port")
        }
        _ => error.to_string(),
    }
}

impl Blocked {
    /// Which step it is.
    pub fn step(&self) -> &'static str {
        match self {
            Self::NoHost | Self::Name { .. } => "name",
            Self::Refused { .. } | Self::NoRoute { .. } | Self::TimedOut { .. } | Self::Tcp { .. } => "tcp",
            Self::Tls { .. } => "tls",
        }
    }

    /// How much it tells of the server: a machine without IPv6 fails at one of the addresses of `localhost` whatever runs there.
    fn tells(&self) -> u8 {
        match self {
            Self::NoHost | Self::Name { .. } => 0,
            Self::NoRoute { .. } => 1,
            Self::Tcp { .. } => 2,
            Self::TimedOut { .. } => 3,
            Self::Refused { .. } => 4,
            Self::Tls { .. } => 5,
        }
    }

    /// `key`: the setting with the URL. `unit`: what starts the server.
    fn remedy(&self, key: &str, unit: &str) -> Remedy {
        let mend = match self {
            Self::NoHost => format!("set {key}; rushgate config explain {key}"),
            Self::Name { host, .. } => format!("set {key} to a name that exists: getent hosts {host}"),
            Self::Refused { .. } => format!("start it (systemctl start {unit}), or set {key} to where it listens"),
            Self::NoRoute { address, .. } => format!("ip route get {}", address.ip()),
            Self::TimedOut { address } => {
                format!("open the port for this machine: nc -vz {} {}", address.ip(), address.port())
            }
            Self::Tcp { .. } => format!("look at the network between here and {key}"),
            Self::Tls { address, .. } => {
                format!("openssl s_client -connect {address}; or set {key} to a scheme without TLS")
            }
        };
        remedy("nothing is sold before it is there", mend)
    }
}

/// Goes the way, and tells of each step. `None`: it ends before the server.
pub async fn examine(findings: &mut Findings, url: &ServerUrl, (key, unit): (&'static str, &str)) -> Option<Way> {
    match reach(url).await {
        Ok(way) => {
            let secured = matches!(url.scheme(), Some("rediss" | "amqps"));
            let tls = if secured { ", over TLS" } else { "" };
            findings.ok("reached", format!("{} ({}{tls}) in {:.1?}", url.redacted(), way.address, way.took));
            Some(way)
        }
        Err(blocked) => {
            let found = format!("{key}: {blocked}");
            findings.wrong(blocked.step(), found, blocked.remedy(key, unit));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn blocked(url: String) -> Blocked {
        reach(&ServerUrl(url)).await.expect_err("it cannot be reached")
    }

    #[tokio::test]
    async fn each_step_has_a_cause_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = reach(&ServerUrl(format!("redis://u:canary@{address}/0"))).await.unwrap();
        assert_eq!(way.address, address);
        // Whoever takes connections and hangs up speaks no TLS.
        let hangs_up = async {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        };
        let tls = blocked(format!("rediss://u:canary@{address}/0"));
        tokio::select! {
            () = hangs_up => unreachable!("it goes on"),
            blocked = tls => assert!(matches!(&blocked, Blocked::Tls { .. }), "{blocked}"),
        }
        drop(listener);
        let refused = blocked(format!("amqp://u:canary@{address}")).await;
        assert_eq!(refused, Blocked::Refused { address });
        assert_eq!(blocked("redis://".to_owned()).await, Blocked::NoHost);
        let unknown = blocked("mysql://u:canary@no-such-host.invalid/rushgate".to_owned()).await;
        assert!(matches!(&unknown, Blocked::Name { host, .. } if host == "no-such-host.invalid"), "{unknown}");
        assert_eq!([unknown.step(), refused.step()], ["name", "tcp"]);
        assert!(!format!("{unknown}{refused}").contains("canary"));
    }

    #[tokio::test]
    async fn of_several_addresses_the_cause_that_tells_most_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        drop(listener);
        // Nobody connects to all at once: the kernel refuses it here.
        let nowhere: SocketAddr = "255.255.255.255:1".parse().unwrap();
        for addresses in [vec![there, nowhere], vec![nowhere, there]] {
            assert_eq!(first(addresses).await.unwrap_err(), Blocked::Refused { address: there });
        }
    }
}

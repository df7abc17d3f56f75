//! One connection to the broker, from its handshake to its end. It is never repaired: whoever finds it broken says so, and
//! [`Link`](crate::queue::rabbitmq::link::Link) makes another.
//!
//! lapin runs a thread per connection, which ends only when its socket does. A frozen broker or a dead network would keep that
//! thread, its buffers and its socket for minutes or for good, with every attempt to connect. So each session holds its socket on
//! a [`Leash`], and pulls it when it ends.

use std::net::{Shutdown as Ways, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Event};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::queue::Fault;

/// How long a connection may take, from the look-up of the name to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take whose answer costs the broker next to nothing: an acknowledgement, a declaration.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Where the broker itself has ended a channel, lapin refuses for good to open one with the same number, and the numbers come round
/// after 2047 channels. The next number is another.
const CHANNEL_ATTEMPTS: u32 = 3;
/// How long the broker may take to say goodbye before its socket is cut, and the thread to end after that.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection to the broker.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    leash: Leash,
    ended: CancellationToken,
    reason: OnceLock<String>,
}

/// Why there is no connection, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unconnected {
    /// Nobody said no: what is frozen does not answer, and neither does what is cut off.
    Silent(String),
    Refused(String),
}

impl Session {
    /// Connects, once. The error is the true cause.
    pub(super) async fn connect(uri: AMQPUri, name: &str) -> Result<Self, Unconnected> {
        let leash = Leash::default();
        let held = Arc::clone(&leash.0);
        let runtime = lapin::runtime::default_runtime().map_err(|e| Unconnected::Refused(e.to_string()))?;
        // Plain: lapin's own recovery gives up after a while, does not say so, and hangs while it tries.
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let mut connecting = std::pin::pin!(Connection::connector(
            uri,
            runtime,
            async move |uri, runtime| {
                // Bounded in here as well as outside, since this runs on lapin's thread and keeps it.
                let dialled = timeout(CONNECT_TIMEOUT, async {
                    let host = (uri.authority.host.as_str(), uri.authority.port);
                    let addresses: Vec<_> = tokio::net::lookup_host(host).await?.collect();
                    let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        hold(&held, plain.get_ref().as_fd().try_clone_to_owned()?.into())?;
                    }
                    match uri.scheme {
                        AMQPScheme::AMQP => Ok(stream),
                        AMQPScheme::AMQPS => {
                            stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await
                        }
                    }
                });
                Ok(dialled.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
            },
            properties,
        ));
        let connected = timeout(CONNECT_TIMEOUT, &mut connecting).await;
        let Ok(connected) = connected else {
            // Dropped while it connects, it would leave its thread behind; cut off, it ends.
            leash.cut();
            let _ = timeout(CLOSE_TIMEOUT, connecting).await;
            return Err(Unconnected::Silent(format!("no answer within {CONNECT_TIMEOUT:?}")));
        };
        let connection = connected.map_err(|error| Unconnected::Refused(error.to_string()))?;
        Ok(Self { connection, leash, ended: CancellationToken::new(), reason: OnceLock::new() })
    }

    pub(super) fn events(&self) -> impl Stream<Item = Event> + Send + 'static {
        self.connection.events_listener()
    }

    /// A new channel, for one task.
    pub(super) async fn channel(&self) -> Result<Channel, Fault> {
        let mut attempt = 1;
        loop {
            let opened = in_time("opening a channel", self.connection.create_channel()).await;
            if opened.is_ok() || attempt == CHANNEL_ATTEMPTS || !self.is_connected() {
                return opened;
            }
            attempt += 1;
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.status().connected() && !self.ended.is_cancelled()
    }

    /// Says that this session is of no use any more. The first reason counts.
    pub(super) fn fail(&self, reason: impl Into<String>) {
        let _ = self.reason.set(reason.into());
        self.ended.cancel();
    }

    /// Resolves when someone said so.
    pub(super) async fn failed(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_else(|| "the connection was lost".to_owned())
    }

    /// Cuts the connection without a word.
    pub(super) fn cut(&self) {
        self.leash.cut();
    }

    /// Takes leave of the broker, if it listens, and waits until the connection's thread has ended, so that it does not outlive
    /// the runtime. All of it within a bound.
    pub(super) async fn close(self: Arc<Self>) {
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close(200, "OK".into())).await;
        self.cut();
        let alone = async {
            let mut session = self;
            loop {
                match Arc::try_unwrap(session) {
                    Ok(alone) => return alone,
                    // Whoever still has it was told to let go.
                    Err(shared) => session = shared,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if let Ok(Self { connection, .. }) = timeout(CLOSE_TIMEOUT, alone).await {
            let _ = timeout(CLOSE_TIMEOUT, tokio::task::spawn_blocking(move || connection.run())).await;
        }
    }
}

/// Awaits a call of lapin's, but not for ever.
pub(super) async fn in_time<T>(what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Fault(format!("{what}: {error}"))),
        Err(_) => Err(Fault(format!("{what}: no answer within {CALL_TIMEOUT:?}"))),
    }
}

/// A hand on a connection's socket, to end it from outside. Letting go cuts it.
#[derive(Debug, Default)]
struct Leash(Arc<Mutex<Socket>>);

#[derive(Debug, Default)]
enum Socket {
    /// There is none yet.
    #[default]
    None,
    Open(TcpStream),
    Cut,
}

impl Leash {
    fn cut(&self) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Open(socket) = std::mem::replace(&mut *socket, Socket::Cut) {
            // An error says that it is cut already.
            let _ = socket.shutdown(Ways::Both);
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Puts a new socket on the leash, if that was not cut before there was one.
fn hold(leash: &Mutex<Socket>, socket: TcpStream) -> std::io::Result<()> {
    let mut held = leash.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*held, Socket::Cut) {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    *held = Socket::Open(socket);
    Ok(())
}

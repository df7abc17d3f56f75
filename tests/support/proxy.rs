//! A TCP proxy that can stand still, for a peer that is slow for ever.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes both ways until it is told to hold them.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// Nothing passes, and nobody is told.
    Holding,
    /// Connections are reset and new ones closed at once.
    Cut,
}

impl Proxy {
    /// To a server at `host:port`.
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (state, watch) = watch::channel(State::Flowing);
        let server: Arc<str> = Arc::from(server);
        tokio::task::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *watch.borrow() == State::Cut {
                    continue;
                }
                tokio::task::spawn(forward(client, Arc::clone(&server), watch.clone()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn flow(&self) {
        self.state.send_replace(State::Flowing);
    }

    pub(crate) fn hold(&self) {
        self.state.send_replace(State::Holding);
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// The same URL, but through this proxy.
    pub(crate) fn instead_of(&self, url: &str) -> String {
        url.replacen(host_of(url), &self.address.to_string(), 1)
    }
}

/// The `host:port` of a URL.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

async fn forward(client: TcpStream, server: Arc<str>, watch: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(&*server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = pump(client_read, server_write, watch.clone()) => {}
        () = pump(server_read, client_write, watch) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut watch: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            cut = watch.wait_for(|state| *state == State::Cut) => {
                drop(cut);
                return;
            }
        };
        if read == 0 {
            return;
        }
        match watch.wait_for(|state| *state != State::Holding).await.map(|state| *state) {
            Ok(State::Flowing) => {}
            _ => return,
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

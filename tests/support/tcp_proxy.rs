//! A TCP proxy that can be told to misbehave, while it runs: as a whole ([`Mode`]), in one direction ([`Rule`]), or at one answer
//! ([`Snare`]).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pieces that are on their way through the proxy, per connection and direction; what comes then waits in the sockets.
const ON_THE_WAY: usize = 256;

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Forward,
    /// Keeps connections open and takes new ones, but forwards nothing.
    Frozen,
    /// The server hears everything, the client nothing.
    Mute,
    /// Ends new connections at once. Those that are there stay, until they are cut.
    Refusing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What becomes of the bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Pass,
    /// Each piece is on its way this long.
    Delay(Duration),
    /// They wait, and go on when the rule changes: a network that is cut and comes back.
    Hold,
    /// They are gone. A connection that has lost some passes nothing more that way until it ends.
    Swallow,
}

/// Catches the answer to one request.
#[derive(Debug, Clone)]
pub(crate) struct Snare {
    /// What stands in the request; nothing, for any. It is delivered.
    pub(crate) request: Vec<u8>,
    /// So much of the answer still reaches the client; then the connection is reset, both ways.
    pub(crate) passing: usize,
}

/// Runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    control: Arc<Control>,
    _tasks: JoinSet<()>,
}

struct Control {
    upstream: Mutex<SocketAddr>,
    refusing: watch::Sender<bool>,
    to_server: watch::Sender<Rule>,
    to_client: watch::Sender<Rule>,
    /// Counts the cuts; a connection ends when it grows.
    cuts: watch::Sender<u64>,
    /// The same, with a reset.
    resets: watch::Sender<u64>,
    snares: Mutex<VecDeque<Snare>>,
    /// Counts the snares that have caught something.
    caught: watch::Sender<u64>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(Control {
            upstream: Mutex::new(upstream),
            refusing: watch::Sender::new(false),
            to_server: watch::Sender::new(Rule::Pass),
            to_client: watch::Sender::new(Rule::Pass),
            cuts: watch::Sender::new(0),
            resets: watch::Sender::new(0),
            snares: Mutex::default(),
            caught: watch::Sender::new(0),
        });
        control.set(mode);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&control)));
        Self { address, control, _tasks: tasks }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.control.set(mode);
    }

    /// Gives one direction a rule; the other keeps its own.
    pub(crate) fn rule(&self, way: Way, rule: Rule) {
        self.control.rule(way).send_replace(rule);
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Resets all connections (RST), both ways.
    pub(crate) fn reset(&self) {
        self.control.resets.send_modify(|resets| *resets += 1);
    }

    /// Lays a snare. It catches once.
    pub(crate) fn snare(&self, snare: Snare) {
        self.control.snares.lock().unwrap().push_back(snare);
    }

    /// How many snares nothing has gone into yet.
    pub(crate) fn laid(&self) -> usize {
        self.control.snares.lock().unwrap().len()
    }

    /// How many snares have caught something so far.
    pub(crate) fn caught(&self) -> u64 {
        *self.control.caught.borrow()
    }

    /// New connections go to another server; those that are there stay, until they are cut.
    pub(crate) fn redirect(&self, upstream: SocketAddr) {
        *self.control.upstream.lock().unwrap() = upstream;
    }

    /// Forgets all rules and snares. Connections that lost bytes are reset, for nobody could make sense of what comes next.
    pub(crate) fn heal(&self) {
        self.control.snares.lock().unwrap().clear();
        let lossy = [Way::ToServer, Way::ToClient].iter().any(|way| *self.control.rule(*way).borrow() == Rule::Swallow);
        self.control.set(Mode::Forward);
        if lossy {
            self.reset();
        }
    }
}

impl Control {
    fn set(&self, mode: Mode) {
        let (to_server, to_client) = match mode {
            Mode::Forward | Mode::Refusing => (Rule::Pass, Rule::Pass),
            Mode::Frozen => (Rule::Hold, Rule::Hold),
            Mode::Mute => (Rule::Pass, Rule::Hold),
        };
        self.refusing.send_replace(mode == Mode::Refusing);
        self.to_server.send_replace(to_server);
        self.to_client.send_replace(to_client);
    }

    fn rule(&self, way: Way) -> &watch::Sender<Rule> {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }

    /// The snare that this piece of a request goes into.
    fn snared(&self, piece: &[u8]) -> Option<Snare> {
        let mut snares = self.snares.lock().unwrap();
        let meant = |snare: &Snare| {
            let request = &snare.request;
            request.is_empty() || piece.windows(request.len()).any(|part| part == request)
        };
        let at = snares.iter().position(meant)?;
        snares.remove(at)
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if !*control.refusing.borrow() {
            connections.spawn(serve(client, Arc::clone(&control)));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// One side closed it, or it is cut.
    Closed,
    Reset,
}

async fn serve(mut client: TcpStream, control: Arc<Control>) {
    let (mut cuts, mut resets) = (control.cuts.subscribe(), control.resets.subscribe());
    let upstream = *control.upstream.lock().unwrap();
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let snare = Mutex::new(None);
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let pump = |way| Pump { way, control: &control, snare: &snare };
        tokio::select! {
            end = pump(Way::ToServer).run(from_client, to_server) => end,
            end = pump(Way::ToClient).run(from_server, to_client) => end,
            _ = cuts.changed() => End::Closed,
            _ = resets.changed() => End::Reset,
        }
    };
    if end == End::Reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// One direction of one connection.
struct Pump<'a> {
    way: Way,
    control: &'a Control,
    /// The snare whose request was delivered, and whose answer is awaited.
    snare: &'a Mutex<Option<Snare>>,
}

impl Pump<'_> {
    /// Reads and writes apart from each other, so that a delay makes bytes late and not fewer.
    async fn run(self, mut from: ReadHalf<'_>, to: WriteHalf<'_>) -> End {
        let (sender, receiver) = mpsc::channel(ON_THE_WAY);
        let read = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let read = match from.read(&mut buffer).await {
                    Ok(0) => return End::Closed,
                    Ok(read) => read,
                    Err(_) => return End::Reset,
                };
                if sender.send((Instant::now(), buffer[..read].to_vec())).await.is_err() {
                    return End::Closed;
                }
            }
        };
        let (read, write) = (std::pin::pin!(read), std::pin::pin!(self.write(to, receiver)));
        match futures_util::future::select(read, write).await {
            // What was read before the end is still written.
            futures_util::future::Either::Left((End::Closed, write)) => {
                tokio::time::timeout(Duration::from_millis(100), write).await.unwrap_or(End::Closed)
            }
            futures_util::future::Either::Left((end, _)) | futures_util::future::Either::Right((end, _)) => end,
        }
    }

    async fn write(&self, mut to: WriteHalf<'_>, mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>) -> End {
        let mut rule = self.control.rule(self.way).subscribe();
        let mut lossy = false;
        while let Some((read_at, piece)) = pieces.recv().await {
            let Ok(now) = rule.wait_for(|rule| *rule != Rule::Hold).await.map(|rule| *rule) else { return End::Closed };
            lossy |= now == Rule::Swallow;
            if lossy {
                continue;
            }
            if let Rule::Delay(delay) = now {
                tokio::time::sleep_until(read_at + delay).await;
            }
            if let Some(end) = self.pass(&mut to, &piece).await {
                return end;
            }
        }
        End::Closed
    }

    /// Passes a piece on, or as much of it as a snare lets through.
    async fn pass(&self, to: &mut WriteHalf<'_>, piece: &[u8]) -> Option<End> {
        if self.way == Way::ToServer
            && let Some(snared) = self.control.snared(piece)
        {
            *self.snare.lock().unwrap() = Some(snared);
        }
        let snared = if self.way == Way::ToClient { self.snare.lock().unwrap().take() } else { None };
        let passing = snared.as_ref().map_or(piece.len(), |snare| snare.passing.min(piece.len()));
        let written = to.write_all(&piece[..passing]).await;
        if snared.is_some() {
            self.control.caught.send_modify(|caught| *caught += 1);
            return Some(End::Reset);
        }
        written.is_err().then_some(End::Closed)
    }
}

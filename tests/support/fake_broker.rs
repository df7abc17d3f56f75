//! As much of an AMQP 0-9-1 broker as it takes to misbehave in ways that a real one shows rarely or never: refuse single messages
//! by what is in them, block the connection, fall silent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

/// How the broker treats messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Confirms every message.
    Kind,
    /// Refuses (nacks) the messages whose body ends in a 3, and confirms the others.
    Picky,
    /// Takes messages, keeps up its heartbeat, and confirms nothing.
    Silent,
    /// Tells the client to publish no more, and reads nothing but what is sent for the connection itself.
    Blocking,
    /// Takes connections and says nothing.
    Speechless,
}

/// Runs until it is dropped.
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    temper: Arc<watch::Sender<Temper>>,
    connections: watch::Receiver<u64>,
    open: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl FakeBroker {
    pub(crate) async fn start(temper: Temper) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let temper = Arc::new(watch::Sender::new(temper));
        let (count, connections) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let tempers = Arc::clone(&temper);
        let open = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&open);
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let (counted, temper) = (Arc::clone(&counted), tempers.subscribe());
                sessions.spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    serve(stream, temper).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, temper, connections, open, _tasks: tasks }
    }

    pub(crate) fn set(&self, temper: Temper) {
        self.temper.send_replace(temper);
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://{}/%2f", self.address)
    }

    /// How many connections have ever been made.
    pub(crate) fn connections(&self) -> u64 {
        *self.connections.borrow()
    }

    /// How many of them are open.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }
}

type Writer = Arc<Mutex<OwnedWriteHalf>>;

/// Heartbeat, in seconds, that the broker offers.
const HEARTBEAT: u16 = 10;

async fn serve(stream: TcpStream, mut temper: watch::Receiver<Temper>) {
    let (reader, writer) = stream.into_split();
    let writer = Arc::new(Mutex::new(writer));
    let mut helpers = JoinSet::new();
    helpers.spawn(beat(Arc::clone(&writer)));
    helpers.spawn(tell(Arc::clone(&writer), temper.clone()));
    let mut session = Session { writer, tags: HashMap::new(), messages: HashMap::new() };
    let mut reader = BufReader::new(reader);
    if *temper.borrow() == Temper::Speechless {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        return;
    }
    let mut header = [0; 8];
    if reader.read_exact(&mut header).await.is_err() {
        return;
    }
    let offer = [&[0, 9, 0, 0, 0, 0][..], &long_string("PLAIN AMQPLAIN"), &long_string("en_US")].concat();
    session.method(0, (10, 10), &offer).await;
    while let Some((kind, channel, payload)) = frame(&mut reader).await {
        session.frame(kind, channel, &payload, &mut temper).await;
    }
}

async fn beat(writer: Writer) {
    loop {
        tokio::time::sleep(Duration::from_secs(u64::from(HEARTBEAT) / 2)).await;
        write(&writer, 8, 0, &[]).await;
    }
}

/// Says that the connection is blocked, or that it no longer is. Waits until the client has a channel to hear it with.
async fn tell(writer: Writer, mut temper: watch::Receiver<Temper>) {
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut blocked = false;
    loop {
        let blocking = *temper.borrow_and_update() == Temper::Blocking;
        if blocking != blocked {
            blocked = blocking;
            let (method, reason) = if blocked { (60, short_string("low on memory")) } else { (61, Vec::new()) };
            write(&writer, 1, 0, &[&[0, 10, 0, method][..], &reason].concat()).await;
        }
        if temper.changed().await.is_err() {
            return;
        }
    }
}

struct Session {
    writer: Writer,
    /// The last delivery tag of each channel.
    tags: HashMap<u16, u64>,
    /// The message that is arriving on each channel: its size and what is there.
    messages: HashMap<u16, (usize, Vec<u8>)>,
}

impl Session {
    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8], temper: &mut watch::Receiver<Temper>) {
        match kind {
            1 => {
                let id = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
                self.reply(channel, id).await;
            }
            2 => {
                let size = u64::from_be_bytes(payload[4..12].try_into().unwrap());
                self.messages.insert(channel, (usize::try_from(size).unwrap(), Vec::new()));
            }
            3 => {
                let (size, body) = self.messages.get_mut(&channel).unwrap();
                body.extend_from_slice(payload);
                if body.len() == *size {
                    // What a blocked connection had sent already is read when it is no longer blocked.
                    let _ = temper.wait_for(|temper| *temper != Temper::Blocking).await;
                    let current = *temper.borrow();
                    self.judge(channel, current).await;
                }
            }
            _ => {}
        }
    }

    async fn judge(&mut self, channel: u16, temper: Temper) {
        let (_, body) = self.messages.remove(&channel).unwrap();
        let tag = self.tags.entry(channel).or_default();
        *tag += 1;
        let arguments = [&tag.to_be_bytes()[..], &[0]].concat();
        match temper {
            Temper::Silent => {}
            Temper::Picky if body.last() == Some(&b'3') => self.method(channel, (60, 120), &arguments).await,
            _ => self.method(channel, (60, 80), &arguments).await,
        }
    }

    /// Answers what needs an answer.
    async fn reply(&mut self, channel: u16, id: (u16, u16)) {
        match id {
            (10, 11) => {
                let tune = [&2047u16.to_be_bytes()[..], &131_072u32.to_be_bytes(), &HEARTBEAT.to_be_bytes()].concat();
                self.method(0, (10, 30), &tune).await;
            }
            (10, 40) => self.method(0, (10, 41), &[0]).await,
            (10, 50) => self.method(0, (10, 51), &[]).await,
            (20, 10) => self.method(channel, (20, 11), &[0; 4]).await,
            (20, 40) => {
                self.tags.remove(&channel);
                self.method(channel, (20, 41), &[]).await;
            }
            (40, 10) => self.method(channel, (40, 11), &[]).await,
            (85, 10) => self.method(channel, (85, 11), &[]).await,
            _ => {}
        }
    }

    async fn method(&self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        write(&self.writer, 1, channel, &payload).await;
    }
}

async fn frame(reader: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, u16, Vec<u8>)> {
    let kind = reader.read_u8().await.ok()?;
    let channel = reader.read_u16().await.ok()?;
    let size = reader.read_u32().await.ok()?;
    let mut payload = vec![0; usize::try_from(size).ok()?];
    reader.read_exact(&mut payload).await.ok()?;
    let _end = reader.read_u8().await.ok()?;
    Some((kind, channel, payload))
}

async fn write(writer: &Writer, kind: u8, channel: u16, payload: &[u8]) {
    let size = u32::try_from(payload.len()).unwrap();
    let bytes = [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[0xce]].concat();
    // The client may be gone.
    let _ = writer.lock().await.write_all(&bytes).await;
}

fn short_string(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

fn long_string(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

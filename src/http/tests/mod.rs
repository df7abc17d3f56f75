//! The doors from outside, through real sockets.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::admission::pressure::Pressure;
use crate::admission::refill::keep_filled;
use crate::clock::ManualClock;
use crate::config::settings::{AnswerAfter, Payment, PaymentProvider, Secret};
use crate::confirm;
use crate::confirm::batch::{Batcher, Desk, DeskMeters, Limits};
use crate::domain::{Buffer, OrderSecret, Partition, SaleDocument, UnixMillis};
use crate::payment;
use crate::spans::Span;

mod backends;
mod changes;
mod claims;
mod cores;
mod edge;
mod no_part;
mod orders;
mod traces;

use backends::Backends;

const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
const SECRET: &str = "whsec";
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with all that is behind its door.
struct Gateway {
    address: SocketAddr,
    live: live::Http,
    backends: Arc<Backends>,
    shutdown: Shutdown,
    meters: Meters,
    /// The spans that it told.
    told: mpsc::Receiver<Span>,
    serving: JoinHandle<Option<()>>,
}

fn claim_head(more: &str) -> String {
    format!(
        "POST /v1/sales/concert-1/orders HTTP/1.1\r\nhost: x\r\nx-buyer-id: ann\r\ncontent-type: application/json\r\n{more}\r\n"
    )
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Heard {
    /// Takes one answer off the text.
    fn first(text: &str) -> Option<(Self, &str)> {
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let head = lower_names(head);
        let status = head.get(9..12)?.parse().ok()?;
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let (body, rest) = rest.split_at_checked(length.map_or(0, |length| length.parse().unwrap()))?;
        Some((Self { status, head, body: body.to_owned() }, rest))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The status and the code of a problem.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        let code = self.json()["code"].as_str().unwrap().to_owned();
        assert_eq!(self.json()["status"], self.status);
        (self.status, code)
    }
}

fn payments(
    backends: &Arc<Backends>,
    epochs: &Epochs,
    (provider, clock): (PaymentProvider, &Arc<dyn Clock>),
    meters: &Meters,
) -> Payments {
    let parts = payment::Parts {
        store: Arc::<Backends>::clone(backends),
        inventory: Arc::<Backends>::clone(backends),
        epochs: epochs.clone(),
        clock: Arc::clone(clock),
        settings: Payment { provider, callback_secret: Secret(SECRET.to_owned()), ..Payment::default() },
    };
    Payments::new(parts, meters)
}

impl Gateway {
    async fn open() -> Self {
        Self::with(Settings::default(), 100, PaymentProvider::Sandbox).await
    }

    async fn with(settings: Settings, capacity: u32, provider: PaymentProvider) -> Self {
        Self::start(settings, capacity, provider, Duration::ZERO.into()).await
    }

    async fn drained_for(drain_delay: Duration) -> Self {
        Self::start(Settings::default(), 100, PaymentProvider::Sandbox, drain_delay.into()).await
    }

    async fn on(seats: Seats) -> Self {
        Self::start_on(seats, Settings::default(), 100, PaymentProvider::Sandbox, Duration::ZERO.into()).await
    }

    async fn start(settings: Settings, capacity: u32, provider: PaymentProvider, drain_delay: Live<Duration>) -> Self {
        Self::start_on(Seats::default(), settings, capacity, provider, drain_delay).await
    }

    async fn start_on(
        seats: Seats,
        settings: Settings,
        capacity: u32,
        provider: PaymentProvider,
        drain_delay: Live<Duration>,
    ) -> Self {
        let settings = Settings { listen: "127.0.0.1:0".to_owned(), ..settings };
        let live = live::Http::from(&settings);
        let document = json!({
            "name": "Concert", "currency": "CNY", "opens_at": "2026-01-01T00:00:00Z",
            "pools": [{"id": "standard", "capacity": capacity, "price": 55350}],
        });
        let document: SaleDocument = serde_json::from_value(document).unwrap();
        let backends = Backends::new(document.into_sale("concert-1".parse().unwrap()).unwrap());
        let (shutdown, meters) = (Shutdown::new(), Meters::new());
        let (store, inventory): (Arc<dyn Store>, Arc<dyn Inventory>) =
            (Arc::<Backends>::clone(&backends), Arc::<Backends>::clone(&backends));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let (spans, told) = Spans::bounded(64, Live::new(0.0), &meters);
        let (epochs, shards) = (Epochs::new(1), Shards::new(1, 1.0, Buffer::Units(0)));
        let joined = epochs.changed();
        shutdown.spawn(epochs.clone().follow(
            Arc::clone(&store),
            Arc::clone(&inventory),
            meters.clone(),
            shutdown.clone(),
        ));
        joined.await;
        let behind = (epochs.clone(), Arc::clone(&inventory));
        let interval = Duration::from_millis(10);
        shutdown.spawn(keep_filled(shards.clone(), Partition(0), behind, interval, shutdown.clone()));
        assert!(shards.refilled(Partition(0)).await);
        let desk = Desk {
            partition: Partition(0),
            inventory: Arc::clone(&inventory),
            publisher: Arc::<Backends>::clone(&backends),
            shards: shards.clone(),
            epochs: epochs.clone(),
            clock: Arc::clone(&clock),
            meters: DeskMeters::new(&meters),
            spans: spans.clone(),
        };
        let batcher =
            Batcher::new(desk, Limits { batch_max: 16, batches_in_flight: 2, answer_after: AnswerAfter::Broker });
        let parts = confirm::Parts {
            shards: shards.clone(),
            epochs: epochs.clone(),
            pressure: Pressure::new(1),
            publisher: Arc::<Backends>::clone(&backends),
            clock: Arc::clone(&clock),
            secret: Arc::new(OnceLock::from(OrderSecret::new([7; 32]))),
        };
        let claims = Claims::new(parts, std::slice::from_ref(&batcher));
        shutdown.spawn(batcher.run(shutdown.clone()));
        let payments = payments(&backends, &epochs, (provider, &clock), &meters);
        let readiness = Readiness::new().with("inventory", || Ok(()));
        let server = Server::bind(&settings, live.clone(), None).await.unwrap().on(seats);
        let address = server.address();
        let parts = Parts {
            claims,
            shards,
            epochs,
            store,
            inventory,
            payments,
            readiness: Arc::new(readiness),
            refusals: Refusals::new(CODES),
            meters: meters.clone(),
            clock,
            spans,
        };
        let serving = shutdown.spawn(server.serve(parts, drain_delay, shutdown.clone()));
        Self { address, live, backends, shutdown, meters, told, serving }
    }

    async fn connect(&self) -> TcpStream {
        timeout(PATIENCE, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }

    /// Sends bytes and reads until the gateway closes.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The gateway may have closed already; what it said before is what counts.
        let _ = stream.write_all(bytes.as_ref()).await;
        rest(&mut stream).await
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Heard {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n");
        for (name, value) in headers {
            request = format!("{request}{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request = format!("{request}content-length: {}\r\n", body.len());
        }
        let text = self.raw(format!("{request}\r\n{body}")).await;
        let without_body = method == "HEAD";
        if without_body {
            let (head, rest) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(rest, "");
            let head = lower_names(head);
            return Heard { status: head[9..12].parse().unwrap(), head, body: String::new() };
        }
        Heard::first(&text).unwrap_or_else(|| panic!("no answer in {text:?}")).0
    }

    async fn claim(&self, buyer: &str, key: &str, body: &str) -> Heard {
        let headers = [("x-buyer-id", buyer), ("idempotency-key", key), ("content-type", "application/json")];
        self.call("POST", "/v1/sales/concert-1/orders", &headers, body).await
    }

    /// Buys one unit; returns the order's path.
    async fn buy(&self, buyer: &str, key: &str) -> String {
        let heard = self.claim(buyer, key, r#"{"quantity":1}"#).await;
        assert_eq!(heard.status, 201, "{heard:?}");
        heard.header("location").unwrap().to_owned()
    }

    /// A claim that is granted and waits for the broker, which confirms nothing more without a permit.
    async fn in_flight(&self) -> TcpStream {
        self.backends.confirms.forget_permits(1_000_000);
        let mut buying = self.connect().await;
        buying
            .write_all(format!("{}{{\"quantity\":1}}", claim_head("content-length: 14\r\n")).as_bytes())
            .await
            .unwrap();
        timeout(PATIENCE, async {
            while self.backends.granted().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        buying
    }

    fn metric(&self, line: &str) -> bool {
        self.meters.render().lines().any(|metric| metric == line)
    }

    /// Ends everything, and sees that it ends.
    async fn close(self) {
        self.shutdown.begin();
        let Self { serving, shutdown, meters, .. } = self;
        timeout(PATIENCE, serving).await.expect("the server ends").unwrap();
        assert!(meters.render().contains("rushgate_connections 0\n"), "no connection is left");
        assert!(shutdown.finish(PATIENCE).await);
    }
}

/// A head whose headers are named in small letters.
fn lower_names(head: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
        None => line.to_owned(),
    };
    head.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n")
}

/// All answers of a text that is nothing else.
fn answers(mut text: &str) -> Vec<Heard> {
    let mut answers = Vec::new();
    while let Some((heard, rest)) = Heard::first(text) {
        answers.push(heard);
        text = rest;
    }
    assert_eq!(text, "", "after {answers:?}");
    answers
}

/// All that comes until the gateway closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset after the answer ends it as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the gateway closes");
    String::from_utf8_lossy(&said).into_owned()
}

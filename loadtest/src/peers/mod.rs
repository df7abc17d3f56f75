//! What ours is measured against.
//!
//! - `bare`: hyper that reads the request and answers the same bytes each time. Nothing on hyper answers faster.
//! - `naive`: how such a gateway is usually built: a pool of connections, one script call, one message and one row per order
//! - `parts`: hyper, a script call per batch and a message per batch, and nothing of what makes them safe: a floor
//! - `local_lock`: the design of the public spikeSystem, in Go, for it is written in Go; `loadtest/local-lock/main.go`

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::peers::cores::Seats;

mod bare;
#[path = "../../../src/cores.rs"]
#[expect(unreachable_pub, reason = "there it is a library's")]
#[cfg_attr(not(test), expect(dead_code, reason = "no watchdog asks a peer"))]
mod cores;
mod naive;
mod parts;

/// How AMQP says that a message is to be kept.
const PERSISTENT: u8 = 2;

/// Runs one of the peers.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    peer: Peer,
}

#[derive(Debug, Subcommand)]
enum Peer {
    Bare(bare::Bare),
    Naive(Wiring),
    NaiveWriter(naive::Writer),
    Parts(Wiring),
}

/// Where a peer answers, and on what.
#[derive(Debug, Args)]
struct Wiring {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    redis: String,
    #[arg(long)]
    amqp: String,
    #[arg(long)]
    queue: String,
}

pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.peer {
            Peer::Bare(bare) => bare.run().await,
            Peer::Naive(wiring) => naive::run(wiring).await,
            Peer::NaiveWriter(writer) => writer.run().await,
            Peer::Parts(wiring) => parts::run(wiring).await,
        }
    })
}

/// The body of a claim.
#[derive(Deserialize)]
struct Body {
    quantity: u32,
}

/// Answers every request by the handler, for ever.
async fn serve<H, F>(listen: SocketAddr, seats: Seats, handler: H) -> anyhow::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    let listener = TcpListener::bind(listen).await?;
    let mut builder = http1::Builder::new();
    // Small answers in one buffer, as ours: it is faster.
    builder.writev(false);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (stream, seat) = (stream.into_std()?, seats.take());
        let (builder, handler) = (builder.clone(), handler.clone());
        let core = seat.core().clone();
        core.spawn(async move {
            let _seat = seat;
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            let service = service_fn(|request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // A client that has left is no concern of a peer.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A channel at a broker that has the queue.
async fn channel(amqp: &str, queue: &str) -> anyhow::Result<Channel> {
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, arguments).await?;
    // It lives as long as the process.
    std::mem::forget(connection);
    Ok(channel)
}

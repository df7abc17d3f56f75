//! The load generator: keep-alive connections that ask and wait, as fast as they are answered or at a given rate.
//!
//! Closed (no rate): each connection asks again as soon as it is answered. That finds the limit; its latencies are those of so many
//! who wait in line.
//!
//! Open (a rate): requests are due at random times (Poisson), whether or not the server keeps up, and the latency counts from when
//! a request was *due*: a server that stalls is charged for all who would have come meanwhile, which is what is called corrected for
//! coordinated omission. Only the generator's own tardiness is not: where a connection was idle when its request was due, the
//! latency counts from the moment of sending.

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::load::connection::Connection;
use crate::load::crowd::{Crowd, Visitor};
use crate::load::tally::Tally;

mod connection;
pub(crate) mod crowd;
pub(crate) mod tally;

/// Sends requests and counts the answers. Says `ready` when all connections are open, begins with a line on the standard input, and
/// prints a tally as JSON.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Where to; with several, the connections take turns.
    #[arg(long, required = true, value_delimiter = ',')]
    pub(crate) to: Vec<SocketAddr>,
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Requests per second of all connections together; none: as fast as they are answered.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// So many requests, if the time is not over before.
    #[arg(long, default_value_t = u64::MAX)]
    pub(crate) requests: u64,
    /// Seconds for which the connections stay open afterwards.
    #[arg(long, default_value_t = 0)]
    pub(crate) linger: u64,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) crowd: Crowd,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let begin = Arc::new(Barrier::new(options.threads + 1));
    let threads: Vec<_> = (0..options.threads)
        .map(|thread| {
            let (options, begin) = (options.clone(), Arc::clone(&begin));
            thread::spawn(move || part(&options, thread, &begin))
        })
        .collect();
    begin.wait();
    say("ready")?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    begin.wait();
    let mut tally = Tally::default();
    for thread in threads {
        tally.add(&thread.join().expect("a thread does not panic")?);
    }
    say(&serde_json::to_string(&tally.report())?)
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// One thread with its part of the connections.
fn part(options: &Options, thread: usize, begin: &Barrier) -> anyhow::Result<Tally> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mine: Vec<_> = (0..options.connections).filter(|number| number % options.threads == thread).collect();
    let opened = runtime.block_on(async {
        let mut connections = Vec::new();
        for number in &mine {
            let to = options.to[number % options.to.len()];
            connections.push(Connection::open(to).await.with_context(|| format!("cannot connect to {to}"))?);
        }
        anyhow::Ok(connections)
    });
    begin.wait();
    begin.wait();
    let (local, opened) = (LocalSet::new(), opened?);
    local.block_on(&runtime, async {
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(options.seconds);
        let share = options.requests / options.connections as u64;
        #[expect(clippy::cast_precision_loss, reason = "connections are far fewer than 2^52")]
        let pace = options.rate.map(|rate| rate / options.connections as f64);
        let (tally, mut tasks) = (Rc::new(RefCell::new(Tally::default())), Vec::new());
        for (number, connection) in mine.into_iter().zip(opened) {
            let visitor = options.crowd.visitor(number, options.seed);
            let limits = Limits { until, requests: share.max(1), pace };
            tasks.push(tokio::task::spawn_local(visits(connection, visitor, limits, Rc::clone(&tally))));
        }
        let mut idle = Vec::new();
        for task in tasks {
            idle.push(task.await?);
        }
        let mut tally = tally.take();
        tally.seconds = started.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_secs(options.linger)).await;
        Ok(tally)
    })
}

#[derive(Clone, Copy)]
struct Limits {
    until: Instant,
    requests: u64,
    /// Requests per second.
    pace: Option<f64>,
}

/// What goes over one connection, which stays open.
async fn visits(
    mut connection: Connection,
    mut visitor: Visitor,
    limits: Limits,
    tally: Rc<RefCell<Tally>>,
) -> Connection {
    let mut due = Instant::now();
    for _ in 0..limits.requests {
        let mut from = Instant::now();
        if let Some(pace) = limits.pace {
            // Exponential gaps: arrivals that know nothing of each other.
            due += Duration::from_secs_f64(-(1.0 - visitor.chance.f64()).ln() / pace);
            if due >= limits.until {
                break;
            }
            if due > from {
                tokio::time::sleep_until(due).await;
                from = Instant::now();
            } else {
                from = due;
            }
        } else if from >= limits.until {
            break;
        }
        match connection.ask(visitor.next_request()).await {
            Ok(answer) => tally.borrow_mut().count(&answer, from.elapsed()),
            Err(error) => {
                tally.borrow_mut().fail(&error);
                break;
            }
        }
    }
    connection
}

//! The queue at a `RabbitMQ` broker, 3.10 or newer. Nothing outside this folder knows AMQP.
//!
//! - `topology`: what things are called and how they are declared.
//! - `session`: one connection, from handshake to end. `link`: makes the next one, for ever.
//! - `outlet`: the one task that publishes into one exchange. `publisher`: finds the outlet, and keeps the time.
//! - `consumer`: lanes.
//! - [`doctor`]: what is wrong with the broker, for operators.
//!
//! There are two connections, since the broker blocks those that publish when it is short of memory, and the writers must go on
//! draining then. Every scope has a channel of its own: an exchange that is gone takes the channel with it, and what is in flight
//! into other scopes must not suffer.
//!
//! lapin attributes confirms by the order in which publishes were counted, which is not the order in which they are written when
//! several tasks share a channel; so each channel has one owner. It hands returned messages to whichever confirm comes next; so
//! they are told apart by message id. Its calls have no end when the broker is silent or blocks; so each has a time limit here.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;

use lapin::uri::AMQPUri;

use crate::config::settings;
use crate::meters::Meters;
use crate::queue::Queue;
use crate::queue::rabbitmq::consumer::BrokerConsumer;
use crate::queue::rabbitmq::link::Link;
use crate::queue::rabbitmq::publisher::BrokerPublisher;
use crate::queue::rabbitmq::topology::{Declarations, MAX_NAMESPACE, Names};
use crate::shutdown::Shutdown;

mod consumer;
pub mod doctor;
mod link;
mod outlet;
mod parcel;
mod publisher;
mod session;
mod topology;

/// Seconds. Below five, a busy machine looks like a dead one.
const HEARTBEAT: u16 = 10;

/// A queue at a broker. It connects in the background, for ever; until it has, `ready` says why not.
///
/// When the shutdown begins, the connections stay until no publish is in flight and no lane is taken, and are closed then. Who
/// wants to publish for longer gives it a shutdown that begins later.
pub fn connect(settings: &settings::Queue, shutdown: &Shutdown, meters: &Meters) -> Queue {
    let uri = parse(settings);
    let names = Names { namespace: settings.namespace.as_str().into(), lanes: settings.lanes.max(1) };
    let publishing = Link::start("rushgate publishing", uri.clone(), shutdown);
    let consuming = Link::start("rushgate consuming", uri, shutdown);
    let widest = Arc::new(AtomicU16::new(names.lanes));
    let topology = Declarations { names: names.clone(), widest, consuming, publishing: Arc::clone(&publishing) };
    Queue {
        publisher: Arc::new(BrokerPublisher::new(publishing, names, settings, (shutdown, meters))),
        consumer: Arc::new(BrokerConsumer::new(topology.clone(), shutdown)),
        topology: Arc::new(topology),
    }
}

fn parse(settings: &settings::Queue) -> Result<AMQPUri, String> {
    if settings.namespace.len() > MAX_NAMESPACE {
        return Err(format!("queue.namespace must have at most {MAX_NAMESPACE} bytes"));
    }
    let mut uri: AMQPUri = settings.url.as_str().parse().map_err(|error| format!("queue.url: {error}"))?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_a_heartbeat_unless_it_has_one() {
        let url = |url: &str| parse(&settings::Queue { url: url.into(), ..settings::Queue::default() });
        assert_eq!(url("amqp://127.0.0.1:5672/%2f").unwrap().query.heartbeat, Some(HEARTBEAT));
        assert_eq!(url("amqp://127.0.0.1:5672/%2f?heartbeat=30").unwrap().query.heartbeat, Some(30));
        assert!(url("http://127.0.0.1").is_err());
    }

    #[test]
    fn a_namespace_must_leave_room_for_names() {
        let namespace = "n".repeat(MAX_NAMESPACE + 1);
        assert!(parse(&settings::Queue { namespace, ..settings::Queue::default() }).is_err());
    }
}

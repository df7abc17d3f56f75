//! A look at the broker for `rushgate doctor`, over a connection of its own. It changes nothing: what is declared here is there already
//! and exactly so, or the broker refuses; what is published goes nowhere and comes back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind, Event, ExchangeKind};
use tokio::time::timeout;

use self::greeting::greet;
use self::meet::{connect, set_permissions, told, unconnected, vhost};
use crate::config::settings;
use crate::domain::Scope;
use crate::finding::{Findings, remedy};
use crate::queue::LaneId;
use crate::queue::rabbitmq::session::Session;
use crate::queue::rabbitmq::topology;
use crate::queue::rabbitmq::topology::Names;
use crate::reach;

mod greeting;
mod meet;
mod rights;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Answers of AMQP.
const NO_ANSWER: u16 = 0;
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// Looks at the broker of these settings, from its name to its queues.
pub async fn examine(settings: &settings::Queue, mut findings: Findings) {
    let Some(mut way) = reach::examine(&mut findings, &settings.url, ("queue.url", "rabbitmq-server")).await else {
        return;
    };
    if !greet(&mut findings, &mut way.stream).await {
        return;
    }
    drop(way);
    match connect(settings).await {
        Ok(session) => {
            findings.ok("authentication", format!("the virtual host {} is open to this user", vhost(settings)));
            let names = names(settings);
            let mut look = Look { settings, names, session, findings, no_configure: None, lacks_rights: false };
            look.all().await;
            look.session.close().await;
        }
        Err(why) => {
            let (check, remedy) = unconnected(&why, settings);
            findings.wrong(check, told(&why), remedy);
        }
    }
}

/// Looks whether each of these scopes, which the store says are open, has its exchange.
pub async fn examine_scopes(settings: &settings::Queue, scopes: &[Scope], mut findings: Findings) {
    let session = match connect(settings).await {
        Ok(session) => session,
        Err(why) => {
            return findings.unknown("exchange", told(&why));
        }
    };
    let (names, mut open) = (names(settings), 0);
    if !has_queues(&session, &names).await {
        let found = format!(
            "the store says that {} partitions are open, and the virtual host {} has no queue of {}",
            scopes.len(),
            vhost(settings),
            settings.namespace
        );
        let why = "what is granted elsewhere is published elsewhere: this is most likely another virtual host or namespace \
                   than the writers'";
        let mend = "compare queue.url (its end) and queue.namespace with theirs; if they are the same, the broker has lost \
                    what it had: run a writer";
        findings.wrong("exchange", found, remedy(why, mend));
        return session.close().await;
    }
    for scope in scopes {
        match has_exchange(&session, names.exchange(*scope)).await {
            Ok(()) => open += 1,
            Err(trouble) if trouble.code == NOT_FOUND => {
                let why = "what its partition grants cannot be published, and is pending until a recovery has opened \
                           a new epoch";
                let mend = "run a writer, which recovers it; never make the exchange by hand";
                findings.wrong("exchange", format!("{} is not there", names.exchange(*scope)), remedy(why, mend));
            }
            // Whoever does not answer for one answers for none.
            Err(trouble) => {
                findings.unknown("exchange", format!("{scope} and those behind it: {}", trouble.text));
                break;
            }
        }
    }
    if open > 0 {
        findings.ok("exchange", format!("{open} of {} are there", scopes.len()));
    }
    session.close().await;
}

/// Is there one of those that every process declares? Without an answer it is taken for there.
async fn has_queues(session: &Session, names: &Names) -> bool {
    for lane in names.all() {
        match depth(session, names.queue(lane)).await {
            Err(trouble) if trouble.code == NOT_FOUND => {}
            _ => return true,
        }
    }
    false
}

async fn depth(session: &Session, queue: ShortString) -> Result<(u32, u32), Trouble> {
    let channel = channel(session).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = asked(channel.queue_declare(queue, passive, FieldTable::default())).await?;
    Ok((queue.message_count(), queue.consumer_count()))
}

async fn has_exchange(session: &Session, exchange: ShortString) -> Result<(), Trouble> {
    let channel = channel(session).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    asked(channel.exchange_declare(exchange, ExchangeKind::Direct, passive, FieldTable::default())).await
}

fn names(settings: &settings::Queue) -> Names {
    Names { namespace: settings.namespace.as_str().into(), lanes: settings.lanes.max(1) }
}

/// Why the broker did not do what was asked.
struct Trouble {
    /// [`NO_ANSWER`] if it did not say.
    code: u16,
    text: String,
}

async fn asked<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, Trouble> {
    match timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let code = match error.kind() {
                ErrorKind::ProtocolError(said) => said.get_id(),
                _ => NO_ANSWER,
            };
            Err(Trouble { code, text: error.to_string().replace(['\r', '\n'], " ") })
        }
        Err(_) => Err(Trouble { code: NO_ANSWER, text: format!("no answer within {PATIENCE:?}") }),
    }
}

async fn channel(session: &Session) -> Result<Channel, Trouble> {
    session.channel().await.map_err(|fault| Trouble { code: NO_ANSWER, text: fault.to_string() })
}

struct Look<'a> {
    settings: &'a settings::Queue,
    names: Names,
    session: Arc<Session>,
    findings: Findings,
    /// What the broker said to who declared a queue and may not.
    no_configure: Option<String>,
    /// It was told that the user lacks some; how to give them all is said with it.
    lacks_rights: bool,
}

impl Look<'_> {
    async fn all(&mut self) {
        let depths = self.queues().await;
        self.rights().await;
        self.backlog(&depths);
        self.alarms().await;
    }

    /// Which queues are there, and with the arguments that are asked for? A declaration of a queue that is there with the same
    /// arguments does nothing, and with others is refused; it needs the right to configure.
    async fn queues(&mut self) -> Vec<(LaneId, u32, u32)> {
        let (mut depths, mut missing, mut wrong) = (Vec::new(), Vec::new(), 0);
        for lane in self.names.all() {
            let name = self.names.queue(lane);
            match depth(&self.session, name.clone()).await {
                Ok((messages, consumers)) => depths.push((lane, messages, consumers)),
                Err(trouble) if trouble.code == NOT_FOUND => {
                    missing.push(name.to_string());
                    continue;
                }
                Err(trouble) => {
                    wrong += 1;
                    self.unasked("queues", &trouble);
                    // The next one would be waited for as long.
                    break;
                }
            }
            if let Err(trouble) = self.declare(lane).await {
                wrong += 1;
                let is_silent = trouble.code == NO_ANSWER;
                self.misdeclared(name.as_str(), trouble);
                if is_silent {
                    break;
                }
            }
        }
        let all = self.names.all().count();
        if missing.len() == all {
            self.findings.ok("queues", "none yet: the first process that starts declares them");
        } else if !missing.is_empty() {
            let why = "what belongs there goes to another queue until a process that starts has declared it";
            let mend =
                "restart a process of this config; queue.lanes and queue.namespace must be the same on all nodes";
            self.findings.warn(
                "queues",
                format!("{} missing of {all}: {}", missing.len(), missing.join(", ")),
                remedy(why, mend),
            );
        } else if wrong == 0 {
            self.findings.ok("queues", format!("{all}, with the right arguments"));
        }
        depths
    }

    async fn declare(&self, lane: LaneId) -> Result<(), Trouble> {
        let channel = channel(&self.session).await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        asked(channel.queue_declare(self.names.queue(lane), options, self.names.arguments(lane))).await.map(drop)
    }

    fn misdeclared(&mut self, name: &str, trouble: Trouble) {
        match trouble.code {
            PRECONDITION_FAILED => {
                let why =
                    "no process starts: each declares it as it must be, and the broker refuses another declaration";
                let vhost = vhost(self.settings);
                let mend = format!(
                    "let the writers of the version that made it empty it, see that it is (rabbitmqctl list_queues -p {vhost} \
                     name messages), then rabbitmqctl delete_queue -p {vhost} {name}, and start; a policy or definitions of \
                     yours that made it go first"
                );
                self.findings.wrong(
                    "queues",
                    format!("{name} has other arguments: {}", trouble.text),
                    remedy(why, mend),
                );
            }
            // Told with the other rights.
            ACCESS_REFUSED => self.no_configure = Some(trouble.text),
            _ => self.unasked("queues", &trouble),
        }
    }

    fn unasked(&mut self, check: &'static str, trouble: &Trouble) {
        let why = "a queue that does not answer takes nothing: a quorum queue needs the majority of its members";
        let mend = "rabbitmq-diagnostics check_if_node_is_quorum_critical; rabbitmqctl list_queues name type state \
                    leader online";
        self.findings.wrong(check, trouble.text.clone(), remedy(why, mend));
    }

    fn backlog(&mut self, depths: &[(LaneId, u32, u32)]) {
        let (dead, lanes): (Vec<_>, Vec<_>) = depths.iter().copied().partition(|(lane, ..)| *lane == LaneId::Dead);
        if let Some((_, messages @ 1.., _)) = dead.first() {
            let why = "each holds orders that buyers heard yes for and cannot pay";
            let mend = "a running writer fetches them: rushgate dead-letters list, end the cause, and replay";
            self.findings.warn("dead letters", format!("{messages} in the queue"), remedy(why, mend));
        } else if !dead.is_empty() {
            self.findings
                .ok("dead letters", "none in the queue; rushgate dead-letters list tells of those in the store");
        }
        if lanes.is_empty() {
            return;
        }
        let row = |(lane, messages, consumers): &(LaneId, u32, u32)| format!("{lane}: {messages} ({consumers})");
        let found = format!("messages (consumers) by lane: {}", lanes.iter().map(row).collect::<Vec<_>>().join(", "));
        let most = lanes.iter().map(|(_, messages, _)| u64::from(*messages)).max().unwrap_or(0);
        if lanes.iter().any(|(_, messages, consumers)| *messages > 0 && *consumers == 0) {
            let why = "nobody stores them: payments wait, and in the end claims hear 'busy'";
            self.findings.wrong(
                "backlog",
                found,
                remedy(why, "run a writer (systemctl start rushgate-writer); rushgate ready tells what it waits for"),
            );
        } else if most >= self.settings.lane_max {
            let why =
                format!("at queue.lane_max ({}) claims hear 'busy' until half of it is stored", self.settings.lane_max);
            self.findings.wrong(
                "backlog",
                found,
                remedy(why, "look at the store: locks, its disk; or at the writers' CPU"),
            );
        } else if most >= self.settings.lane_max / 2 {
            let why = format!("at queue.lane_max ({}) claims hear 'busy'", self.settings.lane_max);
            self.findings.warn(
                "backlog",
                found,
                remedy(why, "look at the store: locks, its disk; or at the writers' CPU"),
            );
        } else {
            self.findings.ok("backlog", found);
        }
    }

    /// A message that no queue wants: it comes back. A broker on alarm says so to whoever publishes, and takes nothing.
    async fn alarms(&mut self) {
        let mut events = Box::pin(self.session.events());
        let blocked = async {
            loop {
                match events.next().await {
                    Some(Event::ConnectionBlocked(reason)) => return reason,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        let why = "nothing is granted while the broker takes no messages: claims hear 'busy'";
        tokio::select! {
            biased;
            reason = blocked => {
                let mend = "rabbitmq-diagnostics alarms: give it memory or disk; it opens by itself";
                self.findings.wrong("alarms", format!("the broker blocks: {reason}"), remedy(why, mend));
            }
            published = publish(&self.session, &self.settings.namespace) => match published {
                Ok(Confirmation::Ack(Some(_))) => {
                    self.findings.ok("alarms", "none: a message was taken and came back, since nobody wants it");
                }
                Ok(Confirmation::Nack(_)) => {
                    let mend = "rabbitmq-diagnostics alarms; the broker's log tells why";
                    self.findings.wrong("alarms", "the broker refused a message", remedy(why, mend));
                }
                Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => {
                    let why = "what goes to nobody should come back; a claim whose message went nowhere would be taken for stored";
                    let mend = "look for a plugin or a proxy in between that keeps what is returned: rabbitmq-plugins list -e";
                    self.findings.warn("alarms", "a message that nobody wants did not come back", remedy(why, mend));
                }
                Err(trouble) if trouble.code == ACCESS_REFUSED && self.lacks_rights => {
                    self.findings.unknown("alarms", "they are told to whoever publishes, and this user may not");
                }
                Err(trouble) if trouble.code == ACCESS_REFUSED => self.no_right("write to amq.default", &trouble.text),
                Err(trouble) => {
                    let mend = "rabbitmq-diagnostics alarms; rabbitmq-diagnostics check_running; look at its disk";
                    self.findings.wrong("alarms", format!("a message is not confirmed: {}", trouble.text), remedy(why, mend));
                }
            },
        }
    }
}

async fn publish(session: &Session, namespace: &str) -> Result<Confirmation, Trouble> {
    let channel = channel(session).await?;
    asked(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let nobody = ShortString::from(format!("{namespace}.nobody has this queue"));
    let properties: BasicProperties = topology::persistent();
    asked(async { channel.basic_publish("".into(), nobody, options, b"", properties).await?.await }).await
}

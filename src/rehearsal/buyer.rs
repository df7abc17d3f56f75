//! One buyer's visit: ask until it is known, and then pay at once, late, or never.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use hyper::header::HeaderMap;
use tokio::time::Instant;

use crate::domain::SaleDocument;
use crate::rehearsal::api::{Answer, Api, Ended, Later, Order};
use crate::rehearsal::crowd::{SLOW, SLOWEST};
use crate::rehearsal::ledger::{Ending, Kind, Outcome};
use crate::rehearsal::sale::{Ask, footprint};
use crate::shutdown::Shutdown;

/// After which every node has heard of an order: ten refills of the default interval.
const HEARD: Duration = Duration::from_secs(1);
/// After a release, in which those who come back do so.
const RELEASED: Duration = Duration::from_secs(1);

/// What all buyers of a rehearsal share.
#[derive(Debug)]
pub(super) struct Visited {
    pub(super) api: Api,
    pub(super) sale: String,
    pub(super) document: SaleDocument,
    /// Once it has begun, nobody waits any more for the time to pay, or to come back.
    pub(super) stop: Shutdown,
}

/// When the crowd came, and for how long it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) began: Instant,
    pub(super) lasts: Duration,
}

/// Who asks. The same seed draws the same decisions, whatever it hears.
#[derive(Debug)]
pub(super) struct Buyer {
    pub(super) name: String,
    visited: Arc<Visited>,
    headers: HeaderMap,
    /// The gateways that this buyer asks, a random one each time.
    gateways: Vec<String>,
    chance: Rng,
    /// Of a buyer of the crowd.
    span: Option<Span>,
}

impl Buyer {
    pub(super) fn new(visited: &Arc<Visited>, name: String, chance: Rng) -> anyhow::Result<Self> {
        let headers = visited.api.introduce(&name)?;
        let gateways = visited.api.settings.gateways.clone();
        Ok(Self { name, visited: Arc::clone(visited), headers, gateways, chance, span: None })
    }

    /// The same, asking these gateways only.
    pub(super) fn at(mut self, gateways: Vec<String>) -> Self {
        self.gateways = gateways;
        self
    }

    pub(super) fn of_the_crowd(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// All of a buyer's visit, who is to ask first at this instant.
    pub(super) async fn visit(mut self, due: Instant) {
        let (crowd, sale) = (self.visited.api.settings.crowd, Arc::clone(&self.visited));
        let (wish, key) = (crowd.ask(&self.name, &mut self.chance), format!("{}-key", self.name));
        let returns = self.chance.f64() * 100.0 < crowd.habits().come_back;
        let repeats = self.chance.f64() * 100.0 < f64::from(sale.api.settings.repeat);
        let habit = self.chance.f64() * 100.0;
        let (mut order, last) = self.known((&wish, &key), due, self.patience()).await;
        if let Answer::No(Outcome::AllHeld, Some(released)) = last
            && returns
        {
            let longest = sale.api.settings.hold + sale.api.settings.patience;
            let wait = released.since(sale.api.clock.now()).min(longest) + RELEASED.mul_f64(self.chance.f64());
            let back = Instant::now() + wait;
            if sale.stop.wait(tokio::time::sleep_until(back)).await {
                return;
            }
            order = self.known((&wish, &key), back, self.patience()).await.0;
        }
        let Some(order) = order else { return };
        if repeats && !sale.stop.has_begun() {
            self.repeat((&wish, &key), &order).await;
        }
        self.end(&order, habit).await;
    }

    /// Asks until it is known, always under the same key, from when the claim is due until patience ends. Returns the order, if there
    /// is one, and the last answer.
    pub(super) async fn known(
        &mut self,
        (ask, key): (&Ask, &str),
        claimed: Instant,
        until: Instant,
    ) -> (Option<Order>, Answer) {
        self.visited.api.ledger.open().pending += 1;
        let (mut order, mut is_open, mut due) = (None::<String>, false, claimed);
        let body = Bytes::from(ask.body.to_string());
        loop {
            let answer = match &order {
                None => self.ask((&body, key), (claimed, due)).await,
                Some(order) => self.look(order, claimed).await,
            };
            is_open |= matches!(&answer, Answer::Later(_, later) if !later.is_known);
            let after = match &answer {
                Answer::Yes(_, granted) => {
                    self.visited.api.ledger.open().pending -= 1;
                    self.take(ask, granted);
                    return (Some(granted.clone()), answer);
                }
                // Where an order may have been made, and is not there, the claim itself gets the answer that counts.
                Answer::Absent => {
                    order = None;
                    Some(Duration::ZERO)
                }
                Answer::Later(_, Later { after, order: made, .. }) => {
                    order = made.clone().or(order);
                    Some(*after)
                }
                Answer::No(..) | Answer::Odd(_) => None,
            };
            due = Instant::now() + after.unwrap_or_default();
            if after.is_none() || due > until {
                self.give_up(&answer, is_open);
                return (None, answer);
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// A claim that may have been granted stays pending; one that was refused, or not served each time, does not.
    fn give_up(&self, answer: &Answer, is_open: bool) {
        let mut heard = self.visited.api.ledger.open();
        if matches!(answer, Answer::No(..)) || !is_open {
            heard.pending -= 1;
        }
        match answer {
            Answer::Later(..) if !is_open => heard.unserved += 1,
            Answer::Odd(said) => heard.contradict(format!("a claim of {} heard {said}", self.name)),
            _ => {}
        }
    }

    /// Whoever clicks twice has one order; whoever tries anew hears that one is enough.
    async fn repeat(&mut self, (wish, key): (&Ask, &str), order: &Order) {
        let (api, name) = (Arc::clone(&self.visited), self.name.clone());
        let body = Bytes::from(wish.body.to_string());
        let mut again = self.ask_once((&body, key)).await;
        if matches!(again, Answer::No(..)) {
            // Another node may not have heard of the order yet; some refills later it has.
            tokio::time::sleep(HEARD).await;
            again = self.ask_once((&body, key)).await;
        }
        let odd = match &again {
            Answer::Yes(_, other) if other.id != order.id => {
                Some(format!("{name} got {}, and {} for the same key", order.id, other.id))
            }
            Answer::No(outcome, _) => {
                Some(format!("{name} got {}, and heard {} when asking again", order.id, outcome.as_str()))
            }
            Answer::Odd(said) => Some(format!("a repetition of {name} heard {said}")),
            _ => None,
        };
        if let Some(odd) = odd {
            api.api.ledger.open().contradict(odd);
        }
        let (another, _) = self.known((wish, &format!("{key}-2")), Instant::now(), self.patience()).await;
        if let Some(another) = another
            && api.api.clock.now() < order.pay_by
        {
            let said = format!("{name} has {} and {}, which is more than the limit", order.id, another.id);
            api.api.ledger.open().contradict(said);
        }
    }

    /// Does with an order what this buyer's habit is.
    async fn end(&mut self, order: &Order, habit: f64) {
        let visited = Arc::clone(&self.visited);
        let (habits, hold) = (visited.api.settings.crowd.habits(), visited.api.settings.hold);
        let [fast, slow, cancel] = [habits.fast, habits.fast + habits.slow, habits.fast + habits.slow + habits.cancel];
        let wait = match habit {
            habit if habit < fast => return self.pay(order).await,
            habit if habit < slow => hold.mul_f64(SLOW + self.chance.f64() * (SLOWEST - SLOW)),
            habit if habit < cancel => hold.mul_f64(SLOW * self.chance.f64()),
            _ => return visited.api.ledger.open().ended(Ending::Never),
        };
        if visited.stop.sleep(wait).await {
            visited.api.ledger.open().ended(Ending::Never);
        } else if habit < slow {
            self.pay(order).await;
        } else {
            self.cancel(order).await;
        }
    }

    pub(super) async fn pay(&mut self, order: &Order) {
        let visited = Arc::clone(&self.visited);
        visited.api.ledger.open().pending += 1;
        let (until, mut was_sent) = (self.patience(), false);
        loop {
            let door = self.door();
            let ended = visited.api.pay(&door, order, &self.headers).await;
            was_sent |= !matches!(ended, Ended::Later { is_unsent: true, .. });
            let Some(is_done) = self.is_ended(&ended, until).await else { continue };
            let mut heard = visited.api.ledger.open();
            match is_done {
                Some(true) => {
                    heard.orders.insert(order.id, true);
                    heard.ended(Ending::Paid);
                }
                Some(false) => heard.ended(Ending::TooLate),
                // Nobody knows what became of it.
                None if was_sent => return,
                None => {
                    heard.unserved += 1;
                    heard.ended(Ending::Never);
                }
            }
            heard.pending -= 1;
            return;
        }
    }

    /// Whether it came to pass the store tells; nothing is promised before.
    async fn cancel(&mut self, order: &Order) {
        let (visited, until) = (Arc::clone(&self.visited), self.patience());
        loop {
            let door = self.door();
            let ended = visited.api.cancel(&door, order.id, &self.headers).await;
            let Some(is_done) = self.is_ended(&ended, until).await else { continue };
            let ending = if is_done == Some(true) { Ending::Cancelled } else { Ending::TooLate };
            return visited.api.ledger.open().ended(ending);
        }
    }

    /// `None`: to be asked again, and the time to do so has come. `Some(None)`: patience ended before it was known.
    async fn is_ended(&self, ended: &Ended, until: Instant) -> Option<Option<bool>> {
        match ended {
            Ended::Done => Some(Some(true)),
            Ended::Before => Some(Some(false)),
            Ended::Odd(said) => {
                let said = format!("the end of an order of {} heard {said}", self.name);
                self.visited.api.ledger.open().contradict(said);
                Some(Some(false))
            }
            Ended::Later { after, .. } if Instant::now() + *after > until => Some(None),
            Ended::Later { after, .. } => {
                tokio::time::sleep(*after).await;
                None
            }
        }
    }

    async fn ask_once(&mut self, ask: (&Bytes, &str)) -> Answer {
        let now = Instant::now();
        self.ask(ask, (now, now)).await
    }

    /// A yes or a no ends the claim, which counts from when it was due; who is to ask again has asked from when this request was.
    async fn ask(&mut self, (body, key): (&Bytes, &str), (claimed, due): (Instant, Instant)) -> Answer {
        let (visited, door) = (Arc::clone(&self.visited), self.door());
        let answer = visited.api.claim(&door, (&visited.sale, key), &self.headers, body).await;
        let kind = answer.kind();
        let since = if kind == Kind::Later { due } else { claimed };
        visited.api.ledger.open().answer((answer.outcome(), kind), since.elapsed(), self.progress());
        answer
    }

    /// Looks at an order that may have been made; that it was ends the claim as well.
    async fn look(&mut self, order: &str, claimed: Instant) -> Answer {
        let (visited, door) = (Arc::clone(&self.visited), self.door());
        let answer = visited.api.look(&door, order, &self.headers).await;
        if answer.kind() == Kind::Yes {
            visited.api.ledger.open().time(Kind::Yes, claimed.elapsed(), self.progress());
        }
        answer
    }

    fn progress(&self) -> Option<f64> {
        self.span.map(|span| span.began.elapsed().as_secs_f64() / span.lasts.as_secs_f64())
    }

    /// Notes what was promised, for the end of the rehearsal to compare with what is there.
    fn take(&self, ask: &Ask, order: &Order) {
        let document = &self.visited.document;
        let asked = footprint(document, &ask.lines);
        let mut heard = self.visited.api.ledger.open();
        heard.accept(order.id, &asked);
        // A gateway that has not read the sale yet names no stops.
        let unread = !document.stops.is_empty() && order.lines.iter().any(|line| line.from.is_none());
        if !unread && footprint(document, &order.lines) != asked {
            heard.contradict(format!("{} asked for {:?} and got {:?}", self.name, ask.lines, order.lines));
        }
    }

    fn door(&mut self) -> String {
        self.gateways[self.chance.usize(..self.gateways.len())].clone()
    }

    fn patience(&self) -> Instant {
        Instant::now() + self.visited.api.settings.patience
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::settings::Secret;
    use crate::rehearsal::ledger::Times;
    use crate::rehearsal::sale::{concert, one_ticket};
    use crate::rehearsal::settings::Settings;
    use crate::rehearsal::settings::tests::rush;

    /// What a door takes for an answer, or lets itself be waited for.
    const SLOW: Duration = Duration::from_millis(200);
    const ORDER: &str = "00ff10ab5c0000000000000000123456";

    /// A gateway's door that gives these answers, one after the other, each when so long has passed.
    async fn door(answers: Vec<(Duration, u16, Value)>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let answer = move |_: Request<hyper::body::Incoming>| {
            let answers = Arc::clone(&answers);
            async move {
                let (after, status, body) = answers.lock().unwrap().pop_front().expect("one more answer");
                tokio::time::sleep(after).await;
                let answer = Response::builder().status(status).header("retry-after", SLOW.as_secs_f64().to_string());
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body.to_string()))).unwrap())
            }
        };
        crate::tasks::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = hyper::server::conn::http1::Builder::new();
                crate::tasks::spawn(served.serve_connection(TokioIo::new(stream), service_fn(answer.clone())));
            }
        });
        format!("http://{address}")
    }

    fn yes(status: u16, order: &str) -> (Duration, u16, Value) {
        let body = json!({
            "order": order, "sale": "s", "status": "held", "amount": 55350, "currency": "CNY",
            "pay_by": "2036-11-21T12:00:00Z", "lines": [{"pool": "standard", "quantity": 1}],
        });
        (SLOW, status, body)
    }

    /// At this door, with one connection for all.
    fn visited(door: String) -> Arc<Visited> {
        let settings = Settings { gateways: vec![door], jwt_secret: Secret::default(), vus: 1, ..rush() };
        let (document, stop) = (concert(300, Duration::from_secs(10)), Shutdown::new());
        let api = Api::new(settings, Arc::new(SystemClock));
        Arc::new(Visited { api, sale: "s".to_owned(), document, stop })
    }

    async fn claim(visited: &Arc<Visited>, name: &str, due: Instant) -> Answer {
        let mut buyer = Buyer::new(visited, name.to_owned(), Rng::with_seed(1)).unwrap();
        buyer.known((&one_ticket(), "key"), due, due + Duration::from_secs(30)).await.1
    }

    fn times(visited: &Visited, kind: Kind) -> Times {
        visited.api.ledger.open().times[&kind].clone()
    }

    #[tokio::test]
    async fn a_claim_that_a_slow_door_has_asked_again_took_from_when_it_was_due() {
        let busy = (SLOW, 503, json!({"code": "busy", "status": 503}));
        let visited = visited(door(vec![busy.clone(), busy, yes(201, ORDER)]).await);
        assert_eq!(claim(&visited, "ann", Instant::now()).await.outcome(), Outcome::Held);
        // Three answers, and twice as long as the door has said.
        let (granted, later) = (times(&visited, Kind::Yes), times(&visited, Kind::Later));
        assert!(granted.count() == 1 && granted.max() >= 990.0, "{granted:?}");
        // Each of them from when it was due itself.
        assert!(later.count() == 2 && later.max() + 500.0 < granted.max(), "{later:?} {granted:?}");
    }

    #[tokio::test]
    async fn a_claim_that_was_pending_took_until_its_order_was_seen() {
        let pending = (SLOW, 202, json!({"order": ORDER, "status": "pending"}));
        let visited = visited(door(vec![pending, yes(200, ORDER)]).await);
        assert_eq!(claim(&visited, "ann", Instant::now()).await.outcome(), Outcome::Replayed);
        let granted = times(&visited, Kind::Yes);
        assert!(granted.count() == 1 && granted.quantile(0.5) >= 590.0, "{granted:?}");
        let heard = visited.api.ledger.open();
        assert_eq!((heard.answers.len(), heard.answers[&Outcome::Pending]), (1, 1), "a look is no answer to a claim");
    }

    #[tokio::test]
    async fn who_is_due_while_a_slow_door_serves_another_has_waited_since() {
        let visited = visited(door(vec![yes(201, ORDER), yes(201, &ORDER.replace('5', "6"))]).await);
        let due = Instant::now();
        tokio::join!(claim(&visited, "ann", due), claim(&visited, "bob", due));
        let granted = times(&visited, Kind::Yes);
        assert!(granted.count() == 2 && granted.max() >= 390.0, "{granted:?}");
    }
}

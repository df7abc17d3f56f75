//! What can be asked: from method, path and query to a [`Call`].

use std::collections::HashMap;
use std::time::Duration;

use hyper::Method;

use crate::admin::assets::Asset;
use crate::admin::letters::Act;
use crate::admin::plan::Preview;
use crate::admin::problem::{Code, Problem};
use crate::admin::why::{Question, Wants};
use crate::domain::{Invalid, OrderEvent, OrderId, SaleId};
use crate::sales::Edit;
use crate::store::{OrderFilter, StaleState};

/// The longest that an audit may be told to wait for what is in motion.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Lines of the audit log, and orders, in one answer where nobody says how many.
const LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// One request, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Asset(Asset),
    Live,
    Ready { verbose: bool },
    Metrics,
    Sales,
    Sale(SaleId),
    Balance(SaleId),
    Plan { sale: SaleId, preview: Preview },
    Change { sale: SaleId, change: Change, dry_run: bool },
    Nodes,
    Watch { once: bool },
    Why(Question),
    Orders(OrderFilter),
    Order(OrderId),
    EndOrder { order: OrderId, event: OrderEvent, dry_run: bool },
    Config,
    Reload { dry_run: bool },
    Drain { dry_run: bool },
    Changes { subject: Option<String>, limit: u32 },
    Audit { sale: Option<SaleId>, wait: Duration },
    Repair { sale: Option<SaleId>, wait: Duration, dry_run: bool },
    StaleOrders { state: StaleState, limit: u32 },
    DeadLetters { after: u64, limit: u32 },
    DeadLetter(u64),
    ActOnDeadLetter { id: u64, act: Act, dry_run: bool },
}

/// A change of a sale: all of it, or what its body has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Plain(Edit),
    Put,
    Stock,
    Buffer,
}

impl Call {
    /// Has the request a body that means something?
    pub fn has_body(&self) -> bool {
        matches!(self, Self::Change { change: Change::Put | Change::Stock | Change::Buffer, .. })
    }

    /// May anybody ask who reaches the listener? Probes carry no token.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Live | Self::Ready { .. })
    }
}

/// Understands a request but for its body.
pub fn call(method: &Method, path: &str, query: Option<&str>) -> Result<Call, Problem> {
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let Some(allowed) = methods(&segments) else {
        return Err(Problem::new(Code::NotFound, "There is nothing here."));
    };
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    if !allowed.split(", ").any(|allowed| allowed == method) {
        return Err(Problem::new(Code::MethodNotAllowed, format!("This resource has {allowed}.")).allowing(allowed));
    }
    let mut query = Query::parse(query.unwrap_or_default())?;
    let call = of_segments(method, &segments, &mut query)?;
    query.finish()?;
    Ok(call)
}

/// Which methods a path has; `None`: there is no such path.
fn methods(segments: &[&str]) -> Option<&'static str> {
    let rest = match segments {
        ["livez" | "readyz" | "metrics"] => return Some("GET"),
        _ if asset(segments).is_some() => return Some("GET"),
        ["admin", "v1", rest @ ..] => rest,
        _ => return None,
    };
    Some(match rest {
        ["sales" | "nodes" | "live" | "why" | "orders" | "stale-orders" | "config" | "changes" | "dead-letters"]
        | ["orders", _]
        | ["sales", _, "balance" | "plan"] => "GET",
        ["sales", _] => "GET, PUT",
        ["dead-letters", _] => "GET, DELETE",
        ["sales", _, "open" | "pause" | "resume" | "close" | "stock"]
        | ["orders", _, "cancel" | "refund"]
        | ["dead-letters", _, "replay"]
        | ["audit", "repair"]
        | ["reload" | "drain"] => "POST",
        ["sales", _, "buffer"] => "PATCH",
        ["audit"] => "GET, POST",
        _ => return None,
    })
}

/// The console's page is at the root, and what it loads below `console`.
fn asset(segments: &[&str]) -> Option<Asset> {
    match segments {
        [""] => Asset::find(&[]),
        ["console", path @ ..] if !path.is_empty() => Asset::find(path),
        _ => None,
    }
}

fn of_segments(method: &str, segments: &[&str], query: &mut Query) -> Result<Call, Problem> {
    let rest = match segments {
        ["livez"] => return Ok(Call::Live),
        ["readyz"] => return Ok(Call::Ready { verbose: query.flag("verbose")? }),
        ["metrics"] => return Ok(Call::Metrics),
        ["admin", _, rest @ ..] => rest,
        _ => &[],
    };
    if let Some(asset) = asset(segments) {
        return Ok(Call::Asset(asset));
    }
    Ok(match rest {
        ["sales"] => Call::Sales,
        ["sales", sale] if method == "GET" => Call::Sale(sale_id(sale)?),
        ["sales", sale, "balance"] => Call::Balance(sale_id(sale)?),
        ["sales", sale, "plan"] => Call::Plan {
            sale: sale_id(sale)?,
            preview: Preview {
                buffer: query.parsed("buffer")?,
                survive: query.parsed("survive")?,
                skew: query.parsed("skew")?.unwrap_or(1.0),
            },
        },
        ["sales", sale, action @ ..] => {
            let change = match action.first().copied() {
                None => Change::Put,
                Some("open") => Change::Plain(Edit::Open),
                Some("pause") => Change::Plain(Edit::Pause),
                Some("resume") => Change::Plain(Edit::Resume),
                Some("close") => Change::Plain(Edit::Close),
                Some("stock") => Change::Stock,
                Some(_) => Change::Buffer,
            };
            Call::Change { sale: sale_id(sale)?, change, dry_run: query.flag("dry_run")? }
        }
        ["nodes"] => Call::Nodes,
        ["why"] => Call::Why(question(query)?),
        ["live"] => Call::Watch { once: query.flag("once")? },
        ["orders"] => Call::Orders(filter(query)?),
        ["stale-orders"] => {
            Call::StaleOrders { state: query.parsed("state")?.unwrap_or(StaleState::Refused), limit: query.limit()? }
        }
        ["orders", order] => Call::Order(order_id(order)?),
        ["orders", order, end] => {
            let event = if *end == "cancel" { OrderEvent::Cancel } else { OrderEvent::Refund };
            Call::EndOrder { order: order_id(order)?, event, dry_run: query.flag("dry_run")? }
        }
        ["config"] => Call::Config,
        ["reload"] => Call::Reload { dry_run: query.flag("dry_run")? },
        ["drain"] => Call::Drain { dry_run: query.flag("dry_run")? },
        ["changes"] => Call::Changes { subject: query.take("subject"), limit: query.limit()? },
        ["audit", _repair] => Call::Repair {
            sale: query.parsed("sale")?,
            wait: query.duration("wait", MAX_WAIT)?,
            dry_run: query.flag("dry_run")?,
        },
        ["audit"] => Call::Audit { sale: query.parsed("sale")?, wait: query.duration("wait", MAX_WAIT)? },
        ["dead-letters", letter] if method == "GET" => Call::DeadLetter(letter_id(letter)?),
        ["dead-letters", letter, replay @ ..] => Call::ActOnDeadLetter {
            id: letter_id(letter)?,
            act: if replay.is_empty() { Act::Drop } else { Act::Replay },
            dry_run: query.flag("dry_run")?,
        },
        _ => Call::DeadLetters { after: query.parsed("after")?.unwrap_or(0), limit: query.limit()? },
    })
}

/// Which orders to list.
fn filter(query: &mut Query) -> Result<OrderFilter, Problem> {
    Ok(OrderFilter {
        sale: query.parsed("sale")?,
        buyer: query.parsed("buyer")?,
        status: query.parsed("status")?,
        after: query.parsed("after")?,
        fresh: query.flag("fresh")?,
        limit: query.limit()?,
    })
}

/// About an order, or about a buyer of a sale.
fn question(query: &mut Query) -> Result<Question, Problem> {
    if let Some(order) = query.take("order") {
        return Ok(Question::Order(order_id(&order)?));
    }
    let missing = |name| wrong(name, "must be given: ask with sale and buyer, or with order");
    Ok(Question::Buyer {
        sale: query.parsed("sale")?.ok_or_else(|| missing("sale"))?,
        buyer: query.parsed("buyer")?.ok_or_else(|| missing("buyer"))?,
        wants: Wants {
            quantity: query.parsed("quantity")?,
            pool: query.take("pool"),
            from: query.take("from"),
            to: query.take("to"),
        },
    })
}

/// What cannot be the name of a sale is the name of no sale.
fn sale_id(text: &str) -> Result<SaleId, Problem> {
    text.parse().map_err(|_| Problem::new(Code::UnknownSale, "There is no such sale."))
}

fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|_| Problem::new(Code::UnknownOrder, "There is no such order."))
}

fn letter_id(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::new(Code::UnknownDeadLetter, "There is no such dead letter."))
}

/// The parameters that nobody has asked for yet; one that is left over is a mistake of the caller's.
#[derive(Debug)]
struct Query(HashMap<String, String>);

impl Query {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut query = HashMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Problem::new(Code::Malformed, "The query is not percent-encoded UTF-8."));
            };
            if query.insert(name.clone(), value).is_some() {
                return Err(wrong(&name, "stands twice"));
            }
        }
        Ok(Self(query))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        self.take(name).map(|value| value.parse().map_err(|error| wrong(name, error))).transpose()
    }

    fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.0.remove(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(wrong(name, "must be true or false")),
        }
    }

    fn limit(&mut self) -> Result<u32, Problem> {
        let Some(text) = self.take("limit") else { return Ok(LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| wrong("limit", format!("must be 1 to {MAX_LIMIT}")))
    }

    fn duration(&mut self, name: &str, max: Duration) -> Result<Duration, Problem> {
        let Some(text) = self.take(name) else { return Ok(Duration::ZERO) };
        match humantime::parse_duration(&text) {
            Ok(duration) if duration <= max => Ok(duration),
            _ => {
                Err(wrong(name, format!("must be a duration such as 10s, at most {}", humantime::format_duration(max))))
            }
        }
    }

    fn finish(self) -> Result<(), Problem> {
        let mut left: Vec<_> = self.0.into_keys().collect();
        left.sort_unstable();
        left.first().map_or(Ok(()), |name| Err(wrong(name, "is no parameter of this call")))
    }
}

fn wrong(name: &str, why: impl std::fmt::Display) -> Problem {
    Problem::invalid(&[Invalid::new(format!("?{name}"), why)])
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? * 16 + digit(rest.next()?)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Call, Code> {
        ask("GET", path)
    }

    fn ask(method: &str, target: &str) -> Result<Call, Code> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        call(&method.parse().unwrap(), path, query).map_err(|problem| problem.code)
    }

    #[test]
    fn each_action_of_a_sale_is_its_own_change() {
        let change = |method, action: &str| match ask(method, &format!("/admin/v1/sales/s{action}")) {
            Ok(Call::Change { change, dry_run: false, .. }) => change,
            other => panic!("must be a change, is {other:?}"),
        };
        assert_eq!(change("PUT", ""), Change::Put);
        assert_eq!(change("POST", "/open"), Change::Plain(Edit::Open));
        assert_eq!(change("POST", "/pause"), Change::Plain(Edit::Pause));
        assert_eq!(change("POST", "/resume"), Change::Plain(Edit::Resume));
        assert_eq!(change("POST", "/close"), Change::Plain(Edit::Close));
        assert_eq!(change("POST", "/stock"), Change::Stock);
        assert_eq!(change("PATCH", "/buffer"), Change::Buffer);
    }

    #[test]
    fn a_dry_run_is_asked_for_in_the_query() {
        let dry = |target| match ask("POST", target) {
            Ok(Call::Change { dry_run, .. } | Call::Drain { dry_run } | Call::EndOrder { dry_run, .. }) => dry_run,
            other => panic!("must be a change, is {other:?}"),
        };
        assert!(dry("/admin/v1/sales/s/open?dry_run=true"));
        assert!(dry("/admin/v1/drain?dry_run"));
        assert!(!dry("/admin/v1/drain?dry_run=false"));
        assert!(dry(&format!("/admin/v1/orders/{}/cancel?dry_run=1", "ab".repeat(16))));
    }

    #[test]
    fn orders_are_filtered_by_the_query() {
        let filter = OrderFilter {
            sale: Some("s".parse().unwrap()),
            buyer: Some("auth0|1&2 3".replace(' ', "").parse().unwrap()),
            status: Some(crate::domain::OrderStatus::Paid),
            after: Some(OrderId([0xab; 16])),
            fresh: true,
            limit: 7,
        };
        let target = format!(
            "/admin/v1/orders?sale=s&buyer=auth0%7C1%2623&status=paid&limit=7&fresh=true&after={}",
            "ab".repeat(16)
        );
        assert_eq!(get(&target), Ok(Call::Orders(filter)));
        assert_eq!(get("/admin/v1/orders"), Ok(Call::Orders(OrderFilter { limit: 100, ..OrderFilter::default() })));
    }

    #[test]
    fn stale_orders_are_those_that_were_refused_unless_others_are_asked_for() {
        let stale = |state, limit| Ok(Call::StaleOrders { state, limit });
        assert_eq!(get("/admin/v1/stale-orders"), stale(StaleState::Refused, 100));
        assert_eq!(get("/admin/v1/stale-orders?state=waiting&limit=3"), stale(StaleState::Waiting, 3));
        assert_eq!(get("/admin/v1/stale-orders?state=lost"), Err(Code::Invalid));
    }

    #[test]
    fn what_is_wrong_with_a_query_is_told() {
        for target in [
            "orders?limit=0",
            "orders?limit=1001",
            "orders?status=lost",
            "orders?after=x",
            "orders?colour=red",
            "orders?sale=a%20b",
            "audit?wait=forever",
            "audit?wait=2h",
            "orders?limit=1&limit=2",
            "changes?limit=-1",
            "sales/s/plan?buffer=much",
            "sales/s/plan?survive=-1",
        ] {
            assert_eq!(get(&format!("/admin/v1/{target}")), Err(Code::Invalid), "{target}");
        }
        assert_eq!(get("/admin/v1/orders?buyer=%f"), Err(Code::Malformed));
        assert_eq!(get("/admin/v1/orders?buyer=%ff"), Err(Code::Malformed));
    }

    #[test]
    fn a_dead_letter_is_shown_replayed_and_dropped() {
        let act = |id, act, dry_run| Ok(Call::ActOnDeadLetter { id, act, dry_run });
        assert_eq!(get("/admin/v1/dead-letters"), Ok(Call::DeadLetters { after: 0, limit: 100 }));
        assert_eq!(get("/admin/v1/dead-letters?after=7&limit=2"), Ok(Call::DeadLetters { after: 7, limit: 2 }));
        assert_eq!(get("/admin/v1/dead-letters/7"), Ok(Call::DeadLetter(7)));
        assert_eq!(ask("DELETE", "/admin/v1/dead-letters/7?dry_run=true"), act(7, Act::Drop, true));
        assert_eq!(ask("POST", "/admin/v1/dead-letters/7/replay"), act(7, Act::Replay, false));
        assert_eq!(get("/admin/v1/dead-letters/-1"), Err(Code::UnknownDeadLetter));
        assert_eq!(get("/admin/v1/dead-letters/7/replay"), Err(Code::MethodNotAllowed));
    }

    #[test]
    fn a_plan_is_for_the_buffer_that_is_asked_for() {
        let plan = |buffer, survive, skew| {
            Ok(Call::Plan { sale: "s".parse().unwrap(), preview: Preview { buffer, survive, skew } })
        };
        assert_eq!(get("/admin/v1/sales/s/plan"), plan(None, None, 1.0));
        let asked = "/admin/v1/sales/s/plan?buffer=20%25&survive=2&skew=1.5";
        assert_eq!(get(asked), plan(Some(crate::domain::Buffer::Fraction(0.2)), Some(2), 1.5));
        assert_eq!(ask("POST", "/admin/v1/sales/s/plan"), Err(Code::MethodNotAllowed));
    }

    #[test]
    fn an_audit_may_wait() {
        let audit = |sale, wait| Ok(Call::Audit { sale, wait: Duration::from_secs(wait) });
        assert_eq!(get("/admin/v1/audit"), audit(None, 0));
        let repair = Call::Repair { sale: None, wait: Duration::from_secs(3), dry_run: true };
        assert_eq!(ask("POST", "/admin/v1/audit/repair?wait=3s&dry_run=true"), Ok(repair));
        assert_eq!(get("/admin/v1/audit/repair"), Err(Code::MethodNotAllowed));
        assert_eq!(ask("POST", "/admin/v1/audit?sale=s&wait=10s"), audit(Some("s".parse().unwrap()), 10));
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(get("/console/gone.js"), Err(Code::NotFound));
        assert_eq!(get("/admin/v1"), Err(Code::NotFound));
        assert_eq!(get("/admin/v1/sales/"), Err(Code::UnknownSale));
        assert_eq!(get("/admin/v1/sales/a%2fb"), Err(Code::UnknownSale));
        assert_eq!(get("/admin/v1/orders/x"), Err(Code::UnknownOrder));
        assert_eq!(get("/admin/v1/sales/s/open"), Err(Code::MethodNotAllowed));
        assert_eq!(ask("DELETE", "/admin/v1/sales/s"), Err(Code::MethodNotAllowed));
        let problem = call(&Method::DELETE, "/admin/v1/sales/s", None).unwrap_err();
        assert_eq!(problem.allow, Some("GET, PUT"));
    }

    #[test]
    fn why_is_asked_of_a_buyer_or_of_an_order() {
        let order = Ok(Call::Why(Question::Order(OrderId([0xab; 16]))));
        assert_eq!(get(&format!("/admin/v1/why?order={}", "ab".repeat(16))), order);
        let wants = Wants { quantity: Some(2), pool: Some("p".to_owned()), ..Wants::default() };
        let buyer = Question::Buyer { sale: "s".parse().unwrap(), buyer: "ann".parse().unwrap(), wants };
        assert_eq!(get("/admin/v1/why?sale=s&buyer=ann&quantity=2&pool=p"), Ok(Call::Why(buyer)));
        for target in ["why", "why?sale=s", "why?buyer=ann", "why?sale=s&buyer=ann&quantity=many"] {
            assert_eq!(get(&format!("/admin/v1/{target}")), Err(Code::Invalid), "{target}");
        }
        assert_eq!(get("/admin/v1/why?order=x"), Err(Code::UnknownOrder));
    }

    #[test]
    fn the_live_feed_is_watched_or_looked_at_once() {
        assert_eq!(get("/admin/v1/live"), Ok(Call::Watch { once: false }));
        assert_eq!(get("/admin/v1/live?once=true"), Ok(Call::Watch { once: true }));
        assert_eq!(ask("POST", "/admin/v1/live"), Err(Code::MethodNotAllowed));
        assert_eq!(get("/admin/v1/live?twice=true"), Err(Code::Invalid));
    }

    #[test]
    fn the_page_is_at_the_root_and_its_files_are_below_it() {
        let page = Ok(Call::Asset(Asset::find(&[]).unwrap()));
        assert_eq!((&get("/"), &get("/console/index.html")), (&page, &page));
        assert_eq!(get("/console"), Err(Code::NotFound));
        assert_eq!(get("/console/"), Err(Code::NotFound));
        assert_eq!(get("/console/../index.html"), Err(Code::NotFound));
        assert_eq!(ask("POST", "/"), Err(Code::MethodNotAllowed));
    }

    #[test]
    fn only_probes_are_open_to_everybody() {
        assert!(get("/livez").unwrap().is_open());
        assert!(get("/readyz?verbose").unwrap().is_open());
        assert!(!get("/metrics").unwrap().is_open());
        assert!(!get("/admin/v1/sales").unwrap().is_open());
    }
}

//! What an operator may change about a sale, and what it then is. No store and no clock: these are the rules.

use crate::config::settings;
use crate::domain::document::{BufferDocument, SaleStateDocument};
use crate::domain::{Invalid, Phase, Pool, Sale, SaleDocument, SaleId, SaleState, UnixMillis};
use crate::sales::Refused;

/// One change, as an operator asks for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Makes the sale, or makes it what the document says.
    Put(Box<SaleDocument>),
    /// Lets buyers in now, whatever the window said.
    Open,
    Pause,
    Resume,
    /// For good.
    Close,
    /// Adds units to every leg of a pool, or takes free ones away.
    AddStock {
        pool: String,
        delta: i64,
    },
    /// `None`: the buffer that the nodes are configured with.
    SetBuffer(Option<BufferDocument>),
}

/// What the rules need to know beside the sale.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub now: UnixMillis,
    pub defaults: &'a settings::Sale,
}

impl Edit {
    /// What the audit log calls it.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Put(_) => "sale.put",
            Self::Open => "sale.open",
            Self::Pause => "sale.pause",
            Self::Resume => "sale.resume",
            Self::Close => "sale.close",
            Self::AddStock { .. } => "sale.stock",
            Self::SetBuffer(_) => "sale.buffer",
        }
    }

    /// Does the operator say which version this is a change of? Then it is a change of no other.
    pub fn is_pinned(&self) -> bool {
        matches!(self, Self::Put(document) if document.version.is_some())
    }

    /// What the sale is after this change; the same version if it is what it was.
    pub fn apply(&self, id: &SaleId, current: Option<&Sale>, given: Given<'_>) -> Result<Sale, Refused> {
        let mut sale = match (self, current) {
            (Self::Put(document), None) => return create(document, id, given),
            (Self::Put(document), Some(current)) => replace(document, current, given)?,
            (_, None) => return Err(Refused::UnknownSale),
            (Self::SetBuffer(buffer), Some(current)) => Sale {
                buffer: buffer
                    .as_ref()
                    .map(BufferDocument::parse)
                    .transpose()
                    .map_err(|error| invalid("/buffer", error))?,
                ..current.clone()
            },
            (Self::AddStock { pool, delta }, Some(current)) => add_stock(current, pool, *delta)?,
            (Self::Close, Some(current)) => Sale { state: SaleState::Closed, ..current.clone() },
            (Self::Open | Self::Pause | Self::Resume, Some(current)) => {
                if current.phase(given.now) == Phase::Closed {
                    return Err(Refused::Closed);
                }
                let mut sale = current.clone();
                sale.state = if *self == Self::Pause { SaleState::Paused } else { SaleState::Active };
                if *self == Self::Open && sale.opens_at.is_none_or(|at| at > given.now) {
                    sale.opens_at = Some(given.now);
                }
                sale
            }
        };
        if Some(&sale) != current {
            sale.version += 1;
        }
        Ok(sale)
    }
}

fn invalid(at: &str, why: impl std::fmt::Display) -> Refused {
    Refused::Invalid(vec![Invalid::new(at, why)])
}

fn create(document: &SaleDocument, id: &SaleId, given: Given<'_>) -> Result<Sale, Refused> {
    // Version 0 says that there must be no such sale yet.
    if document.version.is_some_and(|version| version > 0) {
        return Err(Refused::Conflict { version: 0 });
    }
    if document.state == Some(SaleStateDocument::Closed) {
        return Err(invalid("/state", "a new sale cannot be closed"));
    }
    let sale = with_defaults(document, given.defaults).into_sale(id.clone()).map_err(Refused::Invalid)?;
    Ok(Sale { version: 1, ..sale })
}

fn replace(document: &SaleDocument, current: &Sale, given: Given<'_>) -> Result<Sale, Refused> {
    if document.version.is_some_and(|version| version != current.version) {
        return Err(Refused::Conflict { version: current.version });
    }
    let mut sale = with_defaults(document, given.defaults).into_sale(current.id.clone()).map_err(Refused::Invalid)?;
    let mut wrong = Vec::new();
    if document.state.is_some_and(|state| SaleState::from(state) != current.state) {
        let why = "must be what it is, or absent; open, pause, resume and close change it";
        wrong.push(Invalid::new("/state", why));
    }
    if sale.currency != current.currency {
        wrong.push(Invalid::new("/currency", "cannot change: orders have been priced in it"));
    }
    if sale.stops != current.stops {
        wrong.push(Invalid::new("/stops", "cannot change: orders have been granted over their legs"));
    }
    let (kept, fresh): (Vec<_>, Vec<_>) =
        sale.pools.into_iter().partition(|pool| current.pool(pool.id.as_str()).is_some());
    sale.pools = Vec::with_capacity(kept.len() + fresh.len());
    // The pools that were there first stay first, in whatever order the document has them.
    for pool in &current.pools {
        match kept.iter().find(|kept| kept.id == pool.id) {
            Some(pool) => sale.pools.push(pool.clone()),
            None => wrong.push(Invalid::new("/pools", format!("pool {} cannot be removed", pool.id))),
        }
    }
    sale.pools.extend(fresh);
    if !wrong.is_empty() {
        return Err(Refused::Invalid(wrong));
    }
    sale.state = current.state;
    sale.version = current.version;
    // Sent again as it was made, a document without an opening does not shut a sale that an operator has opened since.
    if sale.opens_at.is_none() && current.opens_at.is_some_and(|at| at <= given.now) {
        sale.opens_at = current.opens_at;
    }
    Ok(sale)
}

fn with_defaults(document: &SaleDocument, defaults: &settings::Sale) -> SaleDocument {
    let mut document = document.clone();
    document.hold.get_or_insert_with(|| humantime::format_duration(defaults.hold).to_string());
    document.limit_per_buyer.get_or_insert(defaults.limit_per_buyer);
    document
}

fn add_stock(current: &Sale, pool: &str, delta: i64) -> Result<Sale, Refused> {
    let Some((index, Pool { capacity, .. })) = current.pool(pool) else {
        let pools: Vec<_> = current.pools.iter().map(|pool| pool.id.as_str()).collect();
        return Err(invalid("/pool", format!("must be one of {}", pools.join(", "))));
    };
    if delta == 0 {
        return Err(invalid("/delta", "must not be 0"));
    }
    let capacity = i64::from(*capacity).checked_add(delta).and_then(|capacity| u32::try_from(capacity).ok());
    let Some(capacity) = capacity.filter(|capacity| *capacity <= Sale::MAX_CAPACITY) else {
        let why = format!("the pool's capacity must stay within 0 to {}", Sale::MAX_CAPACITY);
        return Err(invalid("/delta", why));
    };
    let mut sale = current.clone();
    sale.pools[index].capacity = capacity;
    Ok(sale)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn defaults() -> settings::Sale {
        settings::Sale { hold: Duration::from_secs(90), limit_per_buyer: 4 }
    }

    fn apply(edit: &Edit, current: Option<&Sale>) -> Result<Sale, Refused> {
        edit.apply(&"s".parse().unwrap(), current, Given { now: NOW, defaults: &defaults() })
    }

    fn put(json: Value) -> Edit {
        Edit::Put(Box::new(serde_json::from_value(json).unwrap()))
    }

    fn concert() -> Sale {
        apply(&put(json!({"name": "C", "currency": "CNY", "pools": [{"id": "p", "capacity": 10, "price": 5}]})), None)
            .unwrap()
    }

    fn pointers(result: Result<Sale, Refused>) -> Vec<String> {
        match result {
            Err(Refused::Invalid(wrong)) => wrong.into_iter().map(|invalid| invalid.at).collect(),
            other => panic!("must be invalid, is {other:?}"),
        }
    }

    #[test]
    fn a_new_sale_gets_the_configured_defaults() {
        let sale = concert();
        assert_eq!((sale.hold, sale.limits.per_buyer, sale.version), (Duration::from_secs(90), 4, 1));
    }

    #[test]
    fn a_sale_that_is_sent_back_as_it_was_read_is_what_it_was() {
        let sale = concert();
        let again = Edit::Put(Box::new(SaleDocument::from(&sale)));
        assert_eq!(apply(&again, Some(&sale)), Ok(sale));
    }

    #[test]
    fn a_change_of_another_version_is_refused() {
        let mut document = SaleDocument::from(&concert());
        document.version = Some(7);
        assert_eq!(apply(&Edit::Put(Box::new(document)), Some(&concert())), Err(Refused::Conflict { version: 1 }));
    }

    #[test]
    fn a_document_of_version_zero_only_makes_a_new_sale() {
        let mut document = SaleDocument::from(&concert());
        document.version = Some(0);
        let edit = Edit::Put(Box::new(document));
        assert_eq!(apply(&edit, None).unwrap().version, 1);
        assert_eq!(apply(&edit, Some(&concert())), Err(Refused::Conflict { version: 1 }));
    }

    #[test]
    fn a_version_without_a_sale_is_a_conflict() {
        let edit = Edit::Put(Box::new(SaleDocument::from(&concert())));
        assert_eq!(apply(&edit, None), Err(Refused::Conflict { version: 0 }));
    }

    #[test]
    fn the_state_is_changed_by_its_own_commands_only() {
        let mut document = SaleDocument::from(&concert());
        document.state = Some(SaleStateDocument::Paused);
        assert_eq!(pointers(apply(&Edit::Put(Box::new(document)), Some(&concert()))), ["/state"]);
    }

    #[test]
    fn pools_stops_and_currency_stay() {
        let train = apply(
            &put(json!({"name": "G1", "currency": "CNY", "stops": ["A", "B", "C"],
                "pools": [{"id": "first", "capacity": 1, "fares": [1, 2]}, {"id": "second", "capacity": 1, "fares": [1, 2]}]})),
            None,
        )
        .unwrap();
        let other = put(json!({"name": "G1", "currency": "EUR", "stops": ["A", "C", "B"],
            "pools": [{"id": "third", "capacity": 1, "fares": [1, 2]}, {"id": "second", "capacity": 1, "fares": [1, 2]}]}));
        assert_eq!(pointers(apply(&other, Some(&train))), ["/currency", "/stops", "/pools"]);
    }

    #[test]
    fn new_pools_come_after_the_known_ones_and_capacities_may_change() {
        let more = put(json!({"name": "C", "currency": "CNY",
            "pools": [{"id": "a", "capacity": 3, "price": 5}, {"id": "p", "capacity": 12, "price": 6}]}));
        let sale = apply(&more, Some(&concert())).unwrap();
        let pools: Vec<_> = sale.pools.iter().map(|pool| (pool.id.as_str(), pool.capacity)).collect();
        assert_eq!((pools.as_slice(), sale.version), (&[("p", 12), ("a", 3)][..], 2));
    }

    #[test]
    fn open_means_now_unless_it_is_open_already() {
        let opened = apply(&Edit::Open, Some(&concert())).unwrap();
        assert_eq!((opened.opens_at, opened.version), (Some(NOW), 2));
        assert_eq!(apply(&Edit::Open, Some(&opened)), Ok(opened.clone()), "twice is once");
        let later = Sale { opens_at: Some(UnixMillis(NOW.0 + 1)), ..concert() };
        assert_eq!(apply(&Edit::Open, Some(&later)).unwrap().opens_at, Some(NOW));
        let earlier = Sale { opens_at: Some(UnixMillis(5)), ..concert() };
        assert_eq!(apply(&Edit::Open, Some(&earlier)), Ok(earlier));
    }

    #[test]
    fn a_document_without_an_opening_leaves_an_open_sale_open() {
        let opened = apply(&Edit::Open, Some(&concert())).unwrap();
        let document =
            put(json!({"name": "New", "currency": "CNY", "pools": [{"id": "p", "capacity": 10, "price": 5}]}));
        assert_eq!(apply(&document, Some(&opened)).unwrap().opens_at, Some(NOW));
    }

    #[test]
    fn pause_and_resume_go_back_and_forth_and_twice_is_once() {
        let paused = apply(&Edit::Pause, Some(&concert())).unwrap();
        assert_eq!(paused.state, SaleState::Paused);
        assert_eq!(apply(&Edit::Pause, Some(&paused)), Ok(paused.clone()));
        assert_eq!(apply(&Edit::Resume, Some(&paused)).unwrap().state, SaleState::Active);
        assert_eq!(apply(&Edit::Resume, Some(&concert())), Ok(concert()));
    }

    #[test]
    fn closed_is_for_good() {
        let closed = apply(&Edit::Close, Some(&concert())).unwrap();
        assert_eq!(apply(&Edit::Close, Some(&closed)), Ok(closed.clone()));
        for edit in [Edit::Open, Edit::Pause, Edit::Resume] {
            assert_eq!(apply(&edit, Some(&closed)), Err(Refused::Closed), "{edit:?}");
        }
    }

    #[test]
    fn stock_is_added_to_a_pool_within_its_bounds() {
        let add = |pool: &str, delta| apply(&Edit::AddStock { pool: pool.to_owned(), delta }, Some(&concert()));
        assert_eq!(add("p", 5).unwrap().pools[0].capacity, 15);
        assert_eq!(add("p", -10).unwrap().pools[0].capacity, 0);
        for delta in [-11, 0, 100_000_000, i64::MAX, i64::MIN] {
            assert_eq!(pointers(add("p", delta)), ["/delta"]);
        }
        assert_eq!(pointers(add("q", 1)), ["/pool"]);
    }

    #[test]
    fn a_buffer_is_set_and_taken_off_again() {
        let set = |buffer: Value| {
            let buffer = serde_json::from_value(buffer).unwrap();
            apply(&Edit::SetBuffer(buffer), Some(&concert()))
        };
        assert_eq!(set(json!("20%")).unwrap().buffer.unwrap().to_string(), "20%");
        assert_eq!(set(json!(7)).unwrap().buffer.unwrap().to_string(), "7");
        assert_eq!(set(json!(null)), Ok(concert()));
        assert_eq!(pointers(set(json!("much"))), ["/buffer"]);
    }

    #[test]
    fn only_a_document_makes_a_sale() {
        for edit in [Edit::Open, Edit::Close, Edit::SetBuffer(None)] {
            assert_eq!(apply(&edit, None), Err(Refused::UnknownSale));
        }
    }
}

//! The JSON form of a sale: what the admin API takes and gives, the store keeps and the inventory mirrors.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::claim::Invalid;
use crate::domain::id::{SaleId, StopId};
use crate::domain::money::Currency;
use crate::domain::object;
use crate::domain::sale::{Buffer, Limits, Pool, Sale, SaleState};
use crate::domain::time::UnixMillis;

/// A sale as JSON.
///
/// An operator gives all but `state` and `version`; what is read back can be sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleDocument {
    pub name: String,
    /// RFC 3339; absent: it opens when an operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<String>,
    /// A duration such as `"300s"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_per_buyer: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_per_passenger: Option<u32>,
    pub currency: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<String>,
    #[serde(deserialize_with = "object::list")]
    pub pools: Vec<PoolDocument>,
    /// Units, or a percentage of the fair part; absent: the node's configured buffer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SaleStateDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A pool as JSON; `price` where there is one leg, else one fare per leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolDocument {
    pub id: String,
    pub capacity: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fares: Option<Vec<i64>>,
}

/// A buffer as JSON: `50` or `"10%"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a buffer must be a number of units such as 50, or a percentage such as \"10%\"")]
pub enum BufferDocument {
    Units(u32),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleStateDocument {
    Active,
    Paused,
    Closed,
}

impl BufferDocument {
    pub fn parse(&self) -> Result<Buffer, crate::domain::sale::BadBuffer> {
        match self {
            Self::Units(units) => Ok(Buffer::Units(*units)),
            Self::Text(text) => text.parse(),
        }
    }
}

impl From<Buffer> for BufferDocument {
    fn from(buffer: Buffer) -> Self {
        match buffer {
            Buffer::Units(units) => Self::Units(units),
            Buffer::Fraction(_) => Self::Text(buffer.to_string()),
        }
    }
}

impl SaleDocument {
    /// What a new sale gets where the document does not say.
    pub const DEFAULT_HOLD: Duration = Duration::from_secs(300);
    pub const DEFAULT_LIMITS: Limits = Limits { per_buyer: 1, per_passenger: 1 };

    /// Checks the document; all that is wrong is said at once. Without `state` it is active, without `version` the first.
    pub fn into_sale(self, id: SaleId) -> Result<Sale, Vec<Invalid>> {
        let mut wrong = Vec::new();
        let legs = self.stops.len().saturating_sub(1).max(1);
        let sale = Sale {
            id,
            opens_at: instant(self.opens_at.as_deref(), "/opens_at", &mut wrong),
            closes_at: instant(self.closes_at.as_deref(), "/closes_at", &mut wrong),
            hold: hold(self.hold.as_deref(), &mut wrong),
            limits: Limits {
                per_buyer: limit(self.limit_per_buyer, "/limit_per_buyer", Self::DEFAULT_LIMITS.per_buyer, &mut wrong),
                per_passenger: limit(
                    self.limit_per_passenger,
                    "/limit_per_passenger",
                    Self::DEFAULT_LIMITS.per_passenger,
                    &mut wrong,
                ),
            },
            currency: parsed(&self.currency, "/currency", &mut wrong).unwrap_or(Currency::CNY),
            stops: stops(&self.stops, &mut wrong),
            pools: pools(&self.pools, legs, &mut wrong),
            buffer: self
                .buffer
                .and_then(|buffer| buffer.parse().map_err(|error| wrong.push(Invalid::new("/buffer", error))).ok()),
            state: self.state.map_or(SaleState::Active, SaleState::from),
            version: self.version.unwrap_or(1),
            name: self.name,
        };
        if let Err(why) = check_name(&sale.name) {
            wrong.push(Invalid::new("/name", why));
        }
        if let (Some(opens), Some(closes)) = (sale.opens_at, sale.closes_at)
            && closes <= opens
        {
            wrong.push(Invalid::new("/closes_at", "must be after opens_at"));
        }
        if wrong.is_empty() { Ok(sale) } else { Err(wrong) }
    }
}

impl From<&Sale> for SaleDocument {
    fn from(sale: &Sale) -> Self {
        let pool = |pool: &Pool| PoolDocument {
            id: pool.id.to_string(),
            capacity: pool.capacity,
            price: sale.stops.is_empty().then(|| pool.fares[0]),
            fares: (!sale.stops.is_empty()).then(|| pool.fares.clone()),
        };
        Self {
            name: sale.name.clone(),
            opens_at: sale.opens_at.map(|at| at.to_string()),
            closes_at: sale.closes_at.map(|at| at.to_string()),
            hold: Some(humantime::format_duration(sale.hold).to_string()),
            limit_per_buyer: Some(sale.limits.per_buyer),
            limit_per_passenger: Some(sale.limits.per_passenger),
            currency: sale.currency.to_string(),
            stops: sale.stops.iter().map(ToString::to_string).collect(),
            pools: sale.pools.iter().map(pool).collect(),
            buffer: sale.buffer.map(BufferDocument::from),
            state: Some(sale.state.into()),
            version: Some(sale.version),
        }
    }
}

impl From<SaleStateDocument> for SaleState {
    fn from(state: SaleStateDocument) -> Self {
        match state {
            SaleStateDocument::Active => Self::Active,
            SaleStateDocument::Paused => Self::Paused,
            SaleStateDocument::Closed => Self::Closed,
        }
    }
}

impl From<SaleState> for SaleStateDocument {
    fn from(state: SaleState) -> Self {
        match state {
            SaleState::Active => Self::Active,
            SaleState::Paused => Self::Paused,
            SaleState::Closed => Self::Closed,
        }
    }
}

fn parsed<T: FromStr<Err: fmt::Display>>(text: &str, at: &str, wrong: &mut Vec<Invalid>) -> Option<T> {
    text.parse().map_err(|error| wrong.push(Invalid::new(at, error))).ok()
}

/// A name is shown to people, in one line.
fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        name if name.trim().is_empty() => Err("must not be empty"),
        name if name.len() > 200 => Err("must have at most 200 bytes"),
        name if name.chars().any(char::is_control) => Err("must not have control characters"),
        _ => Ok(()),
    }
}

fn instant(text: Option<&str>, at: &str, wrong: &mut Vec<Invalid>) -> Option<UnixMillis> {
    UnixMillis::parse(text?).map_err(|error| wrong.push(Invalid::new(at, error))).ok()
}

fn hold(text: Option<&str>, wrong: &mut Vec<Invalid>) -> Duration {
    let Some(text) = text else { return SaleDocument::DEFAULT_HOLD };
    match humantime::parse_duration(text) {
        Ok(hold) if (Duration::from_millis(1)..=Sale::MAX_HOLD).contains(&hold) => hold,
        _ => {
            wrong.push(Invalid::new("/hold", "must be a duration such as 300s, at most seven days"));
            SaleDocument::DEFAULT_HOLD
        }
    }
}

fn limit(given: Option<u32>, at: &str, otherwise: u32, wrong: &mut Vec<Invalid>) -> u32 {
    if given == Some(0) {
        wrong.push(Invalid::new(at, "must be at least 1"));
    }
    given.unwrap_or(otherwise)
}

fn stops(texts: &[String], wrong: &mut Vec<Invalid>) -> Vec<StopId> {
    if texts.len() == 1 || texts.len() > Sale::MAX_STOPS {
        wrong.push(Invalid::new("/stops", format!("must be absent, or 2 to {} stops", Sale::MAX_STOPS)));
    }
    let mut seen = HashSet::new();
    for (index, text) in texts.iter().enumerate() {
        if !seen.insert(text) {
            wrong.push(Invalid::new(format!("/stops/{index}"), "stands twice"));
        }
    }
    texts.iter().enumerate().filter_map(|(index, text)| parsed(text, &format!("/stops/{index}"), wrong)).collect()
}

fn pools(documents: &[PoolDocument], legs: usize, wrong: &mut Vec<Invalid>) -> Vec<Pool> {
    if documents.is_empty() || documents.len() > Sale::MAX_POOLS {
        wrong.push(Invalid::new("/pools", format!("must have 1 to {} pools", Sale::MAX_POOLS)));
    }
    let mut seen = HashSet::new();
    let mut pools = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let at = format!("/pools/{index}");
        if !seen.insert(&document.id) {
            wrong.push(Invalid::new(format!("{at}/id"), "stands twice"));
        }
        if document.capacity > Sale::MAX_CAPACITY {
            wrong.push(Invalid::new(format!("{at}/capacity"), format!("must be at most {}", Sale::MAX_CAPACITY)));
        }
        let id = parsed(&document.id, &format!("{at}/id"), wrong);
        let fares = fares(document, legs, &at, wrong);
        pools.extend(id.map(|id| Pool { id, capacity: document.capacity, fares }));
    }
    pools
}

fn fares(document: &PoolDocument, legs: usize, at: &str, wrong: &mut Vec<Invalid>) -> Vec<i64> {
    let fares = match (document.price, &document.fares) {
        (Some(price), None) if legs == 1 => vec![price],
        (None, Some(fares)) if fares.len() == legs => fares.clone(),
        _ => {
            let what =
                if legs == 1 { "must have a price".to_owned() } else { format!("must have {legs} fares, one per leg") };
            wrong.push(Invalid::new(at, what));
            vec![0; legs]
        }
    };
    // The sum over all legs and units of a claim must fit an i64 with room to spare.
    if fares.iter().any(|fare| !(0..=1_000_000_000_000).contains(fare)) {
        wrong.push(Invalid::new(at, "a price or fare must be 0 to 1,000,000,000,000"));
    }
    fares
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: serde_json::Value) -> Result<Sale, Vec<Invalid>> {
        serde_json::from_value::<SaleDocument>(json).unwrap().into_sale("s".parse().unwrap())
    }

    #[test]
    fn a_document_reads_back_what_it_writes() {
        let sale = parse(json!({
            "name": "G1", "opens_at": "2026-11-21T12:00:00Z", "hold": "90s", "currency": "CNY", "stops": ["A", "B", "C"],
            "pools": [{"id": "second", "capacity": 90, "fares": [1, 2]}], "buffer": "10%", "limit_per_buyer": 5,
        }))
        .unwrap();
        assert_eq!(SaleDocument::from(&sale).into_sale("s".parse().unwrap()), Ok(sale));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = parse(json!({
            "name": "", "opens_at": "soon", "hold": "8 days", "currency": "yuan", "stops": ["A", "A"], "limit_per_buyer": 0,
            "pools": [{"id": "x", "capacity": 1, "price": -1}, {"id": "x", "capacity": 1}], "buffer": "-1%",
        }))
        .unwrap_err();
        let at: Vec<_> = wrong.iter().map(|invalid| invalid.at.as_str()).collect();
        assert_eq!(
            at,
            [
                "/opens_at",
                "/hold",
                "/limit_per_buyer",
                "/currency",
                "/stops/1",
                "/pools/0",
                "/pools/1/id",
                "/pools/1",
                "/buffer",
                "/name"
            ]
        );
    }

    #[test]
    fn a_name_is_one_line_for_people() {
        for name in ["", " ", "a\nb", "\u{0}", &"n".repeat(201)] {
            let document = json!({"name": name, "currency": "CNY", "pools": [{"id": "a", "capacity": 1, "price": 1}]});
            assert_eq!(parse(document).unwrap_err()[0].at, "/name", "{name:?}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let json = json!({"name": "", "currency": "CNY", "pools": [], "colour": 1});
        assert!(serde_json::from_value::<SaleDocument>(json).is_err());
    }
}

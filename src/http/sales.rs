//! `GET /v1/sales/{sale}`: where a sale stands, from this node's memory.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::admission::SaleShard;
use crate::confirm::Answer;
use crate::domain::{Phase, Pool, Sale, StopId, UnixMillis};
use crate::http::door::Door;
use crate::http::problem::Problem;
use crate::http::reply::{self, Reply};
use crate::inventory::LegStock;

/// The crowd asks for the same page again and again; a second of age does it no harm.
const MAX_AGE: HeaderValue = HeaderValue::from_static("max-age=1");

/// A sale as everybody may see it.
#[derive(Debug, Serialize)]
struct SaleDocument<'a> {
    sale: &'a str,
    name: &'a str,
    /// Of the sale's definition, as this node knows it.
    version: u64,
    state: &'static str,
    opens_at: Option<String>,
    closes_at: Option<String>,
    hold_seconds: u64,
    limit_per_buyer: u32,
    limit_per_passenger: u32,
    currency: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stops: Vec<&'a str>,
    /// When unpaid units may come back at the earliest, if that is known.
    next_release_at: Option<String>,
    pools: Vec<PoolDocument<'a>>,
    /// Not part of the `ETag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time: Option<String>,
}

/// A pool, with the figures of its scarcest leg; a journey's legs stand below it.
#[derive(Debug, Serialize)]
struct PoolDocument<'a> {
    id: &'a str,
    /// Of the whole journey, or event.
    price: i64,
    #[serde(flatten)]
    units: Units,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    legs: Vec<LegDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct LegDocument<'a> {
    from: &'a str,
    to: &'a str,
    fare: i64,
    #[serde(flatten)]
    units: Units,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Units {
    capacity: u32,
    free: u32,
    held: u32,
    sold: u32,
}

pub(super) fn show(door: &Door, sale: &str, headers: &HeaderMap) -> Result<Reply, Problem> {
    let shard = match door.parts.claims.sale(sale) {
        Ok(shard) => shard,
        Err(Answer::Unserved(unserved)) => return Err(reply::unserved_for(unserved)),
        Err(Answer::Refused(refusal)) => return Err(reply::refused(refusal)),
        Err(answer) => return reply::claim(answer, &[]),
    };
    let now = door.parts.clock.now();
    let mut document = SaleDocument::new(&shard, &shard.stock(), now);
    let etag = etag_of(&document);
    let mut reply = if is_known(headers, &etag) {
        let mut reply = Response::new(Bytes::new().into());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        document.server_time = Some(now.to_string());
        reply::json(StatusCode::OK, &document)
    };
    reply.headers_mut().insert(header::CACHE_CONTROL, MAX_AGE);
    reply.headers_mut().insert(header::ETAG, etag);
    Ok(reply)
}

impl<'a> SaleDocument<'a> {
    fn new(shard: &'a SaleShard, stock: &[LegStock], now: UnixMillis) -> Self {
        let sale = &shard.sale;
        let legs = usize::from(sale.leg_count());
        let pools = sale.pools.iter().enumerate().map(|(index, pool)| {
            let stock = stock.get(index * legs..(index + 1) * legs).unwrap_or_default();
            PoolDocument::new(sale, pool, stock)
        });
        Self {
            sale: sale.id.as_str(),
            name: &sale.name,
            version: sale.version,
            state: match sale.phase(now) {
                Phase::NotOpen { .. } => "not_open",
                Phase::Open => "open",
                Phase::Paused => "paused",
                Phase::Closed => "closed",
            },
            opens_at: sale.opens_at.map(|at| at.to_string()),
            closes_at: sale.closes_at.map(|at| at.to_string()),
            hold_seconds: sale.hold.as_secs(),
            limit_per_buyer: sale.limits.per_buyer,
            limit_per_passenger: sale.limits.per_passenger,
            currency: sale.currency.as_str(),
            stops: sale.stops.iter().map(StopId::as_str).collect(),
            next_release_at: shard.next_release().map(|at| at.to_string()),
            pools: pools.collect(),
            server_time: None,
        }
    }
}

impl<'a> PoolDocument<'a> {
    fn new(sale: &'a Sale, pool: &'a Pool, stock: &[LegStock]) -> Self {
        let units = |leg: &LegStock| Units { capacity: pool.capacity, free: leg.free, held: leg.held, sold: leg.sold };
        let journey = sale.stops.windows(2).zip(&pool.fares).zip(stock);
        let legs = journey.map(|((stops, fare), leg)| LegDocument {
            from: stops[0].as_str(),
            to: stops[1].as_str(),
            fare: *fare,
            units: units(leg),
        });
        let scarcest = stock.iter().map(units).min_by_key(|units| units.free);
        Self {
            id: pool.id.as_str(),
            price: pool.price(sale.whole()),
            units: scarcest.unwrap_or(Units { capacity: pool.capacity, free: 0, held: 0, sold: 0 }),
            legs: legs.collect(),
        }
    }
}

/// Weak, since the server's time changes with every answer and is no reason to send the rest again.
fn etag_of(document: &SaleDocument<'_>) -> HeaderValue {
    struct Into<'h>(&'h mut DefaultHasher);
    impl std::io::Write for Into<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = DefaultHasher::new();
    serde_json::to_writer(Into(&mut hasher), document).expect("the document has text keys and no failing parts");
    let tag = format!("W/\"{:016x}\"", hasher.finish());
    HeaderValue::from_maybe_shared(Bytes::from(tag)).expect("hexadecimal digits make a tag")
}

/// Does `If-None-Match` name this tag? Compared weakly, as that header wants it.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let etag = opaque(etag.as_bytes());
    let known =
        headers.get_all(header::IF_NONE_MATCH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    known.map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || opaque(tag) == etag)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::Shards;
    use crate::domain::{self, Buffer};
    use crate::inventory::Changes;
    use crate::planted::SCOPE;

    const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

    fn sale(document: Value) -> Sale {
        let document: domain::SaleDocument = serde_json::from_value(document).unwrap();
        document.into_sale("s".parse().unwrap()).unwrap()
    }

    fn shown(sale: &Sale, stock: &[(&str, u8, u32, u32, u32)]) -> Value {
        let stock = stock.iter().map(|(pool, leg, free, held, sold)| LegStock {
            sale: sale.id.clone(),
            pool: pool.parse().unwrap(),
            leg: *leg,
            free: *free,
            held: *held,
            sold: *sold,
        });
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        shards.learn(
            SCOPE,
            &Changes { version: 1, sales: vec![sale.clone()], stock: stock.collect(), granted: Vec::new() },
        );
        let shard = shards.sale("s").unwrap();
        serde_json::to_value(SaleDocument::new(&shard, &shard.stock(), NOW)).unwrap()
    }

    #[test]
    fn an_event_has_pools_with_figures_and_no_legs() {
        let concert = sale(json!({
            "name": "Concert", "currency": "CNY", "opens_at": "2026-11-21T12:00:00Z",
            "pools": [{"id": "standard", "capacity": 10, "price": 55350}],
        }));
        let shown = shown(&concert, &[("standard", 0, 7, 2, 1)]);
        let expected = json!([{"id": "standard", "price": 55350, "capacity": 10, "free": 7, "held": 2, "sold": 1}]);
        assert_eq!(shown["pools"], expected);
        assert_eq!(shown["state"], "open");
        assert_eq!((&shown["opens_at"], &shown["closes_at"]), (&json!("2026-11-21T12:00:00Z"), &Value::Null));
    }

    #[test]
    fn a_journey_has_legs_and_its_pool_the_figures_of_the_scarcest() {
        let train = sale(json!({
            "name": "G1", "currency": "CNY", "stops": ["JNK", "TNA", "SHH"],
            "pools": [
                {"id": "first", "capacity": 5, "fares": [10, 20]},
                {"id": "second", "capacity": 9, "fares": [1, 2]},
            ],
        }));
        let stock = [("first", 0, 5, 0, 0), ("first", 1, 4, 1, 0), ("second", 0, 1, 3, 5), ("second", 1, 9, 0, 0)];
        let shown = shown(&train, &stock);
        assert_eq!(shown["state"], "not_open");
        let second = json!({
            "id": "second", "price": 3, "capacity": 9, "free": 1, "held": 3, "sold": 5,
            "legs": [
                {"from": "JNK", "to": "TNA", "fare": 1, "capacity": 9, "free": 1, "held": 3, "sold": 5},
                {"from": "TNA", "to": "SHH", "fare": 2, "capacity": 9, "free": 9, "held": 0, "sold": 0},
            ],
        });
        assert_eq!(shown["pools"][1], second);
        assert_eq!(shown["pools"][0]["free"], 4);
    }

    #[test]
    fn a_tag_is_known_however_it_is_listed() {
        let etag = HeaderValue::from_static("W/\"1\"");
        let asked = |value: &'static str| {
            is_known(&[(header::IF_NONE_MATCH, HeaderValue::from_static(value))].into_iter().collect(), &etag)
        };
        assert!(asked("W/\"1\"") && asked("\"1\"") && asked("\"0\", W/\"1\"") && asked("*"));
        assert!(!asked("\"2\"") && !asked("1") && !asked(""));
        assert!(!is_known(&HeaderMap::new(), &etag));
    }
}

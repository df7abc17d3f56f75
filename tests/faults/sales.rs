//! The sales of a run: a concert with one pool, and a train with legs and passengers.

use std::time::Duration;

use serde_json::{Value, json};

/// A sale as the test, and not the system, knows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SaleSpec {
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) capacity: u32,
    /// Empty: a sale without legs.
    pub(crate) stops: Vec<String>,
    /// One per leg.
    pub(crate) fares: Vec<i64>,
    pub(crate) per_buyer: u32,
    pub(crate) per_passenger: u32,
    /// In seconds.
    pub(crate) hold: u64,
}

impl SaleSpec {
    pub(crate) fn concert(id: &str, capacity: u32, per_buyer: u32, hold: u64) -> Self {
        Self {
            id: id.to_owned(),
            pool: "standard".to_owned(),
            capacity,
            stops: Vec::new(),
            fares: vec![55_350],
            per_buyer,
            per_passenger: 1,
            hold,
        }
    }

    pub(crate) fn train(id: &str, capacity: u32, hold: u64) -> Self {
        Self {
            id: id.to_owned(),
            pool: "second".to_owned(),
            capacity,
            stops: ["JNK", "TNA", "XZE", "NJH"].map(str::to_owned).to_vec(),
            fares: vec![3_900, 15_450, 14_950],
            per_buyer: 3,
            per_passenger: 1,
            hold,
        }
    }

    pub(crate) fn hold(&self) -> Duration {
        Duration::from_secs(self.hold)
    }

    pub(crate) fn legs(&self) -> usize {
        self.fares.len()
    }

    /// What an operator says to create it.
    pub(crate) fn document(&self) -> Value {
        let mut pool = json!({"id": self.pool, "capacity": self.capacity});
        if self.stops.is_empty() {
            pool["price"] = self.fares[0].into();
        } else {
            pool["fares"] = json!(self.fares);
        }
        let mut document = json!({
            "name": "Faults", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY", "hold": format!("{}s", self.hold),
            "limit_per_buyer": self.per_buyer, "limit_per_passenger": self.per_passenger, "pools": [pool],
        });
        if !self.stops.is_empty() {
            document["stops"] = json!(self.stops);
        }
        document
    }

    /// The body of a claim for a unit over these legs.
    pub(crate) fn ask(&self, buyer: &str, from: usize, to: usize, units: u32) -> Value {
        if self.stops.is_empty() {
            return json!({"quantity": units});
        }
        let line = |number: u32| {
            json!({
                "pool": self.pool, "from": self.stops[from], "to": self.stops[to],
                "passenger": format!("{buyer}.{number}"),
            })
        };
        json!({"lines": (0..units).map(line).collect::<Vec<_>>()})
    }

    /// The lines that a claim with this body is for, as `pool/from/to/quantity/passenger/seat`, and their price.
    pub(crate) fn lines_of(&self, asked: &Value) -> (Vec<String>, i64) {
        if let Some(quantity) = asked["quantity"].as_i64() {
            return (vec![format!("{}/0/1/{quantity}/-/-", self.pool)], quantity * self.fares[0]);
        }
        let mut price = 0;
        let lines = asked["lines"].as_array().expect("lines").iter().map(|line| {
            let stop = |name: &str| self.stops.iter().position(|stop| line[name] == **stop).expect("a stop");
            let (from, to) = (stop("from"), stop("to"));
            price += self.fares[from..to].iter().sum::<i64>();
            format!("{}/{from}/{to}/1/{}/-", self.pool, line["passenger"].as_str().expect("a passenger"))
        });
        let lines = lines.collect();
        (lines, price)
    }
}

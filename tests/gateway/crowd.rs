//! A crowd: many buyers at once, some of whom send the same request again, and what each of them was told.
//!
//! What the crowd heard is kept apart from what the system says of itself, and held against it afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::client::Client;

/// What the buyers were told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Order → buyer, of every 201 and 200.
    pub(crate) granted: HashMap<String, String>,
    /// Orders that were pending when their buyer gave up asking.
    pub(crate) pending: HashSet<String>,
    /// Answers by status and code.
    pub(crate) answers: BTreeMap<(u16, String), usize>,
    /// Requests that got no answer: the connection broke.
    pub(crate) broken: usize,
}

/// Who comes.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    pub(crate) sale: String,
    pub(crate) buyers: usize,
    /// Every so many-th buyer sends each request twice.
    pub(crate) repeats_every: usize,
    pub(crate) at_once: usize,
    /// What buyer number n asks for.
    pub(crate) asks: fn(usize) -> Value,
    /// What the buyers' names begin with.
    pub(crate) name: &'static str,
}

impl Crowd {
    /// Everybody asks once (or again, with the same key), each at one of the doors.
    pub(crate) async fn rush(&self, doors: &[Client]) -> Heard {
        let (next, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Heard::default())));
        let mut buyers = JoinSet::new();
        for worker in 0..self.at_once {
            let (crowd, next, heard) = (self.clone(), Arc::clone(&next), Arc::clone(&heard));
            let doors: Vec<_> = doors.to_vec();
            buyers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= crowd.buyers {
                        return;
                    }
                    let tries = if number.is_multiple_of(crowd.repeats_every) { 2 } else { 1 };
                    for again in 0..tries {
                        crowd.ask(number, &doors[(worker + number + again) % doors.len()], &heard).await;
                    }
                }
            });
        }
        while let Some(ended) = buyers.join_next().await {
            ended.expect("a buyer does not panic");
        }
        Arc::into_inner(heard).expect("all buyers have gone").into_inner()
    }

    async fn ask(&self, number: usize, door: &Client, heard: &Mutex<Heard>) {
        let buyer = format!("{}-{number}", self.name);
        let reply = door.claim(&self.sale, &buyer, Some(&format!("key-{number}")), &(self.asks)(number)).await;
        let mut heard = heard.lock().await;
        match reply {
            Err(_) => heard.broken += 1,
            Ok(reply) => {
                *heard.answers.entry((reply.status, reply.code().to_owned())).or_default() += 1;
                match reply.status {
                    200 | 201 => {
                        let before = heard.granted.insert(reply.order(), buyer.clone());
                        assert!(before.is_none_or(|before| before == buyer), "one order for two buyers: {reply:?}");
                    }
                    202 => {
                        heard.pending.insert(reply.order());
                    }
                    _ => {}
                }
            }
        }
    }
}

/// One unit of the only pool.
pub(crate) fn one(_: usize) -> Value {
    json!({"quantity": 1})
}

//! Messages that could not be stored as orders.

use async_trait::async_trait;
use rushgate::store::{DeadLetter, DeadLetters, Fault};

use super::MemoryStore;

#[async_trait]
impl DeadLetters for MemoryStore {
    async fn keep_dead_letter(&self, lane: &str, reason: &str, body: &[u8]) -> Result<(), Fault> {
        let cut = |text: &str, most: usize| text.chars().take(most).collect();
        let (kept_at, bytes) = (self.now(), body.len() as u64);
        self.transact(|state| {
            state.last_letter += 1;
            let (id, body) = (state.last_letter, body.to_vec());
            let (lane, reason) = (cut(lane, DeadLetter::LANE), cut(reason, DeadLetter::REASON));
            state.letters.insert(id, DeadLetter { id, lane, reason, kept_at, bytes, body });
            Ok(())
        })
    }

    async fn dead_letters(&self, after: u64, limit: u32) -> Result<Vec<DeadLetter>, Fault> {
        let cut = |letter: &DeadLetter| {
            let head = letter.body.iter().take(DeadLetter::HEAD).copied().collect();
            DeadLetter { body: head, ..letter.clone() }
        };
        let limit = limit.min(DeadLetter::MAX_LIMIT) as usize;
        self.read(|state| state.letters.range(after.saturating_add(1)..).take(limit).map(|(_, one)| cut(one)).collect())
    }

    async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, Fault> {
        self.read(|state| state.letters.get(&id).cloned())
    }

    async fn drop_dead_letter(&self, id: u64) -> Result<bool, Fault> {
        self.transact(|state| Ok(state.letters.remove(&id).is_some()))
    }

    async fn count_dead_letters(&self) -> Result<u64, Fault> {
        self.read(|state| state.letters.len() as u64)
    }
}

//! Messages that could not be stored as orders, kept as they were.

use async_trait::async_trait;

use crate::domain::UnixMillis;
use crate::store::Fault;

/// Dead letters, undecoded. What may be done with one is an operator's to say.
#[async_trait]
pub trait DeadLetters {
    /// Keeps a message. At least once: whoever dies before the queue has heard of it keeps it again, as a second one.
    async fn keep_dead_letter(&self, lane: &str, reason: &str, body: &[u8]) -> Result<(), Fault>;

    /// Those with a greater id, the oldest first; at most `limit`, and at most [`DeadLetter::MAX_LIMIT`]. Of a long body only the
    /// first [`DeadLetter::HEAD`] bytes.
    async fn dead_letters(&self, after: u64, limit: u32) -> Result<Vec<DeadLetter>, Fault>;

    /// One with its whole body.
    async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, Fault>;

    /// Forgets one. Returns whether it was there.
    async fn drop_dead_letter(&self, id: u64) -> Result<bool, Fault>;

    /// How many there are.
    async fn count_dead_letters(&self) -> Result<u64, Fault>;
}

/// A message that could not be stored as orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Grows with every one that is kept.
    pub id: u64,
    /// Where it was parked, and why; as far as there is room for the words.
    pub lane: String,
    pub reason: String,
    pub kept_at: UnixMillis,
    /// How long the body is.
    pub bytes: u64,
    pub body: Vec<u8>,
}

impl DeadLetter {
    /// So many are kept; the rest waits in the queue, which has a bound of its own.
    pub const MOST: u64 = 100_000;
    pub const MAX_LIMIT: u32 = 1000;
    /// More than a batch of orders has, and a thousand of them still fit into memory.
    pub const HEAD: usize = 64 * 1024;
    /// Characters that are kept of lane and reason.
    pub const LANE: usize = 64;
    pub const REASON: usize = 1000;

    /// Is this all of it?
    pub fn is_whole(&self) -> bool {
        self.body.len() as u64 == self.bytes
    }
}

/// The beginning of a text, to so many characters.
pub(super) fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!([cut("票票票", 2), cut("票", 2), cut("", 0)], ["票票", "票", ""]);
    }
}

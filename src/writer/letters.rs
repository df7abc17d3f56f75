//! Dead letters out of the queue into the store, as they are. They are not decoded: a body that kills its reader kills nobody here.
//!
//! Kept, then acknowledged: whoever dies in between keeps a letter twice, and an operator sees two of the same. A letter is taken
//! only by one who can keep it, since each time that it comes back counts, and a broker drops what came back too often.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::{Delivery, Lane, LaneId, Parked};
use crate::shutdown::Shutdown;
use crate::store::DeadLetter;
use crate::writer::{BACKOFF_FIRST, LANE_PATIENCE, Parts, pause};

/// Letters between two counts of what the store has: so many more than its bound it may get, from each writer.
const COUNT_EVERY: u64 = 100;
/// Between two looks whether an operator has made room.
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// A batch of ours is smaller. Of what is larger the beginning is kept: a store that refused it would let nothing else through.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Why no letters are kept at this moment.
enum Ended {
    /// The store has as many as it may have.
    Full,
    Failed(String),
}

/// Keeps dead letters until the shutdown. Several may do so at once.
pub async fn keep_dead_letters(parts: Parts, shutdown: Shutdown) {
    let (mut backoff, mut has_said) = (BACKOFF_FIRST, false);
    while !shutdown.has_begun() {
        let mut kept = 0;
        let ended = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            ended = keep(&parts, &mut kept) => ended,
        };
        if kept > 0 {
            (backoff, has_said) = (BACKOFF_FIRST, false);
        }
        match ended {
            Ok(never) => match never {},
            Err(Ended::Full) => {
                if !has_said {
                    tracing::error!(most = DeadLetter::MOST, "no more dead letters are kept until some are dropped");
                }
                has_said = true;
                shutdown.sleep(FULL_PAUSE).await;
            }
            Err(Ended::Failed(reason)) => {
                tracing::warn!(reason, "dead letters are not kept");
                pause(&mut backoff, &shutdown).await;
            }
        }
    }
}

async fn keep(parts: &Parts, kept: &mut u64) -> Result<Infallible, Ended> {
    let mut taken = None;
    loop {
        let room = DeadLetter::MOST.saturating_sub(parts.store.count_dead_letters().await?);
        if room == 0 {
            return Err(Ended::Full);
        }
        let lane: &mut Box<dyn Lane> = match &mut taken {
            Some(lane) => lane,
            none => none.insert(parts.consumer.consume(LaneId::Dead).await?),
        };
        for _ in 0..room.min(COUNT_EVERY) {
            let letter = lane.next().await?;
            store(parts, &letter).await?;
            lane.ack(&letter).await?;
            *kept += 1;
        }
    }
}

/// Holds the letter while the store is away, for as long as a lane is held.
async fn store(parts: &Parts, letter: &Delivery) -> Result<(), Ended> {
    let unknown = || Parked { lane: Parked::UNKNOWN.to_owned(), reason: Parked::UNKNOWN.to_owned() };
    let Parked { lane, reason } = letter.parked.clone().unwrap_or_else(unknown);
    let (body, reason) = match letter.body.get(..MOST_BYTES) {
        Some(beginning) if letter.body.len() > MOST_BYTES => {
            let bytes = letter.body.len();
            (beginning, Cow::Owned(format!("(the first {MOST_BYTES} of {bytes} bytes) {reason}")))
        }
        _ => (letter.body.as_slice(), Cow::Borrowed(reason.as_str())),
    };
    let begun = Instant::now();
    let mut backoff = BACKOFF_FIRST;
    loop {
        match parts.store.keep_dead_letter(&lane, &reason, body).await {
            Ok(()) => {
                tracing::warn!(lane, %reason, bytes = body.len(), "a dead letter is kept for an operator");
                return Ok(());
            }
            Err(fault) if begun.elapsed() >= LANE_PATIENCE => return Err(fault.into()),
            Err(_) => tokio::time::sleep(backoff).await,
        }
        backoff = (backoff * 2).min(super::BACKOFF_LAST);
    }
}

impl<F: std::error::Error> From<F> for Ended {
    fn from(fault: F) -> Self {
        Self::Failed(fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::settings;
    use crate::domain::{Epoch, Partition, Scope};
    use crate::meters::Meters;
    use crate::planted::Planted;
    use crate::queue::envelope::Envelope;
    use crate::queue::memory::ConfirmWhen;
    use crate::queue::{self, Queue};
    use crate::spans::Spans;
    use crate::writer::WriterMeters;

    const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };

    /// A queue with this many dead letters, and what keeps them.
    async fn letters(bodies: &[Vec<u8>]) -> (Planted, Queue, Parts) {
        let planted = Planted::new().await;
        let settings = settings::Queue { lanes: 1, ..settings::Queue::default() };
        let queue = queue::memory::open(&settings, &Meters::new(), ConfirmWhen::Queued);
        queue.topology.open(SCOPE).await.unwrap();
        let mut lane = queue.consumer.consume(LaneId::Number(0)).await.unwrap();
        for body in bodies {
            queue.topology.put(body.clone()).await.unwrap();
            let delivery = lane.next().await.unwrap();
            lane.park(&delivery, "odd").await.unwrap();
        }
        let parts = Parts {
            store: Arc::clone(&planted.store) as _,
            consumer: Arc::clone(&queue.consumer),
            inventory: Arc::clone(&planted.inventory) as _,
            clock: Arc::new(SystemClock),
            meters: WriterMeters::new(&Meters::new()),
            spans: Spans::default(),
            batch_max: 10,
        };
        (planted, queue, parts)
    }

    async fn waiting(queue: &Queue) -> u64 {
        let depths = queue.topology.depths().await.unwrap();
        depths.iter().filter(|depth| depth.lane == LaneId::Dead).map(|depth| depth.messages).sum()
    }

    /// Lets the keeper work for so long.
    async fn keep_for(planted: &Planted, parts: &Parts, time: Duration) {
        let keeping = keep_dead_letters(parts.clone(), planted.shutdown.clone());
        assert!(tokio::time::timeout(time, keeping).await.is_err(), "it does not end by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn dead_letters_are_kept_as_they_are_and_leave_the_queue() {
        let bodies = [
            b"\xff no text".to_vec(),
            Envelope::orders(SCOPE, None, Vec::<crate::domain::Order>::new()).encode(),
            Vec::new(),
        ];
        let (planted, queue, parts) = letters(&bodies).await;
        keep_for(&planted, &parts, Duration::from_secs(1)).await;
        let kept = std::mem::take(&mut planted.store.lock().letters);
        assert_eq!(kept.iter().map(|letter| letter.body.clone()).collect::<Vec<_>>(), bodies);
        assert!(kept.iter().all(|letter| (letter.lane.as_str(), letter.reason.as_str()) == ("0", "odd")), "{kept:?}");
        assert_eq!(waiting(&queue).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_waits_in_the_queue_while_the_store_is_away() {
        let (planted, queue, parts) = letters(&[b"x".to_vec()]).await;
        planted.store.lock().down = true;
        keep_for(&planted, &parts, Duration::from_secs(300)).await;
        assert_eq!(waiting(&queue).await, 1);
        planted.store.lock().down = false;
        keep_for(&planted, &parts, Duration::from_secs(10)).await;
        assert_eq!((waiting(&queue).await, planted.store.lock().letters.len()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_whose_keeper_died_before_the_queue_heard_of_it_is_kept_twice_and_not_lost() {
        let (planted, queue, parts) = letters(&[b"x".to_vec()]).await;
        let mut lane = queue.consumer.consume(LaneId::Dead).await.unwrap();
        let letter = lane.next().await.unwrap();
        assert!(store(&parts, &letter).await.is_ok());
        drop(lane);
        keep_for(&planted, &parts, Duration::from_secs(1)).await;
        assert_eq!((waiting(&queue).await, planted.store.lock().letters.len()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_store_leaves_the_letters_in_the_queue_until_there_is_room() {
        let (planted, queue, parts) = letters(&[b"1".to_vec(), b"2".to_vec()]).await;
        planted.store.lock().letters_beside = DeadLetter::MOST - 1;
        keep_for(&planted, &parts, Duration::from_secs(60)).await;
        assert_eq!((waiting(&queue).await, planted.store.lock().letters.len()), (1, 1));
        planted.store.lock().letters_beside = 0;
        keep_for(&planted, &parts, Duration::from_secs(60)).await;
        assert_eq!((waiting(&queue).await, planted.store.lock().letters.len()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_body_that_is_larger_than_any_of_ours_the_beginning_is_kept() {
        let (planted, queue, parts) = letters(&[vec![b'x'; MOST_BYTES + 1], vec![b'y'; MOST_BYTES]]).await;
        keep_for(&planted, &parts, Duration::from_secs(1)).await;
        let kept = std::mem::take(&mut planted.store.lock().letters);
        assert_eq!(kept.iter().map(|letter| letter.body.len()).collect::<Vec<_>>(), [MOST_BYTES, MOST_BYTES]);
        assert_eq!(kept[0].reason, "(the first 8388608 of 8388609 bytes) odd");
        assert_eq!((kept[1].reason.as_str(), waiting(&queue).await), ("odd", 0));
    }
}

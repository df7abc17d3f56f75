//! Crash points: named instants at which a test has the process end as by `kill -9`, with nothing flushed and nothing said.
//!
//! A debug build looks at `RUSHGATE_CRASH` when it first reaches a point: `writer.inserted`, or `writer.inserted:3` for the third
//! time that it comes there. In a release build there is nothing of this but empty functions.

use std::fmt;

/// Declares the points, each with the name that tests call it by.
macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal),+ $(,)?) => {
        /// Where a process can be told to end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CrashPoint {
            $($(#[$doc])* $point,)+
        }

        impl CrashPoint {
            pub const ALL: &[Self] = &[$(Self::$point),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// A claim has its permit; the inventory was not asked.
    PermitTaken = "gateway.permit_taken",
    /// The inventory was asked, and may have acted or not.
    ScriptSent = "gateway.script_sent",
    /// The inventory has granted, and nobody was told.
    VerdictReceived = "gateway.verdict_received",
    /// The broker was told, and may have the message or not.
    PublishWritten = "gateway.publish_written",
    /// The broker has confirmed; the buyer was not told.
    ConfirmReceived = "gateway.confirm_received",
    /// The buyer was told, a moment ago.
    AnswerWritten = "gateway.answer_written",
    RelayRead = "relay.read",
    RelayPublished = "relay.published",
    /// A batch is in hand, and nothing was done with it.
    WriterReceived = "writer.received",
    /// Its rows are in, in an open transaction.
    WriterInserted = "writer.inserted",
    /// The guard has let it through; the transaction is open.
    WriterGuarded = "writer.guarded",
    /// The commit was sent, and may have happened or not.
    WriterCommitting = "writer.committing",
    /// Committed, not acknowledged.
    WriterCommitted = "writer.committed",
    /// Acknowledged; its outbox entry is still there.
    WriterAcknowledged = "writer.acknowledged",
    /// Orders are expired in an open transaction.
    ExpiryUpdated = "expiry.updated",
    ExpiryCommitted = "expiry.committed",
    /// Moves were read, and the inventory has not followed them.
    ReturnsRead = "returns.read",
    /// The inventory has followed them; they are still in the store.
    ReturnsApplied = "returns.applied",
    /// The store has the new epoch, fenced.
    RecoveryFenced = "recovery.fenced",
    RecoveryExchangeDeleted = "recovery.exchange_deleted",
    RecoveryOldFenced = "recovery.old_fenced",
    RecoveryRedriven = "recovery.redriven",
    RecoveryBarriersSent = "recovery.barriers_sent",
    RecoveryBarriersStored = "recovery.barriers_stored",
    RecoveryMinEpochSet = "recovery.min_epoch_set",
    RecoveryRebuilt = "recovery.rebuilt",
    RecoveryInventoryOpen = "recovery.inventory_open",
    RecoveryExchangeMade = "recovery.exchange_made",
    RecoveryOpened = "recovery.opened",
    /// The payment event is a row of an open transaction.
    CallbackInserted = "callback.inserted",
    /// So is the order's new status.
    CallbackUpdated = "callback.updated",
    /// Committed; the provider was not told.
    CallbackCommitted = "callback.committed",
    /// The inventory was asked for a late payment's units; the store does not know what it said.
    LateRevived = "late.revived",
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(debug_assertions)]
pub use armed::{after, during, reach};
#[cfg(not(debug_assertions))]
pub use unarmed::{after, during, reach};

#[cfg(debug_assertions)]
mod armed {
    use std::future::Future;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::CrashPoint;

    /// How long a call that a process dies in the middle of is under way at most: on one machine, some are answered by then.
    const UNDER_WAY: Duration = Duration::from_millis(2);
    /// How long after an answer was handed over it is on the wire.
    const ON_THE_WIRE: Duration = Duration::from_millis(20);

    struct Armed {
        point: Option<CrashPoint>,
        /// Passages that are left, this one included.
        left: AtomicU64,
    }

    /// The process ends here, if it was told to.
    pub fn reach(point: CrashPoint) {
        if is_due(point) {
            die(point);
        }
    }

    /// The process ends while the work is under way, or when it is done, if it was told to.
    pub async fn during<T>(point: CrashPoint, work: impl Future<Output = T>) -> T {
        if is_due(point) {
            let _either = tokio::time::timeout(UNDER_WAY, work).await;
            die(point);
        }
        work.await
    }

    /// The process ends a moment later, if it was told to.
    pub fn after(point: CrashPoint) {
        if is_due(point) {
            std::thread::spawn(move || {
                std::thread::sleep(ON_THE_WIRE);
                die(point);
            });
        }
    }

    /// Is this the passage at which the process was told to end?
    fn is_due(point: CrashPoint) -> bool {
        // Of the process, not of a node in it: it is the process that ends.
        static ARMED: OnceLock<Armed> = OnceLock::new();
        let armed = ARMED.get_or_init(|| arm(std::env::var("RUSHGATE_CRASH").unwrap_or_default().as_str()));
        armed.point == Some(point) && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Reads `point` or `point:n`.
    fn arm(text: &str) -> Armed {
        let (name, passage) = text.split_once(':').unwrap_or((text, "1"));
        let point = CrashPoint::ALL.iter().copied().find(|point| point.as_str() == name);
        if point.is_none() && !text.is_empty() {
            tracing::error!(text, "RUSHGATE_CRASH names no crash point");
        }
        Armed { point, left: AtomicU64::new(passage.parse().unwrap_or(1)) }
    }

    fn die(point: CrashPoint) -> ! {
        tracing::error!(%point, "told to end here");
        // No destructor runs and nothing is flushed, as with a signal that cannot be caught.
        std::process::abort();
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_armed_by_its_name_and_passage() {
            let armed = |text: &str| (arm(text).point, arm(text).left.into_inner());
            assert_eq!(armed("writer.inserted"), (Some(CrashPoint::WriterInserted), 1));
            assert_eq!(armed("relay.read:3"), (Some(CrashPoint::RelayRead), 3));
            assert_eq!(armed(""), (None, 1));
            assert_eq!(armed("nowhere"), (None, 1));
        }
    }
}

#[cfg(not(debug_assertions))]
mod unarmed {
    use super::CrashPoint;

    #[inline]
    pub fn reach(_: CrashPoint) {}

    #[inline]
    pub async fn during<T>(_: CrashPoint, work: impl Future<Output = T>) -> T {
        work.await
    }

    #[inline]
    pub fn after(_: CrashPoint) {}
}

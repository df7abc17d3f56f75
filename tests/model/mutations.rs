//! What can be left out of the protocol or done wrong, to see that the model notices.

/// Declares the mutations, each with the name that is printed.
macro_rules! mutations {
    ($($(#[$doc:meta])* $mutation:ident = $name:literal),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Mutation {
            $($(#[$doc])* $mutation,)+
        }

        impl Mutation {
            pub(crate) const ALL: &[Self] = &[$(Self::$mutation),+];

            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$mutation => $name,)+
                }
            }
        }
    };
}

mutations! {
    /// A recovery leaves the old exchange where it is.
    NoExchangeFence = "no_exchange_fence",
    /// A recovery does not wait until a publish that overtook the deletion is past its confirm timeout.
    NoFenceMargin = "no_fence_margin",
    /// A publish that is not confirmed gives the unit back.
    ReleaseOnTimeout = "release_on_timeout",
    /// A return is followed whatever the inventory knows of the order.
    ReleaseNotIdempotent = "release_not_idempotent",
    /// The buyer hears yes before the broker has confirmed.
    ReplyBeforeConfirm = "reply_before_confirm",
    /// An inventory that restarted is sold from as if it had not.
    NoRunCheck = "no_run_check",
    /// A recovery does not wait for the barrier.
    NoBarrierWait = "no_barrier_wait",
    /// The barrier is sent before the exchange is deleted.
    BarrierBeforeFence = "barrier_before_fence",
    /// A rebuilt inventory does not remember ended orders.
    NoTombstone = "no_tombstone",
    /// An old epoch's message is stored whenever it comes.
    NoMinEpoch = "no_min_epoch",
    /// The snapshot is read before old messages become stale.
    SnapshotBeforeMinEpoch = "snapshot_before_min_epoch",
    /// A recoverer whose epoch is over makes older messages stale all the same.
    MinEpochByAnybody = "min_epoch_by_anybody",
    /// Whoever takes a recovery over goes on in the epoch that the other began.
    TakeoverKeepsEpoch = "takeover_keeps_epoch",
    /// The old outbox is put into the lane behind the barrier.
    RedriveAfterBarriers = "redrive_after_barriers",
    /// A return that an old epoch's inventory has followed is forgotten.
    ReturnsTrustAnyEpoch = "returns_trust_any_epoch",
    /// A late payment is settled although the epoch that gave its units is over.
    SettleWithoutEpochCheck = "settle_without_epoch_check",
    /// A revived order's units go back when its old return is followed late.
    ReturnUndoesRevival = "return_undoes_revival",
    /// A stale message is stored without asking the inventory.
    StaleIsStored = "stale_is_stored",
}

//! How far a rehearsal is, for whoever watches it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is done at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The sale is made, and every gateway hears of it.
    Making,
    /// All of it is sold before the crowd comes.
    SellingOut,
    /// The crowd comes.
    Crowd,
    /// It has come; its last buyers get their answers, and pay.
    Leaving,
    /// Each gateway sells a last unit of what is free.
    LastOnes,
    /// What is in motion arrives, and every invariant is proved.
    Audit,
    /// Every yes is compared with its row.
    Rows,
}

/// Where it is. Who does the work writes, anybody reads.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    done: AtomicU64,
    of: AtomicU64,
    yes: AtomicU64,
    no: AtomicU64,
    later: AtomicU64,
}

/// A look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub stage: Stage,
    /// What is done of this stage, and of how much; 0 where that is not known.
    pub done: u64,
    pub of: u64,
    /// Answers to claims.
    pub yes: u64,
    pub no: u64,
    pub later: u64,
}

impl Stage {
    pub const ALL: [Self; 7] =
        [Self::Making, Self::SellingOut, Self::Crowd, Self::Leaving, Self::LastOnes, Self::Audit, Self::Rows];

    /// What is done, in a few words.
    pub fn told(self) -> &'static str {
        match self {
            Self::Making => "making the sale",
            Self::SellingOut => "selling out",
            Self::Crowd => "buyers come",
            Self::Leaving => "buyers leave",
            Self::LastOnes => "last buyers",
            Self::Audit => "auditing",
            Self::Rows => "reading orders",
        }
    }
}

impl Progress {
    pub(super) fn begin(&self, stage: Stage, of: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    pub(super) fn done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub(super) fn answers(&self, [yes, no, later]: [u64; 3]) {
        self.yes.store(yes, Ordering::Relaxed);
        self.no.store(no, Ordering::Relaxed);
        self.later.store(later, Ordering::Relaxed);
    }

    pub fn look(&self) -> Look {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        Look {
            stage: Stage::ALL[stage.min(Stage::ALL.len() - 1)],
            done: of(&self.done),
            of: of(&self.of),
            yes: of(&self.yes),
            no: of(&self.no),
            later: of(&self.later),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_sees_the_stage_that_was_begun_with_nothing_done_of_it() {
        let progress = Progress::default();
        for stage in Stage::ALL {
            progress.begin(stage, 7);
            let Look { stage: seen, done, of, .. } = progress.look();
            assert_eq!((seen, done, of), (stage, 0, 7));
            progress.done(5);
        }
    }
}

//! Bugs that are planted on purpose, to see that the tests which look for them find them. Only with the feature `planted-bugs`, which
//! nothing but `tests/run` turns on; without it there are none, and the compiler removes the places.
//!
//! A process has the bug that `RUSHGATE_BUG` names, a test the one that it plants with `plant`.

/// Declares the bugs, each with the name that tests call it by.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal),+ $(,)?) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $bug,)+
        }

        impl Bug {
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)+
                }
            }
        }
    };
}

bugs! {
    /// A publish that is not confirmed gives the units back at once.
    ReleaseOnTimeout = "release_on_timeout",
    /// A move that was made already is made again.
    ReleaseTwice = "release_twice",
    /// A buyer hears yes when the inventory has said so.
    AnswerBeforeConfirm = "answer_before_confirm",
    /// An inventory that restarted is sold from as if it had not.
    NoRestartCheck = "no_restart_check",
    /// A recovery does not wait for the writers.
    NoBarrier = "no_barrier",
    /// The last unit is granted twice.
    GrantOneTooMany = "grant_one_too_many",
    /// A buyer may have as many as there are.
    ForgetTheLimit = "forget_the_limit",
    /// A message is acknowledged before it is stored.
    AckBeforeCommit = "ack_before_commit",
}

#[cfg(feature = "planted-bugs")]
pub use planting::{is_planted, plant};

/// Is this bug here?
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in what this thread does; `None` removes it.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Is this bug here?
    pub fn is_planted(bug: Bug) -> bool {
        // Of the process: a bug is in the program, not in a node.
        static OF_PROCESS: OnceLock<Option<Bug>> = OnceLock::new();
        let of_process = OF_PROCESS.get_or_init(|| {
            let name = std::env::var("RUSHGATE_BUG").unwrap_or_default();
            Bug::ALL.iter().copied().find(|bug| bug.as_str() == name)
        });
        *of_process == Some(bug) || PLANTED.get() == Some(bug)
    }
}

//! Settings that may change while they are used.
//!
//! A module is given its own and no others. [`Live`] is one setting: to read it is one atomic load, so that a claim may; whoever sleeps by it
//! is woken when it changes. [`LiveSettings`] are all of them, in the hands of whoever reloads.
//!
//! Each is a word of its own, so two that change together are seen one after the other. No two of them must agree at every instant.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::settings::{self, Settings};
use crate::domain::Buffer;

/// A setting that may change. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Live<T>(Arc<Inner>, PhantomData<T>);

struct Inner {
    word: AtomicU64,
    changed: Notify,
}

/// A value that fits into a word, so that it can be read and changed in one piece.
pub trait Word: Copy {
    fn to_word(self) -> u64;
    fn from_word(word: u64) -> Self;
}

impl<T: Word> Live<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner { word: AtomicU64::new(value.to_word()), changed: Notify::new() }), PhantomData)
    }

    pub fn get(&self) -> T {
        T::from_word(self.0.word.load(Ordering::Relaxed))
    }

    /// Wakes all who wait for a change, if it is one.
    pub fn set(&self, value: T) {
        let word = value.to_word();
        if self.0.word.swap(word, Ordering::Relaxed) != word {
            self.0.changed.notify_waiters();
        }
    }

    /// Resolves at the next change after this call, also if it comes before the first poll.
    pub fn changed(&self) -> impl Future<Output = ()> + use<'_, T> {
        self.0.changed.notified()
    }

    /// Sleeps for what `time` makes of it. If it changes meanwhile, that counts, from when the sleep began.
    pub async fn sleep(&self, time: impl Fn(T) -> Duration) {
        let begun = Instant::now();
        loop {
            let changed = self.changed();
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(begun + time(self.get())) => return,
                () = changed => {}
            }
        }
    }
}

impl<T: Word> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Word + fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Word for u32 {
    fn to_word(self) -> u64 {
        self.into()
    }

    fn from_word(word: u64) -> Self {
        Self::try_from(word).unwrap_or(Self::MAX)
    }
}

impl Word for u64 {
    fn to_word(self) -> u64 {
        self
    }

    fn from_word(word: u64) -> Self {
        word
    }
}

impl Word for usize {
    fn to_word(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }

    fn from_word(word: u64) -> Self {
        Self::try_from(word).unwrap_or(Self::MAX)
    }
}

impl Word for f64 {
    fn to_word(self) -> u64 {
        self.to_bits()
    }

    fn from_word(word: u64) -> Self {
        Self::from_bits(word)
    }
}

/// In nanoseconds: up to 584 years.
impl Word for Duration {
    fn to_word(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn from_word(word: u64) -> Self {
        Self::from_nanos(word)
    }
}

/// A fraction is never negative, so what would be its sign tells a number of units from it.
impl Word for Buffer {
    fn to_word(self) -> u64 {
        match self {
            Self::Units(units) => 1 << 63 | u64::from(units),
            Self::Fraction(fraction) => fraction.abs().to_bits(),
        }
    }

    fn from_word(word: u64) -> Self {
        match word >> 63 {
            0 => Self::Fraction(f64::from_bits(word)),
            _ => Self::Units(u32::from_word(word & !(1 << 63))),
        }
    }
}

macro_rules! live_settings {
    ($($section:ident: $Section:ident { $($name:ident: $type:ty,)+ })+) => {
        /// Every live setting but the filter of the logs, which is no word.
        #[derive(Debug, Clone)]
        pub struct LiveSettings {
            $(pub $section: $Section,)+
        }

        $(
            #[doc = concat!("What is live of [`settings::", stringify!($Section), "`].")]
            #[derive(Debug, Clone)]
            pub struct $Section {
                $(pub $name: Live<$type>,)+
            }

            impl From<&settings::$Section> for $Section {
                fn from(settings: &settings::$Section) -> Self {
                    Self { $($name: Live::new(settings.$name),)+ }
                }
            }

            impl From<settings::$Section> for $Section {
                fn from(settings: settings::$Section) -> Self {
                    Self::from(&settings)
                }
            }
        )+

        impl LiveSettings {
            /// The paths of their keys.
            pub const PATHS: &[&str] = &[$($(concat!(stringify!($section), ".", stringify!($name)),)+)+];

            pub fn new(settings: &Settings) -> Self {
                Self { $($section: $Section::from(&settings.$section),)+ }
            }

            /// Gives each its value of these.
            pub fn take(&self, settings: &Settings) {
                $($(self.$section.$name.set(settings.$section.$name);)+)+
            }
        }
    };
}

live_settings! {
    node: Node {
        weight: f64,
        drain_delay: Duration,
        drain_timeout: Duration,
    }
    http: Http {
        max_connections: usize,
        max_body: usize,
        header_timeout: Duration,
        request_timeout: Duration,
        claims_per_buyer: u32,
        claims_per_address: u32,
    }
    queue: Queue {
        relay_after: Duration,
        outbox_max: u64,
        lane_max: u64,
        unconfirmed_max: Duration,
    }
    shard: Shard {
        buffer: Buffer,
        refill_interval: Duration,
        node_timeout: Duration,
    }
    sale: Sale {
        hold: Duration,
        limit_per_buyer: u32,
    }
    payment: Payment {
        expiry_interval: Duration,
    }
    trace: Trace {
        sample_ratio: f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{Change, Key};

    #[test]
    fn every_key_that_is_said_to_be_live_is_and_no_other() {
        let said = Key::ALL.iter().filter(|key| key.change == Change::Live).map(Key::path);
        let live = LiveSettings::PATHS.iter().map(ToString::to_string).chain(["log.filter".to_owned()]);
        assert_eq!(said.collect::<Vec<_>>(), live.collect::<Vec<_>>());
    }

    #[test]
    fn a_value_comes_back_as_it_went_in() {
        fn back<T: Word + PartialEq + fmt::Debug>(value: T) {
            assert_eq!(T::from_word(value.to_word()), value);
        }
        [0, 1, u32::MAX].into_iter().for_each(back);
        [0, u64::MAX].into_iter().for_each(back);
        [0, usize::MAX].into_iter().for_each(back);
        [0.001, 1.0, 1000.0].into_iter().for_each(back);
        [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(604_800)].into_iter().for_each(back);
        [0, 1, u32::MAX].map(Buffer::Units).into_iter().for_each(back);
        [0.0, 0.1, 10.0].map(Buffer::Fraction).into_iter().for_each(back);
    }

    #[test]
    fn all_clones_are_one() {
        let one = Live::new(3_u32);
        let other = one.clone();
        one.set(4);
        assert_eq!(other.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_change_hears_of_it_and_of_nothing_else() {
        let live = Live::new(3_u32);
        let changed = live.changed();
        live.set(3);
        assert!(tokio::time::timeout(Duration::from_secs(1), changed).await.is_err(), "that was none");
        let changed = live.changed();
        live.set(4);
        changed.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_becomes_as_long_as_the_setting_says_meanwhile() {
        for (becomes, expected) in [(5, 5), (1, 2), (60, 60)] {
            let live = Live::new(Duration::from_secs(10));
            let begun = Instant::now();
            let change = async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                live.set(Duration::from_secs(becomes));
            };
            tokio::join!(live.sleep(|time| time), change);
            assert_eq!(begun.elapsed().as_secs(), expected, "10 s became {becomes}");
        }
    }
}

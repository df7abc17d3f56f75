//! When each buyer comes: at random instants whose rate follows a curve (an inhomogeneous Poisson process), from a seed.

use std::time::Duration;

use fastrand::Rng;

/// Of a ramping crowd, the parts of its time in which it grows, stays and shrinks; and the part of its peak at which it begins.
const GROWS: f64 = 0.2;
const STAYS: f64 = 0.6;
const SHRINKS: f64 = 0.2;
const BEGINS: f64 = 0.1;

/// Buyers per second over time, in pieces that are straight lines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    seconds: f64,
    /// Buyers per second at its beginning, and at its end.
    from: f64,
    to: f64,
}

impl Curve {
    pub(super) fn constant(rate: u32, duration: Duration) -> Self {
        let rate = rate.into();
        Self(vec![Piece { seconds: duration.as_secs_f64(), from: rate, to: rate }])
    }

    pub(super) fn ramping(rate: u32, duration: Duration) -> Self {
        let (seconds, peak) = (duration.as_secs_f64(), f64::from(rate));
        Self(vec![
            Piece { seconds: seconds * GROWS, from: (peak * BEGINS).ceil(), to: peak },
            Piece { seconds: seconds * STAYS, from: peak, to: peak },
            Piece { seconds: seconds * SHRINKS, from: peak, to: 0.0 },
        ])
    }

    /// After how many seconds so many buyers are to be expected; `None` where fewer are at all.
    fn reached(&self, mut buyers: f64) -> Option<f64> {
        let mut before = 0.0;
        for Piece { seconds, from, to } in &self.0 {
            let all = f64::midpoint(*from, *to) * seconds;
            if buyers < all {
                // from·t + slope·t²/2 = buyers, in the form that is exact where the slope is nothing.
                let slope = (to - from) / seconds;
                let root = (from * from + 2.0 * slope * buyers).max(0.0).sqrt();
                return Some(before + 2.0 * buyers / (from + root));
            }
            buyers -= all;
            before += seconds;
        }
        None
    }
}

/// One buyer who is to come.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) number: u64,
    /// Since the first could have come.
    pub(super) due: Duration,
    /// This buyer's own: what it draws does not depend on how others fare.
    pub(super) chance: Rng,
}

/// The buyers in the order in which they come.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    curve: Curve,
    chance: Rng,
    reached: f64,
    number: u64,
}

impl Arrivals {
    pub(super) fn new(curve: Curve, seed: u64) -> Self {
        Self { curve, chance: Rng::with_seed(seed), reached: 0.0, number: 0 }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        // Exponential gaps at a rate of one, stretched by the curve: arrivals that know nothing of each other.
        self.reached -= (1.0 - self.chance.f64()).ln();
        let due = Duration::from_secs_f64(self.curve.reached(self.reached)?);
        let number = self.number;
        self.number += 1;
        Some(Arrival { number, due, chance: self.chance.fork() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn come(curve: Curve, seed: u64) -> Vec<(u64, Duration, u64)> {
        Arrivals::new(curve, seed).map(|mut one| (one.number, one.due, one.chance.u64(..))).collect()
    }

    #[test]
    fn the_same_seed_brings_the_same_buyers_at_the_same_times_and_another_seed_others() {
        let of = |seed| come(Curve::ramping(100, MINUTE), seed);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn they_come_one_after_the_other_within_the_time_and_as_many_as_the_curve_says() {
        let ramping = 100.0 * 60.0 * (GROWS * f64::midpoint(BEGINS, 1.0) + STAYS + SHRINKS / 2.0);
        for (curve, expected) in [(Curve::constant(100, MINUTE), 6000.0), (Curve::ramping(100, MINUTE), ramping)] {
            let come = come(curve, 1);
            assert!(come.is_sorted() && come.last().unwrap().1 <= MINUTE);
            let off = (f64::from(u32::try_from(come.len()).unwrap()) - expected).abs();
            // Four standard deviations.
            assert!(off < 4.0 * f64::sqrt(expected), "{} and not {expected}", come.len());
        }
    }

    #[test]
    fn a_ramping_crowd_grows_stays_and_shrinks() {
        let come = come(Curve::ramping(1000, Duration::from_secs(10)), 3);
        let within =
            |from: f64, to: f64| come.iter().filter(|(_, due, _)| (from..to).contains(&due.as_secs_f64())).count();
        // The middle of each piece has the mean of its rates.
        let [grows, stays, shrinks] = [within(0.9, 1.1), within(4.9, 5.1), within(8.9, 9.1)];
        assert!(
            (70..150).contains(&grows) && (140..260).contains(&stays) && (60..140).contains(&shrinks),
            "{grows} {stays} {shrinks}"
        );
    }

    #[test]
    fn gaps_are_random_and_not_even() {
        let come = come(Curve::constant(1000, Duration::from_secs(10)), 5);
        let gaps: Vec<_> =
            come.windows(2).map(|two| two[1].1.saturating_sub(two[0].1).as_secs_f64() * 1000.0).collect();
        let long = gaps.iter().filter(|gap| **gap > 1.0).count();
        // Of exponential gaps, 36.8 % are longer than their mean.
        let part = f64::from(u32::try_from(long).unwrap()) / f64::from(u32::try_from(gaps.len()).unwrap());
        assert!((0.33..0.41).contains(&part), "{part}");
    }
}

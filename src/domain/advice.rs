//! What buffer to set, by formula.
//!
//! # Where it comes from
//!
//! Of `f` free units a node may let through `f/N + b` between two looks at the inventory, with `N` nodes alive and a buffer of `b` units
//! ([`share`]). When `k` of them die, the others go on with that until the missing heartbeats are noticed, and the crowd comes to `N − k`
//! doors. Where the busiest door has `s` times the average, and `d` units are wanted between two looks, nobody there has to wait for a
//! further look if
//!
//! ```text
//! f/N + b  ≥  s · d/(N − k)
//! ```
//!
//! - **As a percentage** of the fair part `f/N`, which shrinks as the stock does: at the end of every rush all that is left is wanted at
//!   one look, `d = f`, so `b ÷ f/N = s · N/(N − k) − 1`. For an even balancer that is `k/(N − k)`: each share reaches `f/(N − k)`. A share
//!   never exceeds `f`, so more than `N − 1` changes nothing.
//! - **As a number of units**: the gap is widest where the fair part has shrunk to what one look demands, `f = d = min(T, λ·R)`, with a
//!   stock of `T`, a peak of `λ` claims per second, and a look every `R`. There `b = d · (s/(N − k) − 1/N)`.
//!
//! `R` is the longest that a node goes without a look. One that is busy looks with every batch, since the answer tells the stock, and
//! needs less than this.
//!
//! What it costs: the shares together exceed what is free by `N·b`, so the buffer adds that many claims, at the most, which ask the
//! inventory in vain when the last units go. A call carries up to `M` of them, and where calls are scarce it does: a batch is whatever
//! waits while the last call is out. With `C` calls per second to spend they fit into one `R` if `N·b ≤ C·R·M`.
//!
//! The need is one of waiting, not of units: a shard that is empty while units are free asks at once, and says no to nobody. So a buffer
//! that is too small costs calls and time, never a sale. The floor `f/(N − k)` is that of the local stock with a buffer of which flash
//! sales tell, where a node's stock is its own and would be lost with it; here it is a permit.

use std::time::Duration;

use crate::domain::sale::Buffer;
use crate::domain::share::share;

/// The largest buffer that can be set, as a part of the fair part.
const MOST: f64 = 10.0;

/// What the formula has to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Units of the pool.
    pub stock: u32,
    pub nodes: u32,
    /// Nodes that may die at once; fewer than there are.
    pub survive: u32,
    /// The arrivals at the busiest node, as a multiple of the average; 1 for a balancer that is even.
    pub skew: f64,
    /// Claims per second, at the peak.
    pub peak: f64,
    /// The longest that a node goes without a look at the inventory: the refill interval.
    pub look: Duration,
    /// Calls per second that the inventory may be given.
    pub budget: f64,
    /// Claims that one call carries, at the most.
    pub batch_max: f64,
}

/// What the formula says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// The buffer that is needed, as a part of the fair part.
    pub needed: f64,
    /// The buffer that the budget affords, as a part of the fair part; infinite where nobody comes.
    pub affordable: f64,
    /// The lesser of the two, in whole per cent: what to set.
    pub buffer: Buffer,
    /// The same as a number of units per node, for who would rather set that.
    pub units: u32,
    /// Claims that this buffer adds, at the most, to those that ask the inventory in vain when the last units go.
    pub needless: u32,
}

impl Expected {
    pub fn advice(&self) -> Advice {
        let all = f64::from(self.nodes);
        let living = std::iter::repeat_n(1.0, self.nodes.saturating_sub(self.survive) as usize);
        let needed = needed(living, f64::from(self.survive), self.skew);
        // What is wanted between two looks, at the peak.
        let wanted = f64::from(self.stock).min(self.peak * self.look.as_secs_f64());
        let carried = self.budget * self.look.as_secs_f64() * self.batch_max;
        let affordable = if wanted > 0.0 { carried / wanted } else { f64::INFINITY };
        let part =
            if needed <= affordable { in_percent(needed, f64::ceil) } else { in_percent(affordable, f64::floor) };
        let units = (wanted / all * part).ceil();
        Advice {
            needed,
            affordable,
            buffer: Buffer::Fraction(part),
            units: whole(units),
            needless: whole((all * units).min((all - 1.0) * wanted)),
        }
    }
}

/// The buffer that is needed, as a part of the fair part, where nodes of these weights live on when others, which have `gone` of the
/// weight, die.
///
/// As large as can be set where nobody lives on. Never larger than that with which even the lightest share is all that is free: more
/// changes nothing.
pub fn needed(living: impl IntoIterator<Item = f64>, gone: f64, skew: f64) -> f64 {
    let (left, lightest) =
        living.into_iter().fold((0.0, f64::INFINITY), |(left, lightest), weight| (left + weight, weight.min(lightest)));
    if left <= 0.0 {
        return MOST;
    }
    let all = left + gone;
    (skew * all / left - 1.0).min(all / lightest - 1.0).clamp(0.0, MOST)
}

/// The same as it is set: in whole per cent, rounded up.
pub fn advised(living: impl IntoIterator<Item = f64>, gone: f64, skew: f64) -> Buffer {
    Buffer::Fraction(in_percent(needed(living, gone, skew), f64::ceil))
}

/// A part in whole per cent. Binary fractions would otherwise make 34 % of what is 33 % to fifteen digits.
fn in_percent(part: f64, round: impl Fn(f64) -> f64) -> f64 {
    let percent = (part * 100.0 * 1e9).round() / 1e9;
    (round(percent) / 100.0).clamp(0.0, MOST)
}

/// Units that the shards of these nodes together could not let through at one look, of so many that are free: if another node with
/// `gone` of the weight died now, so many would wait for a second look.
pub fn stranded(free: u32, living: &[f64], gone: f64, buffer: Buffer) -> u32 {
    let weights = living.iter().sum::<f64>() + gone;
    let reached: u64 = living.iter().map(|weight| u64::from(share(free, *weight, weights, buffer))).sum();
    free.saturating_sub(u32::try_from(reached).unwrap_or(u32::MAX))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of units")]
fn whole(units: f64) -> u32 {
    units.clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(nodes: u32, survive: u32, skew: f64) -> Expected {
        Expected {
            stock: 10_000,
            nodes,
            survive,
            skew,
            peak: 20_000.0,
            look: Duration::from_millis(100),
            budget: 1_000_000.0,
            batch_max: 1.0,
        }
    }

    #[test]
    fn the_share_of_those_who_are_left_reaches_all_that_is_free() {
        for (nodes, survive, percent) in [(4, 1, 34), (4, 2, 100), (10, 1, 12), (2, 1, 100), (4, 0, 0), (1, 0, 0)] {
            let advice = expected(nodes, survive, 1.0).advice();
            assert_eq!(advice.buffer, Buffer::Fraction(f64::from(percent) / 100.0), "{survive} of {nodes}");
            let living = vec![1.0; usize::try_from(nodes - survive).unwrap()];
            assert_eq!(stranded(9_999, &living, f64::from(survive), advice.buffer), 0, "{survive} of {nodes}");
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_strands_what_the_others_shards_do_not_reach() {
        assert_eq!(stranded(1000, &[1.0; 3], 1.0, Buffer::Units(0)), 250);
        assert_eq!(stranded(1000, &[1.0; 3], 1.0, Buffer::Fraction(0.1)), 175);
        assert_eq!(stranded(1000, &[1.0; 3], 1.0, Buffer::Units(84)), 0);
        assert_eq!(stranded(1000, &[], 1.0, Buffer::Units(84)), 1000, "nobody is left");
    }

    #[test]
    fn a_skewed_balancer_needs_more_and_never_more_than_the_whole() {
        assert_eq!(expected(4, 0, 1.5).advice().buffer, Buffer::Fraction(0.5));
        assert_eq!(expected(4, 1, 1.5).advice().buffer, Buffer::Fraction(1.0));
        assert_eq!(expected(4, 3, 4.0).advice().buffer, Buffer::Fraction(3.0), "a share never exceeds what is free");
    }

    #[test]
    fn in_units_it_is_what_one_look_demands() {
        // 2,000 are wanted in a look; three nodes that are left need 667 each and have a fair part of 500.
        let advice = expected(4, 1, 1.0).advice();
        assert_eq!((advice.units, advice.needless), (170, 680), "34 % of 500");
    }

    #[test]
    fn a_budget_that_affords_less_is_what_counts() {
        // 2,000 are wanted in 100 ms, and 500 calls may be made in that time.
        let advice = Expected { budget: 5000.0, ..expected(4, 1, 1.0) }.advice();
        assert!((advice.affordable - 0.25).abs() < 1e-9);
        assert_eq!(advice.buffer, Buffer::Fraction(0.25));
        assert!(advice.needless <= 500);
    }

    #[test]
    fn a_call_carries_a_batch() {
        let expected = Expected { budget: 5000.0, batch_max: 2.0, ..expected(4, 1, 1.0) };
        assert!((expected.advice().affordable - 0.5).abs() < 1e-9);
        assert_eq!(expected.advice().buffer, Buffer::Fraction(0.34), "1,000 claims fit into the calls of one look");
    }

    #[test]
    fn whatever_the_weights_the_advised_buffer_strands_nothing() {
        for (living, gone, buffer) in [
            (&[1.0, 1.0][..], 4.0, 2.0),
            (&[4.0, 1.0], 1.0, 0.2),
            (&[4.0, 4.0, 1.0], 4.0, 0.45),
            (&[0.5, 0.25, 3.0], 3.0, 0.8),
        ] {
            let advised = advised(living.iter().copied(), gone, 1.0);
            assert_eq!(advised, Buffer::Fraction(buffer), "{living:?}");
            for free in [1, 7, 1000, 99_999] {
                assert_eq!(stranded(free, living, gone, advised), 0, "{free} for {living:?}");
            }
        }
        let skewed = advised([1.0, 4.0], 1.0, 6.0);
        assert_eq!(skewed, Buffer::Fraction(5.0), "a sixth and five sixths: even the lightest has all");
        assert_eq!(advised([], 1.0, 1.0), Buffer::Fraction(MOST));
    }
}

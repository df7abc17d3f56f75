//! The crowd: when each buyer comes, and to which door.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How the arrivals are spread over their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Most at the opening, then ever fewer: the rate halves every seventh of the time.
    Spike,
    /// The same rate all the time.
    Steady,
    /// From nothing to twice the average.
    Ramp,
}

/// How often a spike's rate falls by a factor of e in its time; 99.3 % of the crowd come within five.
const DECAYS: f64 = 5.0;

impl Shape {
    pub const ALL: [Self; 3] = [Self::Spike, Self::Steady, Self::Ramp];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Steady => "steady",
            Self::Ramp => "ramp",
        }
    }

    /// When this part of the crowd, from 0 to 1, has come.
    pub fn quantile(self, part: f64, within: Duration) -> Duration {
        let part = part.clamp(0.0, 1.0);
        within.mul_f64(match self {
            Self::Spike => (-(1.0 - part * (1.0 - (-DECAYS).exp())).ln() / DECAYS).clamp(0.0, 1.0),
            Self::Steady => part,
            Self::Ramp => part.sqrt(),
        })
    }

    /// Claims per second, at the most.
    pub fn peak(self, buyers: f64, within: Duration) -> f64 {
        let average = buyers / within.as_secs_f64();
        average
            * match self {
                Self::Spike => DECAYS / (1.0 - (-DECAYS).exp()),
                Self::Steady => 1.0,
                Self::Ramp => 2.0,
            }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be spike, steady or ramp")]
pub struct BadShape;

impl FromStr for Shape {
    type Err = BadShape;

    fn from_str(text: &str) -> Result<Self, BadShape> {
        Self::ALL.into_iter().find(|shape| shape.as_str() == text).ok_or(BadShape)
    }
}

/// Buyers as they come, from a seed.
#[derive(Debug)]
pub(super) struct Crowd {
    chance: fastrand::Rng,
    buyers: u64,
    come: u64,
    shape: Shape,
    within: Duration,
}

impl Crowd {
    pub(super) fn new((buyers, shape, within): (u64, Shape, Duration), seed: u64) -> Self {
        Self { chance: fastrand::Rng::with_seed(seed), buyers, come: 0, shape, within }
    }

    /// The next buyer's number and when they come; one comes in each of as many equal parts of the crowd.
    pub(super) fn next(&mut self) -> Option<(u64, Duration)> {
        if self.come == self.buyers {
            return None;
        }
        let part = (super::number(self.come) + self.chance.f64()) / super::number(self.buyers);
        self.come += 1;
        Some((self.come - 1, self.shape.quantile(part, self.within)))
    }

    /// Which of so many doors the balancer opens. The first has `skew` times the average, the others the rest alike.
    pub(super) fn door(&mut self, doors: usize, skew: f64) -> usize {
        let busiest = (skew / super::number(doors as u64)).min(1.0);
        if doors == 1 || self.chance.f64() < busiest { 0 } else { self.chance.usize(1..doors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[test]
    fn each_shape_brings_everybody_in_order_and_in_time() {
        for shape in Shape::ALL {
            assert_eq!(shape.as_str().parse(), Ok(shape));
            let mut crowd = Crowd::new((1000, shape, WITHIN), 7);
            let come: Vec<_> = std::iter::from_fn(|| crowd.next()).map(|(_, at)| at).collect();
            assert!(come.is_sorted() && come.len() == 1000 && *come.last().unwrap() <= WITHIN, "{shape}");
        }
        assert!("burst".parse::<Shape>().is_err());
    }

    #[test]
    fn the_peak_is_the_rate_of_the_busiest_moment() {
        for (shape, busiest) in [(Shape::Spike, 0.0), (Shape::Steady, 0.5), (Shape::Ramp, 0.999)] {
            let (from, to) = (shape.quantile(busiest, WITHIN), shape.quantile(busiest + 0.001, WITHIN));
            let rate = 1000.0 / to.saturating_sub(from).as_secs_f64();
            let peak = shape.peak(1_000_000.0, WITHIN);
            assert!((rate / peak - 1.0).abs() < 0.01, "{shape}: {rate} of {peak}");
        }
    }

    #[test]
    fn the_busiest_door_has_its_multiple_of_the_average() {
        let mut crowd = Crowd::new((1, Shape::Steady, WITHIN), 7);
        let mut doors = [0_u32; 4];
        (0..100_000).for_each(|_| doors[crowd.door(4, 1.6)] += 1);
        assert!((39_000..41_000).contains(&doors[0]), "{doors:?}");
        assert!(doors[1..].iter().all(|door| (19_000..21_000).contains(door)), "{doors:?}");
        assert_eq!((0..100).map(|_| crowd.door(1, 1.0)).max(), Some(0));
    }
}

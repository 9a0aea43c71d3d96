//! Percentiles of latencies, and their differences between arms.

use serde::Serialize;

/// Percentiles, in seconds; of ratios, without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Percentiles {
    /// The percentiles of `samples` by nearest rank; `None` without samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let nearest = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?);
        Some(Self { p50: *nearest(50)?, p90: *nearest(90)?, p99: *nearest(99)? })
    }

    /// The differences to `floor`, percentile by percentile.
    pub fn above(self, floor: Self) -> Self {
        self.with(floor, |this, floor| this - floor)
    }

    fn with(self, other: Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            p50: combine(self.p50, other.p50),
            p90: combine(self.p90, other.p90),
            p99: combine(self.p99, other.p99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_nearest_rank() {
        let samples: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(Percentiles::of(&samples), Some(Percentiles { p50: 500.0, p90: 900.0, p99: 990.0 }));
        assert_eq!(Percentiles::of(&[3.0, 1.0, 2.0]), Some(Percentiles { p50: 2.0, p90: 3.0, p99: 3.0 }));
        assert_eq!(Percentiles::of(&[7.0]), Some(Percentiles { p50: 7.0, p90: 7.0, p99: 7.0 }));
        assert_eq!(Percentiles::of(&[]), None);
    }

    #[test]
    fn arms_are_compared_percentile_by_percentile() {
        let (slow, fast) =
            (Percentiles { p50: 6.0, p90: 8.0, p99: 20.0 }, Percentiles { p50: 2.0, p90: 4.0, p99: 10.0 });
        assert_eq!(slow.above(fast), Percentiles { p50: 4.0, p90: 4.0, p99: 10.0 });
    }
}

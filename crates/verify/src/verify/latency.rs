//! Percentiles of latency.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds from when requests were due to the last bytes of their answers. Exact, without buckets: every answer is
/// kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The maximum.
    pub max: f64,
}

impl Latency {
    /// The percentiles of these latencies, in any order.
    #[must_use]
    pub fn of(mut answers: Vec<Duration>) -> Self {
        answers.sort_unstable();
        let quantile = |per_mille: usize| {
            let index = (answers.len() * per_mille).div_ceil(1000).saturating_sub(1);
            answers.get(index).map(Duration::as_secs_f64).unwrap_or_default()
        };
        Self {
            p50: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            p999: quantile(999),
            max: quantile(1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_answers_latency_is_zero() {
        assert_eq!(Latency::of(vec![]), Latency::default());
    }

    proptest! {
        #[test]
        fn a_percentile_is_the_smallest_limit_that_covers_its_share_of_answers(millis in prop::collection::vec(0..1000_u64, 1..300)) {
            let answers: Vec<_> = millis.into_iter().map(Duration::from_millis).collect();
            let latency = Latency::of(answers.clone());
            for (limit, per_mille) in
                [(latency.p50, 500), (latency.p90, 900), (latency.p99, 990), (latency.p999, 999), (latency.max, 1000)]
            {
                let within = |holds: fn(&f64, &f64) -> bool| {
                    answers.iter().filter(|answer| holds(&answer.as_secs_f64(), &limit)).count() * 1000
                };
                prop_assert!(within(f64::le) >= answers.len() * per_mille);
                prop_assert!(within(f64::lt) < answers.len() * per_mille, "a smaller limit would not");
            }
        }
    }
}

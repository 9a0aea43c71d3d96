//! Measured seconds, as a histogram that fits into a status and can be merged.
//!
//! Each workload has two of them, and most have a handful of buckets. Histograms of the usual crates keep an array of all
//! buckets, which would take kilobytes for each.

use adieu_core::api::{Bucket, Quantiles, limits};

/// Up to this number of seconds each second has a bucket; above, the first two digits have one.
const EXACT: i64 = 100;

/// Counts by seconds, rounded up, in ascending order. A map would take a B-tree node of 200 bytes for a single bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution(Vec<(i64, i64)>);

impl Distribution {
    pub(crate) fn add(&mut self, seconds: i64) {
        self.add_many(seconds, 1);
    }

    fn add_many(&mut self, seconds: i64, count: i64) {
        let bucket = bucket(seconds);
        let at = self.0.partition_point(|(seconds, _)| *seconds < bucket);
        if self.0.get(at).is_none_or(|(seconds, _)| *seconds != bucket) {
            self.0.insert(at, (bucket, 0));
        }
        let all = &mut self.0[at].1;
        *all = (*all + count).min(limits::TERMINATIONS);
    }

    pub(crate) fn count(&self) -> i64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The smallest number of seconds that at least this percentage took at most (nearest rank); `None` without any.
    pub(crate) fn percentile(&self, percent: i64) -> Option<i64> {
        let rank = (self.count() * percent + 99) / 100;
        let mut below = 0;
        self.0.iter().find_map(|(seconds, count)| {
            below += count;
            (below >= rank.max(1)).then_some(*seconds)
        })
    }

    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let (max, _) = self.0.last()?;
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.percentile(percent).unwrap_or(*max));
        Some(Quantiles { p50, p90, p99, max: *max })
    }

    /// About how many bytes of memory it takes: the capacity doubles.
    pub(crate) fn memory(&self) -> usize {
        2 * size_of::<(i64, i64)>() * self.0.len()
    }

    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        self.0.iter().map(|&(seconds, count)| Bucket { seconds, count }).collect()
    }

    pub(crate) fn of(buckets: &[Bucket]) -> Self {
        let mut all = Self::default();
        for bucket in buckets.iter().take(limits::HISTOGRAM_BUCKETS).filter(|bucket| bucket.count > 0) {
            all.add_many(bucket.seconds, bucket.count);
        }
        all
    }
}

fn bucket(seconds: i64) -> i64 {
    let seconds = seconds.clamp(0, limits::MEASURED_SECONDS);
    let mut width = 1;
    while seconds / width >= EXACT {
        width *= 10;
    }
    ((seconds + width - 1) / width * width).min(limits::MEASURED_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_above_100_are_rounded_up_to_two_digits() {
        for (seconds, rounded) in [
            (-1, 0),
            (0, 0),
            (7, 7),
            (99, 99),
            (100, 100),
            (101, 110),
            (991, 1000),
            (1001, 1100),
            (604_801, 604_800),
        ] {
            assert_eq!(bucket(seconds), rounded, "{seconds}");
        }
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let mut all = Distribution::default();
        assert_eq!((all.quantiles(), all.percentile(99)), (None, None));
        for seconds in 1..=100 {
            all.add(seconds);
        }
        assert_eq!(all.quantiles(), Some(Quantiles { p50: 50, p90: 90, p99: 99, max: 100 }));
        let mut few = Distribution::default();
        for seconds in [1, 1, 30] {
            few.add(seconds);
        }
        assert_eq!(few.quantiles(), Some(Quantiles { p50: 1, p90: 30, p99: 30, max: 30 }));
    }

    #[test]
    fn a_distribution_is_restored_from_its_buckets_and_merges() {
        let mut all = Distribution::default();
        for seconds in (0..10_000).step_by(7) {
            all.add(seconds);
        }
        let buckets = all.buckets();
        assert!(buckets.len() <= limits::HISTOGRAM_BUCKETS);
        assert_eq!(Distribution::of(&buckets), all);
        let twice = Distribution::of(&[buckets.clone(), buckets].concat());
        assert_eq!((twice.count(), twice.quantiles()), (2 * all.count(), all.quantiles()));
    }

    #[test]
    fn any_seconds_fit_into_the_buckets_of_a_status() {
        let mut all = Distribution::default();
        for seconds in 0..=limits::MEASURED_SECONDS {
            all.add(seconds);
        }
        assert!(all.buckets().len() <= limits::HISTOGRAM_BUCKETS, "{}", all.buckets().len());
    }
}

//! Better values, from what the terminations did.

use adieu_core::api::{Confidence, OutcomeCounts, Recommendation, RequestedTimes, limits};

use crate::distribution::Distribution;

/// Fewer terminations are too little evidence that a shorter time is enough.
const MIN_TERMINATIONS: i64 = 20;
/// Fewer terminations are too little evidence that a longer time is needed.
const MIN_TERMINATIONS_TO_RAISE: i64 = 5;
/// Up to this share of failed terminations is no evidence.
const NEGLIGIBLE_PERCENT: i64 = 1;
/// From this number on the 99th percentile isn't just the largest value.
const HIGH_CONFIDENCE: i64 = 100;
/// A shorter time is longer than the 99th percentile by a quarter.
const RESERVE_PERCENT: i64 = 125;
/// A shorter time is recommended if it is at most this share of the present one.
const WORTHWHILE_PERCENT: i64 = 80;
/// A time that was too short is raised to this share, up to a multiple of [`STEP`] seconds.
const RAISE_PERCENT: i64 = 180;
const STEP: i64 = 5;
/// If at least this share is killed, the application ignores SIGTERM, and no time is enough.
const IGNORES_SIGTERM_PERCENT: i64 = 90;

/// Whether almost all pods are killed after using all of their time.
pub(crate) fn ignores_sigterm(outcomes: OutcomeCounts) -> bool {
    let terminations = outcomes.sum();
    terminations >= 3 && outcomes.killed * 100 >= terminations * IGNORES_SIGTERM_PERCENT
}

/// A better shutdown timeout, or grace period if nothing is injected; `None` if the value is right, or there is too little
/// evidence. `longest` are the seconds that any pod ever needed after its preStop hook, also for its sidecars: a shorter time
/// than that is never recommended, so a value that was raised is not lowered again.
pub(crate) fn recommendation(
    outcomes: OutcomeCounts,
    shutdown: &Distribution,
    longest: i64,
    requested: RequestedTimes,
) -> Option<Recommendation> {
    let terminations = shutdown.count();
    let is_negligible = |count: i64| count * 100 <= terminations * NEGLIGIBLE_PERCENT;
    let minimum = if outcomes.killed > 0 { MIN_TERMINATIONS_TO_RAISE } else { MIN_TERMINATIONS };
    if terminations < minimum || ignores_sigterm(outcomes) {
        return None;
    }
    let (field, current, rest) = match requested.shutdown_timeout_seconds {
        Some(seconds) => (Recommendation::SHUTDOWN_TIMEOUT, seconds, 0),
        None => ("terminationGracePeriodSeconds", requested.grace_period_seconds, requested.pre_stop_seconds),
    };
    let p99 = shutdown.percentile(99)?;
    let (recommended, evidence) = if outcomes.killed > 0 {
        if is_negligible(outcomes.killed) {
            return None;
        }
        let raised = ((current - rest) * RAISE_PERCENT / 100 + STEP - 1) / STEP * STEP;
        let (killed, all) = (outcomes.killed, terminations);
        (raised.max(STEP), format!("{killed} of {all} were killed at the deadline"))
    } else {
        // They ended before they were done.
        if !is_negligible(outcomes.crashed + outcomes.cut_short) {
            return None;
        }
        let with_reserve = (p99 * RESERVE_PERCENT + 99) / 100;
        let shorter = with_reserve.max(longest).max(1);
        if (shorter + rest) * 100 > current * WORTHWHILE_PERCENT {
            return None;
        }
        let evidence = format!("p99 of {terminations} terminations is {p99} s");
        let longer = (longest > with_reserve).then(|| format!(", the longest of all took {longest} s"));
        (shorter, evidence + &longer.unwrap_or_default())
    };
    let recommended = (recommended + rest).min(limits::SHUTDOWN_TIMEOUT_SECONDS);
    let confidence = if terminations >= HIGH_CONFIDENCE { Confidence::High } else { Confidence::Medium };
    Some(Recommendation {
        summary: format!("{field} {current} -> {recommended}: {evidence}"),
        field: field.to_owned(),
        current_seconds: current,
        recommended_seconds: recommended,
        confidence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommend(seconds: &[(i64, i64)], killed: i64, timeout: Option<i64>) -> Option<Recommendation> {
        let completed = seconds.iter().map(|(_, count)| count).sum::<i64>() - killed;
        let outcomes = OutcomeCounts { completed, killed, ..OutcomeCounts::default() };
        recommend_with(seconds, outcomes, 0, timeout)
    }

    fn recommend_with(
        seconds: &[(i64, i64)],
        outcomes: OutcomeCounts,
        longest: i64,
        timeout: Option<i64>,
    ) -> Option<Recommendation> {
        let mut shutdown = Distribution::default();
        for &(seconds, count) in seconds {
            (0..count).for_each(|_| shutdown.add(seconds));
        }
        let requested = RequestedTimes {
            grace_period_seconds: 45,
            pre_stop_seconds: 10,
            shutdown_timeout_seconds: timeout,
        };
        let longest = longest.max(shutdown.percentile(100).unwrap());
        recommendation(outcomes, &shutdown, longest, requested)
    }

    #[test]
    fn values_follow_the_evidence() {
        for (seconds, killed, timeout, expected) in [
            (
                &[(3, 150), (9, 64)][..],
                0,
                Some(30),
                Some("shutdownTimeoutSeconds 30 -> 12: p99 of 214 terminations is 9 s"),
            ),
            (
                &[(20, 33), (30, 7)],
                7,
                Some(30),
                Some("shutdownTimeoutSeconds 30 -> 55: 7 of 40 were killed at the deadline"),
            ),
            (
                &[(3, 30)],
                0,
                None,
                Some("terminationGracePeriodSeconds 45 -> 14: p99 of 30 terminations is 3 s"),
            ),
            (
                &[(30, 30), (35, 5)],
                5,
                None,
                Some("terminationGracePeriodSeconds 45 -> 75: 5 of 35 were killed at the deadline"),
            ),
            // With 4 s, a pod would have been killed.
            (
                &[(3, 200), (20, 1)],
                0,
                Some(30),
                Some(
                    "shutdownTimeoutSeconds 30 -> 20: p99 of 201 terminations is 3 s, the longest of all took 20 s",
                ),
            ),
            (&[(0, 30)], 0, Some(30), Some("shutdownTimeoutSeconds 30 -> 1: p99 of 30 terminations is 0 s")),
            // Too little evidence, a right value, and an application that ignores SIGTERM.
            (&[(3, 19)], 0, Some(30), None),
            (&[(20, 100)], 0, Some(30), None),
            (&[(30, 40)], 38, Some(30), None),
            // Kills need less evidence, and one of a hundred is none.
            (
                &[(20, 4), (30, 1)],
                1,
                Some(30),
                Some("shutdownTimeoutSeconds 30 -> 55: 1 of 5 were killed at the deadline"),
            ),
            (&[(20, 3), (30, 1)], 1, Some(30), None),
            (&[(3, 99), (30, 1)], 1, Some(30), None),
        ] {
            let found = recommend(seconds, killed, timeout);
            assert_eq!(found.as_ref().map(|found| found.summary.as_str()), expected, "{seconds:?}");
        }
    }

    #[test]
    fn no_time_is_recommended_with_which_a_pod_would_have_been_killed_or_was_not_done() {
        let seconds = [(3, 200)];
        let recommended = |outcomes: OutcomeCounts, longest: i64| {
            let found = recommend_with(&seconds, outcomes, longest, Some(30));
            found.map(|found| found.recommended_seconds)
        };
        let completed = OutcomeCounts { completed: 200, ..OutcomeCounts::default() };
        assert_eq!(recommended(completed, 0), Some(4));
        assert_eq!(recommended(completed, 17), Some(17), "with earlier times, or for a sidecar");
        assert_eq!(recommended(completed, 35), None);
        for (count, expected) in [(2, Some(4)), (3, None)] {
            let some = OutcomeCounts { completed: 200 - count, ..OutcomeCounts::default() };
            assert_eq!(recommended(OutcomeCounts { crashed: count, ..some }, 0), expected);
            assert_eq!(recommended(OutcomeCounts { cut_short: count, ..some }, 0), expected);
        }
    }

    #[test]
    fn confidence_needs_a_hundred_terminations() {
        assert_eq!(recommend(&[(3, 99)], 0, Some(30)).unwrap().confidence, Confidence::Medium);
        assert_eq!(recommend(&[(3, 100)], 0, Some(30)).unwrap().confidence, Confidence::High);
    }
}

//! How long a canary is observed after its deletion, and how long it serves.

use std::time::Duration;

/// How much longer a canary serves than it is observed: its observer learns of arrivals later, and then reads its log.
const RESERVE: Duration = Duration::from_secs(10);
/// The limit for clients to close their connections to a canary before it ends.
pub(super) const CLOSING: Duration = Duration::from_secs(10);

/// How long canaries are observed after their deletion.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacing {
    /// The time without an arrival after which none follows.
    pub quiet: Duration,
    /// The longest observation.
    pub window: Duration,
}

impl Pacing {
    /// The grace period of a canary: at least the time for which it serves if its observation is over within the window.
    pub(super) fn grace_period(self) -> Duration {
        self.window + self.quiet * 2 + RESERVE + CLOSING
    }
}

/// Whether the observation of a canary is over, this long after its SIGTERM, so that it is no longer needed. `last` are the
/// times of the last arrivals on new and on kept connections. An observation is over when no requests arrive for `quiet`,
/// and at the latest three times that after the last one on a new connection; see `StreamStates::are_over`.
pub(super) fn has_served(since: Duration, last: [Duration; 2], quiet: Duration) -> bool {
    let [new, kept] = last;
    let is_past = |last: Duration, quiet: Duration| since >= last + quiet + RESERVE;
    is_past(new.max(kept), quiet) || is_past(new, quiet * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(5);

    #[test]
    fn a_canary_serves_until_its_observation_is_over() {
        for (what, since, last, expected) in [
            ("no arrival", 15, [0, 0], true),
            ("not for long enough", 14, [0, 0], false),
            ("after new connections", 17, [2, 0], true),
            ("new connections may follow", 16, [2, 0], false),
            ("after kept connections", 21, [2, 6], true),
            ("kept connections may end", 26, [2, 26], false),
            ("kept connections do not end", 27, [2, 27], true),
            ("new connections do not end", 100, [100, 100], false),
        ] {
            let last = last.map(Duration::from_secs);
            assert_eq!(has_served(Duration::from_secs(since), last, QUIET), expected, "{what}");
        }
    }

    #[test]
    fn the_grace_period_is_longer_than_a_canary_serves() {
        for new in [Duration::ZERO, QUIET * 10] {
            let pacing = Pacing { quiet: QUIET, window: new + QUIET * 2 };
            let served = pacing.grace_period().saturating_sub(CLOSING);
            // The latest arrivals after which the observation is over within the window: kept connections don't end, those
            // of one way don't end while another way has new ones for longer, or they end with the new ones.
            for last in [[new, served], [new + QUIET, served], [new + QUIET; 2]] {
                assert!(has_served(served, last, QUIET), "{pacing:?} {last:?}");
            }
        }
    }
}

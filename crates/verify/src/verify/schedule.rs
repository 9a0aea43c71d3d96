//! The due times of a load's requests.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

/// A constant rate. Load is open-loop: a slow answer doesn't delay the next request, so a stall counts against every
/// request it delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Requests per second.
    pub rate: NonZeroU32,
}

impl Schedule {
    /// When a request is due, from the first one, which has the number 0.
    #[must_use]
    pub fn due(self, number: u64) -> Duration {
        let rate = u64::from(self.rate.get());
        Duration::from_secs(number / rate) + Duration::from_nanos(number % rate * 1_000_000_000 / rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_are_due_at_the_rate_without_drift(rate in 1..100_000_u32, number in 0..1_u64 << 40) {
            let schedule = Schedule { rate: rate.try_into().unwrap() };
            let (due, next) = (schedule.due(number), schedule.due(number + 1));
            prop_assert!(due < next);
            prop_assert_eq!(schedule.due(number + u64::from(rate)), due + Duration::from_secs(1));
            let exact = u128::from(number) * 1_000_000_000 / u128::from(rate);
            prop_assert_eq!(due.as_nanos(), exact);
        }
    }
}

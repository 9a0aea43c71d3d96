//! What a number of terminations proves, by order statistics.
//!
//! Of `n` independent terminations, all take at most the quantile `q` with the probability qⁿ. So with the confidence
//! 1 - qⁿ the maximum is above that quantile, and at most the share 1 - q takes longer.

/// The confidence of what is reported.
const CONFIDENCE: f64 = 0.95;
/// With so many terminations, at most 5 % take longer than the maximum.
const ENOUGH: u32 = 59;

/// The quantile that the maximum of so many terminations reaches with 95 % confidence.
fn covered(terminations: u32) -> f64 {
    (1.0 - CONFIDENCE).powf(1.0 / f64::from(terminations.max(1)))
}

/// The factor by which the drain exceeds the maximum. If the times are spread evenly up to a limit, the limit is below
/// the maximum times this factor with 95 % confidence.
pub(super) fn reserve(terminations: u32) -> f64 {
    1.0 / covered(terminations)
}

/// The drain in whole seconds, at least one, for a maximum in seconds.
pub(super) fn drain_seconds(max: f64, terminations: u32) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "at most hours")]
    let seconds = (max * reserve(terminations)).ceil() as i64;
    seconds.max(1)
}

/// What a number of terminations proves, in words.
pub(super) fn in_words(terminations: u32) -> String {
    let percent = ((1.0 - covered(terminations)) * 100.0).ceil();
    let more =
        if terminations < ENOUGH { format!(" (5 % with {ENOUGH} terminations)") } else { String::new() };
    format!("95 % sure that at most {percent:.0} % of terminations take longer than the maximum{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_terminations_prove_more() {
        for (terminations, percent) in [(1, 95), (5, 46), (20, 14), (59, 5), (299, 1)] {
            let words = in_words(terminations);
            let expected = format!("at most {percent} % of terminations");
            assert!(words.contains(&expected), "{terminations}: {words}");
            assert_eq!(words.ends_with("(5 % with 59 terminations)"), terminations < 59, "{words}");
        }
    }

    #[test]
    fn the_drain_exceeds_the_maximum_by_a_reserve_that_shrinks() {
        for (max, terminations, expected) in [
            (0.0, 20, 1),
            (0.8, 20, 1),
            (1.1, 20, 2),
            (1.5, 20, 2),
            (1.8, 20, 3),
            (8.3, 20, 10),
            (8.3, 59, 9),
            (8.3, 5, 16),
            (120.0, 59, 127),
        ] {
            let drain = drain_seconds(max, terminations);
            assert_eq!(drain, expected, "{max} s in {terminations} terminations");
        }
        assert!(reserve(20) < 1.5, "a drain of at most 1.5 times what is needed");
    }
}

//! Times in arguments.

use std::time::Duration;

use jiff::SignedDuration;

/// A positive duration with its unit, such as `10s`, `500ms` or `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    parsed
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "use a time with its unit, such as 10s, 500ms or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("1m 30s", 90_000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "0s", "-1s", "soon"] {
            duration(text).unwrap_err();
        }
    }
}

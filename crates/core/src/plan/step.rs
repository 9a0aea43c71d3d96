//! The duration of one command, and times as commands take them.

pub(super) const NANOSECONDS: i128 = 1_000_000_000;

/// The duration of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandDuration {
    /// This number of seconds, by a sleep.
    Exactly(i64),
    /// None.
    None,
    /// At least this number of seconds.
    AtLeast(i64),
}

impl CommandDuration {
    /// The duration if something else in it may take time.
    pub(super) fn or_longer(self) -> Self {
        match self {
            Self::Exactly(seconds) | Self::AtLeast(seconds) => Self::AtLeast(seconds),
            Self::None => Self::AtLeast(0),
        }
    }
}

/// `10`, `10s`, `0.5m`, `1h`, `1d`, `infinity`.
pub(super) fn nanoseconds(text: &str) -> Option<i128> {
    if ["inf", "infinity"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(i128::from(i64::MAX) * NANOSECONDS);
    }
    let (number, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3600),
        b'd' => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = !number.is_empty() && number != "." && fraction.len() <= 9;
    if !digits || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Only digits, so an error is an overflow.
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(i64::MAX) };
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some((i128::from(whole) * NANOSECONDS + i128::from(fraction)) * unit)
}

/// Seconds, rounded up.
pub(super) fn whole_seconds(nanoseconds: i128) -> i64 {
    i64::try_from((nanoseconds + NANOSECONDS - 1) / NANOSECONDS).unwrap_or(i64::MAX)
}

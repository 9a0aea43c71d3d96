//! Lines for the terminal.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{Write as _, stderr, stdout},
};

/// Writes a line to standard error. If that fails, for example because of a closed pipe, the command continues.
pub(super) fn to_stderr(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Writes a line of progress to standard output. If that fails, for example because of a closed pipe, the command
/// continues: its exit code is still correct.
pub(super) fn to_stdout(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// Writes an error to standard error, each of its lines [escaped].
pub(super) fn error(error: &anyhow::Error) {
    to_stderr(lines(&format!("adieu: {error:#}")));
}

/// A text, each of its lines [escaped].
fn lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// A message about an object. Its names and values may contain anything: a line break could forge a message, and a control
/// character could change what a terminal shows.
pub(super) fn escaped(message: &str) -> Cow<'_, str> {
    let is_special = |char: char| {
        char.is_control()
            || matches!(char, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !message.contains(is_special) {
        return Cow::Borrowed(message);
    }
    let escaped = message
        .chars()
        .map(|char| if is_special(char) { char.escape_default().to_string() } else { char.to_string() });
    Cow::Owned(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_interpret_is_escaped_in_each_line_of_an_error() {
        for (text, expected) in [
            ("a: b\n  c: \"d\" → é", "a: b\n  c: \"d\" → é"),
            ("pod \u{1b}]0;x\u{7}\nweb\r", "pod \\u{1b}]0;x\\u{7}\nweb\\r"),
            ("\u{202e}txt", "\\u{202e}txt"),
        ] {
            assert_eq!(lines(text), expected);
        }
    }
}

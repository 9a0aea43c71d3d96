//! Lines for the terminal.

use std::{
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

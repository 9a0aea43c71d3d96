//! The exit codes of commands.

use std::process::ExitCode;

use super::{interruptible::Interrupted, print};

/// The exit code of most commands after an error.
pub(super) const FAILED: u8 = 1;
/// That of commands that return 1 for a result.
pub(super) const COULD_NOT_RUN: u8 = 2;
/// That which shells report after Ctrl-C.
pub(super) const INTERRUPTED: u8 = 130;

/// The exit code of a command. Its error is written to standard error, and has the code `failed`.
pub(super) fn exit_code(outcome: anyhow::Result<ExitCode>, failed: u8) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        print::error(&error);
        ExitCode::from(if error.is::<Interrupted>() { INTERRUPTED } else { failed })
    })
}

//! Lines and outputs for the terminal, a file or a pipe. A reader may close a pipe early, as `head` does: then a command
//! continues, and its exit code is still correct.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt::Display,
    io::{self, ErrorKind, Write as _, stderr, stdout},
};

use anyhow::Context as _;
use serde::Serialize;

use super::live_object::ReadError;
use crate::runtime::api_errors::describe;

/// Writes a line to standard error. If that fails, for example because of a closed pipe, the command continues.
pub(super) fn to_stderr(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Writes a line of progress to standard output. If that fails, for example because of a closed pipe, the command
/// continues: its exit code is still correct.
pub(super) fn to_stdout(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// Writes the output of a command to standard output, byte for byte.
///
/// # Errors
/// If it can't be written, for example because the disk is full. A closed pipe isn't an error.
pub(super) fn output(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same for a text with colours, which are omitted if standard output isn't a terminal or `NO_COLOR` is set.
///
/// # Errors
/// As [`output`].
pub(super) fn coloured_output(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn written(outcome: io::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// A value as JSON, with a line break at the end.
///
/// # Errors
/// If it can't be encoded.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n")
}

/// Writes the error that ends a command to standard error, each of its lines [escaped].
pub(super) fn error(error: &anyhow::Error) {
    to_stderr(lines(&format!("adieu: {}", causes(error))));
}

/// An error with its causes, each once.
pub(super) fn causes(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let of_api = api_error(cause);
        let text = of_api.map_or_else(|| cause.to_string(), describe);
        // Many errors repeat their source.
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        if of_api.is_some() {
            break;
        }
    }
    parts.join(": ")
}

/// The error of a request to the API server, if this is one.
fn api_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a kube::Error> {
    if let Some(ReadError::Api(error)) = error.downcast_ref() {
        return Some(error);
    }
    error.downcast_ref().or_else(|| error.downcast_ref::<Box<kube::Error>>().map(|error| &**error))
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
    use anyhow::anyhow;
    use kube::core::Status;

    use super::*;

    /// An error that repeats its source.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot write x.yaml: {0}")]
    struct Repeats(#[source] io::Error);

    #[test]
    fn each_cause_of_an_error_is_written_once() {
        let denied = || kube::Error::Api(Status::failure("pods is forbidden", "Forbidden").boxed());
        let cannot_list = "cannot list pods: pods is forbidden";
        for (error, expected) in [
            (anyhow!(denied()).context("cannot list pods"), cannot_list),
            (anyhow!(ReadError::Api(denied())).context("cannot list pods"), cannot_list),
            (anyhow!(Box::new(denied())).context("cannot list pods"), cannot_list),
            (anyhow!(Repeats(io::Error::other("the disk is full"))), "cannot write x.yaml: the disk is full"),
            (anyhow!("b").context("a"), "a: b"),
        ] {
            assert_eq!(causes(&error), expected);
        }
    }

    #[test]
    fn a_closed_pipe_is_not_an_error_but_a_full_disk_is() {
        written(Err(ErrorKind::BrokenPipe.into())).unwrap();
        written(Ok(())).unwrap();
        let error = written(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(error.to_string().contains("standard output"), "{error}");
    }

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

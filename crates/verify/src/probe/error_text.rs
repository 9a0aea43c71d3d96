//! Errors of connections in words, and their causes.

use std::{error::Error as StdError, io};

/// The error with its sources.
pub(super) fn text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let message = source.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = source.source();
    }
    text
}

/// Whether the peer reset the connection.
pub(super) fn is_reset(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        if error.downcast_ref::<io::Error>().is_some_and(is_reset) {
            return true;
        }
        if error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io).is_some_and(is_reset) {
            return true;
        }
        next = error.source();
    }
    false
}

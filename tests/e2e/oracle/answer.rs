//! Answers of the API server.

use std::collections::BTreeSet;

use serde_json::Value;

/// The API server's answer to an object.
#[derive(Debug)]
pub enum Answer {
    /// It accepts it, as this object.
    Accepted(Value),
    /// It denies it. A cause is a field and a reason.
    Denied { message: String, causes: BTreeSet<String> },
}

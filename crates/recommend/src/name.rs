//! The names of recommended policies.

use std::{collections::BTreeSet, iter::once};

use crate::times::Times;

/// The start of the names of new policies.
const NEW: &str = "recommended";
/// How much of a user's name is kept: with the times and a number, a name stays within 253 bytes.
const MAX_BASE: usize = 200;

/// The name of a policy with these times: its own, or for some of the workloads of a user's policy.
pub(crate) fn name(base: Option<&str>, times: Times) -> String {
    let base = base.unwrap_or(NEW);
    let base = base.get(..MAX_BASE).unwrap_or(base).trim_end_matches(['.', '-']);
    let part = |what: &str, seconds: Option<i64>| {
        seconds.map(|seconds| format!("-{what}-{seconds}")).unwrap_or_default()
    };
    let drain = part("drain", times.drain_seconds);
    let shutdown = part("shutdown", times.shutdown_timeout_seconds);
    format!("{base}{drain}{shutdown}")
}

/// The name, with a number if it is used already.
pub(crate) fn unused(name: &str, used: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number: usize| format!("{name}-{number}"));
    let mut names = once(name.to_owned()).chain(numbered);
    names.find(|name| !used.contains(name)).unwrap_or_default()
}

//! What no policy can do.

use std::fmt::Write as _;

use adieu_core::{
    api::annotations::{DRAIN_SECONDS, GRACEFUL, SHUTDOWN_TIMEOUT_SECONDS},
    keys::WorkloadKey,
};

use crate::times::Times;

/// A workload that doesn't get exactly the times that it needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The workload.
    pub workload: WorkloadKey,
    /// Why, and what to do.
    pub message: String,
}

/// The annotations by which a workload gets its times without a policy.
pub(crate) fn annotations(times: Times) -> String {
    let mut text = format!("{GRACEFUL}: \"true\"");
    for (key, seconds) in
        [(DRAIN_SECONDS, times.drain_seconds), (SHUTDOWN_TIMEOUT_SECONDS, times.shutdown_timeout_seconds)]
    {
        if let Some(seconds) = seconds {
            // Writing to a String doesn't fail.
            let _ = write!(text, ", {key}: \"{seconds}\"");
        }
    }
    text
}

//! Request counts of a running load.

use crate::verify::{Cause, Requests, Sample};

/// The outcomes of the requests so far, and the cause of the last lost one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) requests: Requests,
    pub(super) cause: Option<Cause>,
}

impl Count {
    pub(super) fn add(&mut self, sample: &Sample) {
        self.requests.count(sample.outcome);
        self.cause = sample.loss().or(self.cause);
    }
}

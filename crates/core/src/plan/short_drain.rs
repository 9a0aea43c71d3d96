//! An injected drain that is shorter than what the exposures of the pods need now. It causes a warning, and a rollout only
//! if a policy asks for it (`change_trigger.rs`).

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::{
    record::{ContainerRecord, Record},
    resolve::{OptIn, Resolution},
    settings::{Setting, Settings},
    source::Source,
    workload::Workload,
};
use crate::api::Mode;

/// An injected drain that is shorter than an exposure of the pods needs, because exposures appeared or changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShortDrain {
    /// The injected drain, in seconds.
    pub seconds: i64,
    /// The drain that is needed, in seconds.
    pub needed_seconds: i64,
    /// The exposure that needs it.
    pub reason: String,
}

/// The drain of a workload's template, if it is too short. Only an automatic drain can be: a number is the user's decision.
/// `None` as well if adieu doesn't update the template.
#[must_use]
pub fn short_drain(workload: &Workload<'_>, resolution: &Resolution) -> Option<ShortDrain> {
    let Resolution { opt_in, settings, reverts, .. } = resolution;
    let is_updated = matches!(opt_in, OptIn::In(_)) && !reverts && settings.mode.value == Mode::Enforce;
    let record = workload.template.record().filter(|_| is_updated && !workload.controlled)?;
    ShortDrain::of(record, settings)
}

impl ShortDrain {
    /// Compares the injection of `record` with the present settings. Hooks of the user are no injected drain, and neither
    /// are requests to the application, which drains by itself.
    pub(super) fn of(record: &Record, now: &Settings) -> Option<Self> {
        let Setting { value: needed, from: Source::Auto { reason: Some(reason), .. } } = &now.drain_seconds
        else {
            return None;
        };
        let seconds = record.settings.drain_seconds.value;
        let sleeps = |given: &ContainerRecord| {
            given.pre_stop.as_ref().is_some_and(|hook| hook.injected.get("httpGet").is_none())
        };
        // A drain of 0 injects no hook.
        let is_own = seconds <= 0 || record.containers.values().any(sleeps);
        (is_own && seconds < *needed).then(|| Self {
            seconds,
            needed_seconds: *needed,
            reason: reason.clone(),
        })
    }
}

impl Display for ShortDrain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { seconds, reason, .. } = self;
        write!(
            f,
            "the pods drain for {seconds} s, but {reason}: requests may be lost until the pod template changes (restart the \
             workload, or set rollout.onExposureChange: Progressive in its policy)"
        )
    }
}

#[cfg(test)]
#[path = "short_drain_tests.rs"]
mod tests;

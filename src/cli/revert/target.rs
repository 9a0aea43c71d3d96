//! A selected workload, what is done with it, and in which order.

use kube::{ResourceExt as _, core::DynamicObject};

use super::skip::SkipReason;
use crate::{
    plan::Kind,
    scheduler::progress::{RolloutState, is_updated, rollout_state, was_complete},
};

/// A workload and the action for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) action: Action,
    /// The state of its pods when it was listed.
    pub(super) before: Before,
    pub(super) created: Option<String>,
}

/// The kind, namespace and name of a target.
pub(super) type TargetKey = (&'static str, String, String);

/// The state of a workload's pods before it is opted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// All have its template and are available, or there is nothing to wait for.
    Settled,
    /// They are being replaced.
    Rolling,
    /// They are unavailable without a rollout, or the rollout failed.
    Broken,
}

impl Before {
    pub(super) fn of(kind: Kind, object: &DynamicObject) -> Self {
        match rollout_state(kind, object) {
            RolloutState::Complete => Self::Settled,
            RolloutState::Progressing if !was_complete(kind, object) && !is_updated(kind, object) => {
                Self::Rolling
            }
            RolloutState::Progressing | RolloutState::Failed => Self::Broken,
        }
    }
}

/// The action for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is opted out already; waits for its rollout in progress.
    Wait,
    /// Opts it out and restores its pod template, which is a rollout.
    Restore,
    /// Opts it out; its pod template has no injection.
    Annotate,
    /// Skips it, for this reason.
    Skip(SkipReason),
}

impl Target {
    pub(super) fn new(kind: Kind, object: &DynamicObject, action: Action) -> Self {
        Self {
            kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            action,
            before: Before::of(kind, object),
            created: object.creation_timestamp().map(|time| time.0.to_string()),
        }
    }

    /// Its kind, namespace and name.
    pub(super) fn key(&self) -> TargetKey {
        (self.kind.as_str(), self.namespace.clone(), self.name.clone())
    }

    /// Rollouts in progress come first, because they count against the limit. Unavailable workloads come last: waiting for
    /// them may block others.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let group = match self.action {
            Action::Wait => 0,
            Action::Skip(_) | Action::Annotate => 1,
            Action::Restore if self.before == Before::Settled => 2,
            Action::Restore => 3,
        };
        (group, self.created.clone(), self.namespace.clone(), self.kind.as_str(), self.name.clone())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

//! Why the template of a workload changes: only what a user asks for triggers a rollout.

use std::collections::BTreeSet;

use super::{
    context::NamespaceContext,
    record::Record,
    settings::{Setting, Settings},
    short_drain::ShortDrain,
    source::Source,
};
use crate::api::ExposureChangeMode;

/// The cause of a change of the template.
// The flags are independent.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct ChangeTrigger {
    /// Whether an annotation on the workload changed.
    pub(super) annotation: bool,
    /// The policies that changed.
    pub(super) policies: BTreeSet<Source>,
    /// Whether a policy's value replaces that of a deleted policy.
    pub(super) replaces_deleted: bool,
    /// Whether an injected value was reverted, or a container added.
    pub(super) drifted: bool,
    /// Whether exposures need a longer drain, and a policy rolls that out.
    pub(super) exposures: bool,
}

impl ChangeTrigger {
    pub(super) const NONE: Self = Self {
        annotation: false,
        policies: BTreeSet::new(),
        replaces_deleted: false,
        drifted: false,
        exposures: false,
    };
    pub(super) const ANNOTATION: Self = Self {
        annotation: true,
        policies: BTreeSet::new(),
        replaces_deleted: false,
        drifted: false,
        exposures: false,
    };

    /// A change because of one source.
    pub(super) fn by(source: &Source) -> Self {
        let policies = Some(source).filter(|source| source.is_policy()).cloned().into_iter().collect();
        Self { annotation: source.is_annotation(), policies, ..Self::NONE }
    }

    /// Whether nothing triggers a rollout.
    pub(super) fn is_none(&self) -> bool {
        !self.annotation && !self.drifted && self.policies.is_empty()
    }

    /// Compares the settings of an injection with the present ones. Neither another built-in default is a trigger, nor
    /// the value that replaces a deleted policy's.
    pub(super) fn between(before: &Settings, now: &Settings, context: &NamespaceContext) -> Self {
        let mut trigger = Self::NONE;
        for [before, now] in now.changes(before) {
            trigger.annotation |= before.is_annotation() || now.is_annotation();
            let [before, now] = [before, now].map(Source::policy);
            if before.is_some_and(|before| !context.has(before)) {
                trigger.replaces_deleted |= now.is_some();
            } else {
                trigger.policies.extend([before, now].into_iter().flatten().cloned());
            }
        }
        trigger
    }

    /// Adds the policy that rolls out a longer drain if exposures change, if the injection of `record` has a shorter one
    /// than they need.
    pub(super) fn add_exposures(&mut self, record: &Record, now: &Settings) {
        let Setting { value: mode, from } = &now.on_exposure_change;
        if *mode == ExposureChangeMode::Progressive
            && let Some(policy) = from.policy()
            && ShortDrain::of(record, now).is_some()
        {
            self.exposures = true;
            self.policies.insert(policy.clone());
        }
    }
}

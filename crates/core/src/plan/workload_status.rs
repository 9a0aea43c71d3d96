//! The status of a workload for people: what manages it, with which values, and whether it is injected.

use kube::core::{DynamicObject, ObjectMeta};
use serde::Serialize;

use super::{
    context::NamespaceContext,
    evaluate::{Evaluation, InjectionState, RolloutTiming, evaluate},
    pod_template::PodTemplate,
    render::effective_pods,
    resolve::OptIn,
    short_drain::short_drain,
    source::Source,
    termination::termination,
    workload::{Kind, Workload},
};
use crate::api::{FailedRolloutStatus, GracefulPolicyStatus};

/// The maximum number of warnings: each container may have one.
const MAX_WARNINGS: usize = 16;

/// Why a change that is due immediately is still to be made.
const NOT_WRITTEN_YET: &str =
    "its pod template is to be changed immediately, and is not yet: check that adieu runs and is not paused";

/// The status of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The annotation or policy that opts it in, and the policies that set its values. Empty if it is not opted in.
    pub managed_by: Vec<String>,
    /// Seconds from the start of a pod's termination until its last container gets SIGTERM.
    pub drain_seconds: Option<i64>,
    /// Seconds that the application may take from SIGTERM to its exit.
    pub shutdown_timeout_seconds: Option<i64>,
    /// The grace period, in seconds.
    pub grace_period_seconds: Option<i64>,
    /// Whether it is injected.
    pub state: ManagementState,
    /// Why it has this state, if that is not obvious.
    pub reason: Option<String>,
    /// Problems, for the user.
    pub warnings: Vec<String>,
}

/// Whether a workload is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ManagementState {
    /// Its template has the injection.
    Injected,
    /// Its template has the injection, with a drain that is too short for its exposures.
    DrainTooShort,
    /// Its template is to be changed because of a policy: once a rollout slot is free, or with its next change.
    Queued,
    /// The last rollout of a policy to it failed.
    Failed,
    /// Its pods are injected when they are created.
    PodInjection,
    /// A policy only audits it.
    Audit,
    /// A policy reverts injections, and it has none.
    Reverted,
    /// It has an injection that does not match its annotations and policies.
    Outdated,
    /// It is opted in, and has no injection.
    NotInjected,
    /// An annotation opts it out.
    OptedOut,
    /// Nothing opts it in.
    NotManaged,
    /// A policy that may opt it in cannot be read.
    Unknown,
}

impl WorkloadStatus {
    /// The status of a workload without values.
    #[must_use]
    pub fn without_values(state: ManagementState, reason: Option<String>) -> Self {
        Self {
            managed_by: vec![],
            drain_seconds: None,
            shutdown_timeout_seconds: None,
            grace_period_seconds: None,
            state,
            reason,
            warnings: vec![],
        }
    }

    /// Whether adieu manages the workload, or an annotation opts it out.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        !self.managed_by.is_empty() || self.state == ManagementState::OptedOut
    }
}

/// The status of a workload in the context of its namespace. `too_large` is the reason why the operator can't read it as a
/// whole, and so injects nothing.
#[must_use]
pub fn workload_status(
    kind: Kind,
    object: &DynamicObject,
    context: &NamespaceContext,
    too_large: Option<&str>,
) -> WorkloadStatus {
    if object.metadata.deletion_timestamp.is_some() {
        let reason = Some("it is being deleted".to_owned());
        return WorkloadStatus::without_values(ManagementState::NotManaged, reason);
    }
    let workload = Workload::of(kind, object);
    let evaluation = evaluate(&workload, context);
    let is_in = matches!(evaluation.resolution.opt_in, OptIn::In(_));
    let too_large = too_large.filter(|_| is_in);
    let (mut state, mut reason) = match too_large {
        Some(reason) => (not_up_to_date(&workload), Some(reason.to_owned())),
        None => state(&workload, &evaluation, context),
    };
    if let Some(failed) = failed_rollout(kind, &object.metadata, context).filter(|_| is_in) {
        (state, reason) = (ManagementState::Failed, Some(failed));
    }
    let values = values(&workload, &evaluation, context).filter(|_| too_large.is_none());
    let [drain_seconds, shutdown_timeout_seconds, grace_period_seconds] =
        values.map_or([None; 3], |values| values.map(Some));
    WorkloadStatus {
        managed_by: managed_by(&workload, &evaluation),
        drain_seconds,
        shutdown_timeout_seconds,
        grace_period_seconds,
        state,
        reason,
        warnings: evaluation.warnings.into_iter().take(MAX_WARNINGS).collect(),
    }
}

/// Whether an evaluated workload is injected, and why not.
pub(super) fn state(
    workload: &Workload<'_>,
    evaluation: &Evaluation,
    context: &NamespaceContext,
) -> (ManagementState, Option<String>) {
    let is_injected = workload.template.record().is_some();
    let reason = |text: &str| Some(text.to_owned());
    match evaluation.resolution.opt_in {
        OptIn::In(_) => state_of_managed(workload, evaluation),
        OptIn::Out if evaluation.template.is_some() => (ManagementState::OptedOut, reason(NOT_WRITTEN_YET)),
        OptIn::Out => (ManagementState::OptedOut, None),
        OptIn::Unspecified if context.has_unusable_policy => {
            (ManagementState::Unknown, reason("a policy that cannot be read may opt it in"))
        }
        OptIn::Unspecified if evaluation.template.is_some() => {
            (ManagementState::Outdated, reason(NOT_WRITTEN_YET))
        }
        OptIn::Unspecified if is_injected => (
            ManagementState::Outdated,
            reason("nothing opts it in any more: the injection is reverted with its template's next change"),
        ),
        OptIn::Unspecified => (ManagementState::NotManaged, None),
    }
}

/// The state of an opted-in workload whose template is not as it should be.
fn not_up_to_date(workload: &Workload<'_>) -> ManagementState {
    match workload.template.record() {
        Some(_) => ManagementState::Outdated,
        None => ManagementState::NotInjected,
    }
}

fn state_of_managed(workload: &Workload<'_>, evaluation: &Evaluation) -> (ManagementState, Option<String>) {
    let Evaluation { resolution, state, timing, template, warnings, .. } = evaluation;
    let without = not_up_to_date(workload);
    let reason = |text: &str| Some(text.to_owned());
    if *state == InjectionState::Unsatisfiable {
        // The warnings about annotations and policies come first.
        let others = resolution.warnings.len() + resolution.invalid.len();
        return (without, warnings.get(others).cloned());
    }
    let is_pending = template.is_some() || *state == InjectionState::Pending;
    match (timing, state) {
        (RolloutTiming::DryRun, _) => {
            (ManagementState::Audit, Some(format!("{} has mode Audit", name(&resolution.settings.mode.from))))
        }
        (RolloutTiming::Queued, _) if is_pending => {
            (ManagementState::Queued, reason("its template is changed once a rollout slot is free"))
        }
        (RolloutTiming::NextUpdate, _) if is_pending => {
            (ManagementState::Queued, reason("its template is updated with its next change"))
        }
        _ if is_pending => (without, reason(NOT_WRITTEN_YET)),
        (_, InjectionState::PodInjection) => (ManagementState::PodInjection, None),
        (_, InjectionState::Reverted) => (ManagementState::Reverted, None),
        _ => match short_drain(workload, resolution) {
            Some(short) => (ManagementState::DrainTooShort, Some(short.to_string())),
            None => (ManagementState::Injected, None),
        },
    }
}

/// What opts the workload in, or did when it was injected, and the policies that set its values.
fn managed_by(workload: &Workload<'_>, evaluation: &Evaluation) -> Vec<String> {
    let resolution = &evaluation.resolution;
    match (resolution.opted_in_by(), workload.template.record()) {
        (Some(by), _) => {
            let policies = resolution.policies();
            let others = policies.into_iter().filter(|policy| *policy != by);
            std::iter::once(by).chain(others).map(name).collect()
        }
        (None, Some(record)) if resolution.opt_in == OptIn::Unspecified => vec![name(&record.opted_in_by)],
        _ => vec![],
    }
}

/// A source, with the kind of a policy.
fn name(source: &Source) -> String {
    match source {
        Source::Policy(name) => format!("GracefulPolicy/{name}"),
        Source::ClusterPolicy(name) => format!("ClusterGracefulPolicy/{name}"),
        other => other.to_string(),
    }
}

/// The drain, the shutdown timeout and the grace period that the workload has or will have, in seconds. `None` if nothing
/// is injected.
fn values(workload: &Workload<'_>, evaluation: &Evaluation, context: &NamespaceContext) -> Option<[i64; 3]> {
    let Evaluation { state, resolution, template, .. } = evaluation;
    let is_injected_later = matches!(resolution.opt_in, OptIn::In(_)) && !resolution.reverts;
    let pods = (*state == InjectionState::PodInjection).then(|| effective_pods(workload, context).template);
    let desired = template.as_ref().filter(|_| is_injected_later);
    let shown = PodTemplate::new(pods.as_ref().or(desired).unwrap_or(&workload.template));
    let settings = match shown.record() {
        Some(record) if resolution.opt_in != OptIn::Out => &record.settings,
        None if is_injected_later && *state != InjectionState::Unsatisfiable => &resolution.settings,
        _ => return None,
    };
    let shutdown_timeout = settings.shutdown_timeout_seconds.value;
    let termination = termination(&shown, Some(shutdown_timeout));
    let grace_period = termination.grace_period_seconds;
    // A hook that never ends is killed.
    Some([termination.drain_seconds().min(grace_period), shutdown_timeout, grace_period])
}

/// The failed rollout of a workload in the status of its policies.
fn failed_rollout(kind: Kind, metadata: &ObjectMeta, context: &NamespaceContext) -> Option<String> {
    let is_it = |failed: &&FailedRolloutStatus| {
        failed.kind == kind
            && metadata.name.as_ref() == Some(&failed.name)
            && failed.namespace.as_ref().is_none_or(|namespace| metadata.namespace.as_ref() == Some(namespace))
            // An object of the same name may have been created since.
            && failed.uid.as_ref().zip(metadata.uid.as_ref()).is_none_or(|(failed, uid)| failed == uid)
    };
    let find = |status: Option<&GracefulPolicyStatus>, policy: &dyn Fn() -> Source| {
        let failed = status?.failed_rollouts.iter().find(is_it)?;
        let FailedRolloutStatus { reason, failure_time, .. } = failed;
        Some(format!("a rollout for {} failed at {failure_time}: {reason:?}", name(&policy())))
    };
    let own = context.policies.iter().find_map(|policy| {
        let source = || Source::Policy(policy.metadata.name.clone().unwrap_or_default());
        find(policy.status.as_ref(), &source)
    });
    own.or_else(|| {
        context.cluster_policies.iter().find_map(|policy| {
            let source = || Source::ClusterPolicy(policy.metadata.name.clone().unwrap_or_default());
            find(policy.status.as_ref(), &source)
        })
    })
}

#[cfg(test)]
#[path = "workload_status_tests.rs"]
mod tests;

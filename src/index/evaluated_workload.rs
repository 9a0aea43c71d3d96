//! The desired state of one workload, and the progress of its rollout.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, api::ObjectMeta, core::DynamicObject};
use serde_json::Value;

use super::cached_workload::CachedWorkload;
use crate::{
    api::{Mode, RecommendationMode, annotations::ROLLOUT},
    hash::hash_of,
    keys::{PolicyKey, PolicyKeys},
    owners::controller_of,
    plan::{
        self, Evaluation, InjectionState, Kind, NamespaceContext, OptIn, PodTemplate, RolloutTiming,
        ShortDrain, Source, Workload,
    },
    scheduler::{
        Snapshot,
        progress::{RolloutProgress, RolloutState},
    },
};

/// The maximum number of policies that count a workload, or are overridden: a tenant may have thousands that all select
/// thousands of workloads.
const MAX_POLICIES: usize = 50;
/// The maximum number of reasons why a workload can't be injected: each container may have one.
const MAX_UNSATISFIABLE_REASONS: usize = 4;

/// Usually no policy requests a rollout.
static NONE: LazyLock<Arc<BTreeMap<PolicyKey, usize>>> = LazyLock::new(Arc::default);

/// The last evaluation of a workload. There is none for a workload that isn't managed, that no policy selects, and that
/// has nothing to revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluatedWorkload {
    /// The desired state.
    pub desired: DesiredState,
    /// The hash of all but its status.
    specification: u64,
    /// The progress of its rollout.
    pub rollout: RolloutProgress,
}

/// The desired state of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredState {
    /// Its uid.
    pub uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The injection state.
    pub state: InjectionState,
    /// When its template is written.
    pub timing: RolloutTiming,
    /// The hash of its current pod template.
    pub current_template: u64,
    /// The hash of the desired template; `None` if it is the current one.
    pub desired_template: Option<u64>,
    /// The policies that request a rollout, and their limits of concurrent rollouts. Shared with the scheduler.
    pub requested_by: Arc<BTreeMap<PolicyKey, usize>>,
    /// How many workloads of the namespace may roll out at a time because of policies. `None`: no limit.
    pub namespace_limit: Option<usize>,
    /// The policies that count it: those whose values it has or will have, and those that select it.
    pub counted_by: Vec<PolicyKey>,
    /// The policies that select it but are overridden by another one.
    pub overridden_policies: Vec<PolicyKey>,
    /// The policies that a rollout of it can be for.
    pub rolled_out_by: Vec<PolicyKey>,
    /// Whether adieu started its rollout, and not a user; unknown unless it is in progress or failed.
    pub is_started_by_adieu: bool,
    /// Whether it is to be reverted.
    pub reverts: bool,
    /// What adieu does with the values that it recommends for it.
    pub recommendations: RecommendationMode,
    /// Whether only a stub is cached; it is never written.
    pub too_large: bool,
    /// Why it can't be injected, shortened; empty if it can.
    pub unsatisfiable_reasons: Vec<String>,
    /// Why its injected drain is too short for its exposures; `None` if it isn't.
    pub short_drain: Option<ShortDrain>,
    /// The hash of other fields that its writers use: its PodDisruptionBudget and whether it is written, the policy because
    /// of which nothing is, the marks on the workload, the bounds of recommendations, warnings, and whether a policy can't be
    /// used.
    pub other_outputs_hash: u64,
}

/// A pod template as a hash. The annotation that `kubectl rollout restart` sets doesn't count: a restart replaces the
/// pods by equal ones.
#[must_use]
pub fn template_hash(template: &Value) -> u64 {
    const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
    if template["metadata"]["annotations"].get(RESTARTED_AT).is_none() {
        return hash_of(template);
    }
    let mut template = template.clone();
    if let Some(metadata) = template["metadata"].as_object_mut()
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(RESTARTED_AT);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    hash_of(&template)
}

/// The value of [`ROLLOUT`] for a template: a hash of its record, and of the template without the injection. The API
/// server sets no defaults in either of them. `None` without an injection. Another version of adieu may return another.
#[must_use]
pub fn rollout_mark(template: &PodTemplate<'_>) -> Option<String> {
    let record = template.record_text()?;
    let own = template_hash(&plan::original(template, None));
    Some(format!("{:016x}", hash_of(&(own, record))))
}

/// Whether adieu rolled out the present template for a policy.
fn is_started_by_adieu(workload: &Workload<'_>) -> bool {
    let mark = workload.annotations.get(ROLLOUT);
    mark.is_some_and(|mark| rollout_mark(&workload.template).as_ref() == Some(mark))
}

impl EvaluatedWorkload {
    /// Evaluates a workload in the context of its namespace.
    #[must_use]
    pub fn of(
        kind: Kind,
        cached: &CachedWorkload,
        namespace_context: &NamespaceContext,
        keys: &PolicyKeys,
    ) -> Option<Self> {
        if cached.meta().deletion_timestamp.is_some() {
            return None;
        }
        let object = cached.object();
        let workload = Workload::of(kind, &object);
        let evaluation = plan::evaluate(&workload, namespace_context);
        let rollout = RolloutProgress::of(kind, &object, || plan::has_service(&workload, namespace_context));
        let specification = cached.specification();
        let mut desired = DesiredState::of(&workload, cached, &evaluation, namespace_context, keys)?;
        // A template without an injection has no mark. adieu writes none that another controller owns.
        let is_reverted = matches!(desired.state, InjectionState::Reverted | InjectionState::PodInjection)
            && controller_of(&object.metadata).is_none();
        desired.is_started_by_adieu =
            rollout.state != RolloutState::Complete && (is_reverted || is_started_by_adieu(&workload));
        Some(Self { desired, specification, rollout })
    }

    /// The evaluation of a newer version of the workload, if only its status may have changed, and its namespace has not.
    pub(super) fn with_status(
        &self,
        kind: Kind,
        cached: &CachedWorkload,
        namespace_context: &NamespaceContext,
    ) -> Option<Self> {
        if self.specification != cached.specification() {
            return None;
        }
        let object = with_generation_only(cached);
        let has_service = || plan::has_service(&Workload::of(kind, &object), namespace_context);
        let rollout = RolloutProgress::of(kind, &object, has_service);
        Some(Self { rollout, ..self.clone() })
    }

    /// Whether its policy applies recommendations, and its rollout is complete: until then they wait.
    pub(super) fn may_apply_recommendation(&self) -> bool {
        self.desired.recommendations == RecommendationMode::Apply
            && self.rollout.state == RolloutState::Complete
    }

    /// The scheduler's view of the workload. `None` for a workload that is not managed or too large: it is never
    /// written.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let Self { desired, rollout, .. } = self;
        let is_managed = desired.state != InjectionState::Unmanaged || desired.desired_template.is_some();
        (is_managed && !desired.too_large).then(|| Snapshot {
            uid: desired.uid.clone(),
            generation: rollout.generation.unwrap_or(0),
            created: desired.created,
            current_template: desired.current_template,
            desired_template: desired.desired_template,
            is_queued: desired.desired_template.is_some() && desired.timing == RolloutTiming::Queued,
            requested_by: desired.requested_by.clone(),
            namespace_limit: desired.namespace_limit,
            rolled_out_by: desired.rolled_out_by.clone(),
            is_started_by_adieu: desired.is_started_by_adieu,
            rollout_state: rollout.state,
            failed_since: rollout.failed_since,
            counts: rollout.counts,
            progress_deadline: rollout.progress_deadline,
            condition: rollout.condition,
            was_complete: rollout.was_complete,
            is_updated: rollout.is_updated,
            suspended: rollout.suspended,
            replica_failure: rollout.replica_failure,
        })
    }
}

/// The workload with the only metadata that its progress depends on: parsing all takes a tenth of an evaluation's time.
fn with_generation_only(cached: &CachedWorkload) -> DynamicObject {
    let metadata = ObjectMeta { generation: cached.meta().generation, ..ObjectMeta::default() };
    DynamicObject { types: None, metadata, data: cached.data() }
}

impl DesiredState {
    fn of(
        workload: &Workload<'_>,
        cached: &CachedWorkload,
        evaluation: &Evaluation,
        namespace_context: &NamespaceContext,
        known: &PolicyKeys,
    ) -> Option<Self> {
        let metadata = cached.meta();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        // There are usually few, and a list takes less memory than a set.
        let keys = |policies: &mut dyn Iterator<Item = &Source>| -> Vec<PolicyKey> {
            let policies: BTreeSet<_> = policies.take(MAX_POLICIES).collect();
            policies.into_iter().map(|policy| known.get(namespace, policy)).collect()
        };
        let managed = evaluation.state != InjectionState::Unmanaged;
        let resolution = &evaluation.resolution;
        let selecting = plan::matching_policies(workload, namespace_context);
        if !managed && evaluation.template.is_none() && selecting.is_empty() {
            return None;
        }
        let valued = resolution.policies().into_iter().filter(|_| managed);
        let too_large = cached.too_large();
        let state = match too_large {
            Some(_) if managed => InjectionState::Unsatisfiable,
            _ => evaluation.state,
        };
        let unsatisfiable_reasons = match too_large {
            _ if state != InjectionState::Unsatisfiable => vec![],
            Some(reason) => vec![reason.to_owned()],
            None => evaluation.warnings.iter().take(MAX_UNSATISFIABLE_REASONS).cloned().collect(),
        };
        let marks = plan::annotation_changes(workload, evaluation, namespace_context);
        let mode = &resolution.settings.mode;
        let audited_by = Some(&mode.from).filter(|_| mode.value == Mode::Audit);
        let budget = format!("{:?}", (&resolution.settings.disruption_budget.value, mode.value, audited_by));
        let requested_by = evaluation.requested_by.iter();
        let requested_by: BTreeMap<_, _> =
            requested_by.map(|(policy, limit)| (known.get(namespace, policy), *limit)).collect();
        Some(Self {
            uid: metadata.uid.clone(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            state,
            timing: evaluation.timing,
            current_template: template_hash(&workload.template),
            desired_template: evaluation.template.as_ref().map(template_hash),
            requested_by: if requested_by.is_empty() { Arc::clone(&NONE) } else { requested_by.into() },
            namespace_limit: evaluation.namespace_limit,
            counted_by: keys(&mut valued.chain(&selecting)),
            overridden_policies: keys(&mut resolution.overridden_policies.iter().filter(|_| managed)),
            rolled_out_by: keys(&mut plan::rolled_out_by(workload, evaluation).iter()),
            is_started_by_adieu: false,
            reverts: resolution.reverts,
            recommendations: match resolution.opt_in {
                OptIn::In(_) => resolution.settings.recommendations.value,
                OptIn::Out | OptIn::Unspecified => RecommendationMode::default(),
            },
            too_large: too_large.is_some(),
            unsatisfiable_reasons,
            short_drain: plan::short_drain(workload, resolution)
                .filter(|_| state == InjectionState::Injected),
            other_outputs_hash: hash_of(&(
                budget,
                marks,
                resolution.settings.recommendation_bounds.value,
                &evaluation.warnings,
                namespace_context.has_unusable_policy,
            )),
        })
    }

    /// Whether the writers of the workload may have something else to do than for `other`. A template that waits for the
    /// next update is not written, and one that is up to date has nothing to wait for.
    pub(super) fn differs_for_writers(&self, other: &Self) -> bool {
        let writers = |of: &Self| {
            let written = of.desired_template.map(|template| {
                let waits =
                    of.timing == RolloutTiming::NextUpdate && of.recommendations != RecommendationMode::Apply;
                (of.timing, (!waits).then_some(template))
            });
            let flags = (of.state, of.reverts, of.recommendations, of.too_large);
            (written, flags, of.current_template, of.other_outputs_hash)
        };
        writers(self) != writers(other)
            || self.uid != other.uid
            || self.unsatisfiable_reasons != other.unsatisfiable_reasons
            || self.short_drain != other.short_drain
    }

    /// Whether its template is to be written immediately.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.desired_template.is_some() && self.timing == RolloutTiming::Immediate
    }

    /// Whether it appears in the status of a policy.
    #[must_use]
    pub fn appears_in_status_of(&self, policy: &PolicyKey) -> bool {
        let lists = [&self.counted_by, &self.overridden_policies, &self.rolled_out_by];
        lists.iter().any(|list| list.contains(policy)) || self.requested_by.contains_key(policy)
    }

    /// The policies in whose status it appears.
    #[must_use]
    pub fn policies(&self) -> BTreeSet<PolicyKey> {
        let all = self.counted_by.iter().chain(&self.overridden_policies).chain(self.requested_by.keys());
        all.chain(&self.rolled_out_by).cloned().collect()
    }
}

//! The desired state of one workload, and how far it is from there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;

use super::{
    PolicyKey, PolicyKeys,
    cached::CachedWorkload,
    caches::hash_of,
    progress::{
        Progress, ReplicaCounts, has_replica_failure, is_updated, patience, progress, progressing,
        replica_counts, was_complete,
    },
};
use crate::plan::{
    self, Evaluation, InjectionState, Kind, NamespaceContext, RolloutTiming, Source, Workload,
};

/// A workload as it was last evaluated. Of one that isn't managed, that no policy selects and that carries nothing
/// there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluatedWorkload {
    /// What shall become of it.
    pub decision: Decision,
    /// How far its rollout is.
    pub rollout: RolloutProgress,
}

/// What shall become of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its uid.
    pub uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// How it stands.
    pub state: InjectionState,
    /// When its template is written.
    pub timing: RolloutTiming,
    /// The pod template that it has, as a hash.
    pub template: u64,
    /// The one that it shall have, as a hash. `None` where that is the one it has.
    pub planned: Option<u64>,
    /// The policies that ask for a rollout, and how many may roll out at a time because of each.
    pub asked_by: BTreeMap<PolicyKey, usize>,
    /// The policies that it is counted for: whose values it has or shall have, and that select it.
    pub counted_by: Vec<PolicyKey>,
    /// The policies that lost it to another one.
    pub lost_by: Vec<PolicyKey>,
    /// The policies that a rollout of it may be for.
    pub rolled_out_by: Vec<PolicyKey>,
    /// Whether it is to be reverted.
    pub reverts: bool,
    /// Whether it is kept as a stub, and never written.
    pub too_large: bool,
    /// Why nothing can be injected. Empty where something can.
    pub obstacles: Vec<String>,
    /// What else its writers act on, as a hash: its PodDisruptionBudget, the marks on the workload itself, and what a
    /// warnings.
    pub effects: u64,
}

/// How far the rollout of a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutProgress {
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// As `kubectl rollout status` has it.
    pub progress: Progress,
    /// Its replicas, once its controller has observed the generation.
    pub counts: Option<ReplicaCounts>,
    /// Whether a Deployment says that its pods can't be created.
    pub replica_failure: bool,
    /// How long it may come no further before it has failed.
    pub patience: Duration,
    /// What the workload's controller says of it, as a hash.
    pub said: Option<u64>,
    /// Whether it was complete once, and every pod is still of that template.
    pub was_complete: bool,
    /// Whether every pod of a DaemonSet is of the current template.
    pub is_updated: bool,
}

impl EvaluatedWorkload {
    /// Evaluates a workload by what surrounds it.
    #[must_use]
    pub fn of(
        kind: Kind,
        kept: &CachedWorkload,
        namespace_context: &NamespaceContext,
        keys: &PolicyKeys,
    ) -> Option<Self> {
        let object = kept.object();
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let workload = Workload::of(kind, &object);
        let evaluation = plan::evaluate(&workload, namespace_context);
        let rollout = RolloutProgress {
            generation: object.metadata.generation,
            progress: progress(kind, &object),
            counts: replica_counts(kind, &object),
            replica_failure: has_replica_failure(&object),
            patience: patience(kind, &object),
            said: progressing(&object).map(hash_of),
            was_complete: was_complete(kind, &object),
            is_updated: is_updated(kind, &object),
        };
        let decision = Decision::of(&workload, kept, &evaluation, namespace_context, keys)?;
        Some(Self { decision, rollout })
    }
}

impl Decision {
    fn of(
        workload: &Workload<'_>,
        kept: &CachedWorkload,
        evaluation: &Evaluation,
        namespace_context: &NamespaceContext,
        known: &PolicyKeys,
    ) -> Option<Self> {
        let metadata = kept.meta();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        // Few as a rule, and there are thousands of workloads: a list takes less memory than a set.
        let keys = |policies: &mut dyn Iterator<Item = &Source>| -> Vec<PolicyKey> {
            let policies: BTreeSet<_> = policies.collect();
            policies.into_iter().map(|policy| known.get(namespace, policy)).collect()
        };
        let managed = evaluation.state != InjectionState::Unmanaged;
        let resolution = &evaluation.resolution;
        let selecting = plan::selecting(workload, namespace_context);
        if !managed && evaluation.template.is_none() && selecting.is_empty() {
            return None;
        }
        let values = resolution.policies();
        let valued = values.into_iter().filter(|_| managed);
        let too_large = kept.too_large();
        let state = match too_large {
            Some(_) if managed => InjectionState::Unsatisfiable,
            _ => evaluation.state,
        };
        let obstacles = match too_large {
            _ if state != InjectionState::Unsatisfiable => vec![],
            Some(reason) => vec![reason.to_owned()],
            None => evaluation.warnings.clone(),
        };
        let marks = plan::marks(workload, evaluation, namespace_context);
        let budget = format!("{:?}", resolution.settings.disruption_budget.value);
        let asked = evaluation.asked_by.iter();
        Some(Self {
            uid: metadata.uid.clone(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            state,
            timing: evaluation.timing,
            template: hash_of(workload.template),
            planned: evaluation.template.as_ref().map(hash_of),
            asked_by: asked.map(|(policy, limit)| (known.get(namespace, policy), *limit)).collect(),
            counted_by: keys(&mut selecting.iter().chain(valued)),
            lost_by: keys(&mut resolution.conflicted.iter().filter(|_| managed)),
            rolled_out_by: keys(&mut plan::concerning(workload, evaluation).iter()),
            reverts: resolution.reverts,
            too_large: too_large.is_some(),
            obstacles,
            effects: hash_of(&(budget, marks, &evaluation.warnings)),
        })
    }

    /// Whether the status of a policy tells of it.
    #[must_use]
    pub fn concerns(&self, policy: &PolicyKey) -> bool {
        let lists = [&self.counted_by, &self.lost_by, &self.rolled_out_by];
        lists.iter().any(|list| list.contains(policy)) || self.asked_by.contains_key(policy)
    }

    /// Every policy whose status tells of it.
    #[must_use]
    pub fn policies(&self) -> BTreeSet<PolicyKey> {
        let all = self.counted_by.iter().chain(&self.lost_by).chain(self.asked_by.keys());
        all.chain(&self.rolled_out_by).cloned().collect()
    }
}

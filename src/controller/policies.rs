//! The status of policies: how many workloads each holds for, and how far they are.

use std::{collections::BTreeSet, fmt::Debug, future::ready, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Selector,
    runtime::{
        Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    blocked::Blocked,
    failures,
    keys::{Key, PolicyKey, policy_key},
};
use crate::{
    api::{
        ClusterGracefulPolicy, EffectiveValues, GracefulPolicy, GracefulPolicySpec, GracefulPolicyStatus,
        Mode, WorkloadCounts, limits, merge_condition,
    },
    index::{Decision, EvaluatedWorkload, caches::Caches},
    plan::{self, InjectionState, RolloutTiming, Source},
    scheduler::PolicyStatus,
};

/// How long changes of a policy's workloads are let come together, a dozen for one rollout, before its status is
/// written.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long after a failure the next attempt is made.
const FAILURE_WAIT: Duration = Duration::from_secs(10);
/// How many workloads or namespaces a condition names at most.
const NAMED: usize = 10;

/// Keeps the status of every policy, of namespaces and of the cluster, until `shutdown`.
pub(super) async fn control(context: Arc<Context>, shutdown: CancellationToken) {
    tokio::join!(
        control_kind::<GracefulPolicy>(context.clone(), shutdown.clone()),
        control_kind::<ClusterGracefulPolicy>(context, shutdown),
    );
}

async fn control_kind<P: Policy>(context: Arc<Context>, shutdown: CancellationToken) {
    let changed = context.index.changed_policies(P::OF_CLUSTER).stream(TOGETHER);
    let changed = changed.filter_map(|policy: PolicyKey| {
        let (Source::Policy(name) | Source::ClusterPolicy(name)) = policy.source() else {
            return ready(None);
        };
        let reference = ObjectRef::new(name);
        ready(Some(if P::OF_CLUSTER { reference } else { reference.within(policy.namespace()) }))
    });
    // The caches watch the policies already, one by one.
    Controller::for_stream(stream::pending::<Result<P, watcher::Error>>(), P::store(&context.caches).clone())
        .reconcile_on(changed)
        .reconcile_all_on(context.permissions())
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile_guarded::<P>, retry, context)
        .for_each(|_| ready(()))
        .await;
}

/// Reconciles a policy. A panic is a failed attempt.
async fn reconcile_guarded<P: Policy>(policy: Arc<P>, context: Arc<Context>) -> Result<Action, kube::Error> {
    context.guarded(reconcile(policy, context.clone())).await.unwrap_or_else(Err)
}

async fn reconcile<P: Policy>(policy: Arc<P>, context: Arc<Context>) -> Result<Action, kube::Error> {
    if !context.is_leader() {
        return Ok(Action::await_change());
    }
    let key = policy_key(&policy.namespace().unwrap_or_default(), &policy.source());
    // One that has yet to be applied holds for no workload, and would seem to be ready. The index tells once it is.
    if !context.index.has_applied(&key, policy.meta()) {
        return Ok(Action::await_change());
    }
    let is_stopped = |policy: &PolicyKey, namespace: &str| context.scheduling.is_stopped(policy, namespace);
    let trouble = Trouble { is_stopped: &is_stopped, blocked: &context.blocked };
    let mut tally = Tally::of(&key, &context.index.of_policy(&key), &trouble);
    let matched = usize::try_from(tally.counts.matched).unwrap_or_default();
    // The failures that the previous leader recorded are read before they are overwritten.
    let Some(rollouts) = context.scheduling.status_of(&context, &key, matched) else {
        return Ok(Action::await_change());
    };
    tally.set_failed(rollouts);
    let around = if P::OF_CLUSTER {
        context.caches.cluster_wide_context()
    } else {
        context.caches.namespace_context(key.namespace())
    };
    let status = status(&*policy, tally, plan::effective(policy.spec(), &around), Timestamp::now());
    if policy.status() != Some(&status) {
        let patch = Patch::Merge(json!({ "status": status }));
        let (api, name) = (policy.api(context.client.clone()), policy.name_any());
        let parameters = PatchParams::default();
        let Some(written) = context.while_leading(api.patch_status(&name, &parameters, &patch)).await else {
            return Ok(Action::await_change());
        };
        written?;
        if let Some(stalled) = newly_true(policy.status(), &status, "Stalled") {
            context.outbox.stalled(&policy.object_ref(&()), stalled.message.clone());
        }
        // Who led before may have written later than that, and what the cache has may have been older.
        return Ok(Action::requeue(FAILURE_WAIT));
    }
    Ok(Action::await_change())
}

/// The condition of that type, where it has become true.
fn newly_true<'a>(
    before: Option<&GracefulPolicyStatus>,
    now: &'a GracefulPolicyStatus,
    type_: &str,
) -> Option<&'a Condition> {
    let is_true = |condition: &&Condition| condition.type_ == type_ && condition.status == "True";
    let was_true = before.is_some_and(|before| before.conditions.iter().any(|condition| is_true(&condition)));
    now.conditions.iter().find(is_true).filter(|_| !was_true)
}

fn retry<P>(_: Arc<P>, error: &kube::Error, _: Arc<Context>) -> Action {
    // A policy that was deleted meanwhile has no status to write.
    if matches!(error, kube::Error::Api(status) if status.code == 404) {
        return Action::await_change();
    }
    tracing::warn!(%error, "status of a policy not written, trying again");
    Action::requeue(FAILURE_WAIT)
}

/// What the two kinds of policy have in common here.
trait Policy: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    const OF_CLUSTER: bool;
    fn spec(&self) -> &GracefulPolicySpec;
    fn status(&self) -> Option<&GracefulPolicyStatus>;
    fn source(&self) -> Source;
    fn api(&self, client: Client) -> Api<Self>;
    fn store(caches: &Caches) -> &Store<Self>;
}

impl Policy for GracefulPolicy {
    const OF_CLUSTER: bool = false;

    fn spec(&self) -> &GracefulPolicySpec {
        &self.spec
    }

    fn status(&self) -> Option<&GracefulPolicyStatus> {
        self.status.as_ref()
    }

    fn source(&self) -> Source {
        Source::Policy(self.name_any())
    }

    fn api(&self, client: Client) -> Api<Self> {
        Api::namespaced(client, &self.namespace().unwrap_or_default())
    }

    fn store(caches: &Caches) -> &Store<Self> {
        caches.policies()
    }
}

impl Policy for ClusterGracefulPolicy {
    const OF_CLUSTER: bool = true;

    fn spec(&self) -> &GracefulPolicySpec {
        &self.spec.policy
    }

    fn status(&self) -> Option<&GracefulPolicyStatus> {
        self.status.as_ref()
    }

    fn source(&self) -> Source {
        Source::ClusterPolicy(self.name_any())
    }

    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }

    fn store(caches: &Caches) -> &Store<Self> {
        caches.cluster_policies()
    }
}

/// What keeps workloads from their plan.
struct Trouble<'a> {
    /// Whether failures stop a policy in a namespace.
    is_stopped: &'a (dyn Fn(&PolicyKey, &str) -> bool + Sync),
    blocked: &'a Blocked,
}

/// What the policy's status shall be. Equal to the one it has where nothing changed.
fn status<P: Policy>(
    policy: &P,
    tally: Tally,
    effective: EffectiveValues,
    now: Timestamp,
) -> GracefulPolicyStatus {
    let mut conditions = policy.status().cloned().unwrap_or_default().conditions;
    for (type_, says) in [
        ("Ready", tally.ready::<P>(policy.spec(), effective.mode)),
        ("Conflicted", tally.conflicted()),
        ("Stalled", tally.stalled(P::OF_CLUSTER)),
        ("Blocked", tally.blocked()),
    ] {
        let condition = Condition {
            type_: type_.into(),
            status: if says.holds { "True" } else { "False" }.into(),
            reason: says.reason.into(),
            message: shortened(says.message),
            observed_generation: policy.meta().generation,
            last_transition_time: Time(now),
        };
        merge_condition(&mut conditions, condition);
    }
    // Ours come last. What others wrote before gives way where the status holds no more.
    let excess = conditions.len().saturating_sub(limits::CONDITIONS);
    conditions.drain(..excess);
    GracefulPolicyStatus {
        observed_generation: policy.meta().generation,
        effective: Some(effective),
        workloads: Some(tally.counts),
        failed_rollouts: failures::recorded(
            &policy_key(&policy.meta().namespace.clone().unwrap_or_default(), &policy.source()),
            &tally.rollouts.failures,
        ),
        conditions,
    }
}

/// A message that is not longer than the status may hold: why a write was refused can be of any length.
fn shortened(mut message: String) -> String {
    const CUT: char = '…';
    if let Some((end, _)) = message.char_indices().nth(limits::MESSAGE_LENGTH - 1)
        && message[end..].chars().nth(1).is_some()
    {
        message.truncate(end);
        message.push(CUT);
    }
    message
}

/// How the workloads stand that a policy holds for.
#[derive(Default)]
struct Tally {
    counts: WorkloadCounts,
    by_pod: usize,
    /// How many are to be reverted yet, and how many are.
    reverting: usize,
    reverted: usize,
    /// Those that another policy won.
    lost: Vec<String>,
    /// Those that nothing can be injected into, and why.
    unsatisfiable: Vec<(String, String)>,
    /// Those that can't be written, and why.
    blocked: Vec<(String, String)>,
    /// The rollouts that failed.
    rollouts: PolicyStatus,
    /// How many are left to the next change of their template.
    later: usize,
    /// How many wait for other policies, for which a rollout failed, and those.
    held_up: usize,
    held_up_by: BTreeSet<Source>,
}

/// What a condition says.
struct Says {
    holds: bool,
    reason: &'static str,
    message: String,
}

fn says(holds: bool, reason: &'static str, message: impl Into<String>) -> Says {
    Says { holds, reason, message: message.into() }
}

impl Tally {
    fn of(policy: &PolicyKey, workloads: &[(Key, Arc<EvaluatedWorkload>)], trouble: &Trouble<'_>) -> Self {
        let mut tally = Self::default();
        for (key, evaluation) in workloads {
            let decision = &evaluation.decision;
            if decision.lost_by.contains(policy) {
                tally.lost.push(name_for(policy.source(), key));
            }
            if decision.counted_by.contains(policy) {
                tally.count(policy, key, decision, trouble);
            }
        }
        tally
    }

    fn count(&mut self, policy: &PolicyKey, key: &Key, decision: &Decision, trouble: &Trouble<'_>) {
        let name = || name_for(policy.source(), key);
        self.counts.matched += 1;
        match decision.state {
            InjectionState::Injected => self.counts.injected += 1,
            InjectionState::Pending => {
                self.counts.pending += 1;
                self.blocked.extend(trouble.blocked.reason(key).map(|reason| (name(), reason)));
                self.reverting += usize::from(decision.reverts);
                self.later += usize::from(decision.timing == RolloutTiming::NextUpdate);
                if decision.timing == RolloutTiming::Queued {
                    let others = decision.asked_by.keys().filter(|other| *other != policy);
                    let is_stopped = |other: &&PolicyKey| (trouble.is_stopped)(other, &key.namespace);
                    let stalled: Vec<_> = others.filter(is_stopped).collect();
                    self.held_up += usize::from(!stalled.is_empty());
                    self.held_up_by.extend(stalled.into_iter().map(|policy| policy.source().clone()));
                }
            }
            InjectionState::Unsatisfiable => {
                self.counts.unsatisfiable += 1;
                self.unsatisfiable.push((name(), decision.obstacles.join("; ")));
            }
            InjectionState::PodInjection => self.by_pod += 1,
            InjectionState::Reverted => self.reverted += 1,
            InjectionState::Unmanaged => {}
        }
    }

    fn set_failed(&mut self, rollouts: PolicyStatus) {
        self.counts.rollout_failed = i32::try_from(rollouts.failures.len()).unwrap_or(limits::WORKLOADS);
        self.rollouts = rollouts;
    }

    /// Whether failures stop the policy, everywhere or in some namespaces.
    fn is_stopped(&self, is_of_cluster: bool) -> bool {
        self.rollouts.is_stopped || is_of_cluster && !self.rollouts.failures.is_empty()
    }

    fn ready<P: Policy>(&self, spec: &GracefulPolicySpec, mode: Mode) -> Says {
        let WorkloadCounts { matched, injected, pending, unsatisfiable, .. } = self.counts;
        if let Err(error) = spec.selector.clone().map(Selector::try_from).transpose() {
            return says(false, "InvalidSelector", format!("spec.selector: {error}: correct the selector"));
        }
        if mode == Mode::Audit {
            return says(true, "Auditing", format!("{pending} of {matched} workloads would be changed"));
        }
        if let Some((name, why)) = self.unsatisfiable.first() {
            let message =
                format!("{unsatisfiable} of {matched} workloads can't be injected, such as {name}: {why}");
            return says(false, "Unsatisfiable", message);
        }
        if self.is_stopped(P::OF_CLUSTER) {
            let message = if pending > 0 && self.rollouts.is_stopped {
                format!("{pending} of {matched} workloads wait until a failed rollout is fixed")
            } else {
                self.rollout_failed(P::OF_CLUSTER)
            };
            return says(false, "Stalled", message);
        }
        if let Some(says) = self.reverted() {
            return says;
        }
        let carry = format!("{injected} workloads carry the policy's values");
        if pending > 0 {
            let mut message = vec![format!("{injected} of {matched} workloads carry the policy's values")];
            if self.later > 0 {
                message.push(format!("{} get them with the next change of their pod template", self.later));
            }
            if let Some(other) = self.held_up_by.first() {
                message.push(format!("{} wait for {other}, which is stalled", self.held_up));
            }
            says(false, "Progressing", message.join(", "))
        } else if self.by_pod > 0 {
            says(true, "Injected", format!("{carry}, {} get them in new pods", self.by_pod))
        } else {
            says(true, "Injected", carry)
        }
    }

    /// What `Ready` says of a policy whose workloads are reverted.
    fn reverted(&self) -> Option<Says> {
        let Self { reverting, reverted, counts: WorkloadCounts { injected, .. }, .. } = *self;
        if reverting + reverted == 0 {
            return None;
        }
        let keeps = match injected {
            0 => String::new(),
            1 => "; 1 workload keeps its values, because an annotation opts it in".into(),
            keep => format!("; {keep} workloads keep their values, because annotations opt them in"),
        };
        Some(if reverting > 0 {
            let all = reverting + reverted;
            says(
                false,
                "Reverting",
                format!("{reverted} of {all} workloads are reverted, {reverting} left{keeps}"),
            )
        } else {
            says(true, "Reverted", format!("{reverted} workloads are reverted, none left{keeps}"))
        })
    }

    fn conflicted(&self) -> Says {
        let Some(first) = self.lost.first() else { return says(false, "NoConflict", "") };
        let lost = self.lost.len();
        let message =
            format!("another policy wins for {lost} workloads, such as {first}: by priority, age or name");
        says(true, "AnotherPolicyWins", message)
    }

    fn stalled(&self, is_of_cluster: bool) -> Says {
        let PolicyStatus { failures, limit, is_stopped } = &self.rollouts;
        if failures.is_empty() {
            return says(false, "NoFailure", "");
        }
        let failed = self.rollout_failed(is_of_cluster);
        if !self.is_stopped(is_of_cluster) {
            let message = format!("{failed}: no rollout starts any more once {limit} have failed");
            return says(false, "FailuresTolerated", message);
        }
        let them = if failures.len() == 1 { "it" } else { "them" };
        let effect = match self.counts.pending {
            0 => String::new(),
            _ if !is_stopped => {
                let namespaces: BTreeSet<&str> =
                    failures.iter().map(|failure| failure.workload.namespace.as_str()).collect();
                let in_namespaces = listed(namespaces.into_iter());
                format!(", and none starts in {in_namespaces}")
            }
            1 => ", and 1 workload waits".into(),
            pending => format!(", and {pending} workloads wait"),
        };
        says(true, "RolloutFailed", format!("{failed}{effect}: fix {them}, or change the policy"))
    }

    /// Names the workloads whose rollout failed, as far as there is room.
    fn rollout_failed(&self, is_of_cluster: bool) -> String {
        let failures = &self.rollouts.failures;
        let names = failures.iter().map(|failure| name_in(is_of_cluster, &failure.workload));
        let named = listed(names);
        if failures.len() == 1 {
            format!("the rollout of {named} failed")
        } else {
            format!("the rollouts of {named} failed")
        }
    }

    fn blocked(&self) -> Says {
        let Some((name, why)) = self.blocked.first() else { return says(false, "NotBlocked", "") };
        let message = format!("{} workloads can't be written, such as {name}: {why}", self.blocked.len());
        says(true, "WriteRefused", message)
    }
}

/// How a policy's status names a workload: one of the cluster's with the namespace.
fn name_for(policy: &Source, key: &Key) -> String {
    name_in(matches!(policy, Source::ClusterPolicy(_)), key)
}

fn name_in(is_of_cluster: bool, key: &Key) -> String {
    if is_of_cluster { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() }
}

/// The first of these, and how many more there are.
fn listed(names: impl ExactSizeIterator<Item = impl Into<String>>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named: Vec<String> = names.take(NAMED).map(Into::into).collect();
    let named = named.join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        api::{Rollout, RolloutFailureReason, RolloutMode, check_status},
        controller::{keys::key, test_support::context},
        index::{PolicyKeys, cached::CachedWorkload},
        plan::{Kind, NamespaceContext, Workload},
        scheduler::FailedRollout,
    };

    fn policy(spec: Value) -> GracefulPolicy {
        serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop", "generation": 3}, "spec": spec,
        }))
        .unwrap()
    }

    fn deployment(
        name: &str,
        namespace_context: &Arc<NamespaceContext>,
    ) -> (Kind, Arc<CachedWorkload>, Arc<NamespaceContext>) {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]}}},
        });
        (Kind::Deployment, Arc::new(serde_json::from_value(object).unwrap()), namespace_context.clone())
    }

    /// Workloads, with what surrounds them.
    type Reach = Vec<(Kind, Arc<CachedWorkload>, Arc<NamespaceContext>)>;

    fn tally<P: Policy>(policy: &P, reach: &Reach, trouble: &Trouble<'_>) -> Tally {
        let key = policy_key(&policy.namespace().unwrap_or_default(), &policy.source());
        let evaluated = reach.iter().filter_map(|(kind, kept, around)| {
            let evaluation = EvaluatedWorkload::of(*kind, kept, around, &PolicyKeys::default())?;
            Some((Key::new(*kind, kept.meta()), Arc::new(evaluation)))
        });
        Tally::of(&key, &evaluated.collect::<Vec<_>>(), trouble)
    }

    /// With these failed rollouts, after which no other starts.
    fn failed_in(mut tally: Tally, namespace: &str, names: &[impl AsRef<str>]) -> Tally {
        let failure = |name: &str| FailedRollout {
            workload: Key { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() },
            uid: Some("u".repeat(36)),
            generation: Some(3),
            plan: Some(1),
            template: Some(2),
            reason: RolloutFailureReason::ProgressDeadlineExceeded,
            time: at(1),
        };
        let failures = names.iter().map(|name| failure(name.as_ref())).collect();
        tally.set_failed(PolicyStatus { failures, limit: 1, is_stopped: true });
        tally
    }

    fn status<P: Policy>(policy: &P, reach: &Reach, now: Timestamp) -> GracefulPolicyStatus {
        let trouble = Trouble { is_stopped: &|_, _| false, blocked: &Blocked::default() };
        super::status(policy, tally(policy, reach, &trouble), effective(policy), now)
    }

    fn effective<P: Policy>(policy: &P) -> EffectiveValues {
        plan::effective(policy.spec(), &NamespaceContext::default())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_status_counts_and_settles() {
        let mut policy = policy(json!({"selector": {"matchLabels": {"app": "a"}}, "drainSeconds": 20}));
        let namespace_context = Arc::new(NamespaceContext {
            policies: vec![Arc::new(policy.clone())],
            ..NamespaceContext::default()
        });
        let mut workloads: Reach =
            vec![deployment("a", &namespace_context), deployment("b", &namespace_context)];
        let pending = status(&policy, &workloads, at(1));
        assert_eq!(
            pending.workloads,
            Some(WorkloadCounts { matched: 1, pending: 1, ..WorkloadCounts::default() })
        );
        assert_eq!(pending.effective.as_ref().unwrap().grace_period_seconds, 55);
        let condition = &pending.conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Progressing"));
        assert_eq!(condition.observed_generation, Some(3));

        let mut object = workloads[0].1.object();
        let template =
            plan::evaluate(&Workload::of(Kind::Deployment, &object), &namespace_context).template.unwrap();
        object.data["spec"]["template"] = template;
        workloads[0].1 = Arc::new(object.into());
        policy.status = Some(pending);
        let done = status(&policy, &workloads, at(2));
        assert_eq!(
            done.workloads,
            Some(WorkloadCounts { matched: 1, injected: 1, ..WorkloadCounts::default() })
        );
        assert_eq!(done.conditions[0].status, "True");
        policy.status = Some(done.clone());
        assert_eq!(status(&policy, &workloads, at(3)), done, "nothing to write");
    }

    #[test]
    fn a_policy_that_inherits_the_mode_audit_says_what_would_change() {
        let policy = policy(json!({"selector": {}}));
        let audit: ClusterGracefulPolicy = serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": "audit"}, "spec": {"mode": "Audit"},
        }))
        .unwrap();
        let around = Arc::new(NamespaceContext {
            policies: vec![Arc::new(policy.clone())],
            cluster_policies: vec![Arc::new(audit)],
            ..NamespaceContext::default()
        });
        let trouble = Trouble { is_stopped: &|_, _| false, blocked: &Blocked::default() };
        let tally = tally(&policy, &vec![deployment("a", &around)], &trouble);
        let status = super::status(&policy, tally, plan::effective(&policy.spec, &around), at(1));
        assert_eq!(status.effective.unwrap().mode, Mode::Audit);
        let ready = &status.conditions[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Auditing"));
        assert_eq!(ready.message, "1 of 1 workloads would be changed");
    }

    #[test]
    fn who_loses_a_workload_to_another_policy_is_told() {
        let mut loser = policy(json!({"selector": {}}));
        loser.metadata.name = Some("loser".into());
        let winner = policy(json!({"selector": {}, "priority": 1}));
        let policies = vec![Arc::new(loser.clone()), Arc::new(winner.clone())];
        let namespace_context = Arc::new(NamespaceContext { policies, ..NamespaceContext::default() });
        let workloads: Reach = vec![deployment("a", &namespace_context)];
        let (_, status, message) = conflicted(&loser, &workloads);
        assert_eq!(status, "True");
        assert!(message.contains("1 workloads, such as a"), "{message}");
        assert_eq!(conflicted(&winner, &workloads), ("Conflicted".into(), "False".into(), String::new()));
    }

    fn conflicted<P: Policy>(policy: &P, workloads: &Reach) -> (String, String, String) {
        let condition = status(policy, workloads, at(1)).conditions.remove(1);
        (condition.type_, condition.status, condition.message)
    }

    #[test]
    fn who_gives_no_defaults_to_managed_workloads_is_told() {
        let defaults = |name: &str, priority: i32| -> ClusterGracefulPolicy {
            serde_json::from_value(json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
                "metadata": {"name": name}, "spec": {"drainSeconds": 20, "priority": priority},
            }))
            .unwrap()
        };
        let (loser, winner) = (defaults("loser", 0), defaults("winner", 1));
        let cluster_policies = vec![Arc::new(loser.clone()), Arc::new(winner.clone())];
        let policies = vec![Arc::new(policy(json!({"selector": {"matchLabels": {"app": "a"}}})))];
        let namespace_context =
            Arc::new(NamespaceContext { policies, cluster_policies, ..NamespaceContext::default() });
        let workloads: Reach = vec![deployment("a", &namespace_context), deployment("b", &namespace_context)];
        let (_, told, message) = conflicted(&loser, &workloads);
        assert_eq!(told, "True");
        assert!(message.contains("1 workloads, such as shop/a"), "{message}");
        assert_eq!(conflicted(&winner, &workloads).1, "False");
        let of_loser = status(&loser, &workloads, at(1)).workloads;
        assert_eq!(of_loser, Some(WorkloadCounts::default()), "none has its values");
    }

    #[test]
    fn a_message_of_any_length_fits_into_the_status() {
        let mut policy = policy(json!({"selector": {}}));
        let namespace_context = Arc::new(NamespaceContext {
            policies: vec![Arc::new(policy.clone())],
            ..NamespaceContext::default()
        });
        let workloads: Reach = vec![deployment("a", &namespace_context)];
        let blocked = Blocked::default();
        blocked.note(key(Kind::Deployment, &workloads[0].1.object()), "é".repeat(10_000));
        let failed: Vec<_> = (100..200).map(|n| format!("{}-{n}", "a".repeat(249))).collect();
        let trouble = Trouble { is_stopped: &|_, _| true, blocked: &blocked };
        let others = (b'a'..=b'z').map(|letter| Condition {
            type_: char::from(letter).to_string(),
            status: "True".into(),
            reason: "Other".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(at(0)),
        });
        policy.status = Some(GracefulPolicyStatus { conditions: others.collect(), ..Default::default() });
        let tally = failed_in(tally(&policy, &workloads, &trouble), "shop", &failed);
        let status = super::status(&policy, tally, effective(&policy), at(1));
        assert_eq!(status.workloads.unwrap().rollout_failed, 100);
        // A merge patch removes what it names, and keeps the rest.
        let none = serde_json::to_value(GracefulPolicyStatus::default()).unwrap();
        assert_eq!(none["failedRollouts"], json!([]));
        assert_eq!(status.failed_rollouts.len(), limits::FAILED_ROLLOUTS);
        let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types[types.len() - 4..], ["Ready", "Conflicted", "Stalled", "Blocked"]);
        let [.., stalled, blocked] = &status.conditions[..] else { panic!("{status:?}") };
        assert!(failed.iter().take(10).all(|name| stalled.message.contains(name)), "{stalled:?}");
        assert!(blocked.message.ends_with('…') && blocked.message.contains("such as a: é"), "{blocked:?}");
        policy.status = Some(status);
        assert_eq!(check_status(&serde_json::to_value(&policy).unwrap()), []);
    }

    #[test]
    fn a_failed_rollout_and_a_refused_write_are_named() {
        let mut policy = policy(json!({"selector": {}}));
        let namespace_context = Arc::new(NamespaceContext {
            policies: vec![Arc::new(policy.clone())],
            ..NamespaceContext::default()
        });
        let workloads: Reach = vec![deployment("a", &namespace_context)];
        let blocked = Blocked::default();
        blocked.note(key(Kind::Deployment, &workloads[0].1.object()), "denied".into());
        let trouble = Trouble { is_stopped: &|_, _| true, blocked: &blocked };
        let failed = |tally| failed_in(tally, "shop", &["b"]);
        let status =
            super::status(&policy, failed(tally(&policy, &workloads, &trouble)), effective(&policy), at(1));
        let condition = |type_: &str| {
            let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
            (found.status.as_str(), found.reason.as_str(), found.message.as_str())
        };
        assert_eq!((condition("Ready").0, condition("Ready").1), ("False", "Stalled"));
        assert!(condition("Stalled").0 == "True" && condition("Stalled").2.contains("rollout of b failed"));
        assert!(condition("Blocked").0 == "True" && condition("Blocked").2.contains("such as a: denied"));
        assert!(newly_true(None, &status, "Stalled").is_some());
        policy.status = Some(status.clone());
        assert!(newly_true(policy.status.as_ref(), &status, "Stalled").is_none(), "it was told");

        // Also where nobody waits for it.
        let status =
            super::status(&policy, failed(tally(&policy, &vec![], &trouble)), effective(&policy), at(2));
        let [ready, _, stalled, _] = &status.conditions[..] else { panic!("{status:?}") };
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Stalled"));
        assert_eq!(stalled.message, "the rollout of b failed: fix it, or change the policy");
    }

    #[test]
    fn who_waits_for_another_policys_rollout_to_be_mended_is_told() {
        let mut own = policy(json!({"selector": {}}));
        let defaults = |drain: i64| -> ClusterGracefulPolicy {
            serde_json::from_value(json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
                "metadata": {"name": "defaults"}, "spec": {"drainSeconds": drain},
            }))
            .unwrap()
        };
        let around = |drain, own: &GracefulPolicy| {
            let cluster_policies = vec![Arc::new(defaults(drain))];
            let policies = vec![Arc::new(own.clone())];
            Arc::new(NamespaceContext { policies, cluster_policies, ..NamespaceContext::default() })
        };
        let (before, now) = (around(20, &own), around(30, &own));
        let (kind, kept, _) = deployment("a", &before);
        let mut object = kept.object();
        object.data["spec"]["template"] =
            plan::evaluate(&Workload::of(kind, &object), &before).template.unwrap();
        let workloads: Reach = vec![(kind, Arc::new(object.into()), now.clone())];
        let stopped = policy_key("", &defaults(30).source());
        let trouble = Trouble { is_stopped: &|policy, _| *policy == stopped, blocked: &Blocked::default() };
        let told = |policy: &GracefulPolicy, workloads| {
            let [ready, _, stalled, _] =
                &super::status(policy, tally(policy, workloads, &trouble), effective(policy), at(1))
                    .conditions[..]
            else {
                panic!()
            };
            (ready.message.clone(), stalled.status.clone())
        };
        let waits = "0 of 1 workloads carry the policy's values, 1 wait for cluster policy defaults, which is stalled";
        assert_eq!(told(&own, &workloads), (waits.into(), "False".into()));
        let of_cluster = |is_stopped| {
            let mut tally = failed_in(tally(&defaults(30), &workloads, &trouble), "other", &["b", "c"]);
            tally.rollouts.is_stopped = is_stopped;
            super::status(&defaults(30), tally, effective(&defaults(30)), at(1)).conditions[2].message.clone()
        };
        assert_eq!(
            of_cluster(true),
            "the rollouts of other/b, other/c failed, and 1 workload waits: fix them, or change the policy"
        );
        assert_eq!(
            of_cluster(false),
            "the rollouts of other/b, other/c failed, and none starts in other: fix them, or change the policy"
        );

        // Nor is it silent where the policy itself has them wait.
        own.spec.rollout = Some(Rollout { mode: Some(RolloutMode::NextUpdate), ..Rollout::default() });
        let workloads: Reach = vec![deployment("a", &around(30, &own))];
        let later = "0 of 1 workloads carry the policy's values, 1 get them with the next change of their pod template";
        assert_eq!(told(&own, &workloads), (later.into(), "False".into()));
    }

    #[test]
    fn a_policy_that_reverts_tells_how_many_are_left() {
        let injecting = policy(json!({"selector": {}}));
        let reverting = policy(json!({"selector": {}, "rollout": {"mode": "Revert"}}));
        let around = |policy: &GracefulPolicy| {
            Arc::new(NamespaceContext {
                policies: vec![Arc::new(policy.clone())],
                ..NamespaceContext::default()
            })
        };
        let injected = |name: &str, annotations: Value| {
            let (kind, kept, before) = deployment(name, &around(&injecting));
            let mut object = kept.object();
            object.metadata.annotations = serde_json::from_value(annotations).unwrap();
            let template = plan::evaluate(&Workload::of(kind, &object), &before).template.unwrap();
            object.data["spec"]["template"] = template;
            (kind, Arc::new(object.into()), around(&reverting))
        };
        let ready = |workloads: &Reach| {
            let status = status(&reverting, workloads, at(1));
            let ready = &status.conditions[0];
            (ready.status.clone(), ready.reason.clone(), ready.message.clone(), status.workloads.unwrap())
        };
        let graceful = injected("c", json!({"adieu.dev/graceful": "true"}));
        let mut workloads: Reach =
            vec![injected("a", json!({})), deployment("b", &around(&reverting)), graceful];
        let (status, reason, message, counts) = ready(&workloads);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "Reverting"));
        assert!(message.starts_with("1 of 2 workloads are reverted, 1 left; 1 workload keeps"), "{message}");
        assert_eq!(
            counts,
            WorkloadCounts { matched: 3, injected: 1, pending: 1, ..WorkloadCounts::default() }
        );
        workloads[0] = deployment("a", &around(&reverting));
        let (status, reason, message, _) = ready(&workloads);
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Reverted"));
        assert!(message.starts_with("2 workloads are reverted, none left"), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_before_all_workloads_are_listed() {
        let policy = policy(json!({"selector": {}}));
        let listed = Caches::fixed(vec![policy.clone()], vec![], vec![]);
        let policy = Arc::new(policy);
        // Its API server never answers who writes a status.
        let writes = async |caches| {
            let context = Arc::new(context(caches, 1));
            timeout(FAILURE_WAIT, reconcile(policy.clone(), context)).await.is_err()
        };
        assert!(writes(listed.clone()).await && !writes(listed.unfilled()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_workloads_have_yet_to_see_is_not_ready() {
        async fn is_told<P: Policy>(caches: Caches, policy: &P, change: impl Fn(&mut P)) -> bool {
            let mut policy = policy.clone();
            change(&mut policy);
            let context = Arc::new(context(caches, 1));
            // Its API server never answers who writes a status.
            timeout(FAILURE_WAIT, reconcile(Arc::new(policy), context)).await.is_err()
        }
        async fn check<P: Policy>(caches: Caches, policy: &P) {
            let nobody = Caches::fixed(vec![], vec![], vec![]);
            assert!(is_told(caches.clone(), policy, |_| {}).await);
            assert!(is_told(caches.clone(), policy, |older| older.meta_mut().generation = Some(2)).await);
            assert!(!is_told(caches.clone(), policy, |newer| newer.meta_mut().generation = Some(4)).await);
            assert!(!is_told(caches, policy, |again| again.meta_mut().uid = Some("another".into())).await);
            assert!(!is_told(nobody, policy, |_| {}).await);
        }
        let policy = policy(json!({"selector": {}}));
        check(Caches::fixed(vec![policy.clone()], vec![], vec![]), &policy).await;
        let of_cluster: ClusterGracefulPolicy = serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": "all", "generation": 3},
            "spec": {"namespaceSelector": {"matchLabels": {"team": "shop"}}},
        }))
        .unwrap();
        let caches = Caches::fixed(vec![], vec![], vec![]).with_cluster_policies(vec![of_cluster.clone()]);
        check(caches, &of_cluster).await;
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_named() {
        let policy = policy(json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}));
        let namespace_context = Arc::new(NamespaceContext {
            policies: vec![Arc::new(policy.clone())],
            ..NamespaceContext::default()
        });
        let status = status(&policy, &vec![deployment("a", &namespace_context)], at(1));
        assert_eq!(status.conditions[0].reason, "InvalidSelector");
        assert!(status.conditions[0].message.starts_with("spec.selector: "), "{status:?}");
    }
}

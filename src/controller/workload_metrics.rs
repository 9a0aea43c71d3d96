//! Metrics about workloads.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use kube::Resource as _;
use tokio::time::{Instant, sleep_until};

use super::{
    backoff::Backoff,
    context::ReconcileContext,
    policy::policies,
    policy_metrics::{PolicyCounts, PolicyMetrics},
};
use crate::{
    index::{DesiredState, Index},
    keys::WorkloadKey as Key,
    plan::{InjectionState, Kind, RolloutTiming},
    runtime::metrics::{KindLabel, Metrics, WorkloadLabels, WorkloadState},
    scheduler::RolloutCounts,
};

/// How often workloads are counted at most. Metrics are usually scraped every 30 s.
const PERIOD: Duration = Duration::from_secs(5);

/// Counts workloads after every change. Only the leader reports counts: with those of other replicas the sum would be
/// wrong.
pub(super) async fn report(context: &ReconcileContext) {
    let mut version = context.index.version();
    let mut is_leader = context.replica.is_leader.clone();
    let mut policy_metrics = PolicyMetrics::default();
    loop {
        let counted = Instant::now();
        if context.replica.is_leader() && context.index.is_complete() {
            drop_deleted(context);
            let counts = count_workloads(&context.index, &context.backoff);
            publish(&context.metrics, &counts.by_kind);
            policy_metrics.publish(&context.metrics, policies(&context.caches), &counts.by_policy);
            publish_rollouts(&context.metrics, context.scheduling.counts());
        } else {
            context.metrics.workloads.clear();
            context.metrics.policy_workloads.clear();
            publish_rollouts(&context.metrics, RolloutCounts::default());
        }
        let changed = tokio::select! {
            changed = version.changed() => changed,
            changed = is_leader.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        sleep_until(counted + PERIOD).await;
    }
}

fn drop_deleted(context: &ReconcileContext) {
    let workloads = context.caches.workloads();
    let exists = |key: &Key| workloads.contains(key);
    context.backoff.retain(exists);
    context.history.retain(exists);
    context.recommendations.retain(exists);
    let uids: HashSet<String> = workloads.all().filter_map(|(_, cached)| cached.meta().uid.clone()).collect();
    context.events.retain(|uid| uids.contains(uid));
}

type StateCounts = HashMap<(Kind, WorkloadState), i64>;

/// How many managed workloads are in which state.
#[derive(Default)]
struct Counts {
    by_kind: StateCounts,
    by_policy: PolicyCounts,
}

fn count_workloads(index: &Index, backoff: &Backoff) -> Counts {
    let mut counts = Counts::default();
    for (key, evaluation) in index.all() {
        let Some(state) = state(&key, &evaluation.desired, backoff) else { continue };
        *counts.by_kind.entry((key.kind, state)).or_default() += 1;
        for policy in &evaluation.desired.counted_by {
            let of_policy = counts.by_policy.entry(policy.clone()).or_default();
            *of_policy.entry(state).or_default() += 1;
        }
    }
    counts
}

fn state(key: &Key, desired: &DesiredState, backoff: &Backoff) -> Option<WorkloadState> {
    match desired.state {
        // Also one that is no longer managed, or by its pods, and is to be reverted.
        _ if desired.desired_template.is_some()
            && desired.timing != RolloutTiming::DryRun
            && backoff.is_blocked(key) =>
        {
            Some(WorkloadState::Blocked)
        }
        InjectionState::Unmanaged | InjectionState::Reverted => None,
        InjectionState::Injected if desired.short_drain.is_some() => Some(WorkloadState::DrainTooShort),
        InjectionState::Injected => Some(WorkloadState::Injected),
        InjectionState::Pending | InjectionState::PodInjection if desired.timing == RolloutTiming::DryRun => {
            Some(WorkloadState::Audit)
        }
        InjectionState::PodInjection => Some(WorkloadState::PodInjection),
        InjectionState::Unsatisfiable => Some(WorkloadState::Unsatisfiable),
        InjectionState::Pending => Some(WorkloadState::Pending),
    }
}

/// Sets all states, also those without workloads.
fn publish(metrics: &Metrics, counts: &StateCounts) {
    for kind in Kind::ALL {
        for &state in WorkloadState::ALL {
            let count = counts.get(&(kind, state)).copied().unwrap_or_default();
            let labels = WorkloadLabels { kind: KindLabel(kind.as_str()), state };
            metrics.workloads.get_or_create(&labels).set(count);
        }
    }
}

fn publish_rollouts(metrics: &Metrics, counts: RolloutCounts) {
    let RolloutCounts { in_progress, queued, stalled, failed } = counts;
    for (gauge, count) in [
        (&metrics.rollouts_in_progress, in_progress),
        (&metrics.queued_rollouts, queued),
        (&metrics.stalled_rollouts, stalled),
        (&metrics.failed_rollouts, failed),
    ] {
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::timeout;

    use adieu_exposures::TrafficObject;
    use kube::{ResourceExt as _, core::DynamicObject};

    use super::*;
    use crate::{
        api::GracefulPolicy,
        controller::{
            backoff::BlockReason,
            test_support::{context, context_with},
        },
        index::caches::Caches,
        keys::policy_key,
        plan::{self, Source, Workload},
        runtime::test_support::client,
        scheduler::SlotRequest,
    };

    fn workload(name: &str, annotations: &Value) -> (Kind, DynamicObject) {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "generation": 1, "annotations": annotations},
            "spec": {"replicas": 1, "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app"}], "terminationGracePeriodSeconds": 30},
            }},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
        });
        (Kind::Deployment, serde_json::from_value(object).unwrap())
    }

    /// Injected, and opted out since.
    fn left() -> (Kind, DynamicObject) {
        let (kind, mut object) = workload("left", &json!({"adieu.dev/graceful": "true"}));
        let namespace_context = Caches::fixed(vec![], vec![], vec![]).namespace_context("shop");
        let evaluation = plan::evaluate(&Workload::of(kind, &object), &namespace_context);
        object.data["spec"]["template"] = evaluation.template.unwrap();
        object.annotations_mut().insert("adieu.dev/graceful".into(), "false".into());
        (kind, object)
    }

    #[tokio::test(start_paused = true)]
    async fn no_workloads_are_counted_before_all_are_listed() {
        let listed =
            Caches::fixed(vec![], vec![], vec![workload("web", &json!({"adieu.dev/graceful": "true"}))]);
        let are_counted = async |caches| {
            let context = context(caches, 1);
            drop(timeout(PERIOD, report(&context)).await);
            context.metrics.render().unwrap().contains("adieu_workloads{")
        };
        assert!(are_counted(listed.clone()).await && !are_counted(listed.unfilled()).await);
    }

    fn policy(name: &str, spec: &Value) -> GracefulPolicy {
        let policy = json!({"apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        serde_json::from_value(policy).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_stops_leading_drops_its_counts() {
        let policies = vec![policy("all", &json!({"selector": {}}))];
        let caches = Caches::fixed(policies, vec![], vec![workload("web", &json!({}))]);
        let (context, [is_leader, _paused]) = context_with(client(|_, _| None), caches, 1);
        let mut counting = Box::pin(report(&context));
        let mut are_counted = async || {
            drop(timeout(2 * PERIOD, &mut counting).await);
            let text = context.metrics.render().unwrap();
            ["adieu_workloads{", "adieu_policy_workloads{"].map(|series| text.contains(series))
        };
        assert_eq!(are_counted().await, [true, true]);
        is_leader.send_replace(false);
        assert_eq!(are_counted().await, [false, false]);
        is_leader.send_replace(true);
        assert_eq!(are_counted().await, [true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_counts_rollouts_that_are_in_progress_and_that_wait() {
        let workloads = ["a", "b"].map(|name| workload(name, &json!({})));
        let key = Key::of(workloads[0].0, &workloads[0].1);
        let caches = Caches::fixed(vec![policy("all", &json!({"selector": {}}))], vec![], workloads.into());
        let (context, [is_leader, _paused]) = context_with(client(|_, _| None), caches, 1);
        let mut counting = Box::pin(report(&context));
        let mut counted = async || {
            drop(timeout(2 * PERIOD, &mut counting).await);
            let text = context.metrics.render().unwrap();
            ["rollouts_in_progress", "queued_rollouts", "failed_rollouts"].map(|name| {
                let name = format!("adieu_{name} ");
                let value = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
                value.parse::<i64>().unwrap()
            })
        };
        assert_eq!(counted().await, [0, 2, 0]);
        let snapshot = context.index.get(&key).unwrap().snapshot().unwrap();
        let request = SlotRequest {
            uid: None,
            generation: snapshot.generation,
            desired_template: snapshot.desired_template.unwrap(),
        };
        // The evaluations don't change.
        let slot = context.scheduling.reserve(&key, request).unwrap();
        assert_eq!(counted().await, [1, 1, 0]);
        slot.release();
        assert_eq!(counted().await, [0, 2, 0]);
        is_leader.send_replace(false);
        assert_eq!(counted().await, [0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn state_of_deleted_workloads_is_dropped() {
        let [(kind, here), (_, gone)] = ["here", "gone"].map(|name| {
            let (kind, mut object) = workload(name, &json!({}));
            object.metadata.uid = Some(name.into());
            (kind, object)
        });
        let context = context(Caches::fixed(vec![], vec![], vec![(kind, here.clone())]), 1);
        let should_publish = |object| context.events.should_publish(object, "Degraded", &["no probe".into()]);
        assert!(should_publish(&here) && should_publish(&gone) && !should_publish(&gone));
        drop(timeout(PERIOD, report(&context)).await);
        assert!(!should_publish(&here) && should_publish(&gone));
    }

    #[test]
    fn a_workload_whose_drain_is_too_short_is_counted_as_such() {
        let service =
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": {"app": "web"}}});
        let ingress = json!({"metadata": {"name": "web"},
            "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}}});
        let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
        let (kind, mut object) = workload("web", &json!({"adieu.dev/graceful": "true"}));
        let namespace_context = Caches::fixed(vec![], vec![], vec![]).namespace_context("shop");
        let evaluation = plan::evaluate(&Workload::of(kind, &object), &namespace_context);
        object.data["spec"]["template"] = evaluation.template.unwrap();
        let services = vec![serde_json::from_value(service).unwrap()];
        let caches = Caches::fixed(vec![], services, vec![(kind, object)]);
        for (traffic, state) in
            [(vec![], WorkloadState::Injected), (vec![ingress], WorkloadState::DrainTooShort)]
        {
            let index = Index::default();
            index.refresh(&caches.clone().with_traffic(traffic));
            let counts = count_workloads(&index, &Backoff::default());
            assert_eq!(counts.by_kind, [((Kind::Deployment, state), 1)].into());
        }
    }

    #[test]
    fn managed_workloads_are_counted_by_state() {
        let policies = vec![
            policy("watch", &json!({"mode": "Audit"})),
            policy("pods", &json!({"injectionTarget": "Pod"})),
            policy("low", &json!({"maxGracePeriodSeconds": 40})),
            policy("watch-pods", &json!({"mode": "Audit", "injectionTarget": "Pod"})),
        ];
        let by = |name: &str| json!({"adieu.dev/policy": name});
        let workloads = vec![
            workload("unmanaged", &json!({})),
            workload("pending", &json!({"adieu.dev/graceful": "true"})),
            workload("blocked", &json!({"adieu.dev/graceful": "true"})),
            workload("audit", &by("watch")),
            workload("pod-injection", &by("pods")),
            workload("unsatisfiable", &by("low")),
            workload("audit-pods", &by("watch-pods")),
            left(),
        ];
        let backoff = Backoff::default();
        for number in [2, 7] {
            let (kind, object) = &workloads[number];
            let _ = backoff.block(Key::of(*kind, object), BlockReason::WriteRejected, "denied".into());
        }

        let index = Index::default();
        index.refresh(&Caches::fixed(policies, vec![], workloads));
        let counts = count_workloads(&index, &backoff);
        // Nothing is injected yet, and the unmanaged one is not counted.
        let expected = [
            (WorkloadState::Pending, 1),
            (WorkloadState::Blocked, 2),
            (WorkloadState::Audit, 2),
            (WorkloadState::PodInjection, 1),
            (WorkloadState::Unsatisfiable, 1),
        ];
        let expected = expected.map(|(state, count)| ((Kind::Deployment, state), count)).into();
        assert_eq!(counts.by_kind, expected);
        let of_policy = |name: &str, state, count| {
            (policy_key("shop", &Source::Policy(name.into())), HashMap::from([(state, count)]))
        };
        let expected = [
            of_policy("watch", WorkloadState::Audit, 1),
            of_policy("pods", WorkloadState::PodInjection, 1),
            of_policy("low", WorkloadState::Unsatisfiable, 1),
            of_policy("watch-pods", WorkloadState::Audit, 1),
        ];
        assert_eq!(counts.by_policy, expected.into());

        let metrics = Metrics::default();
        publish(&metrics, &counts.by_kind);
        let text = metrics.render().unwrap();
        for line in [
            "adieu_workloads{kind=\"Deployment\",state=\"pending\"} 1",
            "adieu_workloads{kind=\"Deployment\",state=\"injected\"} 0",
            "adieu_workloads{kind=\"DaemonSet\",state=\"pending\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}

//! Counts, for the metrics, how the workloads of the cluster stand.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use kube::{ResourceExt as _, core::DynamicObject};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Context, blocked::Blocked, turns::key};
use crate::{
    plan::{self, Convergence, Kind, Standing, Surroundings, When, Workload},
    runtime::{
        caches::{Caches, changes},
        metrics::{KindLabel, Metrics, WorkloadLabels, WorkloadState},
    },
};

/// How often is counted at most, since every workload is looked at, and how often while some aren't done:
/// what holds them up changes without a change of their own. Metrics are usually read every 30 s.
const PERIOD: Duration = Duration::from_secs(15);

/// Counts after every change, until `shutdown`. Only the replica that leads shows figures: the others would
/// count the same workloads once more.
pub(super) async fn keep(
    context: Arc<Context>,
    workloads_changed: watch::Receiver<()>,
    shutdown: CancellationToken,
) {
    let mut changed = stream::select_all([
        changes(workloads_changed).boxed(),
        context.caches.policy_changes().boxed(),
        context.permissions().boxed(),
    ]);
    let count = async {
        loop {
            let counted = Instant::now();
            let unsettled = if context.leads() {
                let standing = standing(&context.caches, &context.blocked);
                publish(&context.metrics, &standing);
                context.metrics.failed_rollouts.set(failed_rollouts(&context, &standing));
                standing.keys().any(|(_, state)| state.is_unsettled())
            } else {
                context.metrics.workloads.clear();
                context.metrics.failed_rollouts.set(0);
                false
            };
            if !unsettled && changed.next().await.is_none() {
                return;
            }
            sleep_until(counted + PERIOD).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = count => {}
    }
}

type Standings = HashMap<(Kind, WorkloadState), i64>;

/// How many workloads of each kind stand how. Unmanaged ones are nobody's business.
fn standing(caches: &Caches, blocked: &Blocked) -> Standings {
    let mut surroundings: HashMap<String, Surroundings> = HashMap::new();
    let mut counts = Standings::new();
    for (kind, object) in caches.workloads().all() {
        if object.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let around = surroundings
            .entry(object.namespace().unwrap_or_default())
            .or_insert_with_key(|namespace| caches.surroundings(namespace));
        let convergence = plan::converge(&Workload::of(kind, &object), around);
        if let Some(state) = state(kind, &object, &convergence, blocked) {
            *counts.entry((kind, state)).or_default() += 1;
        }
    }
    counts
}

fn state(
    kind: Kind,
    object: &DynamicObject,
    convergence: &Convergence,
    blocked: &Blocked,
) -> Option<WorkloadState> {
    match convergence.standing {
        Standing::Unmanaged => None,
        Standing::Injected => Some(WorkloadState::Injected),
        Standing::ByPod => Some(WorkloadState::ByPod),
        Standing::Prevented => Some(WorkloadState::Prevented),
        Standing::Pending if convergence.when == When::Observed => Some(WorkloadState::Observed),
        Standing::Pending if blocked.is_blocked(&key(kind, object)) => Some(WorkloadState::Blocked),
        Standing::Pending => Some(WorkloadState::Pending),
    }
}

/// Also what is zero, so that a graph shows where it went.
fn publish(metrics: &Metrics, standings: &Standings) {
    for kind in Kind::ALL {
        for state in WorkloadState::ALL {
            let count = standings.get(&(kind, state)).copied().unwrap_or_default();
            let labels = WorkloadLabels { kind: KindLabel(kind.as_str()), state };
            metrics.workloads.get_or_create(&labels).set(count);
        }
    }
}

/// The rollouts that failed and that others wait for. Who waits for nobody asks for no turn, so that what is
/// known of failed ones is old then.
fn failed_rollouts(context: &Context, standings: &Standings) -> i64 {
    let others_wait = standings.keys().any(|(_, state)| *state == WorkloadState::Pending);
    if others_wait { i64::try_from(context.turns.failures()).unwrap_or(i64::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::GracefulPolicy;

    fn workload(name: &str, annotations: &Value) -> (Kind, DynamicObject) {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
            "spec": {"template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app"}], "terminationGracePeriodSeconds": 30},
            }},
        });
        (Kind::Deployment, serde_json::from_value(object).unwrap())
    }

    #[test]
    fn managed_workloads_are_counted_by_how_they_stand() {
        let policy = |name: &str, spec: &Value| -> GracefulPolicy {
            let policy = json!({"apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
                "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
            serde_json::from_value(policy).unwrap()
        };
        let policies = vec![
            policy("watch", &json!({"mode": "Observe"})),
            policy("pods", &json!({"injection": "Pod"})),
            policy("low", &json!({"maxGracePeriodSeconds": 40})),
        ];
        let by = |name: &str| json!({"adieu.dev/policy": name});
        let workloads = vec![
            workload("stranger", &json!({})),
            workload("pending", &json!({"adieu.dev/graceful": "true"})),
            workload("blocked", &json!({"adieu.dev/graceful": "true"})),
            workload("observed", &by("watch")),
            workload("by-pod", &by("pods")),
            workload("prevented", &by("low")),
        ];
        let blocked = Blocked::default();
        let (kind, object) = &workloads[2];
        let _ = blocked.note(key(*kind, object), "refused".into());

        let caches = Caches::fixed(policies, vec![], workloads);
        let counts = standing(&caches, &blocked);
        // Nothing is injected yet, and the stranger is nobody's business.
        let others = WorkloadState::ALL.into_iter().filter(|state| *state != WorkloadState::Injected);
        assert_eq!(counts, others.map(|state| ((Kind::Deployment, state), 1)).collect());

        let metrics = Metrics::default();
        publish(&metrics, &counts);
        let text = metrics.render().unwrap();
        for line in [
            "adieu_workloads{kind=\"Deployment\",state=\"Pending\"} 1",
            "adieu_workloads{kind=\"Deployment\",state=\"Injected\"} 0",
            "adieu_workloads{kind=\"DaemonSet\",state=\"Pending\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}

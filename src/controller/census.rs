//! Counts, for the metrics, how the workloads of the cluster stand.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::{Resource as _, ResourceExt as _, core::DynamicObject};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Context, blocked::Blocked, keys::key};
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
            let unsettled = if context.leads() && context.caches.workloads().is_filled() {
                forget_who_is_gone(&context);
                let standing = standing(&context.caches, &context.blocked);
                publish(&context.metrics, &standing);
                let course = context.turns.follow(&context, None).await;
                let failures = course.failures.values().map(BTreeSet::len).sum::<usize>();
                context.metrics.failed_rollouts.set(i64::try_from(failures).unwrap_or(i64::MAX));
                course.goes_on || standing.keys().any(|(_, state)| state.is_unsettled())
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

fn forget_who_is_gone(context: &Context) {
    let workloads = context.caches.workloads();
    context.blocked.retain(|(kind, workload)| {
        let namespace = workload.namespace.as_deref().unwrap_or_default();
        workloads.contains(*kind, namespace, &workload.name)
    });
    let uids: HashSet<String> = workloads.kept().filter_map(|(_, kept)| kept.meta().uid.clone()).collect();
    context.outbox.retain(|uid| uids.contains(uid));
}

type Standings = HashMap<(Kind, WorkloadState), i64>;

/// How many workloads of each kind stand how. Unmanaged ones are nobody's business.
fn standing(caches: &Caches, blocked: &Blocked) -> Standings {
    let mut surroundings: HashMap<String, Surroundings> = HashMap::new();
    let mut counts = Standings::new();
    for (kind, kept) in caches.workloads().kept() {
        if kept.meta().deletion_timestamp.is_some() {
            continue;
        }
        let object = kept.object();
        let around = surroundings
            .entry(object.namespace().unwrap_or_default())
            .or_insert_with_key(|namespace| caches.surroundings(namespace));
        let convergence = plan::converge(&Workload::of(kind, &object), around);
        let state = if kept.too_large().is_some() && convergence.standing != Standing::Unmanaged {
            Some(WorkloadState::Prevented)
        } else {
            state(kind, &object, &convergence, blocked)
        };
        if let Some(state) = state {
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
    let is_blocked = || blocked.is_blocked(&key(kind, object));
    match convergence.standing {
        // Also one that isn't managed any more, or by its pods, and should be given back.
        _ if convergence.template.is_some() && convergence.when != When::Observed && is_blocked() => {
            Some(WorkloadState::Blocked)
        }
        Standing::Unmanaged | Standing::Reverted => None,
        Standing::Injected => Some(WorkloadState::Injected),
        Standing::Pending | Standing::ByPod if convergence.when == When::Observed => {
            Some(WorkloadState::Observed)
        }
        Standing::ByPod => Some(WorkloadState::ByPod),
        Standing::Prevented => Some(WorkloadState::Prevented),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::timeout;

    use super::*;
    use crate::{api::GracefulPolicy, controller::test_support::context};

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

    /// Injected, and opted out since.
    fn left() -> (Kind, DynamicObject) {
        let (kind, mut object) = workload("left", &json!({"adieu.dev/graceful": "true"}));
        let surroundings = Caches::fixed(vec![], vec![], vec![]).surroundings("shop");
        let convergence = plan::converge(&Workload::of(kind, &object), &surroundings);
        object.data["spec"]["template"] = convergence.template.unwrap();
        object.annotations_mut().insert("adieu.dev/graceful".into(), "false".into());
        (kind, object)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_counted_before_all_workloads_are_listed() {
        let listed =
            Caches::fixed(vec![], vec![], vec![workload("web", &json!({"adieu.dev/graceful": "true"}))]);
        let figures = async |caches| {
            let context = Arc::new(context(caches, 1));
            let counting = keep(context.clone(), watch::channel(()).1, CancellationToken::new());
            drop(timeout(PERIOD, counting).await);
            context.metrics.render().unwrap().contains("adieu_workloads{")
        };
        assert!(figures(listed.clone()).await && !figures(listed.unfilled()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_of_workloads_that_are_gone_is_forgotten() {
        let [(kind, here), (_, gone)] = ["here", "gone"].map(|name| {
            let (kind, mut object) = workload(name, &json!({}));
            object.metadata.uid = Some(name.into());
            (kind, object)
        });
        let context = Arc::new(context(Caches::fixed(vec![], vec![], vec![(kind, here.clone())]), 1));
        let is_news = |object| context.outbox.is_news(object, "Degraded", &["no probe".into()]);
        assert!(is_news(&here) && is_news(&gone) && !is_news(&gone));
        let counting = keep(context.clone(), watch::channel(()).1, CancellationToken::new());
        drop(timeout(PERIOD, counting).await);
        assert!(!is_news(&here) && is_news(&gone));
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
            policy("watch-pods", &json!({"mode": "Observe", "injection": "Pod"})),
        ];
        let by = |name: &str| json!({"adieu.dev/policy": name});
        let workloads = vec![
            workload("stranger", &json!({})),
            workload("pending", &json!({"adieu.dev/graceful": "true"})),
            workload("blocked", &json!({"adieu.dev/graceful": "true"})),
            workload("observed", &by("watch")),
            workload("by-pod", &by("pods")),
            workload("prevented", &by("low")),
            workload("observed-by-pod", &by("watch-pods")),
            left(),
        ];
        let blocked = Blocked::default();
        for number in [2, 7] {
            let (kind, object) = &workloads[number];
            let _ = blocked.note(key(*kind, object), "refused".into());
        }

        let caches = Caches::fixed(policies, vec![], workloads);
        let counts = standing(&caches, &blocked);
        // Nothing is injected yet, and the stranger is nobody's business.
        let expected = [
            (WorkloadState::Pending, 1),
            (WorkloadState::Blocked, 2),
            (WorkloadState::Observed, 2),
            (WorkloadState::ByPod, 1),
            (WorkloadState::Prevented, 1),
        ];
        assert_eq!(counts, expected.map(|(state, count)| ((Kind::Deployment, state), count)).into());

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

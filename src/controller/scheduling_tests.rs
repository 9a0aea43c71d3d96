use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::{task::yield_now, time::timeout};

use super::*;
use crate::{
    api::RolloutFailureReason,
    controller::test_support::context_with,
    index::unusable_objects::UnusableReason,
    keys::policy_key,
    plan::Source,
    runtime::test_support::client,
    scheduler::{FailedRollout, Snapshot, progress::RolloutState},
};

/// Two Deployments whose rollouts are complete, and a policy that changes one at a time.
fn caches() -> Caches {
    let workload = |name: &str| {
        let object: Value = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1},
            "spec": {"replicas": 1, "template": {
                "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app"}]},
            }},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
        });
        (Kind::Deployment, serde_json::from_value(object).unwrap())
    };
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop", "generation": 1}, "spec": {"selector": {}},
    });
    let policies = vec![serde_json::from_value(policy).unwrap()];
    Caches::fixed(policies, vec![], ["a", "b"].map(workload).into())
}

#[tokio::test(start_paused = true)]
async fn a_leader_requeues_runnable_workloads_and_restarts_when_it_leads_again() {
    let (context, [is_leader, _paused]) = context_with(client(|_, _| None), caches(), 10);
    let mut runnable = Box::pin(context.scheduling.runnable(Kind::Deployment));
    let mut next = async || {
        let next = timeout(Duration::from_mins(5), runnable.next());
        next.await.expect("a runnable workload").unwrap().name
    };
    let check = async {
        assert_eq!(next().await, "a");
        // It reserves no slot, and the offer expires.
        assert_eq!(next().await, "b");
        is_leader.send_replace(false);
        while context.scheduling.is_active() {
            yield_now().await;
        }
        is_leader.send_replace(true);
        assert_eq!(next().await, "a");
    };
    tokio::select! {
        // The offers of the new context are repeated before they are taken.
        biased;
        () = context.scheduling.run() => unreachable!(),
        () = check => {}
    }
}

#[tokio::test]
async fn a_policy_that_can_not_be_decoded_is_not_deleted() {
    let (context, _senders) = context_with(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
    let (mut scheduler, now) = (RolloutScheduler::new(1), Timestamp::UNIX_EPOCH);
    let reference = ObjectReference {
        namespace: Some("shop".into()),
        name: Some("undecodable".into()),
        ..ObjectReference::default()
    };
    let reason = UnusableReason::Undecodable("spec".into());
    context.caches.unusable().add("GracefulPolicy", reference, reason);
    for (name, is_kept) in [("undecodable", true), ("deleted", false)] {
        let policy = policy_key("shop", &Source::Policy(name.into()));
        scheduler.set_policy(&policy, Some(1), FailureLimit::Default, now);
        context.scheduling.set_policy(&mut scheduler, &policy, now);
        assert_eq!(scheduler.has_policy(&policy), is_kept, "{name}");
    }
}

#[tokio::test]
async fn a_failure_is_kept_while_its_policy_can_not_be_decoded() {
    let (context, _senders) = context_with(client(|_, _| None), caches(), 1);
    let key = Key { namespace: "shop".into(), kind: Kind::Deployment, name: "a".into() };
    let queued = context.index.get(&key).unwrap().snapshot().unwrap();
    let snapshot =
        Snapshot { rollout_state: RolloutState::Failed, desired_template: None, is_queued: false, ..queued };
    let failure = FailedRollout {
        workload: key.clone(),
        uid: snapshot.uid.clone(),
        generation: Some(1),
        desired_template: None,
        template: Some(snapshot.current_template),
        reason: RolloutFailureReason::ProgressDeadlineExceeded,
        time: Timestamp::UNIX_EPOCH,
    };
    for (is_undecodable, is_opted_out) in [(true, false), (false, false), (true, true)] {
        let workloads: Vec<_> = caches().workloads().all().collect();
        let workloads = workloads.iter().map(|(kind, cached)| {
            let mut object = cached.object();
            if is_opted_out {
                object.annotations_mut().insert("adieu.dev/graceful".into(), "false".into());
            }
            (*kind, object)
        });
        let workloads: Vec<_> = workloads.collect();
        // Without the policy the workload is not managed.
        let (context, _senders) =
            context_with(client(|_, _| None), Caches::fixed(vec![], vec![], workloads.clone()), 1);
        if is_undecodable {
            let reference = ObjectReference { namespace: Some("shop".into()), ..ObjectReference::default() };
            context.caches.unusable().add(
                "GracefulPolicy",
                reference,
                UnusableReason::Undecodable("spec".into()),
            );
        }
        let (mut scheduler, now) = (RolloutScheduler::new(1), Timestamp::UNIX_EPOCH);
        scheduler.restore(&policy_key("shop", &Source::Policy("all".into())), [failure.clone()], now);
        scheduler.observe(&key, snapshot.clone(), now);
        context.scheduling.observe(&mut scheduler, &mut Contexts::new(), &key, now);
        let is_kept = is_undecodable && !is_opted_out;
        assert_eq!(scheduler.has_failures(&key), is_kept);
        context.scheduling.observe_retained_failures(&mut scheduler, &mut Contexts::new(), now);
        assert_eq!(scheduler.has_failures(&key), is_kept);
        // The same policy, which matches no workload any more.
        let mut policy = GracefulPolicy::clone(&caches().policies().state()[0]);
        policy.spec.selector = None;
        let (context, _senders) =
            context_with(client(|_, _| None), Caches::fixed(vec![policy], vec![], workloads), 1);
        context.scheduling.observe_retained_failures(&mut scheduler, &mut Contexts::new(), now);
        assert!(!scheduler.has_failures(&key), "its policy is known again");
    }
}

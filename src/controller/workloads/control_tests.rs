use std::sync::Mutex;

use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::{task::yield_now, time::timeout};

use super::{
    tests::{deployment, following},
    *,
};
use crate::{controller::test_support::context_with, index::caches::Caches, runtime::test_support::client};

const DEPLOYMENT: Kind = Kind::Deployment;

#[tokio::test(start_paused = true)]
async fn a_waiting_workload_is_not_reconciled_again_after_its_own_event_or_its_deletion() {
    // More than a burst, so that some wait.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    // A workload that waits for its next update gets an annotation whenever it is reconciled: the cache never changes.
    let namespace = json!({"metadata": {"name": "shop", "labels": {"adieu.dev/injection": "disabled"}}});
    let caches = following(&json!({"mode": "NextUpdate"}), &names)
        .with_namespaces(vec![serde_json::from_value(namespace).unwrap()]);
    let annotated: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counts = annotated.clone();
    let client = client(move |_, target| {
        let path = target.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        *counts.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        Some((200, json!(deployment(name))))
    });
    let (context, _senders) = context_with(client, caches, 1);
    let context = Arc::new(context);
    let [last, deleted] = ["h", "z"].map(|name| Key::of(DEPLOYMENT, &deployment(name)));
    assert!(context.index.is_waiting(&last));
    context.index.requeue_workload(&deleted);

    let own_event = stream::iter([Ok(CachedWorkload::from(deployment("h")))]);
    let events = own_event.chain(stream::pending()).boxed();
    let running = Box::pin(control(DEPLOYMENT, events, context.clone(), CancellationToken::new()));
    assert!(timeout(Duration::from_secs(10), running).await.is_err(), "it runs until the shutdown");
    let expected = names.map(|name| (name.to_owned(), 1));
    assert_eq!(*annotated.lock().unwrap(), BTreeMap::from(expected));
    assert!(!context.index.is_waiting(&last) && !context.index.is_waiting(&deleted));
}

#[tokio::test(start_paused = true)]
async fn all_workloads_are_reconciled_once_this_replica_leads() {
    let names: Vec<_> = (0..3 * REQUEUED_TOGETHER).map(|number| format!("web-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let written: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counts = written.clone();
    let client = client(move |_, target| {
        let path = target.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        *counts.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        Some((200, json!(deployment(name))))
    });
    // Each gets an annotation when it is reconciled.
    let namespace = json!({"metadata": {"name": "shop", "labels": {"adieu.dev/injection": "disabled"}}});
    let caches = following(&json!({"mode": "NextUpdate"}), &names)
        .with_namespaces(vec![serde_json::from_value(namespace).unwrap()]);
    let (context, [is_leader, _paused]) = context_with(client, caches, 1);
    is_leader.send_replace(false);
    let context = Arc::new(context);
    let listed: Vec<_> = names.iter().map(|name| Ok(CachedWorkload::from(deployment(name)))).collect();
    let events = stream::iter(listed).chain(stream::pending()).boxed();
    let mut running = Box::pin(control(DEPLOYMENT, events, context.clone(), CancellationToken::new()));
    assert!(timeout(Duration::from_mins(5), &mut running).await.is_err(), "it runs until the shutdown");
    assert!(written.lock().unwrap().is_empty());
    is_leader.send_replace(true);
    assert!(timeout(Duration::from_mins(5), &mut running).await.is_err(), "it runs until the shutdown");
    assert_eq!(written.lock().unwrap().len(), names.len());
}

#[tokio::test(start_paused = true)]
async fn a_workload_whose_evaluation_is_outdated_is_evaluated_again_when_it_would_be_written() {
    let caches = following(&json!({"maxConcurrent": 1}), &["a"]);
    let (context, _senders) = context_with(client(|_, _| None), caches, 1);
    let (context, key) = (Arc::new(context), Key::of(DEPLOYMENT, &deployment("a")));
    let desired = || context.index.get(&key).and_then(|evaluated| evaluated.desired.desired_template);
    let expected = desired();
    let other = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop", "generation": 1},
        "spec": {"selector": {}, "drainSeconds": 20},
    });
    let workloads = vec![(DEPLOYMENT, deployment("a"))];
    let other = Caches::fixed(vec![serde_json::from_value(other).unwrap()], vec![], workloads);
    let check = async {
        while context.metrics.evaluations.get() < 2 {
            yield_now().await;
        }
        // As if it had been evaluated before a change that is not marked.
        context.index.refresh(&other);
        context.scheduling.refresh();
        assert_ne!(desired(), expected);
        let cached = Arc::new(deployment("a").into());
        let reconciled = reconcile_cached(DEPLOYMENT, cached, context.clone()).await;
        assert_eq!(reconciled.unwrap(), Action::await_change());
        let mut version = context.index.version();
        while desired() != expected {
            version.changed().await.unwrap();
        }
    };
    tokio::select! {
        () = context.index.run(&context.caches, context.replica.is_leader.clone()) => unreachable!(),
        checked = timeout(Duration::from_secs(10), check) => checked.expect("another evaluation"),
    }
}

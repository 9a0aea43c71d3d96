use std::sync::Mutex;

use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::timeout;

use super::{
    tests::{deployment, following},
    *,
};
use crate::{controller::test_support::context_with, runtime::test_support::client};

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
    let [last, deleted] = ["h", "z"].map(|name| key(DEPLOYMENT, &deployment(name)));
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

//! Every leader crashes with its first write: the API server applies the write, and the leader gets no answer. So there is
//! a crash at every write, and the leaders make the same decisions as one that never crashes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use http::Method;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Controller, Observation, ObserverScope, Replica};
use crate::{
    api::FIELD_MANAGER,
    index::caches::Caches,
    plan::Kind,
    runtime::test_support::{client_of_bodies, failure, not_found},
};

/// A leader that writes nothing for so long has nothing to write.
const IDLE: Duration = Duration::from_mins(1);
/// More crashes than there are writes.
const MAX_CRASHES: usize = 100;

/// The objects of the API server, and what leaders wrote.
struct Server {
    deployments: BTreeMap<String, Value>,
    policy: Value,
    writes: usize,
    /// The Deployments whose template was written, in order.
    rollouts: Vec<String>,
    /// Those of them that started during another rollout.
    excess: Vec<String>,
}

impl Server {
    /// Deployments in the order of their age, and a policy for all of them.
    fn new(names: [&str; 4]) -> Self {
        let deployment = |(index, name): (usize, &str)| {
            let metadata = json!({
                "name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "0",
                "creationTimestamp": format!("2026-01-01T00:00:{index:02}Z"),
            });
            let template = json!({
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
            });
            let object = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
                "spec": {"replicas": 1, "template": template}, "status": status(1, 1),
            });
            (name.to_owned(), object)
        };
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {
                "name": "all", "namespace": "shop", "uid": "all", "generation": 1, "resourceVersion": "0",
            },
            "spec": {"selector": {}, "rollout": {"maxConcurrent": 1}},
        });
        let deployments = names.into_iter().enumerate().map(deployment).collect();
        Self { deployments, policy, writes: 0, rollouts: vec![], excess: vec![] }
    }

    fn caches(&self) -> Caches {
        let policy = serde_json::from_value(self.policy.clone()).unwrap();
        let deployments = self.deployments.values();
        let deployments =
            deployments.map(|object| (Kind::Deployment, serde_json::from_value(object.clone()).unwrap()));
        Caches::fixed(vec![policy], vec![], deployments.collect())
    }

    /// Applies a patch to a Deployment or to the status of the policy. Whether its preconditions hold.
    fn write(&mut self, path: &str, patch: &Value) -> bool {
        let is_busy = self.deployments.values().any(is_rolling);
        let name = path.rsplit('/').next().unwrap_or_default();
        let object = self.deployments.get_mut(name).unwrap_or(&mut self.policy);
        let mut written = object.clone();
        let operations = serde_json::from_value::<json_patch::Patch>(patch.clone());
        let is_applied = if let Ok(operations) = operations {
            json_patch::patch(&mut written, &operations).is_ok()
        } else {
            json_patch::merge(&mut written, patch);
            true
        };
        if !is_applied || written["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return false;
        }
        self.writes += 1;
        written["metadata"]["resourceVersion"] = self.writes.to_string().into();
        if written["spec"]["template"] != object["spec"]["template"] {
            let generation = object["metadata"]["generation"].as_i64().unwrap() + 1;
            written["metadata"]["generation"] = generation.into();
            written["metadata"]["managedFields"] = json!([{
                "manager": FIELD_MANAGER, "operation": "Update", "time": "2026-01-01T00:00:00Z",
                "fieldsV1": {"f:spec": {}},
            }]);
            written["status"] = status(2, generation);
            self.rollouts.push(name.to_owned());
            self.excess.extend(is_busy.then(|| name.to_owned()));
        }
        *object = written;
        true
    }

    /// Ends the rollout in progress: that of `stuck` fails, others complete. Whether there was one.
    fn end_rollout(&mut self) -> bool {
        let mut has_ended = false;
        let rolling = self.deployments.iter_mut().filter(|(_, deployment)| is_rolling(deployment));
        for (name, deployment) in rolling {
            let status = &mut deployment["status"];
            if name != "stuck" {
                status["replicas"] = 1.into();
            } else if status["conditions"].is_null() {
                status["conditions"] = json!([{
                    "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                    "lastTransitionTime": Timestamp::now().to_string(),
                }]);
            } else {
                continue;
            }
            has_ended = true;
        }
        has_ended
    }
}

/// The status of a Deployment with one updated pod; if it has two replicas, the other one has the previous template.
fn status(replicas: i64, generation: i64) -> Value {
    json!({
        "observedGeneration": generation, "replicas": replicas, "updatedReplicas": 1, "availableReplicas": 1,
    })
}

fn is_rolling(deployment: &Value) -> bool {
    deployment["status"]["replicas"] == 2
}

/// A client of the server for one leader. Its first write sets `has_crashed`, from when on nothing is answered.
fn client(server: &Arc<Mutex<Server>>, has_crashed: &Arc<AtomicBool>, crash: &Arc<Notify>) -> Client {
    let (server, has_crashed, crash) = (server.clone(), has_crashed.clone(), crash.clone());
    client_of_bodies(move |method, target, body| {
        let mut server = server.lock().unwrap();
        let path = target.split('?').next().unwrap_or_default();
        match *method {
            _ if has_crashed.load(Ordering::Relaxed) => None,
            Method::GET => {
                let found = path.rsplit('/').next().and_then(|name| server.deployments.get(name));
                Some(found.map_or_else(|| (404, not_found()), |found| (200, found.clone())))
            }
            Method::PATCH if server.write(path, &serde_json::from_slice(body).unwrap()) => {
                has_crashed.store(true, Ordering::Relaxed);
                crash.notify_one();
                None
            }
            Method::PATCH => Some((409, failure(409, "the object has been modified"))),
            // Events are not part of the state.
            _ => Some((404, not_found())),
        }
    })
}

/// Runs a leader until its first write, or until it has nothing to write. Whether it has crashed.
async fn lead(server: &Arc<Mutex<Server>>) -> bool {
    let (has_crashed, crash) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
    let (_leader, is_leader) = watch::channel(true);
    let (_pause, paused) = watch::channel(false);
    let (_lease, previous_renewal) = watch::channel(Some(Timestamp::now()));
    let replica =
        Replica { pod: "adieu-0".into(), max_concurrent_rollouts: 10, is_leader, previous_renewal, paused };
    let observation =
        Observation { scope: ObserverScope::Off, writes_profiles: false, field_selector: String::new() };
    let caches = server.lock().unwrap().caches();
    let client = client(server, &has_crashed, &crash);
    let controller = Controller { client, caches, metrics: Arc::default(), replica, observation };
    let events = [(); 3].map(|()| stream::pending().boxed());
    let running = Box::pin(controller.run(events, CancellationToken::new()));
    let until_crash = async {
        tokio::select! {
            () = crash.notified() => {}
            () = running => unreachable!("it was not shut down"),
        }
    };
    let crashed = timeout(IDLE, until_crash).await.is_ok();
    has_crashed.store(true, Ordering::Relaxed);
    crashed
}

#[tokio::test(start_paused = true)]
async fn leaders_that_crash_at_every_write_decide_the_same() {
    let server = Arc::new(Mutex::new(Server::new(["first", "second", "stuck", "third"])));
    let mut crashes = 0;
    loop {
        if lead(&server).await {
            crashes += 1;
            assert!(crashes < MAX_CRASHES, "{:?}", server.lock().unwrap().rollouts);
        } else if !server.lock().unwrap().end_rollout() {
            break;
        }
    }
    let Server { deployments, policy, writes, rollouts, excess } = &*server.lock().unwrap();
    assert_eq!(*rollouts, ["first", "second", "stuck"], "each once, the oldest first, none after a failure");
    assert!(excess.is_empty(), "more than maxConcurrent: {excess:?}");
    // Each rollout has a write of the template, one of managedFields, and at least one of the status.
    assert!(crashes == *writes && crashes >= 3 * rollouts.len(), "{crashes} crashes at {writes} writes");
    let status = &policy["status"];
    let failed = status["failedRollouts"].as_array().unwrap();
    let [name, reason] = ["name", "reason"].map(|field| &failed[0][field]);
    assert_eq!((failed.len(), name, reason), (1, &json!("stuck"), &json!("ProgressDeadlineExceeded")));
    let expected = json!({"matched": 4, "injected": 3, "pending": 1, "unsatisfiable": 0, "rolloutFailed": 1});
    assert_eq!(status["workloads"], expected);
    let managed_fields = deployments.values().map(|deployment| &deployment["metadata"]["managedFields"]);
    let mut entries = managed_fields.filter_map(Value::as_array).flatten();
    assert_eq!(entries.next(), None, "ownership that a crashed leader left");
}

//! Pods that terminate for other reasons than a Deployment's rolling update, under load: managed workloads lose no
//! request, while the same workloads without adieu do.

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt as _,
    api::{EvictParams, ListParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    operator::Operator,
    support::{Scene, eventually, found, image, run, workload},
    traffic::{DRAIN, Traffic, answering, assert_none_lost, assert_some_lost, managed},
};

/// The arguments of `kubectl drain` for a node with any pods.
const DRAIN_ARGUMENTS: [&str; 4] = ["drain", "--ignore-daemonsets", "--delete-emptydir-data", "--force"];

/// The image of the relay, a sidecar.
fn relay_image() -> String {
    std::env::var("ADIEU_TEST_RELAY_IMAGE").expect("ADIEU_TEST_RELAY_IMAGE names the relay's image")
}

/// Runs `cargo xtask cluster` on the tested cluster, if it is a managed one.
pub async fn cluster(arguments: &[&str]) -> Option<String> {
    let xtask = std::env::var("ADIEU_TEST_XTASK").ok()?;
    let mut command = Command::new(xtask);
    command.args(["cluster", "--name", &std::env::var("ADIEU_TEST_CLUSTER").ok()?]).args(arguments);
    Some(run(command, String::new()).await.unwrap())
}

/// Nodes between which pods can move, of which the last can be drained; `None` with a single node.
pub async fn nodes(scene: &Scene) -> Option<Vec<Node>> {
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let several = || async {
        let all = nodes.list(&ListParams::default()).await.unwrap().items.into_iter();
        let free = all.filter(|node| node.spec.as_ref().is_none_or(|spec| spec.taints.is_none()));
        Some(free.collect::<Vec<_>>()).filter(|free| free.len() > 1)
    };
    if std::env::var_os("ADIEU_TEST_CLUSTER").is_some() {
        // This cluster has two. The taint of an earlier test is removed a moment after its end.
        return Some(found("two nodes that take pods", several).await);
    }
    let several = several().await;
    if several.is_none() {
        println!("skipped: there is just one node that takes pods");
    }
    several
}

fn runs_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
}

async fn drain(scene: &Scene, node: &str, timeout: &str) -> Result<String, String> {
    let arguments = DRAIN_ARGUMENTS.iter().map(|&argument| argument.to_owned());
    let rest = [node.to_owned(), format!("--timeout={timeout}")];
    scene.run("kubectl", &arguments.chain(rest).collect::<Vec<_>>(), None).await
}

/// Restarts these workloads, and waits until they are rolled out.
async fn restart(scene: &Scene, workloads: &[(&str, &str)]) {
    for (kind, name) in workloads {
        scene.kubectl(&["rollout", "restart", &format!("{}/{name}", kind.to_lowercase())]).await;
    }
    for (kind, name) in workloads {
        scene.settled(kind, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_of_different_nodes_reach_each_other_by_every_address() {
    let scene = Scene::new().await;
    let Some(nodes) = nodes(&scene).await else { return scene.end().await };
    let mut object = workload("DaemonSet", "mesh", &json!({}));
    let relay = json!({"name": "relay", "image": relay_image(), "imagePullPolicy": "IfNotPresent"});
    object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(relay);
    scene.create(&object).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "mesh"},
        "spec": {"type": "NodePort", "selector": {"app": "mesh"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let service = scene.create(&service).await;
    scene.settled("DaemonSet", "mesh").await;

    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), nodes.len());
    let ip = |pod: &Pod| pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
    let mut addresses = vec![format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap())];
    addresses.extend(scene.node_ports(&service).await.iter().map(ToString::to_string));
    let get = |pod: &Pod, address: &str| {
        let words = ["exec", &pod.name_any(), "-c", "relay", "--", "/app", "get"].map(str::to_owned);
        words.into_iter().chain([format!("http://{address}/"), "20".to_owned()]).collect::<Vec<_>>()
    };
    for from in &pods {
        for to in &pods {
            let answer = scene.run("kubectl", &get(from, &format!("{}:8080", ip(to))), None).await.unwrap();
            assert!(answer.contains(&to.name_any()), "{answer}");
        }
        for address in &addresses {
            // kube-proxy of each node must know every pod.
            eventually(&format!("answers of all pods at {address}"), || async {
                let answers = scene.run("kubectl", &get(from, address), None).await.unwrap_or_default();
                pods.iter().all(|pod| answers.contains(&pod.name_any()))
            })
            .await;
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn draining_a_node_loses_no_request_with_and_without_a_disruption_budget() {
    let scene = Scene::new().await;
    let Some(nodes) = nodes(&scene).await else { return scene.end().await };
    let node = nodes.last().unwrap().name_any();
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "budget"},
        "spec": {"drainSeconds": DRAIN, "disruptionBudget": {"maxUnavailable": 1}},
    });
    scene.create(&policy).await;
    let by_policy = json!({"adieu.dev/policy": "budget"});
    let workloads = [
        answering("Deployment", "plain", &json!({}), 4),
        answering("Deployment", "managed", &managed(), 4),
        answering("Deployment", "budgeted", &by_policy, 4),
    ];
    let traffic = Traffic::to(&scene, &workloads, 8080).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the budget", || async {
        let found = budgets.list(&ListParams::default()).await.unwrap().items;
        matches!(found.as_slice(), [one] if one.status.as_ref().is_some_and(|status| status.disruptions_allowed == 1))
    })
    .await;
    for name in ["plain", "managed", "budgeted"] {
        let here = |pod: &&Pod| pod.labels()["app"] == name && runs_on(pod, &node);
        assert_eq!(traffic.pods().await.iter().filter(here).count(), 2, "{name} is spread over the nodes");
    }

    let outcomes = traffic
        .during(|| async {
            let drained = drain(&scene, &node, "110s").await;
            // Before an assertion fails, because it affects other tests.
            scene.kubectl(&["uncordon", &node]).await;
            let said = drained.unwrap();
            assert!(said.contains("would violate the pod's disruption budget"), "one by one: {said}");
        })
        .await;
    Operator::find(&scene.client).await.scale(2).await;
    assert_some_lost(&outcomes, &["plain"]);
    assert_none_lost(&outcomes, "managed");
    assert_none_lost(&outcomes, "budgeted");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_eviction_and_a_rolling_update_of_any_kind_lose_no_request() {
    let scene = Scene::new().await;
    let workloads = [
        answering("StatefulSet", "set-plain", &json!({}), 2),
        answering("StatefulSet", "set-managed", &managed(), 2),
        answering("DaemonSet", "daemon-plain", &json!({}), 0),
        answering("DaemonSet", "daemon-managed", &managed(), 0),
        answering("Deployment", "evicted-plain", &json!({}), 2),
        answering("Deployment", "evicted-managed", &managed(), 2),
    ];
    let several = nodes(&scene).await.is_some();
    let traffic = Traffic::to(&scene, &workloads, 8080).await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let outcomes = traffic
        .during(|| async {
            for name in ["evicted-plain", "evicted-managed"] {
                let selected = ListParams::default().labels(&format!("app={name}"));
                let pod = pods.list(&selected).await.unwrap().items[0].name_any();
                pods.evict(&pod, &EvictParams::default()).await.unwrap();
            }
            let rolled = [
                ("StatefulSet", "set-plain"),
                ("StatefulSet", "set-managed"),
                ("DaemonSet", "daemon-plain"),
                ("DaemonSet", "daemon-managed"),
            ];
            restart(&scene, &rolled).await;
        })
        .await;
    assert_some_lost(&outcomes, &["set-plain", "daemon-plain", "evicted-plain"]);
    assert_none_lost(&outcomes, "set-managed");
    assert_none_lost(&outcomes, "evicted-managed");
    // With one node, a DaemonSet has no other pod.
    if several {
        assert_none_lost(&outcomes, "daemon-managed");
    }
    scene.end().await;
}

/// A Deployment whose requests all go through a relay that SIGTERM ends immediately: a container, or a native sidecar.
fn behind_a_relay(name: &str, annotations: &Value, native: bool) -> Value {
    let mut object = answering("Deployment", name, annotations, 2);
    let pod = &mut object["spec"]["template"]["spec"];
    let mut relay = json!({
        "name": "relay", "image": relay_image(), "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8081, "name": "relay"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "relay"}, "periodSeconds": 1},
    });
    if native {
        relay["restartPolicy"] = json!("Always");
        pod["initContainers"] = json!([relay]);
    } else {
        pod["containers"].as_array_mut().unwrap().push(relay);
    }
    object
}

/// The object with a user's own sleep in the application only.
fn with_a_sleep_of_its_own(mut object: Value) -> Value {
    let pod = &mut object["spec"]["template"]["spec"];
    pod["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": DRAIN}}});
    assert_eq!(pod["containers"][0]["image"], image());
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_sidecar_that_all_requests_go_through_loses_none_native_or_not() {
    let scene = Scene::new().await;
    let workloads = [
        with_a_sleep_of_its_own(behind_a_relay("beside-plain", &json!({}), false)),
        with_a_sleep_of_its_own(behind_a_relay("beside-managed", &managed(), false)),
        behind_a_relay("native-plain", &json!({}), true),
        behind_a_relay("native-managed", &managed(), true),
    ];
    let traffic = Traffic::to(&scene, &workloads, 8081).await;
    let names = ["beside-plain", "beside-managed", "native-plain", "native-managed"];
    let outcomes =
        traffic.during(|| async { restart(&scene, &names.map(|name| ("Deployment", name))).await }).await;
    assert_some_lost(&outcomes, &["beside-plain", "native-plain"]);
    assert_none_lost(&outcomes, "beside-managed");
    assert_none_lost(&outcomes, "native-managed");
    scene.end().await;
}

/// While the kubelet is stopped, the node runs no hooks and sends no signals: evicted pods keep answering, also
/// without adieu, and `kubectl drain` doesn't end. When the kubelet runs again, they terminate normally.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_node_whose_kubelet_is_stopped_loses_no_request_when_it_is_drained_and_deleted() {
    let scene = Scene::new().await;
    let Some(nodes) = nodes(&scene).await else { return scene.end().await };
    let node = nodes.last().unwrap().name_any();
    let kubelet = format!("kubelet/{node}");
    let workloads =
        [answering("Deployment", "plain", &json!({}), 4), answering("Deployment", "managed", &managed(), 4)];
    let traffic = Traffic::to(&scene, &workloads, 8080).await;
    if cluster(&["stop", &kubelet]).await.is_none() {
        println!("skipped: not one of this repository's clusters");
        return scene.end().await;
    }
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let outcomes = traffic
        .during(|| async {
            let drained = drain(&scene, &node, "10s").await;
            let left = pods.list(&ListParams::default()).await.unwrap().items;
            for name in ["plain", "managed"] {
                eventually(&format!("the replacements of {name}"), || async {
                    scene.deployment(name).await["status"]["availableReplicas"] == 4
                })
                .await;
            }
            scene.kubectl(&["delete", "node", &node]).await;
            // Before an assertion fails, because it affects other tests.
            cluster(&["start", &kubelet]).await;
            let said = drained.unwrap_err();
            assert!(said.contains("There are pending pods"), "{said}");
            let left: Vec<_> = left.iter().filter(|pod| runs_on(pod, &node)).collect();
            assert_eq!(left.len(), 4, "no kubelet ends them");
            assert!(left.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()));
        })
        .await;
    Operator::find(&scene.client).await.scale(2).await;
    assert_none_lost(&outcomes, "managed");
    scene.end().await;
}

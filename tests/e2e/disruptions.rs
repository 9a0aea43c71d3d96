//! Terminations that neither a user nor the workload's controller requests: preemption and a taint.

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    nodes::nodes,
    operator::Operator,
    support::{Scene, eventually, image, pods_of, restoring, web},
    terminations::profile_with,
};

/// An amount of CPU that a node has once, and not twice.
fn most_cpu(node: &Node) -> String {
    let cpu = &node.status.as_ref().unwrap().allocatable.as_ref().unwrap()["cpu"].0;
    let number = |text: &str| text.parse::<i64>().unwrap();
    let millicores = cpu.strip_suffix('m').map_or_else(|| 1000 * number(cpu), number);
    format!("{}m", millicores * 6 / 10)
}

/// A Deployment whose pod runs on this node.
fn web_on(node: &Node, name: &str, resources: &Value) -> Value {
    let mut object = web(name, &json!({}));
    let pod = &mut object["spec"]["template"]["spec"];
    pod["nodeSelector"] = json!({"kubernetes.io/hostname": node.labels()["kubernetes.io/hostname"]});
    pod["containers"][0]["args"] = json!(["stop", "1", "0"]);
    pod["containers"][0]["resources"] = resources.clone();
    object
}

/// Creates a pod of a higher priority on the same node, which doesn't have as much CPU as both pods request.
async fn preempt(scene: &Scene, node: &Node, resources: &Value) {
    let classes: Api<PriorityClass> = Api::all(scene.client.clone());
    let class = json!({"metadata": {"name": scene.namespace}, "value": 1000});
    let class = serde_json::from_value(class).unwrap();
    classes.create(&PostParams::default(), &class).await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "important"},
        "spec": {
            "priorityClassName": scene.namespace,
            "nodeSelector": {"kubernetes.io/hostname": node.labels()["kubernetes.io/hostname"]},
            "containers": [{
                "name": "web", "image": image(), "imagePullPolicy": "IfNotPresent", "resources": resources,
            }],
        },
    });
    let created = scene.try_create(&pod).await;
    // The pod keeps its priority.
    classes.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    created.unwrap();
}

/// Taints the node until it has evicted the pod.
async fn taint(scene: &Scene, node: &Node, pod: &Pod) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let change = async |sign: &str| {
        let taint = format!("{}:NoExecute{sign}", scene.namespace);
        scene.kubectl(&["taint", "node", &node.name_any(), &taint]).await;
    };
    let evicted = async {
        change("").await;
        eventually("the taint to evict the pod", async || {
            pods.get_opt(&pod.name_any()).await.unwrap().is_none()
        })
        .await;
    };
    restoring(evicted, change("-")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn profiles_report_preemption_by_the_scheduler_and_a_taint_of_the_node() {
    let scene = Scene::new().await;
    let Some(nodes) = nodes(&scene).await else { return scene.end().await };
    let operator = Operator::find(&scene.client).await;
    let replicas = operator.replicas().await;
    let leader = operator.led().await.spec.unwrap().node_name;
    // The taint evicts a replica of the operator as well, so it is not on the leader's node.
    let node = nodes.iter().find(|node| Some(node.name_any()) != leader).unwrap();
    let resources = json!({"requests": {"cpu": most_cpu(node)}});
    scene.create(&web_on(node, "preempted", &resources)).await;
    scene.create(&web_on(node, "tainted", &json!({}))).await;
    for name in ["preempted", "tainted"] {
        scene.rolled_out(name).await;
    }

    preempt(&scene, node, &resources).await;
    profile_with(&scene, "preempted", "Completed", &[("Preemption", 1)]).await;
    let tainted = pods_of(&scene, "tainted").await.remove(0);
    taint(&scene, node, &tainted).await;
    profile_with(&scene, "tainted", "Completed", &[("Taint", 1)]).await;
    operator.scale(replicas).await;
    scene.end().await;
}

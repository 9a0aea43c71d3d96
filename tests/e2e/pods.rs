//! Pods that are injected as they are created, because no template can be.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::support::{Scene, drain, eventually, web};

async fn first_pod(scene: &Scene, selector: &str) -> Value {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let list = || async { pods.list(&ListParams::default().labels(selector)).await.unwrap().items };
    eventually("a pod", || async { !list().await.is_empty() }).await;
    serde_json::to_value(&list().await[0]).unwrap()
}

fn pod_drains(pod: &Value) -> Vec<(String, Option<i64>)> {
    let containers = pod["spec"]["containers"].as_array().unwrap().iter();
    let of = |container: &Value| {
        let seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64();
        (container["name"].as_str().unwrap_or_default().to_owned(), seconds)
    };
    containers.map(of).collect()
}

fn by_pod() -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "injection": "Pod", "drainSeconds": 4},
    })
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn where_a_policy_says_pod_the_template_shows_no_drift() {
    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    scene.create(&by_pod()).await;
    eventually("the policy in the webhook's cache", || async {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "probe-", "annotations": {"adieu.dev/graceful": "true", "adieu.dev/policy": "all"}},
            "spec": {"containers": [{"name": "web", "image": crate::support::image()}]},
        });
        pod_drains(&scene.create(&pod).await)[0].1 == Some(4)
    })
    .await;
    let created = scene.create(&web("web", &json!({}))).await;
    assert_eq!(drain(&created), None);
    let pod = first_pod(&scene, "app=web").await;
    assert_eq!(pod_drains(&pod), [("web".to_owned(), Some(4))]);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 39);
    assert_eq!(scene.deployment("web").await["spec"]["template"], created["spec"]["template"]);

    scene.create(&web("out", &json!({"adieu.dev/graceful": "false"}))).await;
    assert_eq!(
        pod_drains(&first_pod(&scene, "app=out").await),
        [("web".to_owned(), None)],
        "false always wins"
    );
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_owner_that_is_no_workload_opts_its_pods_in() {
    let scene = Scene::new().await;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"template": {
            "metadata": {"labels": {"app": "job"}, "annotations": {"adieu.dev/graceful": "true"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": crate::support::image()}]},
        }},
    });
    scene.create(&job).await;
    assert_eq!(pod_drains(&first_pod(&scene, "app=job").await), [("job".to_owned(), Some(10))]);
    scene.end().await;
}

/// A MutatingAdmissionPolicy stands for a service mesh: like its webhook, it adds a container to the pod.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_that_a_mesh_adds_drains_with_the_rest() {
    let scene = Scene::new().await;
    let cluster = |kind: &str| {
        let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::<DynamicObject>::all_with(scene.client.clone(), &ApiResource::from_gvk(&gvk))
    };
    let mesh = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": scene.namespace},
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!(
                "[JSONPatch{{op: 'add', path: '/spec/containers/-', value: Object.spec.containers{{name: 'mesh', image: '{}'}}}}]",
                crate::support::image()
            )}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": scene.namespace}, "spec": {"policyName": scene.namespace},
    });
    for object in [mesh, binding] {
        let api = cluster(object["kind"].as_str().unwrap());
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let plain: Pod = serde_json::from_value(json!({
        "metadata": {"generateName": "probe-"},
        "spec": {"containers": [{"name": "web", "image": crate::support::image()}]},
    }))
    .unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the policy to add its container", || async {
        pods.create(&dry_run, &plain).await.unwrap().spec.unwrap().containers.len() == 2
    })
    .await;

    scene.create(&web("web", &json!({"adieu.dev/graceful": "true"}))).await;
    let pod = first_pod(&scene, "app=web").await;
    assert_eq!(pod_drains(&pod), [("web".to_owned(), Some(10)), ("mesh".to_owned(), Some(10))]);
    for kind in ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"] {
        let api = cluster(kind);
        assert_eq!(api.get(&scene.namespace).await.unwrap().name_any(), scene.namespace);
        api.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    }
    scene.end().await;
}

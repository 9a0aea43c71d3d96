//! Pods that are injected on creation, because their template isn't.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    mutator::Mutator,
    support::{Scene, drain, eventually, web},
};

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
        "spec": {"selector": {}, "injectionTarget": "Pod", "drainSeconds": 4},
    })
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn injection_of_pods_causes_no_drift_of_the_template() {
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
async fn pods_of_other_owners_are_opted_in_by_annotation() {
    let scene = Scene::new().await;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"template": {
            "metadata": {
                "labels": {"app": "job", "adieu.dev/injection": "enabled"},
                "annotations": {"adieu.dev/graceful": "true"},
            },
            "spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": crate::support::image()}]},
        }},
    });
    scene.create(&job).await;
    assert_eq!(pod_drains(&first_pod(&scene, "app=job").await), [("job".to_owned(), Some(10))]);
    scene.end().await;
}

/// A MutatingAdmissionPolicy simulates a service mesh, whose webhook adds a container to the pod.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_that_a_mesh_adds_drains_with_the_rest() {
    let scene = Scene::new().await;
    let add = format!(
        "[JSONPatch{{op: 'add', path: '/spec/containers/-', value: Object.spec.containers{{name: 'mesh', image: '{}'}}}}]",
        crate::support::image()
    );
    let mesh = Mutator::start(&scene, ("", "pods", "CREATE"), "true", &add).await;
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
    mesh.end().await;
    scene.end().await;
}

/// The webhook sets both labels on admission, and the controller when it injects existing workloads.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn injected_workloads_are_labelled_and_their_pods_reach_the_webhook() {
    let scene = Scene::new().await;
    let ours = |object: &Value| {
        let of = |metadata: &Value, key: &str| metadata["labels"].get(key).cloned();
        [
            of(&object["metadata"], "adieu.dev/injected"),
            of(&object["spec"]["template"]["metadata"], "adieu.dev/injection"),
        ]
    };
    let labelled = [Some(json!("true")), Some(json!("enabled"))];
    let created = scene.create(&web("by-webhook", &json!({"adieu.dev/graceful": "true"}))).await;
    assert_eq!(ours(&created), labelled);
    let pod = first_pod(&scene, "app=by-webhook,adieu.dev/injection=enabled").await;
    assert_eq!(pod_drains(&pod), [("web".to_owned(), Some(10))]);

    let before = scene.create(&web("by-controller", &json!({}))).await;
    assert_eq!(ours(&before), [None, None]);
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {"matchLabels": {"app": "by-controller"}}},
    });
    scene.create(&policy).await;
    eventually("the controller to inject and label", || async {
        ours(&scene.deployment("by-controller").await) == labelled
    })
    .await;
    let out = scene.annotate("Deployment", "by-controller", "graceful", Some("false")).await.unwrap();
    assert_eq!(ours(&out), [None, None]);
    assert_eq!(out["spec"]["template"], before["spec"]["template"]);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn annotations_on_kinds_that_are_not_injected_get_one_warning() {
    let scene = Scene::new().await;
    let pod_template = |labels: Value| {
        json!({
            "metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": crate::support::image()}]},
        })
    };
    let annotated = |api_version: &str, kind: &str, spec: &Value| {
        let metadata = json!({"name": "job", "annotations": {"adieu.dev/graceful": "true"}});
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
    };
    let warnings = async |object: &Value| {
        let text = scene.kubectl_with(&["create", "--dry-run=server", "-f", "-"], object).await.unwrap();
        text.lines().filter(|line| line.starts_with("Warning:")).map(str::to_owned).collect::<Vec<_>>()
    };
    let cron_job = json!({
        "schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": pod_template(json!({}))}},
    });
    let cron_job = annotated("batch/v1", "CronJob", &cron_job);
    eventually("the policy to apply", || async { !warnings(&cron_job).await.is_empty() }).await;
    let found = warnings(&cron_job).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let path = "spec.jobTemplate.spec.template.metadata";
    for part in ["no effect on this CronJob", &format!("to {path}.annotations"), &format!("to {path}.labels")]
    {
        assert!(found[0].contains(part), "{part} is missing: {found:?}");
    }
    let labelled = pod_template(json!({"adieu.dev/injection": "enabled"}));
    let mut job = annotated("batch/v1", "Job", &json!({"template": labelled}));
    let found = warnings(&job).await;
    assert!(
        matches!(&found[..], [one] if one.contains("move the annotations") && !one.contains("label")),
        "{found:?}"
    );

    let annotations = job["metadata"]["annotations"].take();
    assert_eq!(warnings(&job).await, Vec::<String>::new(), "no annotations");
    job["spec"]["template"]["metadata"]["annotations"] = annotations;
    assert_eq!(warnings(&job).await, Vec::<String>::new(), "adieu injects these pods");
    job["spec"]["template"]["metadata"]["labels"].take();
    let found = warnings(&job).await;
    assert!(
        matches!(&found[..], [one] if one.contains("add the label") && !one.contains("move")),
        "{found:?}"
    );
    scene.end().await;

    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    let text = scene.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &job).await.unwrap();
    assert!(!text.contains("Warning:"), "all pods of the namespace reach the webhook: {text}");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn annotations_on_replica_sets_and_replication_controllers_get_one_warning() {
    let scene = Scene::new().await;
    let (template, labels) = (web("web", &json!({}))["spec"]["template"].take(), json!({"app": "web"}));
    for (api_version, kind, selector) in [
        ("apps/v1", "ReplicaSet", json!({"matchLabels": labels})),
        ("v1", "ReplicationController", labels.clone()),
    ] {
        let object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "web", "annotations": {"adieu.dev/graceful": "true"}},
            "spec": {"replicas": 0, "selector": selector, "template": template},
        });
        let expected =
            format!("no effect on this {kind}: move the annotations to spec.template.metadata.annotations");
        eventually("one warning", || async {
            let create = ["create", "--dry-run=server", "-f", "-"];
            let text = scene.kubectl_with(&create, &object).await.unwrap();
            let warnings: Vec<_> = text.lines().filter(|line| line.starts_with("Warning:")).collect();
            matches!(&warnings[..], [one] if one.contains(&expected))
        })
        .await;
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_label_instead_of_an_annotation_gets_one_warning() {
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["replicas"] = json!(0);
    let created = scene.create(&object).await;
    let label = ["label", "deployment/web", "adieu.dev/graceful=true", "--overwrite"];
    eventually("one warning", || async {
        let text = scene.kubectl(&[label.as_slice(), &["--dry-run=server"]].concat()).await;
        let warnings: Vec<_> = text.lines().filter(|line| line.starts_with("Warning:")).collect();
        matches!(&warnings[..], [one] if one.contains("metadata.labels[adieu.dev/graceful] has no effect: move it"))
    })
    .await;
    scene.kubectl(&label).await;
    assert_eq!(scene.deployment("web").await["spec"]["template"], created["spec"]["template"]);
    scene.end().await;
}

//! Cluster policies in the namespaces that they apply to, and policies in kubectl.

use adieu::api::ClusterGracefulPolicy;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    operations::reported,
    support::{Scene, drain, eventually, grace_period, web},
};

/// kubectl's columns, and the cells of the only row. The last one is the age.
async fn columns(scene: &Scene, arguments: &[&str]) -> (String, Vec<String>) {
    let table = scene.kubectl(&[&["get"], arguments].concat()).await;
    let lines: Vec<_> = table.lines().collect();
    let [header, row] = lines[..] else { unreachable!("{table}") };
    (words(header).join(" "), words(row))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A Deployment without pods.
fn asleep(name: &str, annotations: &Value) -> Value {
    let mut object = web(name, annotations);
    object["spec"]["replicas"] = json!(0);
    object
}

/// A policy of the namespace.
fn generous() -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "generous"},
        "spec": {"shutdownTimeoutSeconds": 100, "maxGracePeriodSeconds": 300},
    })
}

fn cluster_policy(namespace: &str) -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": namespace},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "drainSeconds": 6, "shutdownTimeoutSeconds": 20, "marginSeconds": 5, "maxGracePeriodSeconds": 60,
        },
    })
}

/// kubectl shows the cluster policy with its settings and its counts.
async fn check_columns(scene: &Scene) {
    let (header, row) = columns(scene, &["clustergracefulpolicies", &scene.namespace]).await;
    assert_eq!(header, "NAME MODE DRAIN SHUTDOWN MARGIN GRACE MAXIMUM WORKLOADS INJECTED READY AGE");
    assert_eq!(
        row[..row.len() - 1],
        [&scene.namespace, "Enforce", "6", "20", "5", "31", "60", "3", "2", "False"]
    );
    let wide = ["clustergracefulpolicies", &scene.namespace, "--output=wide"];
    let (header, row) = columns(scene, &wide).await;
    assert!(header.ends_with("READY REASON STALLED AGE"), "{header}");
    assert_eq!(row[row.len() - 4..row.len() - 1], ["False", "Unsatisfiable", "False"]);
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_cluster_policy_sets_defaults_and_a_maximum_without_opting_in() {
    let scene = Scene::new().await;
    let unmanaged = scene.create(&asleep("unmanaged", &json!({}))).await;
    scene.create(&generous()).await;
    let policies: Api<ClusterGracefulPolicy> = Api::all(scene.client.clone());
    let policy = cluster_policy(&scene.namespace);
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();

    // Each of them would inject without the other.
    let long = asleep("long", &json!({"adieu.dev/policy": "generous"}));
    eventually("both policies in the webhook's cache", || async {
        let answer = scene.try_create_dry(&long).await.unwrap();
        drain(&serde_json::to_value(answer).unwrap()).is_none()
    })
    .await;
    let over = "needs a grace period of 111 s, more than the maximum of 60 s";
    let said = scene.kubectl_with(&["create", "-f", "-"], &long).await.unwrap();
    assert!(said.contains("Warning") && said.contains(over), "{said}");
    assert_eq!(grace_period(&scene.deployment("long").await), Some(30));
    reported(&scene, "long", "Degraded", over).await;

    for (name, annotations, expected) in [
        ("web", json!({"adieu.dev/graceful": "true"}), (Some(6), Some(31))),
        ("own", json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "8"}), (Some(8), Some(33))),
    ] {
        let created = scene.create(&asleep(name, &annotations)).await;
        assert_eq!((drain(&created), grace_period(&created)), expected, "{name}");
    }
    eventually("the policy's status", || async {
        let status = serde_json::to_value(policies.get(&scene.namespace).await.unwrap().status).unwrap();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        status["workloads"]
            == json!({"matched": 3, "injected": 2, "pending": 0, "unsatisfiable": 1, "rolloutFailed": 0})
            && ready.is_some_and(|ready| {
                let message = ready["message"].as_str().unwrap();
                let first =
                    format!("1 of 3 workloads cannot be injected, for example {}/long: ", scene.namespace);
                ready["status"] == "False" && message.starts_with(&first) && message.contains(over)
            })
    })
    .await;
    eventually("the namespace's policy to show what it inherits", || async {
        let expected = json!({
            "mode": "Enforce", "drain": 6, "drainSeconds": 6, "shutdownTimeoutSeconds": 100,
            "marginSeconds": 5, "gracePeriodSeconds": 111,
        });
        scene.policy("generous").await["status"]["effective"] == expected
    })
    .await;
    check_columns(&scene).await;
    assert_eq!(scene.deployment("unmanaged").await["spec"], unmanaged["spec"]);

    policies.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn kubectl_shows_a_policy_as_the_documentation_does() {
    let page = include_str!("../../../docs/settings.md");
    let mut lines = page.lines().skip_while(|line| !line.starts_with("$ kubectl get gracefulpolicies"));
    let [header, row] = [lines.nth(1), lines.next()].map(|line| words(line.expect("its table")));

    let scene = Scene::new().await;
    for name in ["checkout", "worker"] {
        let mut object = asleep(name, &json!({}));
        object["spec"]["selector"] = json!({"matchLabels": {"part": name}});
        object["spec"]["template"]["metadata"]["labels"] = json!({"app": "checkout", "part": name});
        scene.create(&object).await;
    }
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "checkout"},
        "spec": {
            "selector": {"matchLabels": {"app": "checkout"}}, "drainSeconds": 25, "shutdownTimeoutSeconds": 60,
        },
    });
    scene.create(&policy).await;
    eventually(&format!("kubectl to show {row:?}"), || async {
        let (names, mut cells) = columns(&scene, &["gracefulpolicies"]).await;
        assert_eq!(names, header.join(" "));
        // With another age.
        cells.pop();
        cells == row[..row.len() - 1]
    })
    .await;
    scene.end().await;
}

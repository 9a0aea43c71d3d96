//! Changes that cause a rollout, and those that don't: drift, a lowered maximum, a new Service.

use adieu::api::ClusterGracefulPolicy;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    operations::policy,
    operator::Operator,
    support::{Scene, drain, eventually, grace_period, is_rolled_out, release, web},
};

/// A GitOps sync, which sets the grace period from before the injection.
fn synced() -> Value {
    json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 30}}}})
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn drift_is_repaired_one_rollout_at_a_time_and_under_next_update_by_none() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let replicas = operator.replicas().await;
    let names = ["a", "b", "c"];
    for name in names {
        let mut object = web(name, &json!({}));
        // Its rollout takes some seconds.
        object["spec"]["minReadySeconds"] = json!(4);
        scene.create(&object).await;
    }
    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 1, "rollout": {"maxConcurrent": 1}}))).await;
    let repaired = async || {
        let deployments = scene.deployments(&names).await;
        let repaired = deployments.iter().filter(|deployment| grace_period(deployment) == Some(36));
        repaired.cloned().collect::<Vec<_>>()
    };
    eventually("all to be injected", || async { repaired().await.len() == 3 }).await;
    let drift = async || {
        operator.stop().await;
        for name in names {
            let drifted = scene.patch("Deployment", name, &synced()).await.unwrap();
            assert_eq!((grace_period(&drifted), drain(&drifted)), (Some(30), Some(1)));
        }
        for name in names {
            scene.rolled_out(name).await;
        }
        operator.scale(replicas).await;
    };

    drift().await;
    eventually("all to be repaired, one after the other", || async {
        let repaired = repaired().await;
        let rolling = repaired.iter().filter(|deployment| !is_rolled_out(deployment)).count();
        assert!(rolling <= 1, "{rolling} workloads roll out at a time");
        repaired.len() == 3 && rolling == 0
    })
    .await;

    let next_update = json!({"spec": {"rollout": {"mode": "NextUpdate"}}});
    scene.patch("GracefulPolicy", "all", &next_update).await.unwrap();
    drift().await;
    let counts = |expected: Value| {
        let scene = scene.again();
        async move {
            eventually("the policy's status", || async {
                scene.policy("all").await["status"]["workloads"] == expected
            })
            .await;
        }
    };
    counts(json!({"matched": 3, "injected": 0, "pending": 3, "unsatisfiable": 0, "rolloutFailed": 0})).await;
    operator.waits_again(&scene, &["a", "b", "c"]).await;
    assert_eq!(repaired().await.len(), 0, "nothing rolls out by itself");
    let updated = scene.patch("Deployment", "a", &release()).await.unwrap();
    assert_eq!(grace_period(&updated), Some(36));
    counts(json!({"matched": 3, "injected": 1, "pending": 2, "unsatisfiable": 0, "rolloutFailed": 0})).await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_lowered_maximum_causes_no_rollout_and_keeps_injections() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 20}))).await;
    scene.create(&web("policy", &json!({}))).await;
    eventually("the policy to be followed", || async {
        drain(&scene.deployment("policy").await) == Some(20)
    })
    .await;
    let annotations = json!({"adieu.dev/graceful": "true"});
    scene.create(&web("annotation", &annotations)).await;
    let names = ["policy", "annotation"];
    for name in names {
        scene.rolled_out(name).await;
    }
    let before = scene.deployments(&names).await;
    assert!(before.iter().all(|deployment| grace_period(deployment) == Some(55)));

    let policies: Api<ClusterGracefulPolicy> = Api::all(scene.client.clone());
    let cap = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": scene.namespace},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
            "maxGracePeriodSeconds": 40,
        },
    });
    policies.create(&PostParams::default(), &serde_json::from_value(cap).unwrap()).await.unwrap();
    eventually("the policy to report that neither can be injected", || async {
        let status = scene.policy("all").await["status"].take();
        status["workloads"]["unsatisfiable"] == 2
    })
    .await;
    // The next leader must come to the same decision.
    operator.delete_lease().await;
    operator.led().await;
    let created = scene.create(&web("created", &annotations)).await;
    assert_eq!(
        (drain(&created), grace_period(&created)),
        (None, Some(30)),
        "over the maximum nothing is injected"
    );
    for (before, now) in before.iter().zip(scene.deployments(&names).await) {
        assert_eq!(before["metadata"]["generation"], now["metadata"]["generation"]);
        assert_eq!(before["spec"], now["spec"]);
    }
    for name in names {
        let said = scene.kubectl(&["rollout", "restart", &format!("deployment/{name}")]).await;
        assert!(said.contains("the existing injection is kept"), "{said}");
        let restarted = scene.deployment(name).await;
        assert_eq!((drain(&restarted), grace_period(&restarted)), (Some(20), Some(55)), "{name}");
    }
    policies.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    scene.end().await;
}

/// Whether a readiness probe was injected.
fn is_probed(deployment: &Value) -> bool {
    !deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"].is_null()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_service_that_appears_after_its_probe_was_accepted_causes_no_rollout() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let replicas = operator.replicas().await;
    let unnamed = |name: &str| {
        let mut object = web(name, &json!({}));
        let template = &mut object["spec"]["template"];
        template["metadata"]["labels"]["part"] = json!("all");
        // Without a known port name, the port to probe follows only from a Service.
        template["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]);
        object
    };
    scene.create(&unnamed("web")).await;
    let spec = json!({"selector": {}, "drainSeconds": 1, "readinessProbe": {"mode": "Never"}});
    scene.create(&policy(&spec)).await;
    eventually("the policy to be followed", || async { drain(&scene.deployment("web").await) == Some(1) })
        .await;
    scene.rolled_out("web").await;

    let is_marked =
        |deployment: &Value| deployment["metadata"]["annotations"].get("adieu.dev/accepted").is_some();
    assert!(!is_marked(&scene.deployment("web").await));
    let probes = json!({"spec": {"readinessProbe": {"mode": "Auto"}}});
    scene.patch("GracefulPolicy", "all", &probes).await.unwrap();
    eventually("the accepted annotation", || async { is_marked(&scene.deployment("web").await) }).await;
    let before = scene.deployment("web").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "all"},
        "spec": {"selector": {"part": "all"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    scene.create(&service).await;
    // Only the controller injects them, the oldest first.
    for younger in ["younger", "youngest"] {
        scene.create(&unnamed(younger)).await;
        eventually(younger, || async { is_probed(&scene.deployment(younger).await) }).await;
        let now = scene.deployment("web").await;
        assert_eq!(now["spec"], before["spec"], "a Service requests no rollout");
        assert!(is_marked(&now));
        operator.scale_from_zero(replicas).await;
    }
    let updated = scene.patch("Deployment", "web", &release()).await.unwrap();
    assert!(is_probed(&updated), "with the next change of the template");
    eventually("the accepted annotation to be removed", || async {
        !is_marked(&scene.deployment("web").await)
    })
    .await;
    scene.end().await;
}

//! Changes of injected workloads that reach no operator, or an operator without its CRDs.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    concurrent::lifecycle::{is_injected, is_owned, scaled_to_zero},
    operator::Operator,
    support::{Scene, drain, eventually, grace_period},
};

/// The limit for adieu to observe a missing CRD.
const KNOWN: Duration = Duration::from_mins(2);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn server_side_apply_never_conflicts_with_what_the_controller_wrote() {
    let scene = Scene::new().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    let object = scaled_to_zero("web", &json!({}));
    scene.kubectl_with(&apply, &object).await.unwrap();
    let operator = Operator::find(&scene.client).await;
    operator.stop().await;
    scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    operator.scale(1).await;
    eventually("the Deployment to be injected", || is_injected(&scene, "web")).await;
    eventually("nothing to be owned by adieu", || async { !is_owned(&scene, "web").await }).await;
    let mut own = object.clone();
    own["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(100);
    own["spec"]["template"]["spec"]["containers"][0]["lifecycle"] =
        json!({"preStop": {"sleep": {"seconds": 3}}});
    scene.kubectl_with(&apply, &own).await.unwrap();
    let deployment = scene.deployment("web").await;
    assert_eq!((drain(&deployment), grace_period(&deployment)), (Some(3), Some(100)));
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn without_its_crds_nothing_is_changed() {
    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    let policy = |drain: i64| {
        json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
            "spec": {"selector": {}, "drainSeconds": drain},
        })
    };
    scene.create(&policy(7)).await;
    scene.create(&scaled_to_zero("web", &json!({}))).await;
    eventually("the policy to be followed", || async { drain(&scene.deployment("web").await) == Some(7) })
        .await;

    let crds: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    let names = ["gracefulpolicies.adieu.dev", "clustergracefulpolicies.adieu.dev"];
    let mut saved = Vec::new();
    for name in names {
        let CustomResourceDefinition { metadata, spec, .. } = crds.get(name).await.unwrap();
        let ObjectMeta { name, labels, annotations, .. } = metadata;
        let metadata = ObjectMeta { name, labels, annotations, ..ObjectMeta::default() };
        saved.push(CustomResourceDefinition { metadata, spec, status: None });
    }
    for name in names {
        crds.delete(name, &DeleteParams::default()).await.unwrap();
    }
    // Policies are removed first, which looks like a deletion by a user for a moment.
    let release = ["set", "env", "deployment/web", "A=1"];
    let tried = [&release[..], &["--dry-run=server"]].concat();
    let is_known =
        async || scene.kubectl(&tried).await.contains("CRDs of adieu's policies are not installed");
    let asked = Instant::now();
    while !is_known().await && asked.elapsed() < KNOWN {
        sleep(Duration::from_millis(200)).await;
    }
    let known = is_known().await;
    scene.kubectl(&release).await;
    let released = drain(&scene.deployment("web").await);

    for crd in &saved {
        eventually("the CRD to be served again", || async {
            crds.create(&PostParams::default(), crd).await.is_ok()
        })
        .await;
    }
    // Before an assertion fails, because later tests need the CRDs.
    assert!(known, "adieu does not know that they are gone");
    assert_eq!(released, Some(7));
    eventually("another policy", || async { scene.try_create(&policy(8)).await.is_ok() }).await;
    eventually("it to be followed", || async { drain(&scene.deployment("web").await) == Some(8) }).await;
    scene.end().await;
}

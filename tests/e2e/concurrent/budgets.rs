//! The budgets that adieu creates.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams, PostParams},
};
use serde_json::json;

use crate::{
    operations::policy,
    support::{Scene, drain, eventually, web},
};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_budget_exists_while_no_other_selects_the_pods() {
    let scene = Scene::new().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let names = || async {
        let all = budgets.list(&ListParams::default()).await.unwrap().items;
        all.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    };
    let is = async |what: &str, expected: &[&str]| {
        eventually(what, || async { names().await == expected }).await;
    };
    scene.create(&policy(&json!({"drainSeconds": 1, "disruptionBudget": {"maxUnavailable": 1}}))).await;
    eventually("the policy in the webhook's cache", || async {
        let annotated = web("web", &json!({"adieu.dev/policy": "all"}));
        drain(&serde_json::to_value(scene.try_create_dry(&annotated).await.unwrap()).unwrap()) == Some(1)
    })
    .await;
    let created = scene.create(&web("web", &json!({"adieu.dev/policy": "all"}))).await;
    is("a budget", &["web-deployment-adieu"]).await;
    let budget = budgets.get("web-deployment-adieu").await.unwrap();
    let owner = &budget.owner_references()[0];
    assert_eq!(json!(owner.uid), created["metadata"]["uid"]);
    assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));

    // The only pod can be evicted.
    scene.rolled_out("web").await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let pod = pods.list(&ListParams::default().labels("app=web")).await.unwrap().items[0].name_any();
    eventually("the eviction", || async { pods.evict(&pod, &EvictParams::default()).await.is_ok() }).await;

    let own = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "own"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    budgets.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    is("only the user's own", &["own"]).await;
    budgets.delete("own", &DeleteParams::default()).await.unwrap();
    is("adieu's again", &["web-deployment-adieu"]).await;
    scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    is("none once opted out", &[]).await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_of_two_workloads_have_one_budget() {
    let scene = Scene::new().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let is = async |what: &str, expected: &str| {
        eventually(what, || async {
            let all = budgets.list(&ListParams::default()).await.unwrap().items;
            all.iter().map(kube::ResourceExt::name_any).eq([expected])
        })
        .await;
    };
    let spec = json!({"selector": {}, "drainSeconds": 1, "disruptionBudget": {"maxUnavailable": 1}});
    scene.create(&policy(&spec)).await;
    let mut canary = web("canary", &json!({}));
    for labels in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        *canary.pointer_mut(labels).unwrap() = json!({"app": "web", "track": "canary"});
    }
    scene.create(&canary).await;
    is("a budget of its own", "canary-deployment-adieu").await;
    scene.create(&web("web", &json!({}))).await;
    is("the one that is for the pods of both", "web-deployment-adieu").await;
    eventually("its injection", || async { drain(&scene.deployment("canary").await) == Some(1) }).await;
    scene.rolled_out("canary").await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the eviction", || async {
        let found = pods.list(&ListParams::default().labels("track=canary")).await.unwrap().items;
        // A terminating pod is evicted regardless of budgets.
        let pod = found.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        let Some(pod) = pod else { return false };
        pods.evict(&pod.name_any(), &EvictParams::default()).await.is_ok()
    })
    .await;
    scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    is("its own again", "canary-deployment-adieu").await;
    scene.end().await;
}

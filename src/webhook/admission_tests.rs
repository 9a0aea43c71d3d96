use adieu_exposures::TrafficObject;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use super::*;
use crate::index::unusable_objects::UnusableReason;

#[tokio::test]
async fn an_annotated_workload_is_patched_and_nothing_else_in_it_changes() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
        object["kind"] = json!(kind);
        let (response, mut patched) = reviewed("CREATE", object.clone(), Value::Null).await;
        assert_eq!(response["allowed"], true);
        let template = patched["spec"]["template"].as_object_mut().unwrap();
        assert_eq!(template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
        assert_eq!(template["spec"]["containers"][0].get("readinessProbe").is_some(), kind == "Deployment");
        assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);

        let container = template["spec"]["containers"][0].as_object_mut().unwrap();
        container.remove("lifecycle");
        container.remove("readinessProbe");
        template["spec"]["terminationGracePeriodSeconds"] = json!(30);
        template["metadata"].as_object_mut().unwrap().remove("annotations");
        let label = template["metadata"]["labels"].as_object_mut().unwrap().remove("adieu.dev/injection");
        assert_eq!(label, Some(json!("enabled")));
        let labels = patched["metadata"].as_object_mut().unwrap().remove("labels");
        assert_eq!(labels, Some(json!({"adieu.dev/injected": "true"})));
        assert_eq!(patched, object);
    }
}

#[tokio::test]
async fn an_automatic_drain_follows_from_the_cached_exposures() {
    let service =
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": {"app": "web"}}});
    let ingress = json!({
        "metadata": {"name": "shop"},
        "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
    });
    let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
    let caches = Caches::fixed(vec![], vec![serde_json::from_value(service).unwrap()], vec![]);
    let created = review_of("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null);
    for (traffic, drain) in [(vec![], 10), (vec![ingress], 30)] {
        let (_, patched) = patched_with(caches.clone().with_traffic(traffic), &created).await;
        let pod = &patched["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], drain);
        assert_eq!(pod["terminationGracePeriodSeconds"], drain + 35);
    }
}

#[tokio::test]
async fn workloads_that_are_not_opted_in_are_not_changed() {
    for annotations in [Value::Null, json!({}), json!({"adieu.dev/graceful": "false"})] {
        let object = deployment(&annotations);
        let (response, patched) = reviewed("CREATE", object.clone(), Value::Null).await;
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
        assert_eq!(patched, object);
    }
}

#[tokio::test]
async fn the_label_of_an_injected_workload_is_removed_with_the_injection() {
    let (_, injected) =
        reviewed("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    let mut replaced = injected.clone();
    replaced["metadata"].as_object_mut().unwrap().remove("labels");
    let (_, kept) = reviewed("UPDATE", replaced, injected.clone()).await;
    assert_eq!(kept["metadata"]["labels"], json!({"adieu.dev/injected": "true"}));
    let mut out = injected.clone();
    out["metadata"]["annotations"]["adieu.dev/graceful"] = json!("false");
    let (_, out) = reviewed("UPDATE", out, injected).await;
    assert_eq!(out["metadata"]["labels"], json!({}));
    assert_eq!(out["spec"], deployment(&Value::Null)["spec"]);
}

#[tokio::test]
async fn the_accepted_annotation_stays_while_a_replaced_workload_keeps_its_injection() {
    let (_, mut old) =
        reviewed("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    let mut replaced = old.clone();
    old["metadata"]["annotations"]["adieu.dev/accepted"] = json!("{}");
    assert_eq!(reviewed("UPDATE", replaced.clone(), old.clone()).await.1, old);
    replaced["spec"] = deployment(&Value::Null)["spec"].clone();
    replaced["metadata"]["annotations"]["adieu.dev/graceful"] = json!("false");
    let (_, out) = reviewed("UPDATE", replaced, old).await;
    assert_eq!(out["metadata"]["annotations"], json!({"adieu.dev/graceful": "false"}));
}

#[tokio::test]
async fn a_replaced_object_keeps_its_applied_recommendation() {
    const APPLIED: &str = "adieu.dev/applied-recommendation";
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all", "namespace": "shop"},
        "spec": {"selector": {}, "recommendations": "Apply"},
    });
    let caches = || Caches::fixed(vec![serde_json::from_value(policy.clone()).unwrap()], vec![], vec![]);
    let applied = |seconds: i64| {
        json!({"shutdownTimeoutSeconds": seconds, "since": "2026-01-31T12:00:00Z"}).to_string()
    };
    let text = applied(55);
    let created = review_of("CREATE", deployment(&json!({APPLIED: text})), Value::Null);
    let (_, old) = patched_with(caches(), &created).await;
    for (annotations, is_warned) in [
        (Value::Null, true),
        (json!({"team": "shop"}), true),
        (json!({APPLIED: applied(20)}), true),
        (json!({APPLIED: text}), false),
    ] {
        let mut next = deployment(&annotations);
        next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        let (response, kept) = patched_with(caches(), &review_of("UPDATE", next, old.clone())).await;
        let mut expected = annotations.as_object().cloned().unwrap_or_default();
        expected.insert(APPLIED.to_owned(), json!(text));
        assert_eq!(kept["metadata"]["annotations"], json!(expected));
        let warnings = response["warnings"].to_string();
        assert_eq!(
            warnings.contains("applied-recommendation is kept"),
            is_warned,
            "{annotations}: {warnings}"
        );
        // So there is no second rollout.
        assert_eq!(kept["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 10 + 55 + 5);
    }
}

/// In labelled namespaces its writes reach the webhook, and this replica may have cached an older policy than the
/// leader.
#[tokio::test]
async fn writes_of_the_controller_are_not_changed() {
    let (_, old) = reviewed("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    let mut reverted = old.clone();
    reverted["spec"] = deployment(&Value::Null)["spec"].clone();
    let mut review = review_of("UPDATE", reverted.clone(), old.clone());
    for (username, manager, expected) in [
        ("system:serviceaccount:adieu-system:adieu", "adieu", &reverted),
        ("system:serviceaccount:adieu-system:adieu", "kubectl-edit", &old),
        // `adieu verify` writes as a user.
        ("admin", "adieu", &old),
    ] {
        review["request"]["userInfo"]["username"] = json!(username);
        review["request"]["options"] = json!({"kind": "PatchOptions", "fieldManager": manager});
        assert_eq!(patched(&review).await.1["spec"], expected["spec"], "{username}, {manager}");
    }
}

#[tokio::test]
async fn a_pod_is_patched_when_it_is_created() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "job-", "annotations": {"adieu.dev/graceful": "true"}},
        "spec": {"containers": [{"name": "job", "image": "job:1"}], "fieldOfTheFuture": 1},
    });
    let mut review = review_of("CREATE", pod.clone(), Value::Null);
    review["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"});
    let (response, mut patched) = patched(&review).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(patched["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
    assert_eq!(patched["spec"]["terminationGracePeriodSeconds"], 45);
    patched["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    patched["spec"]["containers"][0].as_object_mut().unwrap().remove("lifecycle");
    patched["metadata"]["annotations"].as_object_mut().unwrap().remove("adieu.dev/injected");
    assert_eq!(patched, pod);
}

#[tokio::test]
async fn only_a_request_without_field_manager_is_a_rollback() {
    let annotations = json!({"adieu.dev/graceful": "true", "deployment.kubernetes.io/revision": "2"});
    let (_, mut old) = reviewed("CREATE", deployment(&annotations), Value::Null).await;
    old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    let earlier = deployment(&json!({"deployment.kubernetes.io/revision": "2"}));
    for (options, kept) in [
        (json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}), true),
        (json!({"kind": "UpdateOptions", "fieldManager": "kubectl-edit"}), false),
    ] {
        let mut review = review_of("UPDATE", earlier.clone(), old.clone());
        review["request"]["options"] = options;
        let (response, patched) = patched(&review).await;
        assert_eq!(patched["metadata"]["annotations"].get("adieu.dev/graceful").is_some(), kept);
        let hook = patched["spec"]["template"]["spec"]["containers"][0].get("lifecycle");
        assert_eq!(hook.is_some(), kept);
        assert_eq!(patched["spec"]["template"]["spec"]["containers"][0]["image"], "web:1");
        assert_eq!(response["warnings"].to_string().contains("the rollback keeps"), kept);
    }
}

#[tokio::test]
async fn only_a_request_without_field_manager_restores_an_earlier_injection() {
    let mut injected = Vec::new();
    for drain in ["5", "7"] {
        let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": drain});
        let (_, mut object) = reviewed("CREATE", deployment(&annotations), Value::Null).await;
        object["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
        injected.push(object);
    }
    let [earlier, old] = injected.as_slice() else { unreachable!() };
    for (manager, expected) in [("", earlier), ("argocd-controller", old)] {
        let mut review = review_of("UPDATE", earlier.clone(), old.clone());
        review["request"]["options"] = json!({"kind": "UpdateOptions", "fieldManager": manager});
        assert_eq!(patched(&review).await.1, *expected, "{manager:?}");
    }
}

#[tokio::test]
async fn the_pending_annotation_is_removed_when_the_template_changes() {
    let marked = deployment(&json!({"adieu.dev/pending": "NextUpdate", "team": "shop"}));
    let mark = |object: &Value| object["metadata"]["annotations"].get("adieu.dev/pending").is_some();
    let (_, scaled) = reviewed("UPDATE", marked.clone(), marked.clone()).await;
    assert!(mark(&scaled));
    let mut next = marked.clone();
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    let (_, updated) = reviewed("UPDATE", next, marked).await;
    assert!(!mark(&updated));
    assert_eq!(updated["metadata"]["annotations"]["team"], "shop");
}

#[tokio::test]
async fn a_generated_name_and_missing_fields_are_accepted() {
    let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
    object["metadata"].as_object_mut().unwrap().remove("name");
    object["metadata"]["generateName"] = json!("web-");
    assert!(reviewed("CREATE", object.clone(), Value::Null).await.0["patch"].is_string());
    object["spec"]["template"] = json!({});
    assert_eq!(reviewed("CREATE", object.clone(), Value::Null).await.0["allowed"], true);
    object["spec"] = Value::Null;
    assert_eq!(reviewed("CREATE", object, Value::Null).await.0["allowed"], true);
}

#[tokio::test]
async fn an_invalid_annotation_is_denied_with_path_value_rule_and_example() {
    let object = deployment(&json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "ten"}));
    let (response, _) = reviewed("UPDATE", object, deployment(&Value::Null)).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(
        (&response["status"]["code"], &response["status"]["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    assert_eq!(
        response["status"]["message"],
        "metadata.annotations[adieu.dev/drain-seconds]: Invalid value: \"ten\": must be a whole number of seconds \
         from 0 to 3600, without a unit, for example \"15\", or \"auto\""
    );
}

#[tokio::test]
async fn before_the_caches_are_filled_the_failure_policy_decides() {
    let review = review_of("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null);
    let caches = Caches::fixed(vec![], vec![], vec![]).unfilled();
    let (status, text) = send_to(caches, review.to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.contains("caches are not filled yet"), "{text}");
}

#[tokio::test]
async fn an_object_that_is_being_deleted_is_allowed_unchanged() {
    let mut object = deployment(&json!({"adieu.dev/graceful": "perhaps"}));
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let (response, _) = reviewed("UPDATE", object, deployment(&Value::Null)).await;
    assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn warnings_are_returned_and_truncated() {
    let annotations = json!({
        "adieu.dev/graceful": "true",
        "adieu.dev/policy": "gone",
        format!("adieu.dev/{}", "x".repeat(300)): "1",
    });
    let (response, _) = reviewed("CREATE", deployment(&annotations), Value::Null).await;
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().chars().count() <= 256), "{warnings:?}");
}

#[tokio::test]
async fn an_update_reverts_nothing_while_a_policy_of_the_namespace_can_not_be_read() {
    let (_, injected) =
        reviewed("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    for (unreadable, annotations, drains) in [
        ("shop", json!({}), true),
        ("bank", json!({}), false),
        ("shop", json!({"adieu.dev/graceful": "false"}), false),
    ] {
        let caches = Caches::fixed(vec![], vec![], vec![]);
        let policy = ObjectReference { namespace: Some(unreadable.into()), ..ObjectReference::default() };
        caches.unusable().add("GracefulPolicy", policy, UnusableReason::Undecodable("spec".into()));
        let mut old = injected.clone();
        old["metadata"]["annotations"] = json!({});
        let mut new = old.clone();
        new["metadata"]["annotations"] = annotations;
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        let (_, text) = send_to(caches, review_of("UPDATE", new.clone(), old).to_string()).await;
        let response = &serde_json::from_str::<Value>(&text).unwrap()["response"];
        assert_eq!(response.get("patch").is_none(), drains, "{unreadable}: {response}");
        assert_eq!(response["warnings"].to_string().contains("can't be read"), drains, "{response}");
    }
}

#[tokio::test]
async fn nothing_is_changed_until_the_labels_of_the_namespace_are_cached() {
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "namespaceSelector": {
            "matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["bank"]}],
        }},
    });
    let unknown = Caches::fixed(vec![], vec![], vec![])
        .with_cluster_policies(vec![serde_json::from_value(policy).unwrap()]);
    let known = |team: &str| {
        let namespace = json!({"metadata": {"name": "shop", "labels": {"team": team}}});
        unknown.clone().with_namespaces(vec![serde_json::from_value(namespace).unwrap()])
    };
    let review = review_of("CREATE", deployment(&json!({})), Value::Null).to_string();
    for (caches, patched, warned) in
        [(unknown.clone(), false, true), (known("shop"), true, false), (known("bank"), false, false)]
    {
        let (_, text) = send_to(caches, review.clone()).await;
        let response = &serde_json::from_str::<Value>(&text).unwrap()["response"];
        assert_eq!(response["allowed"], true);
        assert_eq!(response.get("patch").is_some(), patched, "{response}");
        assert_eq!(response["warnings"].to_string().contains("labels of namespace"), warned, "{response}");
    }
}

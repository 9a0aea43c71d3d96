use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::*;

fn decoded(object: &Value) -> CachedWorkload {
    CachedWorkload::decode(object.to_string().as_bytes()).unwrap()
}

#[test]
fn text_that_repeats_counts_by_what_its_evaluation_takes() {
    let with = |count: usize| {
        let container = json!({"name": "web", "env": vec![json!({"name": "A"}); count]});
        decoded(
            &json!({"metadata": {"name": "web"}, "spec": {"template": {"spec": {"containers": [container]}}}}),
        )
    };
    let (usual, repeated) = (with(10), with(4000));
    assert!(usual.cached_size < 4 << 10, "{}", usual.cached_size);
    assert!(repeated.parsed_size > 3 << 20 && repeated.data.len() < 4 << 10);
    assert_eq!(repeated.cached_size, repeated.parsed_size / EVALUATION_COST);
}

#[test]
fn a_cached_workload_has_all_fields_but_unused_metadata() {
    let entry = |manager: &str| json!({"manager": manager, "operation": "Update", "fieldsV1": {}});
    let spec = json!({"replicas": 2, "template": {"spec": {"fieldOfTomorrow": [1, null, {"a": "ü"}]}}});
    let cached = decoded(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "generation": 3,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "shop"},
            "managedFields": [entry("kubectl"), entry(FIELD_MANAGER)],
        },
        "spec": spec, "status": {"replicas": 1},
    }));
    assert_eq!(cached.meta().generation, Some(3));
    let object = serde_json::to_value(cached.object()).unwrap();
    assert_eq!(
        object,
        json!({
            "metadata": {
                "name": "web", "generation": 3, "annotations": {"team": "shop"},
                "managedFields": [entry(FIELD_MANAGER)],
            },
            "spec": spec, "status": {"replicas": 1},
        })
    );
}

#[test]
fn a_workload_of_unusual_size_is_kept_as_a_stub() {
    let workload = |annotations: Value, env: Value| {
        json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"a": "b"}, "annotations": annotations},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"env": env}]},
            }},
        })
    };
    let own = json!({"adieu.dev/graceful": "true", "team": "x".repeat(METADATA_LIMIT)});
    let value = |length: usize| json!([{"name": "A", "value": "x".repeat(length)}]);
    let small = decoded(&workload(json!({}), value(TEXT_LIMIT / 2)));
    assert!(small.too_large().is_none());
    for (annotations, env, why) in [
        (own.clone(), value(TEXT_LIMIT), "spec and status: 257 KiB"),
        (own, vec![json!({"name": "A"}); 10_000].into(), "in memory"),
        (json!({"adieu.dev/policy": "x".repeat(METADATA_LIMIT)}), json!([]), "adieu's annotations"),
    ] {
        let cached = decoded(&workload(annotations.clone(), env));
        assert!(cached.too_large().unwrap().contains(why), "{:?}", cached.too_large());
        assert!(cached.data.len() < 1000 && cached.parsed_size() < 10_000);
        let object = cached.object();
        assert_eq!(object.metadata.labels, Some([("a".into(), "b".into())].into()));
        assert_eq!(object.data["spec"]["selector"]["matchLabels"]["app"], "web");
        assert_eq!(object.data["spec"]["template"]["metadata"]["labels"]["app"], "web");
        let graceful = object
            .metadata
            .annotations
            .and_then(|annotations| annotations.get("adieu.dev/graceful").cloned());
        assert_eq!(graceful.as_deref(), annotations["adieu.dev/graceful"].as_str());
    }
    assert_eq!(small.stub("why").object().data["spec"]["selector"]["matchLabels"]["app"], "web");
}

#[test]
fn managed_fields_of_any_size_need_little_memory() {
    let nested = (0..100).fold(json!({}), |inner, _| json!({ "f:a": inner }));
    let many = |manager: &str, count: usize| {
        let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": nested});
        json!({"metadata": {"name": "web", "managedFields": vec![entry; count]}, "spec": {"replicas": 2}})
    };
    let of_others = decoded(&many("kubectl", 1000));
    assert!(of_others.too_large().is_none() && of_others.object().metadata.managed_fields == Some(vec![]));
    for decode in [CachedWorkload::decode_answer, CachedWorkload::decode_metadata] {
        let answer = decode(many("kubectl", 1000).to_string().as_bytes()).unwrap();
        let entries = answer.metadata.managed_fields.unwrap();
        assert_eq!(entries.len(), 1000, "an entry is released by its position");
        let is_bare = |entry: &ManagedFieldsEntry| {
            entry.manager.as_deref() == Some("kubectl") && entry.fields_v1.is_none()
        };
        assert!(entries.iter().all(is_bare));
        decode(many("kubectl", 1001).to_string().as_bytes()).unwrap_err();
    }
    let own = decoded(&many(FIELD_MANAGER, 1000));
    assert!(own.too_large().unwrap().contains("managedFields"), "{:?}", own.too_large());
    assert!(own.cached_size < 16 << 10 && own.stub("why").object().metadata.managed_fields.is_none());
}

#[test]
fn the_parsed_size_of_a_workload_is_about_the_memory_that_it_takes() {
    let args = json!({"args": vec![""; 10_000], "text": "{[,\"\\".repeat(100)}).to_string();
    assert!((10_000 * 24..10_000 * 128).contains(&parsed_size(&args)), "{}", parsed_size(&args));
    let env = json!({"env": vec![json!({"a": 1}); 1_000]}).to_string();
    assert!((1_000 * 600..1_000 * 1_000).contains(&parsed_size(&env)), "{}", parsed_size(&env));
}

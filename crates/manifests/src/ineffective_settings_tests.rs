use serde_json::json;

use super::{super::objects::objects, *};

fn message(of: fn(&Object<'_>) -> Option<Ineffective>, object: Value) -> Option<String> {
    objects(&object).first().and_then(of).map(|found| found.message)
}

#[test]
fn the_warning_for_each_other_kind_has_a_remedy() {
    let annotated = json!({"annotations": {"adieu.dev/graceful": "true"}});
    let template = json!({"template": {"spec": {"containers": [{"name": "a"}]}}});
    for (api_version, kind, spec, expected) in [
        ("apps/v1beta2", "Deployment", &template, "no longer serves apps/v1beta2: use apps/v1"),
        ("extensions/v1beta1", "DaemonSet", &template, "use apps/v1"),
        (
            "argoproj.io/v1alpha1",
            "Rollout",
            &template,
            "Move it to spec.template.metadata.annotations and add the label adieu.dev/injection: enabled to spec.template.metadata.labels: then a cluster that runs adieu injects the pods of this Rollout when they are created",
        ),
        ("apps.kruise.io/v1alpha1", "CloneSet", &template, "to spec.template.metadata.annotations"),
        ("apps/v1", "ReplicaSet", &template, "to spec.template.metadata.annotations"),
        ("batch/v1", "Job", &template, "to spec.template.metadata.annotations"),
        (
            "batch/v1",
            "CronJob",
            &json!({"jobTemplate": {"spec": template.clone()}}),
            "to spec.jobTemplate.spec.template.metadata.annotations",
        ),
        (
            "batch/v1",
            "CronJob",
            &json!({"jobTemplate": {"metadata": annotated, "spec": template.clone()}}),
            "to spec.jobTemplate.spec.template.metadata.annotations",
        ),
        (
            "v1",
            "Pod",
            &json!({"containers": []}),
            "Add the label adieu.dev/injection: enabled to metadata.labels: then a cluster that runs adieu injects an annotated Pod when it is created",
        ),
        ("v1", "Deployment", &template, "no matches for kind \"Deployment\" in version \"v1\": use apps/v1"),
        ("v1", "Namespace", &json!({}), "a GracefulPolicy that selects them"),
        ("v1", "Service", &json!({}), "finds no pod template in this Service: annotate the workload"),
    ] {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": annotated, "spec": spec});
        let found = message(unsupported, object.clone()).unwrap();
        assert!(found.starts_with("adieu.dev/graceful has no effect here: "), "{found}");
        assert!(found.contains(expected), "{found}");
        let mut labelled = object.clone();
        labelled["metadata"] = json!({"labels": annotated["annotations"]});
        assert!(message(unsupported, labelled).is_some());
        // Its owner has the same annotations.
        let mut owned = object;
        owned["metadata"]["ownerReferences"] = json!([{"controller": true}]);
        assert_eq!(message(unsupported, owned), None);
    }
}

#[test]
fn a_misused_injection_label_causes_a_warning() {
    let namespace = |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    for (map, value, expected) in [
        (
            "annotations",
            json!("enabled"),
            "metadata.annotations[adieu.dev/injection] has no effect: it is a label: move it to metadata.labels",
        ),
        (
            "labels",
            json!("true"),
            "metadata.labels[adieu.dev/injection]: Invalid value: \"true\": has no effect: must be \"enabled\"",
        ),
        (
            "labels",
            json!(true),
            "metadata.labels[adieu.dev/injection]: Invalid value: true: has no effect: must be \"enabled\"",
        ),
    ] {
        assert_eq!(
            message(unsupported, namespace(json!({map: {"adieu.dev/injection": value}}))).unwrap(),
            expected
        );
    }
    let disabled = json!({"labels": {"adieu.dev/injection": "disabled"}});
    assert_eq!(message(unsupported, namespace(disabled)), None);
}

#[test]
fn invalid_annotations_of_other_kinds_cause_a_warning() {
    let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"annotations": {"adieu.dev/graceful": true}},
        "spec": {"template": {"metadata": {"annotations": {"adieu.dev/drain-seconds": "ten"}}}}});
    let found = message(unsupported, rollout).unwrap();
    assert!(found.contains("when they are created; also metadata.annotations[adieu.dev/graceful]: Invalid value: true: must be a string"), "{found}");
    assert!(
        found.contains(
            "also spec.template.metadata.annotations[adieu.dev/drain-seconds]: Invalid value: \"ten\""
        ),
        "{found}"
    );
}

#[test]
fn adieus_own_records_and_foreign_keys_cause_no_warning() {
    for metadata in [
        json!({"labels": {"adieu.dev/injection": "enabled"}}),
        json!({"annotations": {"adieu.dev/injected": "{}", "adieu.dev/pending": "x"}}),
        json!({"annotations": {"other.dev/graceful": "true"}}),
        json!(null),
    ] {
        for kind in ["Namespace", "Pod", "Rollout"] {
            assert_eq!(
                message(unsupported, json!({"apiVersion": "v1", "kind": kind, "metadata": metadata})),
                None
            );
        }
    }
}

#[test]
fn misplaced_keys_of_a_workload_cause_a_warning() {
    let deployment = |metadata: Value, spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    let graceful = json!({"adieu.dev/graceful": "true"});
    let labels = json!({"labels": graceful});
    let annotations = json!({"annotations": graceful});
    let found =
        message(misplaced, deployment(labels.clone(), json!({"template": {"metadata": labels}}))).unwrap();
    assert_eq!(
        found,
        "metadata.labels[adieu.dev/graceful], spec.template.metadata.labels[adieu.dev/graceful] have no effect: adieu reads only metadata.annotations and spec.template.metadata.annotations: move them there"
    );
    for (metadata, spec, place) in [
        (json!(null), annotations.clone(), "spec.annotations[adieu.dev/graceful] has no effect"),
        (json!(null), json!({"template": annotations}), "spec.template.annotations[adieu.dev/graceful] has"),
        (graceful.clone(), json!({}), "metadata[adieu.dev/graceful] has no effect"),
        (json!(null), json!({"template": {"spec": annotations}}), "spec.template.spec.annotations[adieu.dev"),
    ] {
        let found = message(misplaced, deployment(metadata, spec)).unwrap();
        assert!(found.starts_with(place), "{found}");
    }
    // In their place, also with a label of the same name.
    assert_eq!(
        message(misplaced, deployment(annotations.clone(), json!({"template": {"metadata": labels}}))),
        None
    );
    assert_eq!(
        message(misplaced, deployment(json!(null), json!({"template": {"metadata": annotations}}))),
        None
    );
}

#[test]
fn a_record_that_can_not_be_reverted_causes_a_warning() {
    let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "spec": {"template": {"metadata": {"annotations": {"adieu.dev/injected": "{}"}}}}});
    let found = message(unreverted, rollout).unwrap();
    assert!(
        found.starts_with("spec.template.metadata.annotations[adieu.dev/injected]: not reverted"),
        "{found}"
    );
}

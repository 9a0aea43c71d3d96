use super::*;

/// The manifest of a Deployment.
fn manifest() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "annotations": {"adieu.dev/graceful": "true"}},
        "spec": {"replicas": 2, "template": {
            "metadata": {"labels": {"app": "web"}, "creationTimestamp": null},
            "spec": {
                "containers": [{
                    "name": "web", "image": "web:1", "env": [{"name": "EMPTY", "value": ""}],
                    "ports": [{"containerPort": 8080}],
                    "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}},
                    "readinessProbe": {"httpGet": {"port": 8080}, "initialDelaySeconds": 0},
                }],
                "hostNetwork": false, "tolerations": [{"key": "spot"}], "volumes": [],
            },
        }},
    })
}

/// The Deployment in the cluster: with defaults and an injection.
fn live() -> DynamicObject {
    let object = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "1",
            "annotations": {"adieu.dev/graceful": "true", "deployment.kubernetes.io/revision": "1"},
        },
        "spec": {"replicas": 2, "progressDeadlineSeconds": 600, "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"adieu.dev/injected": "{}"}},
            "spec": {
                "containers": [{
                    "name": "web", "image": "web:1", "env": [{"name": "EMPTY"}],
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "readinessProbe": {"httpGet": {"port": 8080, "scheme": "HTTP", "path": "/"}, "periodSeconds": 10},
                    "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
                }],
                "terminationGracePeriodSeconds": 45, "restartPolicy": "Always",
                "tolerations": [{"key": "spot", "operator": "Equal"}],
            },
        }},
    });
    serde_json::from_value(object).unwrap()
}

fn with_last_applied(mut live: DynamicObject, last: &Value) -> DynamicObject {
    let annotations = live.metadata.annotations.get_or_insert_default();
    annotations.insert(LAST_APPLIED.to_owned(), last.to_string());
    live
}

/// The template's spec that results.
fn spec(manifest: &Value, live: &DynamicObject) -> Value {
    applied(manifest, live).data["spec"]["template"]["spec"].take()
}

#[test]
fn an_unchanged_manifest_changes_nothing_in_the_live_object() {
    assert_eq!(applied(&manifest(), &live()), live());
    let known = with_last_applied(live(), &manifest());
    assert_eq!(applied(&manifest(), &known), known);
}

#[test]
fn changed_values_are_applied_and_others_stay() {
    let mut changed = manifest();
    changed["metadata"]["annotations"]["adieu.dev/drain-seconds"] = json!("20");
    let template = &mut changed["spec"]["template"]["spec"];
    template["containers"][0]["image"] = json!("web:2");
    template["containers"][0]["resources"]["limits"]["cpu"] = json!("501m");
    template["tolerations"] = json!([{"key": "spot"}, {"key": "gpu"}]);
    template["hostNetwork"] = json!(true);
    template["containers"].as_array_mut().unwrap().push(json!({"name": "log"}));
    let result = applied(&changed, &live());
    let annotations = result.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["adieu.dev/drain-seconds"], "20");
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    let mut expected = live().data["spec"]["template"]["spec"].take();
    expected["containers"][0]["image"] = json!("web:2");
    expected["containers"][0]["resources"]["limits"]["cpu"] = json!("501m");
    expected["tolerations"] = json!([{"key": "spot"}, {"key": "gpu"}]);
    expected["hostNetwork"] = json!(true);
    expected["containers"].as_array_mut().unwrap().push(json!({"name": "log"}));
    assert_eq!(result.data["spec"]["template"]["spec"], expected);
}

#[test]
fn values_are_removed_only_if_the_last_manifest_had_them() {
    let mut reduced = manifest();
    reduced["metadata"].as_object_mut().unwrap().remove("annotations");
    let web = reduced["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap();
    web.remove("readinessProbe");
    web["ports"] = json!([]);
    let opts_in = |object: &DynamicObject| {
        object.metadata.annotations.iter().any(|annotations| annotations.contains_key(GRACEFUL))
    };
    let unknown = applied(&reduced, &live());
    assert!(opts_in(&unknown));
    assert_eq!(unknown.data, live().data);

    let known = applied(&reduced, &with_last_applied(live(), &manifest()));
    assert!(!opts_in(&known));
    let container = &known.data["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((container.get("readinessProbe"), &container["ports"]), (None, &json!([])));
    assert_eq!(container["lifecycle"]["preStop"]["sleep"]["seconds"], 10, "another client's value stays");
}

#[test]
fn null_removes_a_value() {
    let mut manifest = manifest();
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = Value::Null;
    let spec = spec(&manifest, &live());
    assert_eq!(spec.get("terminationGracePeriodSeconds"), None);
}

#[test]
fn the_opt_in_of_a_server_side_apply_is_removed_with_its_annotation() {
    let mut manifest = manifest();
    manifest["metadata"]["annotations"] = json!({});
    let owned = |operation: &str| {
        let mut object = serde_json::to_value(live()).unwrap();
        object["metadata"]["managedFields"] = json!([{
            "manager": "kubectl", "operation": operation,
            "fieldsV1": {"f:metadata": {"f:annotations": {"f:adieu.dev/graceful": {}}}},
        }]);
        serde_json::from_value::<DynamicObject>(object).unwrap()
    };
    let opts_in = |live: DynamicObject| {
        applied(&manifest, &live).metadata.annotations.unwrap().contains_key("adieu.dev/graceful")
    };
    assert!(!opts_in(owned("Apply")));
    assert!(opts_in(owned("Update")), "kubectl annotate");
}

#[test]
fn quantities_are_compared_by_value() {
    let number = |value: Value| quantity(&value);
    for (text, expected) in [
        (json!("500m"), 0.5),
        (json!(0.5), 0.5),
        (json!("1e3"), 1000.0),
        (json!("1Ki"), 1024.0),
        (json!("2M"), 2e6),
        (json!("1Ei"), 1024_f64.powi(6)),
    ] {
        let value = number(text.clone()).unwrap();
        assert!((value - expected).abs() <= 1e-9 * expected, "{text}: {value}");
    }
    assert_eq!([json!("web"), json!("5x"), json!(true)].map(number), [None; 3]);
    assert!(is_same(&json!("1000m"), &json!(1), "limits"));
    assert!(!is_same(&json!("1000m"), &json!("1"), "value"), "the value of a variable is a text");
    assert!(is_same(&json!(1), &json!(1.0), "containerPort"));
}

#[test]
fn items_with_the_same_identity_are_replaced_by_position() {
    let (tcp, udp) =
        (json!({"containerPort": 53, "protocol": "TCP"}), json!({"containerPort": 53, "protocol": "UDP"}));
    let mut live = json!([tcp, udp]);
    merge(&mut live, &json!([tcp, udp]), &Value::Null, "ports");
    assert_eq!(live, json!([tcp, udp]));
    merge(&mut live, &json!([udp]), &Value::Null, "ports");
    assert_eq!(live, json!([udp]));
}

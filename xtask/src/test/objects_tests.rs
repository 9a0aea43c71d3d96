use super::*;

/// Consistent objects, except for one field of the first object with this kind, or kind and name.
fn with(what: &str, field: &str, value: Value) -> Vec<Value> {
    let objects = json!([
        {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{
            "args": [
                "--webhook-address=[::]:8443", "--admin-address=[::]:8080",
                "--certificate-secret=keys", "--certificates=external",
            ],
            "ports": [{"name": "webhook", "containerPort": 8443}, {"name": "admin", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "admin"}}, "livenessProbe": {"httpGet": {"port": "admin"}},
        }]}}}},
        {"kind": "Service", "metadata": {"name": "adieu"}, "spec": {"ports": [
            {"name": "webhook", "port": 443, "targetPort": "webhook"},
            {"name": "metrics", "port": 8080, "targetPort": "admin"},
        ]}},
        {"kind": "ServiceMonitor", "spec": {"endpoints": [{"port": "metrics"}]}},
        {"kind": "NetworkPolicy", "spec": {"ingress": [{"ports": [{"port": "webhook"}, {"port": "admin"}]}]}},
        {
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"annotations": {"cert-manager.io/inject-ca-from": "ns/cert"}},
            "webhooks": [{"clientConfig": {"service": {"name": "adieu", "namespace": "ns", "port": 443}}}],
        },
        {"kind": "Certificate", "metadata": {"name": "cert", "namespace": "ns"}, "spec": {
            "secretName": "keys", "dnsNames": ["adieu.ns.svc"], "privateKey": {"encoding": "PKCS8"},
            "usages": ["server auth"], "issuerRef": {"kind": "Issuer", "name": "own"},
        }},
        {"kind": "Issuer", "metadata": {"name": "own"}, "spec": {"ca": {"secretName": "ca"}}},
        {"kind": "Certificate", "metadata": {"name": "ca", "namespace": "ns"}, "spec": {
            "secretName": "ca", "isCA": true, "commonName": "ca", "renewBefore": "8760h",
            "privateKey": {"rotationPolicy": "Never"}, "issuerRef": {"kind": "Issuer", "name": "root"},
        }},
        {"kind": "Issuer", "metadata": {"name": "root"}, "spec": {"selfSigned": {}}},
        {"kind": "Role", "rules": [
            {"resources": ["secrets"], "resourceNames": ["keys"], "verbs": ["get", "list", "watch"]},
        ]},
    ]);
    let mut objects: Vec<Value> = serde_json::from_value(objects).unwrap();
    let (kind, name) = what.split_once('/').map_or((what, None), |(kind, name)| (kind, Some(name)));
    let is_it =
        |object: &Value| object["kind"] == kind && name.is_none_or(|name| object["metadata"]["name"] == name);
    if let Some(object) = objects.iter_mut().find(|object| is_it(object)) {
        *object.pointer_mut(field).unwrap() = value;
    }
    objects
}

#[test]
fn a_field_is_found_in_the_object_its_pod_and_its_container() {
    let objects = with("", "", Value::Null);
    for field in [
        ("Service", "/metadata/name", json!("adieu")),
        ("Deployment/pod", "/containers/0/ports/1/name", json!("admin")),
        ("Deployment/container", "/ports/1/name", json!("admin")),
        ("Deployment/pod", "/hostNetwork", Value::Null),
        ("PodDisruptionBudget", "", Value::Null),
    ] {
        has(&objects, &field).unwrap();
    }
    let error = has(&objects, &("Service", "/metadata/name", json!("other"))).unwrap_err();
    assert_eq!(error.to_string(), "Service/metadata/name is \"adieu\", not \"other\"");
}

#[test]
fn a_reference_to_a_missing_port_is_an_error() {
    ports(&with("", "", Value::Null)).unwrap();
    for (kind, field, value) in [
        ("Deployment", "/spec/template/spec/containers/0/readinessProbe/httpGet/port", json!("metrics")),
        ("Deployment", "/spec/template/spec/containers/0/ports/0/containerPort", json!(9443)),
        ("Service", "/spec/ports/0/targetPort", json!("https")),
        ("ServiceMonitor", "/spec/endpoints/0/port", json!("admin")),
        ("NetworkPolicy", "/spec/ingress/0/ports/1/port", json!("metrics")),
        ("NetworkPolicy", "/spec/ingress/0/ports", json!([{"port": "webhook"}])),
        ("MutatingWebhookConfiguration", "/webhooks/0/clientConfig/service/port", json!(8443)),
    ] {
        assert!(ports(&with(kind, field, value)).is_err(), "{kind}{field}");
    }
}

#[test]
fn certificates_with_two_writers_or_no_reader_are_an_error() {
    assert_eq!(certificates(&with("", "", Value::Null)).unwrap(), "keys");
    for (kind, field, value) in [
        ("Certificate", "/spec/secretName", json!("others")),
        ("Certificate", "/spec/dnsNames", json!(["adieu.elsewhere.svc"])),
        ("Certificate", "/spec/privateKey", json!({})),
        ("Certificate", "/spec/usages", json!(["client auth"])),
        ("Certificate", "/spec/issuerRef/name", json!("others")),
        // A Secret as without cert-manager.
        ("Certificate", "/kind", json!("Secret")),
        ("Service", "", json!({"kind": "Secret", "metadata": {"name": "keys"}})),
        ("Role", "/rules/0/resourceNames", json!(["others"])),
        ("Role", "/rules/0/verbs", json!(["get", "list", "update", "watch"])),
        ("MutatingWebhookConfiguration", "/metadata/annotations", json!({})),
        ("Deployment", "/spec/template/spec/containers/0/args", json!(["--certificate-secret=keys"])),
    ] {
        assert!(certificates(&with(kind, field, value)).is_err(), "{kind}{field}");
    }
}

#[test]
fn a_ca_that_expires_before_its_certificates_is_an_error() {
    for (what, field, value) in [
        // The certificate would be self-signed.
        ("Certificate/cert", "/spec/issuerRef/name", json!("root")),
        ("Certificate/cert", "/spec/secretName", json!("ca")),
        ("Issuer/own", "/spec/ca/secretName", json!("keys")),
        ("Issuer/own", "/spec/ca/secretName", json!("others")),
        ("Certificate/ca", "/spec/isCA", json!(false)),
        ("Certificate/ca", "/spec/commonName", json!("a".repeat(65))),
        ("Certificate/ca", "/spec/renewBefore", json!("720h")),
        ("Certificate/ca", "/spec/privateKey/rotationPolicy", json!("Always")),
        ("Certificate/ca", "/spec/issuerRef/name", json!("own")),
    ] {
        assert!(certificates(&with(what, field, value)).is_err(), "{what}{field}");
    }
}

#[test]
fn an_object_without_the_common_labels_is_an_error() {
    let object = |labels: Value| [json!({"kind": "Lease", "metadata": {"name": "a", "labels": labels}})];
    let ours = json!({"app.kubernetes.io/instance": "release"});
    labels(&object(ours.clone()), None).unwrap();
    assert!(labels(&object(ours), Some(("team", "platform"))).is_err());
    assert!(labels(&object(json!({"team": "platform"})), Some(("team", "platform"))).is_err());
}

use std::sync::Arc;

use super::*;
use crate::plan::{Source, Surroundings, Workload};

fn service(spec: Value) -> Arc<Service> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap())
}

fn to(ports: Value) -> Arc<Service> {
    service(json!({"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ports": ports}))
}

fn chosen(
    kind: Kind,
    template: &Value,
    services: &[Arc<Service>],
    creating: bool,
) -> (Vec<(String, i64)>, Vec<String>) {
    let surroundings = Surroundings { services: services.to_vec(), ..Surroundings::default() };
    let annotations = BTreeMap::new();
    let workload = Workload::new(kind, &annotations, template);
    let facts = Facts::of(&workload, &surroundings, creating, &Source::WorkloadAnnotation);
    let mut warnings = Vec::new();
    let probes = choose(template, &Settings::default(), &facts, &mut warnings);
    let ports =
        probes.into_iter().map(|(name, probe)| (name, probe["tcpSocket"]["port"].as_i64().unwrap_or(-1)));
    (ports.collect(), warnings)
}

fn pods(spec: Value) -> Value {
    json!({"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": spec})
}

fn two_containers() -> Value {
    pods(json!({"containers": [
        {"name": "web", "ports": [{"containerPort": 8080, "name": "http"}]},
        {"name": "proxy", "ports": [{"containerPort": 15001}]},
    ]}))
}

#[test]
fn the_services_target_port_is_probed_by_number_and_by_name() {
    for target in [json!(8080), json!("http")] {
        let services = [to(json!([{"port": 80, "targetPort": target}]))];
        let (probes, warnings) = chosen(Kind::Deployment, &two_containers(), &services, false);
        assert_eq!((probes, warnings), (vec![("web".to_owned(), 8080)], vec![]));
    }
}

#[test]
fn an_undeclared_port_of_a_single_container_is_probed() {
    let template = pods(json!({"containers": [{"name": "web"}]}));
    let (probes, _) = chosen(Kind::Deployment, &template, &[to(json!([{"port": 8080}]))], false);
    assert_eq!(probes, [("web".to_owned(), 8080)]);
}

#[test]
fn in_doubt_there_is_no_probe_and_a_warning() {
    let twice = pods(json!({"containers": [
        {"name": "a", "ports": [{"containerPort": 8080, "name": "http"}]},
        {"name": "b", "ports": [{"containerPort": 8081, "name": "http"}]},
    ]}));
    for (template, ports, warning) in [
        (two_containers(), json!([{"port": 9999}]), "declared by no container"),
        (two_containers(), json!([{"port": 80, "targetPort": "admin"}]), "declared by no container"),
        (twice, json!([{"port": 80, "targetPort": "http"}]), "declared by several containers"),
        (
            pods(json!({"containers": [{"name": "web"}]})),
            json!([{"port": 80, "targetPort": 8080}, {"port": 9090}]),
            "several of its ports ([8080, 9090])",
        ),
    ] {
        let (probes, warnings) = chosen(Kind::Deployment, &template, &[to(ports)], false);
        assert_eq!(probes, [], "{warning}");
        assert!(warnings.len() == 1 && warnings[0].contains(warning), "{warnings:?}");
    }
}

#[test]
fn who_must_not_be_probed_is_not() {
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    let headless = service(json!({"selector": {"app": "web"}, "clusterIP": "None", "ports": ports}));
    let early =
        service(json!({"selector": {"app": "web"}, "publishNotReadyAddresses": true, "ports": ports}));
    let strange = service(json!({"selector": {"app": "other"}, "ports": ports}));
    let selectorless = service(json!({"selector": {}, "ports": ports}));
    let external = service(json!({"type": "ExternalName", "selector": {"app": "web"}, "ports": ports}));
    let udp = to(json!([{"port": 8080, "protocol": "UDP"}]));
    let single = pods(json!({"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]}));
    for service in [&headless, &early] {
        let probes = chosen(Kind::Deployment, &single, std::slice::from_ref(service), true);
        assert_eq!(probes, (vec![], vec![]), "there is a Service, also on creation: {service:?}");
    }
    for service in [headless, early, strange, selectorless, external, udp] {
        let (probes, warnings) =
            chosen(Kind::Deployment, &two_containers(), std::slice::from_ref(&service), false);
        assert_eq!((probes, warnings), (vec![], vec![]), "{service:?}");
    }
    let services = [to(ports)];
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        assert_eq!(chosen(kind, &two_containers(), &services, true).0, []);
    }
    let mut host_network = two_containers();
    host_network["spec"]["hostNetwork"] = json!(true);
    assert_eq!(chosen(Kind::Deployment, &host_network, &services, true).0, []);
    let mut own = two_containers();
    own["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}});
    assert_eq!(chosen(Kind::Deployment, &own, &services, true).0, []);
}

#[test]
fn without_a_service_only_creation_and_a_single_port_tell() {
    let single = pods(json!({"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]}));
    assert_eq!(chosen(Kind::Deployment, &single, &[], true).0, [("web".to_owned(), 8080)]);
    assert_eq!(chosen(Kind::Deployment, &single, &[], false).0, []);
    let several =
        pods(json!({"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2}]}]}));
    for (template, ports) in [(&several, "[1, 2]"), (&two_containers(), "[8080, 15001]")] {
        let (probes, warnings) = chosen(Kind::Deployment, template, &[], true);
        assert_eq!(probes, []);
        assert!(warnings.len() == 1 && warnings[0].contains(ports), "{warnings:?}");
        assert_eq!(chosen(Kind::Deployment, template, &[], false), (vec![], vec![]), "it is no creation");
    }
    let twice = json!([{"containerPort": 1}, {"containerPort": 1, "name": "http", "protocol": "TCP"}]);
    let same = pods(json!({"containers": [{"name": "a", "ports": twice}]}));
    assert_eq!(chosen(Kind::Deployment, &same, &[], true), (vec![("a".to_owned(), 1)], vec![]));
}

#[test]
fn a_native_sidecar_that_takes_the_traffic_is_not_mistaken_for_the_application() {
    let template = pods(json!({
        "containers": [{"name": "app"}],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 4180, "name": "http"}]}],
    }));
    for port in [json!(4180), json!("http")] {
        let services = [to(json!([{"port": 80, "targetPort": port}]))];
        assert_eq!(chosen(Kind::Deployment, &template, &services, false), (vec![], vec![]), "{port}");
    }
}

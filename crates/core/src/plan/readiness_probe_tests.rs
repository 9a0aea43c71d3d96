use std::sync::Arc;

use super::*;
use crate::plan::{NamespaceContext, Source, Workload};

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
    chosen_for(&Workload::new(kind, &BTreeMap::new(), template), services, creating)
}

fn chosen_for(
    workload: &Workload<'_>,
    services: &[Arc<Service>],
    creating: bool,
) -> (Vec<(String, i64)>, Vec<String>) {
    let context = NamespaceContext { services: services.to_vec(), ..NamespaceContext::default() };
    let injection = InjectionContext::of(workload, &context, creating, &Source::WorkloadAnnotation);
    let mut warnings = Warnings::default();
    let probes = choose(&workload.template, &Settings::default(), &injection, &mut warnings);
    let ports =
        probes.into_iter().map(|(name, probe)| (name, probe["tcpSocket"]["port"].as_i64().unwrap_or(-1)));
    (ports.collect(), warnings.into_vec())
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
fn service_target_port_is_probed_by_number_and_by_name() {
    for target in [json!(8080), json!("http")] {
        let services = [to(json!([{"port": 80, "targetPort": target}]))];
        let (probes, warnings) = chosen(Kind::Deployment, &two_containers(), &services, false);
        assert_eq!((probes, warnings), (vec![("web".to_owned(), 8080)], vec![]));
    }
}

#[test]
fn undeclared_port_of_a_single_container_is_probed() {
    let template = pods(json!({"containers": [{"name": "web"}]}));
    let (probes, _) = chosen(Kind::Deployment, &template, &[to(json!([{"port": 8080}]))], false);
    assert_eq!(probes, [("web".to_owned(), 8080)]);
}

#[test]
fn ambiguous_port_gets_a_warning_and_no_probe() {
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
fn workloads_unsuitable_for_a_probe_get_none() {
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
fn without_a_service_only_a_created_workload_with_one_port_is_probed() {
    let served = json!([{"containerPort": 8080, "name": "http"}]);
    let single = pods(json!({"containers": [{"name": "web", "ports": served}]}));
    assert_eq!(chosen(Kind::Deployment, &single, &[], true).0, [("web".to_owned(), 8080)]);
    assert_eq!(chosen(Kind::Deployment, &single, &[], false).0, []);
    let several =
        pods(json!({"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2}]}]}));
    for (template, ports) in [(&several, "[1, 2]"), (&two_containers(), "[8080, 15001]")] {
        let (probes, warnings) = chosen(Kind::Deployment, template, &[], true);
        assert_eq!(probes, []);
        assert!(warnings.len() == 1 && warnings[0].contains(ports), "{warnings:?}");
        assert_eq!(chosen(Kind::Deployment, template, &[], false), (vec![], vec![]), "it is not a creation");
    }
    let with_logs = pods(
        json!({"containers": [{"name": "web", "ports": [{"containerPort": 8080, "name": "http"}]}, {"name": "logs"}]}),
    );
    let (probes, warnings) = chosen(Kind::Deployment, &with_logs, &[], true);
    assert_eq!(probes, []);
    assert!(
        warnings.len() == 1
            && warnings[0].contains("several containers: set adieu.dev/readiness-probe to tcp:8080"),
        "{warnings:?}"
    );
    let twice = json!([{"containerPort": 1}, {"containerPort": 1, "name": "http", "protocol": "TCP"}]);
    let same = pods(json!({"containers": [{"name": "a", "ports": twice}]}));
    assert_eq!(chosen(Kind::Deployment, &same, &[], true), (vec![("a".to_owned(), 1)], vec![]));
}

/// A container with one port of that name, if it has one.
fn one_port(number: i64, name: Option<&str>) -> Value {
    let mut port = json!({"containerPort": number});
    if let Some(name) = name {
        port["name"] = json!(name);
    }
    pods(json!({"containers": [{"name": "app", "ports": [port]}]}))
}

#[test]
fn without_a_service_the_port_name_must_be_a_served_protocol() {
    for name in ["http", "http-web", "http2", "h2c", "grpc", "grpc-api", "web", "web1", "www", "ws", "api"] {
        let (probes, warnings) = chosen(Kind::Deployment, &one_port(3000, Some(name)), &[], true);
        assert_eq!((probes, warnings), (vec![("app".to_owned(), 3000)], vec![]), "{name}");
    }
    for name in [None, Some("metrics"), Some("admin"), Some("jobs"), Some("internal-http")] {
        let (probes, warnings) = chosen(Kind::Deployment, &one_port(3000, name), &[], true);
        assert_eq!(probes, [], "{name:?}");
        let [warning] = warnings.as_slice() else { unreachable!("{name:?}: {warnings:?}") };
        for part in ["port 3000", "adieu.dev/readiness-probe to tcp:3000 or never"] {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(chosen(Kind::Deployment, &one_port(3000, name), &[], false), (vec![], vec![]));
    }
    let others = [service(json!({"selector": {"app": "web", "tier": "back"}, "ports": [{"port": 3000}]}))];
    assert_eq!(chosen(Kind::Deployment, &one_port(3000, None), &others, true).0, [], "it selects others");
}

#[test]
fn undeclared_service_port_gets_no_probe_if_others_are_declared() {
    let udp = json!({"containers": [{"name": "app", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]});
    for template in [one_port(8080, Some("http")), pods(udp)] {
        let (probes, warnings) = chosen(Kind::Deployment, &template, &[to(json!([{"port": 80}]))], true);
        assert_eq!(probes, []);
        let [warning] = warnings.as_slice() else { unreachable!("{warnings:?}") };
        assert!(warning.contains("port 80 of Service \"web\" is declared by no container"), "{warning}");
        assert!(warning.contains("set its targetPort"), "{warning}");
    }
}

#[test]
fn tls_port_gets_no_tcp_probe() {
    for (number, name, port) in [
        (8000, Some("https"), json!({"port": 443, "targetPort": 8000})),
        (8000, Some("https-web"), json!({"port": 443, "targetPort": 8000})),
        (8000, Some("grpc-tls"), json!({"port": 443, "targetPort": 8000})),
        (8000, None, json!({"port": 443, "targetPort": 8000, "name": "https"})),
        (8000, None, json!({"port": 443, "targetPort": 8000, "appProtocol": "https"})),
        (8000, Some("http"), json!({"port": 443, "targetPort": 8000, "appProtocol": "HTTPS"})),
        (8000, None, json!({"port": 443, "targetPort": 8000, "appProtocol": "kubernetes.io/wss"})),
        (8443, None, json!({"port": 8443})),
        (443, None, json!({"port": 443})),
        (9443, Some("webhook-server"), json!({"port": 443, "targetPort": "webhook-server"})),
        (6443, None, json!({"port": 6443})),
        (636, Some("ldaps"), json!({"port": 636})),
        (5671, None, json!({"port": 5671})),
    ] {
        let services = [to(json!([port]))];
        let (probes, warnings) = chosen(Kind::Deployment, &one_port(number, name), &services, false);
        assert_eq!(probes, [], "{port}");
        let hint = format!("set adieu.dev/readiness-probe to https:{number}/PATH");
        assert!(warnings.len() == 1 && warnings[0].contains(&hint), "{port}: {warnings:?}");
    }
    let (probes, warnings) = chosen(Kind::Deployment, &one_port(8443, Some("https")), &[], true);
    assert!(probes.is_empty() && warnings[0].contains("https:8443/PATH"), "on creation: {warnings:?}");
}

/// A load balancer terminates TLS.
#[test]
fn plain_port_behind_tls_termination_is_probed() {
    for (name, ports) in [
        (Some("http"), json!([{"port": 443, "name": "https", "targetPort": 8080}])),
        (None, json!([{"port": 443, "name": "https", "targetPort": 8080, "appProtocol": "http"}])),
        (
            None,
            json!([
                {"port": 443, "name": "https", "targetPort": 8080}, {"port": 80, "name": "http", "targetPort": 8080},
            ]),
        ),
        (Some("http"), json!([{"port": 443, "targetPort": "http"}])),
    ] {
        let services = [to(ports.clone())];
        let probed = chosen(Kind::Deployment, &one_port(8080, name), &services, false);
        assert_eq!(probed, (vec![("app".to_owned(), 8080)], vec![]), "{ports}");
    }
    let services = [to(json!([{"port": 443, "targetPort": 8443}]))];
    assert_eq!(
        chosen(Kind::Deployment, &one_port(8443, Some("http")), &services, false).0,
        [("app".to_owned(), 8443)],
        "a name wins over a number"
    );
}

#[test]
fn port_whose_server_counts_bare_connections_gets_no_tcp_probe() {
    for (number, name, protocol) in [
        (3306, None, "MySQL"),
        (33060, None, "MySQL"),
        (3307, Some("mysql"), "MySQL"),
        (3307, Some("tcp-mariadb"), "MySQL"),
        (22, None, "SSH"),
        (2222, Some("sftp"), "SSH"),
    ] {
        let services = [to(json!([{"port": number}]))];
        for (services, creating) in [(&services[..], false), (&[][..], true)] {
            if services.is_empty() && name.is_none() {
                continue;
            }
            let (probes, warnings) = chosen(Kind::Deployment, &one_port(number, name), services, creating);
            assert_eq!(probes, [], "{number}");
            assert!(warnings.len() == 1 && warnings[0].contains(protocol), "{number}: {warnings:?}");
        }
    }
    let redis = [to(json!([{"port": 6379}]))];
    assert_eq!(chosen(Kind::Deployment, &one_port(6379, None), &redis, false).1, Vec::<String>::new());
}

#[test]
fn recreate_strategy_gets_no_probe() {
    let (template, services) = (one_port(8080, Some("http")), [to(json!([{"port": 8080}]))]);
    let annotations = BTreeMap::new();
    let rolling = Workload::new(Kind::Deployment, &annotations, &template);
    assert_eq!(chosen_for(&rolling, &services, true).0, [("app".to_owned(), 8080)]);
    let recreating = Workload { recreates: true, ..rolling };
    assert_eq!(chosen_for(&recreating, &services, true), (vec![], vec![]));
}

#[test]
fn leader_election_prevents_an_automatic_probe() {
    let services = [to(json!([{"port": 80, "targetPort": "http"}]))];
    let elects = |list: &str, argument: &str| {
        let mut template = one_port(9090, Some("http"));
        template["spec"]["containers"][0][list] = json!(["--listen=:9090", argument]);
        chosen(Kind::Deployment, &template, &services, false)
    };
    for argument in ["--enable-leader-election", "--leader-elect=true", "-leader-elect"] {
        for list in ["command", "args"] {
            let (probes, warnings) = elects(list, argument);
            assert_eq!(probes, [], "{argument}");
            assert!(warnings.len() == 1 && warnings[0].contains(argument), "{warnings:?}");
            assert!(warnings[0].contains("adieu.dev/readiness-probe to tcp:9090"), "{warnings:?}");
        }
    }
    let (_, warnings) = elects("args", &format!("--leader-elect\u{1b}[2J\n{}", "x".repeat(10_000)));
    assert!(warnings[0].len() < 500 && !warnings[0].contains(char::is_control), "{warnings:?}");
    for argument in ["--enableLeaderElection=true", "--leader_elect", "-leaderElection"] {
        assert_eq!(elects("args", argument).0, [], "{argument}");
    }
    let (probes, warnings) = elects("args", "exec /manager --leader-elect --metrics=:9090");
    assert!(
        probes.is_empty() && warnings[0].contains("with --leader-elect perhaps"),
        "in a script: {warnings:?}"
    );
    let variable = |name: &str, value: &str| {
        let mut template = one_port(9090, Some("http"));
        template["spec"]["containers"][0]["env"] = json!([{"name": "A"}, {"name": name, "value": value}]);
        chosen(Kind::Deployment, &template, &services, false)
    };
    let (probes, warnings) = variable("ENABLE_LEADER_ELECTION", "true");
    assert!(probes.is_empty() && warnings[0].contains("with ENABLE_LEADER_ELECTION perhaps"), "{warnings:?}");
    let probed = (vec![("app".to_owned(), 9090)], vec![]);
    for argument in [
        "--leader-elect=false",
        "--leader-elect=False",
        "--leader-elect=0",
        "--leader-elect=",
        "--skip-leader-election",
        "leader-elector",
        "--disable-leader-election",
        "--no-leader-elect",
    ] {
        assert_eq!(elects("args", argument), probed, "{argument}");
    }
    for (name, value) in
        [("LEADER_ELECT", "false"), ("LEADER_ELECTION_NAMESPACE", "shop"), ("NO_LEADER_ELECT", "true")]
    {
        assert_eq!(variable(name, value), probed, "{name}");
    }
}

#[test]
fn warning_for_a_probe_annotation_without_effect() {
    let configured = |from| Settings {
        readiness_probe: crate::plan::Setting {
            value: ProbeChoice {
                mode: ProbeMode::Auto,
                probe: serde_json::from_value(json!({"httpGet": {"path": "/ready", "port": 8080}})).unwrap(),
            },
            from,
        },
        ..Settings::default()
    };
    let mut template = one_port(8080, None);
    template["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8080}});
    let annotations = BTreeMap::new();
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    let context = NamespaceContext::default();
    let injection = InjectionContext::of(&workload, &context, true, &Source::WorkloadAnnotation);
    for (from, count) in
        [(Source::WorkloadAnnotation, 1), (Source::TemplateAnnotation, 1), (Source::Policy("all".into()), 0)]
    {
        let mut warnings = Warnings::default();
        assert!(choose(&template, &configured(from), &injection, &mut warnings).is_empty());
        let warnings = warnings.into_vec();
        assert_eq!(warnings.len(), count, "{warnings:?}");
        assert!(
            warnings.iter().all(|w| w.contains("container \"app\": its own readinessProbe is kept")),
            "{warnings:?}"
        );
    }
    let mut other = one_port(8080, None);
    other["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "b", "readinessProbe": {"exec": {}}}));
    let mut warnings = Warnings::default();
    let probes = choose(&other, &configured(Source::WorkloadAnnotation), &injection, &mut warnings);
    let warnings = warnings.into_vec();
    assert!(probes.contains_key("app") && warnings.is_empty(), "{warnings:?}");
}

#[test]
fn native_sidecar_behind_a_service_gets_no_probe() {
    let template = pods(json!({
        "containers": [{"name": "app"}],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 4180, "name": "http"}]}],
    }));
    for port in [json!(4180), json!("http")] {
        let services = [to(json!([{"port": 80, "targetPort": port}]))];
        assert_eq!(chosen(Kind::Deployment, &template, &services, false), (vec![], vec![]), "{port}");
    }
}

#[test]
fn number_of_service_ports_is_limited() {
    let probed_after = |others: usize| {
        let undeclared = to(vec![json!({"port": 9999}); others].into());
        let services = [undeclared, to(json!([{"port": 80, "targetPort": 8080}]))];
        chosen(Kind::Deployment, &two_containers(), &services, false).0.len()
    };
    assert_eq!([limits::SERVICE_PORTS - 1, limits::SERVICE_PORTS].map(probed_after), [1, 0]);
}

#[test]
fn length_of_a_port_name_is_limited() {
    let probed = |length: usize| {
        let name = "n".repeat(length);
        let services = [to(json!([{"port": 80, "targetPort": name}]))];
        chosen(Kind::Deployment, &one_port(8080, Some(&name)), &services, false).0.len()
    };
    assert_eq!([limits::PORT_NAME_LENGTH, limits::PORT_NAME_LENGTH + 1].map(probed), [1, 0]);
}

//! Which findings are errors, and which conditions make them warnings or prevent them.

use serde_json::{Value, json};

use crate::{Inventory, Limit, Options, Rule, Severity, audit};

/// The findings about manifests, with the severity of each.
fn findings(objects: &[&Value], options: &Options) -> Vec<(Rule, Severity)> {
    let mut inventory = Inventory::new("shop");
    for object in objects {
        let [version, kind] = ["apiVersion", "kind"].map(|field| object[field].as_str().unwrap());
        inventory.add(0, version, kind, object).unwrap();
    }
    let found = audit(&inventory, options).findings;
    found.iter().map(|finding| (finding.rule, finding.severity)).collect()
}

/// The severity with which a rule reports a workload behind a Service.
fn severity(rule: Rule, workload: &Value) -> Option<Severity> {
    let found = findings(&[workload, &service("web", 8080)], &Options::default());
    found.into_iter().find(|(other, _)| *other == rule).map(|(_, severity)| severity)
}

/// A Service that selects the pods of `workload`.
fn service(port_name: &str, port: i64) -> Value {
    let ports = json!([{"name": port_name, "port": port}]);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}})
}

/// A container that serves on port 8080, and accepts no connections as soon as it is stopped, with more fields.
fn container(more: Value) -> Value {
    let mut container = json!({"name": "web", "image": "nginx", "ports": [{"containerPort": 8080}]});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

fn workload(kind: &str, replicas: i64, containers: Value) -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}});
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "template": template},
    })
}

fn deployment(replicas: i64, more: Value) -> Value {
    workload("Deployment", replicas, json!([container(more)]))
}

/// A hook that sleeps.
fn hook(seconds: i64) -> Value {
    json!({"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}})
}

/// The same workload with another value at a path.
fn with(mut workload: Value, path: &str, value: Value) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap();
    workload.pointer_mut(parent).unwrap()[field] = value;
    workload
}

const ERROR: Option<Severity> = Some(Severity::Error);
const WARNING: Option<Severity> = Some(Severity::Warning);

/// A container with an image, whose command accepts no connections as soon as it is stopped.
fn image(image: &str) -> Value {
    json!({"image": image, "command": ["java", "-jar", "app.jar"]})
}

#[test]
fn a_missing_hook_is_an_error_if_the_workload_serves_without_a_gap_otherwise() {
    let strategy = |strategy: Value| with(deployment(1, json!({})), "/spec/strategy", strategy);
    let surge = |surge: Value| strategy(json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1}}));
    for (workload, expected) in [
        (deployment(2, json!({})), ERROR),
        (deployment(2, image("registry.example/web:1")), ERROR),
        (deployment(2, json!({"image": "registry.example/web:1"})), WARNING),
        (deployment(1, json!({})), WARNING),
        (deployment(2, hook(10)), None),
        (workload("StatefulSet", 3, json!([container(json!({}))])), WARNING),
        (workload("DaemonSet", 3, json!([container(json!({}))])), WARNING),
        (strategy(json!({"type": "Recreate"})), None),
        (surge(json!(0)), None),
        (surge(json!("0%")), None),
        (surge(json!(1)), WARNING),
        (with(surge(json!(0)), "/spec/replicas", json!(2)), ERROR),
        (deployment(2, json!({"args": ["--port=8080"]})), ERROR),
        (deployment(2, image("ko://knative.dev/serving/test/test_images/autoscale")), ERROR),
        (deployment(2, json!({"name": "istio-proxy"})), WARNING),
        (deployment(2, json!({"image": "auto"})), None),
        (deployment(2, json!({"image": "controller-override"})), None),
    ] {
        assert_eq!(severity(Rule::NoPrestopBehindService, &workload), expected, "{workload}");
    }
}

#[test]
fn a_missing_hook_is_not_reported_if_the_container_serves_after_sigterm() {
    let args = |argument: &str| json!({"args": [argument]});
    let env = |name: &str, value: &str| json!({"env": [{"name": name, "value": value}]});
    for (container, expected) in [
        (args("--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=10s"), None),
        (args("--shutdown-delay-duration=20s"), None),
        (args("--shutdown-delay-duration=0s"), ERROR),
        (args("-Dquarkus.shutdown.delay=10s"), None),
        (env("SHUTDOWN_DELAY_SECONDS", "10"), None),
        (env("SHUTDOWN_DELAY_SECONDS", "0"), ERROR),
        (env("READINESS_SHUTDOWN_DURATION", "10s"), None),
        (env("SHUTDOWN_TIMEOUT_SECONDS", "10"), ERROR),
        (image("registry.k8s.io/coredns/coredns:v1.12.0"), None),
        (image("gcr.io/knative-releases/knative.dev/serving/cmd/activator@sha256:0a"), None),
        (image("gcr.io/tekton-releases/github.com/tektoncd/pipeline/cmd/webhook-d4:v1"), None),
        (image("ghcr.io/stefanprodan/podinfo:6.9.0"), None),
        (image("registry.opensource.zalan.do/teapot/skipper:v0.22.170"), None),
        (image("openpolicyagent/gatekeeper:v3.24.0"), None),
        (image("us-docker.pkg.dev/google-samples/containers/gke/whereami:v1.2.20"), None),
        (image("tensorflow/serving:2.19.0"), None),
        (image("pytorch/torchserve:0.12.0-cpu"), None),
    ] {
        let workload = deployment(2, container);
        assert_eq!(severity(Rule::NoPrestopBehindService, &workload), expected, "{workload}");
    }
}

#[test]
fn containers_without_users_and_telemetry_collectors_are_not_reported() {
    for image in [
        "otel/opentelemetry-collector-contrib:0.150.0",
        "fluent/fluentd:v1.19",
        "prom/node-exporter:v1.10.2",
        "registry.k8s.io/defaultbackend-amd64:1.5",
        "gcr.io/google-samples/microservices-demo/loadgenerator:v0.10.4",
    ] {
        let found =
            findings(&[&deployment(1, json!({"image": image})), &service("web", 8080)], &Options::default());
        assert!(found.is_empty(), "{image}: {found:?}");
    }
}

#[test]
fn a_missing_hook_is_no_error_if_process_1_may_ignore_sigterm() {
    let command = |words: &[&str]| deployment(2, json!({"command": words}));
    let script = |script: &str| command(&["sh", "-c", script]);
    let shared = |field: &str| {
        with(command(&["node", "server.js"]), &format!("/spec/template/spec/{field}"), json!(true))
    };
    for (workload, expected) in [
        (command(&["/server"]), WARNING),
        (command(&["dotnet", "app.dll"]), ERROR),
        (command(&["node", "server.js"]), WARNING),
        (command(&["python3", "-m", "http.server"]), WARNING),
        (command(&["python3", "-m", "uvicorn", "app:app"]), ERROR),
        (script("while true; do nc -l -p 8080; done"), WARNING),
        (script("migrate; exec /server"), WARNING),
        (script("/server | tee /log"), None),
        (with(script("/server | tee /log"), "/spec/template/spec/hostPID", json!(true)), ERROR),
        (shared("shareProcessNamespace"), ERROR),
        (shared("hostPID"), ERROR),
        (shared("hostNetwork"), WARNING),
    ] {
        assert_eq!(severity(Rule::NoPrestopBehindService, &workload), expected, "{workload}");
    }
}

#[test]
fn a_missing_hook_is_no_error_beside_a_headless_service_with_the_same_port() {
    let headless = |port: i64| {
        let service = with(service("grpc", port), "/metadata", json!({"name": "web-headless"}));
        with(service, "/spec/clusterIP", json!("None"))
    };
    let web = deployment(2, json!({"ports": [{"containerPort": 8080}, {"containerPort": 7946}]}));
    for (port, expected) in [(8080, Severity::Warning), (7946, Severity::Error)] {
        let found = findings(&[&web, &service("grpc", 8080), &headless(port)], &Options::default());
        assert!(found.contains(&(Rule::NoPrestopBehindService, expected)), "{port}: {found:?}");
    }
}

#[test]
fn containers_that_only_wait_have_no_findings() {
    let headless = with(service("web", 8080), "/spec/clusterIP", json!("None"));
    for command in [json!(["sleep", "3600"]), json!(["sleep", "3650d"]), json!(["sh", "-c", "sleep 3600"])] {
        let idle = deployment(2, json!({"image": "ubuntu:noble", "command": command}));
        for service in [&service("web", 8080), &headless] {
            assert!(findings(&[&idle, service], &Options::default()).is_empty(), "{idle}");
        }
    }
}

#[test]
fn a_job_that_only_waits_completes_within_the_default_grace_period() {
    let job = |command: Value| {
        let job = workload("Job", 1, json!([{"name": "job", "image": "job", "command": command}]));
        with(with(job, "/apiVersion", json!("batch/v1")), "/spec/backoffLimit", json!(0))
    };
    for (command, expected) in [
        (json!(["sleep", "10"]), None),
        (json!(["sleep", "30"]), WARNING),
        (json!(["migrate"]), WARNING),
        (json!(null), WARNING),
    ] {
        assert_eq!(severity(Rule::JobWithoutGrace, &job(command.clone())), expected, "{command}");
    }
}

#[test]
fn lost_connections_of_databases_and_requests_of_monitoring_are_not_reported() {
    let with_port = |port: i64| deployment(2, json!({"ports": [{"containerPort": port}]}));
    let of_service = |name: &str, port_name: &str, port: i64| {
        let service = with(service(port_name, port), "/metadata", json!({"name": name}));
        let found = findings(&[&with_port(port), &service], &Options::default());
        let found = found.into_iter().find(|(rule, _)| *rule == Rule::NoPrestopBehindService);
        found.map(|(_, severity)| severity)
    };
    for (name, port, expected) in [
        ("web", 8080, ERROR),
        ("redis", 6379, None),
        ("amqp", 5672, None),
        ("openwire", 61616, None),
        ("grpc-xds", 15010, None),
        ("otlp", 4317, None),
        ("dubbo-qos", 22222, None),
        ("http-prom", 8080, None),
        ("metrics", 8080, None),
        ("probes", 8080, None),
    ] {
        assert_eq!(of_service("web", name, port), expected, "{name}");
    }
    for (name, expected) in [
        ("controller-manager-metrics-service", None),
        ("web-metrics", None),
        ("metrics-server", ERROR),
        ("web-service", ERROR),
    ] {
        assert_eq!(of_service(name, "https", 8443), expected, "{name}");
    }
}

#[test]
fn a_job_behind_a_service_is_not_replaced_by_a_rollout() {
    let job = with(workload("Job", 1, json!([container(json!({}))])), "/apiVersion", json!("batch/v1"));
    assert!(findings(&[&job, &service("web", 8080)], &Options::default()).is_empty());
}

#[test]
fn a_hook_is_an_error_only_if_it_takes_the_whole_grace_period() {
    let script =
        |script: &str| json!({"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", script]}}}});
    let with_grace = |hook: Value, grace: i64| {
        with(deployment(1, hook), "/spec/template/spec/terminationGracePeriodSeconds", json!(grace))
    };
    for (workload, expected) in [
        (deployment(1, hook(30)), ERROR),
        (deployment(1, hook(40)), ERROR),
        (deployment(1, hook(29)), WARNING),
        (deployment(1, hook(25)), None),
        (with_grace(hook(60), 60), ERROR),
        (with_grace(hook(10), 0), ERROR),
        (deployment(1, script("sleep 40")), ERROR),
        (deployment(1, script("killall -INT pgbouncer && sleep 40")), WARNING),
        (with_grace(script("kill -QUIT 1; sleep 40"), 0), ERROR),
        (with_grace(hook(0), 0), None),
        (with_grace(hook(60), 90), None),
    ] {
        assert_eq!(severity(Rule::GraceTooShort, &workload), expected, "{workload}");
    }
}

#[test]
fn a_hook_that_fails_is_an_error_if_the_container_serves_without_a_gap_otherwise() {
    let failing = json!({"image": "gcr.io/distroless/static", "lifecycle": {"preStop": {"exec": {"command": ["sleep", "10"]}}}});
    let windows = |hook: &str| {
        let pod = deployment(2, json!({"lifecycle": {"preStop": {"exec": {"command": [hook]}}}}));
        with(pod, "/spec/template/spec/os", json!({"name": "windows"}))
    };
    let worker = with(failing.clone(), "/ports", json!([]));
    let server = container(hook(10));
    for (workload, expected) in [
        (deployment(2, failing.clone()), ERROR),
        (deployment(1, failing.clone()), WARNING),
        (workload("StatefulSet", 2, json!([container(failing)])), WARNING),
        (workload("Deployment", 2, json!([server, with(worker, "/name", json!("worker"))])), WARNING),
        (windows("/bin/sleep"), ERROR),
        (windows("sh"), ERROR),
        (windows("/app/drain"), None),
    ] {
        assert_eq!(severity(Rule::PrestopNeedsBinary, &workload), expected, "{workload}");
    }
}

#[test]
fn a_proxy_that_stops_first_is_an_error_if_requests_need_it() {
    let pod = |replicas: i64, proxy: Value, hook: Value| {
        workload("Deployment", replicas, json!([container(hook), proxy]))
    };
    let proxy = |name: &str| json!({"name": name, "image": "proxy"});
    let unknown = json!({"lifecycle": {"preStop": {"exec": {"command": ["/drain"]}}}});
    let waiting = json!({"name": "cloud-sql-proxy", "image": "proxy", "args": ["--max-sigterm-delay=30s"]});
    let receiving = json!({"name": "oauth2-proxy", "image": "proxy", "ports": [{"containerPort": 8080}]});
    let behind = json!({"ports": [{"containerPort": 9000}], "lifecycle": hook(10)["lifecycle"]});
    for (workload, expected) in [
        (pod(2, proxy("cloud-sql-proxy"), hook(10)), ERROR),
        (pod(1, proxy("cloud-sql-proxy"), hook(10)), WARNING),
        (pod(2, proxy("cloud-sql-proxy"), unknown), WARNING),
        (pod(2, proxy("cloud-sql-proxy"), json!({})), None),
        (pod(2, proxy("cloud-sql-proxy"), json!({"ports": [], "lifecycle": hook(10)["lifecycle"]})), WARNING),
        (pod(2, proxy("istio-proxy"), hook(10)), WARNING),
        (pod(2, proxy("vault-agent"), hook(10)), None),
        (pod(2, waiting, hook(10)), None),
        (pod(2, receiving, behind), None),
    ] {
        assert_eq!(severity(Rule::LegacySidecarWithoutPrestop, &workload), expected, "{workload}");
    }
}

#[test]
fn blocked_drains_and_starved_sidecars_lose_no_requests() {
    let web = deployment(2, hook(10));
    let budget = |name: &str, spec: Value| {
        let spec = with(spec, "/selector", json!({"matchLabels": {"app": "web"}}));
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec})
    };
    let blocking = budget("all", json!({"minAvailable": 2}));
    let one = budget("one", json!({"maxUnavailable": 1}));
    let sidecar = with(container(hook(30)), "/restartPolicy", json!("Always"));
    let with_sidecar = with(web.clone(), "/spec/template/spec/initContainers", json!([sidecar]));
    for (objects, expected) in [
        (vec![&web, &blocking], Rule::PdbBlocksDrain),
        (vec![&web, &one, &blocking], Rule::TwoPdbs),
        (vec![&with_sidecar, &one], Rule::NativeSidecarStarved),
    ] {
        let found = findings(&objects, &Options::default());
        assert!(found.contains(&(expected, Severity::Warning)), "{expected}: {found:?}");
        assert!(found.iter().all(|(_, severity)| *severity == Severity::Warning), "{found:?}");
    }
}

#[test]
fn of_several_definitions_of_an_object_the_last_one_counts() {
    let web = deployment(2, hook(10));
    let budget = |spec: Value| {
        let spec = with(spec, "/selector", json!({"matchLabels": {"app": "web"}}));
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec})
    };
    let [blocking, one] = [json!({"minAvailable": 2}), json!({"maxUnavailable": 1})].map(budget);
    for (objects, expected) in [
        (vec![&web, &one, &one], vec![]),
        (vec![&web, &blocking, &one], vec![]),
        (vec![&web, &one, &blocking], vec![(Rule::PdbBlocksDrain, Severity::Warning)]),
    ] {
        assert_eq!(findings(&objects, &Options::default()), expected);
    }
}

#[test]
fn a_single_database_under_recreate_is_not_reported() {
    let recreate = |port: i64| {
        let workload = deployment(1, json!({"ports": [{"containerPort": port}]}));
        with(workload, "/spec/strategy", json!({"type": "Recreate"}))
    };
    for (port, expected) in [(8080, vec![(Rule::SingleReplicaRecreate, Severity::Warning)]), (6379, vec![])] {
        assert_eq!(
            findings(&[&recreate(port), &service("web", port)], &Options::default()),
            expected,
            "{port}"
        );
    }
}

#[test]
fn the_default_grace_period_is_over_a_limit_only_with_a_longer_hook() {
    let options = Options { limits: vec![Limit::node_shutdown(20)], ..Options::default() };
    let grace = |more: Value, seconds: i64| {
        with(deployment(1, more), "/spec/template/spec/terminationGracePeriodSeconds", json!(seconds))
    };
    for (workload, expected) in [
        (deployment(1, hook(10)), false),
        (deployment(1, hook(21)), true),
        (grace(hook(10), 30), false),
        (grace(hook(10), 31), true),
        (grace(json!({}), 60), true),
        (grace(hook(10), 20), false),
    ] {
        let found = findings(&[&workload], &options).contains(&(Rule::GraceOverLimit, Severity::Warning));
        assert_eq!(found, expected, "{workload}");
    }
}

//! Pod templates.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{APP, fields, instructions, maybe, merge, probes, some_of};

const CONTAINERS: [&str; 6] = [
    "app",
    "istio-proxy",
    "log-shipper",
    "a",
    "0-begins-with-a-digit",
    "a-name-of-sixty-three-characters-which-is-all-that-fits-a-label",
];
const INIT_CONTAINERS: [&str; 4] = ["migrate", "mesh", "wait-for-db", "vault-agent"];

/// The API server's default.
const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// A workload's pod template.
pub fn template() -> BoxedStrategy<Value> {
    (metadata(), spec()).prop_map(|(metadata, spec)| json!({"metadata": metadata, "spec": spec})).boxed()
}

fn metadata() -> BoxedStrategy<Value> {
    let labels = prop_oneof![
        60 => prop::sample::select(vec![
            Some(json!({"app": APP})),
            Some(json!({"app": APP, "pod-template-hash": "", "app.kubernetes.io/managed-by": "Helm"})),
        ]),
        1 => prop::sample::select(vec![
            Some(json!({"app": APP, "adieu.dev/injection": "enabled"})),
            Some(json!({"app": APP, "adieu.dev/injection": "disabled"})),
            Some(json!({})),
            Some(Value::Null),
            None,
        ]),
    ];
    let own = prop::sample::select(vec![
        json!({}),
        json!({"checksum/config": "0a1b2c", "prometheus.io/scrape": "true"}),
        json!({"sidecar.istio.io/inject": "yes", "version": "012"}),
    ]);
    let both = (own, instructions()).prop_map(|(mut own, instructions)| {
        merge(&mut own, instructions);
        own
    });
    let annotations = prop_oneof![2 => maybe(own_only()), 1 => both.prop_map(Some)];
    (labels, annotations)
        .prop_map(|(labels, annotations)| fields([("labels", labels), ("annotations", annotations)]))
        .boxed()
}

fn own_only() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![json!({}), json!({"checksum/config": "0a1b2c"})])
}

fn spec() -> BoxedStrategy<Value> {
    let platform = prop_oneof![
        7 => Just(json!({})),
        1 => Just(json!({"os": {"name": "linux"}})),
        1 => Just(json!({"os": {"name": "windows"}, "nodeSelector": {"kubernetes.io/os": "windows"}})),
        2 => Just(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
    ];
    // One in ten keeps its sleeps as they are, longer than the grace period.
    let fitted = prop::bool::weighted(0.9);
    (containers(), init_containers(), grace_period(), spread(), platform, some_of(rest(), 4), fitted)
        .prop_map(|(containers, init, grace, spread, platform, rest, fitted)| {
            let mut spec = rest;
            merge(&mut spec, platform);
            merge(
                &mut spec,
                fields([
                    ("containers", Some(containers)),
                    ("initContainers", init),
                    ("terminationGracePeriodSeconds", grace),
                    ("topologySpreadConstraints", spread),
                ]),
            );
            settle(&mut spec, fitted);
            spec
        })
        .boxed()
}

fn grace_period() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        12 => Just(None),
        4 => Just(Some(Value::Null)),
        4 => Just(Some(json!(0))),
        8 => Just(Some(json!(30))),
        20 => (1..=200i64).prop_map(|s| Some(json!(s))),
        4 => prop::sample::select(vec![Some(json!(3600)), Some(json!(86_400)), Some(json!(i64::MAX))]),
        // A variable, and values that the API server rejects.
        1 => prop::sample::select(vec![Some(json!("${GRACE}")), Some(json!("20")), Some(json!(20.5))]),
    ]
}

fn spread() -> impl Strategy<Value = Option<Value>> {
    maybe(prop::sample::select(vec![
        json!([]),
        json!([{
            "maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": APP}}, "nodeTaintsPolicy": "Honor",
        }]),
    ]))
}

/// In every order.
fn containers() -> BoxedStrategy<Value> {
    let names = Just(CONTAINERS.to_vec()).prop_shuffle();
    (names, prop::collection::vec(container(), 1..=3))
        .prop_map(|(names, containers)| named(names, containers))
        .boxed()
}

fn init_containers() -> BoxedStrategy<Option<Value>> {
    let names = Just(INIT_CONTAINERS.to_vec()).prop_shuffle();
    let init = (names, prop::collection::vec(init_container(), 0..=2))
        .prop_map(|(names, containers)| named(names, containers));
    maybe(init).boxed()
}

/// The containers and native sidecars that a mesh adds to a pod.
pub fn additions() -> BoxedStrategy<[Value; 2]> {
    let plain = || prop_oneof![Just(json!({"image": "mesh:1"})), container()];
    let containers = prop::collection::vec(plain(), 0..=2);
    let sidecars = prop::collection::vec(plain(), 0..=2);
    (containers, sidecars)
        .prop_map(|(containers, mut sidecars)| {
            for sidecar in &mut sidecars {
                sidecar["restartPolicy"] = json!("Always");
            }
            [
                named(vec!["mesh-proxy", "mesh-dns"], containers),
                named(vec!["mesh-init", "mesh-native"], sidecars),
            ]
        })
        .boxed()
}

fn named(names: Vec<&str>, containers: Vec<Value>) -> Value {
    let named = names.into_iter().zip(containers).map(|(name, mut container)| {
        container["name"] = json!(name);
        container
    });
    named.collect()
}

fn container() -> BoxedStrategy<Value> {
    let ports = maybe(ports());
    let probes = (probes::readiness(), probes::liveness(), probes::liveness());
    (probes::lifecycle(), ports, probes, some_of(container_rest(), 3))
        .prop_map(|(lifecycle, ports, (readiness, liveness, startup), mut container)| {
            let own = fields([
                ("image", Some(json!("registry.example/web:1"))),
                ("lifecycle", lifecycle),
                ("ports", ports),
                ("readinessProbe", readiness),
                ("livenessProbe", liveness),
                ("startupProbe", startup),
            ]);
            merge(&mut container, own);
            container
        })
        .boxed()
}

/// An init container that exits, or a native sidecar. Only the latter may have hooks and probes.
fn init_container() -> BoxedStrategy<Value> {
    let plain = prop::sample::select(vec![
        json!({"image": "registry.example/migrate:1", "command": ["migrate", "up"]}),
        json!({"image": "registry.example/migrate:1", "restartPolicy": null}),
        json!({"image": "registry.example/migrate:1", "lifecycle": null, "resources": {"limits": {"cpu": "1"}}}),
    ]);
    let sidecar = container().prop_map(|mut container| {
        container["restartPolicy"] = json!("Always");
        container
    });
    let odd = prop::sample::select(vec!["OnFailure", "Never", "Sometimes"]);
    let odd = odd.prop_map(|policy| json!({"image": "registry.example/migrate:1", "restartPolicy": policy}));
    prop_oneof![10 => plain, 10 => sidecar, 1 => odd].boxed()
}

/// Ports, some with two protocols for one number, some without a name.
fn ports() -> BoxedStrategy<Value> {
    let all = vec![
        json!({"containerPort": 8080, "name": "http"}),
        json!({"containerPort": 8080, "name": "quic", "protocol": "UDP"}),
        json!({"containerPort": 8081, "name": "admin", "protocol": "TCP"}),
        json!({"containerPort": 9000}),
        json!({"containerPort": 9090, "name": "metrics"}),
        json!({"containerPort": 8443, "name": "https"}),
        json!({"containerPort": 3306, "name": "mysql"}),
        json!({"containerPort": 53, "protocol": "UDP", "hostIP": null}),
        json!({"containerPort": 53, "protocol": "TCP", "name": "dns-tcp"}),
        json!({"containerPort": 9100, "protocol": "SCTP"}),
    ];
    let host =
        prop_oneof![14 => Just(None), 1 => Just(Some(json!({"containerPort": 9200, "hostPort": 9200})))];
    (prop::sample::subsequence(all, 0..=3).prop_shuffle(), host)
        .prop_map(|(ports, host)| ports.into_iter().chain(host).collect())
        .boxed()
}

/// Other fields of a container.
fn container_rest() -> Vec<Value> {
    vec![
        json!({"command": ["/web"], "args": ["--listen=:8080", "--flag=yes"]}),
        json!({"args": ["--leader-elect"]}),
        json!({"env": [
            {"name": "DEBUG", "value": "on"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
        ]}),
        json!({"env": null, "envFrom": [{"prefix": "C_", "configMapRef": {"name": "c"}}]}),
        json!({"resources": {"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"memory": "0.5Gi"}}}),
        json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
        json!({"securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "readOnlyRootFilesystem": true, "runAsUser": 65532,
        }}),
        json!({"volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "web"}]}),
        json!({"workingDir": "/srv", "stdin": true, "tty": true}),
        json!({"imagePullPolicy": "IfNotPresent", "terminationMessagePolicy": "FallbackToLogsOnError"}),
        json!({"restartPolicy": "Always"}),
        json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}),
        json!({"ports": [], "volumeDevices": null}),
        json!({"fieldOfTheFuture": {"kept": true}}),
    ]
}

/// Other fields of a pod.
fn rest() -> Vec<Value> {
    vec![
        json!({"restartPolicy": "Always"}),
        json!({"restartPolicy": null, "securityContext": {}}),
        json!({"securityContext": {
            "runAsNonRoot": true, "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"},
            "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}],
        }}),
        json!({"hostAliases": [{"ip": "127.0.0.1", "hostnames": ["foo.local"]}]}),
        json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"], "options": [{"name": "ndots", "value": "2"}]}}),
        json!({"tolerations": [{"operator": "Exists"}, {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60}]}),
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": APP}}, "topologyKey": "kubernetes.io/hostname"},
        ]}}}),
        json!({"nodeSelector": {"disk": "ssd"}, "schedulerName": "other"}),
        json!({"serviceAccountName": "web", "automountServiceAccountToken": false}),
        json!({"imagePullSecrets": [{"name": "registry"}], "priorityClassName": "high"}),
        json!({"shareProcessNamespace": true, "enableServiceLinks": false}),
        json!({"readinessGates": [{"conditionType": "elbv2.k8s.aws/tg"}]}),
        json!({"runtimeClassName": "gvisor", "hostname": "web", "subdomain": "peers", "setHostnameAsFQDN": true}),
        json!({"hostPID": true, "hostIPC": true}),
        json!({"hostUsers": false}),
        json!({"schedulingGates": [{"name": "example.com/quota"}]}),
        json!({"ephemeralContainers": []}),
        json!({"ephemeralContainers": null, "resourceClaims": []}),
        json!({"fieldOfTheFuture": {"kept": true}}),
    ]
}

/// Makes fields consistent: mounts have volumes, Windows pods have no fields of Linux, and with `fitted` no sleep is longer
/// than the grace period.
fn settle(spec: &mut Value, fitted: bool) {
    let windows = spec["os"]["name"] == "windows";
    let grace = spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS);
    let on_host = spec["hostNetwork"] == true;
    let platform_known = spec["os"].is_object();
    let mut mounts = false;
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            mounts |= container.get("volumeMounts").is_some();
            if let Some(container) = container.as_object_mut().filter(|_| windows) {
                container.remove("securityContext");
            }
            let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) else {
                continue;
            };
            if windows || !platform_known {
                lifecycle.remove("stopSignal");
            }
            for hook in ["preStop", "postStart"] {
                let seconds = lifecycle.get_mut(hook).and_then(|hook| hook.pointer_mut("/sleep/seconds"));
                if let Some(seconds) = seconds.filter(|seconds| fitted && seconds.as_i64() > Some(grace)) {
                    *seconds = json!(grace);
                }
            }
        }
    }
    if mounts {
        spec["volumes"] = json!([{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "unused", "hostPath": {"path": "/var/log"}}]);
    }
    if let Some(spec) = spec.as_object_mut() {
        if windows {
            for field in ["securityContext", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"] {
                spec.remove(field);
            }
        }
        if on_host {
            spec.remove("hostUsers");
            spec.get_mut("securityContext")
                .and_then(Value::as_object_mut)
                .map(|context| context.remove("sysctls"));
        }
        if spec.contains_key("hostUsers") || spec.contains_key("shareProcessNamespace") {
            spec.remove("hostPID");
            spec.remove("hostIPC");
        }
    }
}

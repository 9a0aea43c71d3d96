//! Annotations, policies, Services and exposures.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    plan::{DrainOrigin, Exposures, NamespaceContext, RequiredDrain},
};
use k8s_openapi::api::core::v1::Service;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{APP, fields, merge, oddity, some_of};

/// Well-formed `adieu.dev/` annotations. Most opt in.
pub fn instructions() -> BoxedStrategy<Value> {
    let graceful = prop_oneof![8 => Just(Some("true")), 1 => Just(Some("false")), 3 => Just(None)];
    (graceful, some_of(annotations(), 3))
        .prop_map(|(graceful, mut others)| {
            merge(&mut others, fields([("adieu.dev/graceful", graceful.map(Value::from))]));
            others
        })
        .boxed()
}

fn annotations() -> Vec<Value> {
    let annotation = |key: &str, value: &str| json!({format!("adieu.dev/{key}"): value});
    [
        ("policy", "first"),
        ("policy", "nowhere"),
        ("drain-seconds", "0"),
        ("drain-seconds", "3"),
        ("drain-seconds", "90"),
        ("drain-seconds", "auto"),
        ("shutdown-timeout-seconds", "0"),
        ("shutdown-timeout-seconds", "120"),
        ("shutdown-timeout-seconds", "86400"),
        ("margin-seconds", "0"),
        ("margin-seconds", "17"),
        ("pre-stop-method", "Auto"),
        ("pre-stop-method", "Sleep"),
        ("pre-stop-method", "Exec"),
        ("pre-stop-method", "HTTPGet"),
        ("exclude-containers", "app"),
        ("exclude-containers", "log-shipper, istio-proxy,missing"),
        ("readiness-probe", "http:8080/ready"),
        ("readiness-probe", "http:http"),
        ("readiness-probe", "https:8443/ready"),
        ("readiness-probe", "tcp:9000"),
        ("readiness-probe", "grpc:9000"),
        ("readiness-probe", "never"),
        ("applied-recommendation", r#"{"shutdownTimeoutSeconds":70,"since":"2026-01-31T12:00:00Z"}"#),
        ("unknown", "x"),
    ]
    .map(|(key, value)| annotation(key, value))
    .to_vec()
}

/// Policies, Services and kubelets.
pub fn context() -> BoxedStrategy<NamespaceContext> {
    let policies = prop::collection::vec(policy(), 0..=2).prop_map(|specs| {
        let named = ["first", "second"].into_iter().zip(specs);
        named.map(|(name, spec)| Arc::new(GracefulPolicy::new(name, typed(spec)))).collect::<Vec<_>>()
    });
    let cluster_policies = prop::collection::vec(cluster_policy(), 0..=2).prop_map(|specs| {
        let named = ["defaults", "caps"].into_iter().zip(specs);
        named.map(|(name, spec)| Arc::new(ClusterGracefulPolicy::new(name, typed(spec)))).collect::<Vec<_>>()
    });
    let services: Vec<Arc<Service>> =
        services().into_iter().map(|service| Arc::new(typed(service))).collect();
    let services = prop::sample::subsequence(services, 0..=3).prop_shuffle();
    (policies, cluster_policies, services, exposures(), prop::bool::weighted(0.8))
        .prop_map(|(policies, cluster_policies, services, exposures, native_sleep)| NamespaceContext {
            policies,
            cluster_policies,
            services,
            exposures,
            native_sleep,
            ..NamespaceContext::default()
        })
        .boxed()
}

/// The exposures of the application's pods.
#[derive(Debug)]
struct OfApplication(Option<RequiredDrain>);

impl Exposures for OfApplication {
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain> {
        self.0.clone().filter(|_| labels.get("app").is_some_and(|app| app == APP))
    }
}

/// Unknown exposures, none, or one.
fn exposures() -> impl Strategy<Value = Option<Arc<dyn Exposures>>> {
    let origins =
        [DrainOrigin::BuiltIn, DrainOrigin::DrainProfiles, DrainOrigin::Measured, DrainOrigin::Object];
    let drain = (0..=400_i64, prop::sample::select(origins.to_vec())).prop_map(|(seconds, origin)| {
        RequiredDrain { seconds, exposure: "Ingress shop/web (class alb)".to_owned(), origin }
    });
    prop::option::of(prop::option::of(drain)).prop_map(|known| {
        known.map(|drain| {
            let exposures: Arc<dyn Exposures> = Arc::new(OfApplication(drain));
            exposures
        })
    })
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it has the type's fields")
}

/// The spec of a policy that the API server accepts.
pub fn policy() -> BoxedStrategy<Value> {
    let seconds = |max: i64| prop::option::of((0..=max).prop_map(Value::from));
    let drain = prop_oneof![5 => seconds(120), 1 => Just(Some(json!("Auto")))];
    let times = (drain, seconds(200), seconds(30), seconds(60));
    let method = prop_oneof![
        1 => Just(json!({"preStop": {"method": "Auto"}})),
        1 => Just(json!({"preStop": {"method": "Sleep"}})),
        1 => Just(json!({"preStop": {"method": "Exec", "existingHookPolicy": "Replace"}})),
        1 => Just(json!({"preStop": {"existingHookPolicy": "Replace"}})),
        1 => Just(json!({"preStop": {"method": "HTTPGet", "httpGet": {"path": "/prestop", "port": 8081}}})),
        1 => Just(json!({"preStop": {"method": "HTTPGet", "httpGet": {"path": "/drain?now=1", "port": "http"}, "existingHookPolicy": "Replace"}})),
        3 => Just(json!({})),
    ];
    let scope = prop::sample::select(vec![
        json!({}),
        json!({"selector": {}}),
        json!({"selector": {}, "kinds": ["Deployment", "StatefulSet", "DaemonSet"]}),
        json!({"selector": {"matchLabels": {"app": APP}}, "priority": 7}),
        json!({"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [APP]}]}}),
    ]);
    (times, method, scope, some_of(others(), 4))
        .prop_map(|((drain, shutdown, margin, sidecar), method, scope, mut spec)| {
            merge(&mut spec, method);
            merge(&mut spec, scope);
            let times = fields([
                ("drainSeconds", drain),
                ("shutdownTimeoutSeconds", shutdown),
                ("marginSeconds", margin),
                ("sidecarSeconds", sidecar),
            ]);
            merge(&mut spec, times);
            spec
        })
        .boxed()
}

fn others() -> Vec<Value> {
    let probe = |probe: Value| json!({"readinessProbe": {"probe": probe}});
    vec![
        json!({"gracePeriodPolicy": "Exact"}),
        json!({"gracePeriodPolicy": "AtLeast"}),
        json!({"maxGracePeriodSeconds": 350}),
        json!({"maxGracePeriodSeconds": 86_400}),
        json!({"mode": "Audit"}),
        json!({"injectionTarget": "Pod"}),
        json!({"rollout": {"mode": "NextUpdate"}}),
        json!({"rollout": {"mode": "Revert"}}),
        json!({"rollout": {"onExposureChange": "Progressive"}}),
        json!({"recommendations": "Apply"}),
        json!({"recommendations": "Apply", "recommendationBounds": {"minSeconds": 80, "maxSeconds": 90}}),
        json!({"excludedContainers": ["app"]}),
        json!({"excludedContainers": ["istio-proxy", "log-shipper"]}),
        json!({"topologySpread": {"topologyKey": "kubernetes.io/hostname"}}),
        json!({"disruptionBudget": {"maxUnavailable": 1}}),
        json!({"readinessProbe": {"mode": "Never"}}),
        json!({"readinessProbe": {"mode": "Auto"}}),
        probe(
            json!({"httpGet": {"path": "/ready", "port": "http", "httpHeaders": [{"name": "X-Probe", "value": "1"}]}}),
        ),
        probe(
            json!({"httpGet": {"port": 8081, "scheme": "HTTPS"}, "periodSeconds": 2, "successThreshold": 3}),
        ),
        probe(json!({"tcpSocket": {"port": "admin"}, "initialDelaySeconds": 5, "failureThreshold": 10})),
        probe(json!({"grpc": {"port": 9000, "service": "ready"}, "timeoutSeconds": 4})),
    ]
}

/// The spec of a policy that the API server may reject.
pub fn odd_policies() -> BoxedStrategy<Value> {
    let odd = [odd_specs(), odd_probes()].concat();
    (policy(), prop::sample::select(odd), prop::option::of(oddity()))
        .prop_map(|(mut spec, odd, oddity)| {
            merge(&mut spec, odd);
            if let Some(oddity) = oddity {
                oddity.apply_to(&mut spec);
            }
            spec
        })
        .boxed()
}

fn odd_specs() -> Vec<Value> {
    let hook = |get: Value| json!({"preStop": {"method": "HTTPGet", "httpGet": get}});
    vec![
        json!({}),
        json!({"drainSeconds": -1}),
        json!({"drainSeconds": 3600, "shutdownTimeoutSeconds": 86_400, "maxGracePeriodSeconds": 86_400}),
        json!({"gracePeriodPolicy": "Exact", "drainSeconds": 0, "shutdownTimeoutSeconds": 0, "marginSeconds": 0}),
        json!({"sidecarSeconds": 4000}),
        json!({"maxGracePeriodSeconds": 0}),
        json!({"excludedContainers": ["Not A Name", ""]}),
        json!({"topologySpread": {"topologyKey": "not a key"}}),
        json!({"disruptionBudget": {"maxUnavailable": 0}}),
        json!({"disruptionBudget": {"maxUnavailable": 3_000_000_000_i64}}),
        json!({"disruptionBudget": {"maxUnavailable": 10_000}}),
        json!({"disruptionBudget": {"maxUnavailable": "50%"}}),
        json!({"disruptionBudget": {"maxUnavailable": "0%"}}),
        json!({"disruptionBudget": {"maxUnavailable": "100%"}}),
        json!({"topologySpread": {"topologyKey": "example.com/zone"}}),
        json!({"excludedContainers": ["log-shipper"]}),
        hook(json!({"path": "/stop", "port": 8080})),
        json!({"selector": {"matchLabels": {"not a key": "x"}}}),
        hook(json!({"path": "no-slash", "port": 8080})),
        hook(json!({"path": "/with space\n", "port": 8080})),
        hook(json!({"path": "/", "port": 0})),
        hook(json!({"path": "/", "port": "HTTP"})),
    ]
}

fn odd_probes() -> Vec<Value> {
    let probe = |probe: Value| json!({"readinessProbe": {"probe": probe}});
    vec![
        probe(json!({"tcpSocket": {"port": 0}})),
        probe(json!({"tcpSocket": {"port": 70_000}})),
        probe(json!({"tcpSocket": {"port": ""}})),
        probe(json!({"tcpSocket": {"port": 7}})),
        probe(json!({"tcpSocket": {"port": 8080, "host": "db"}})),
        probe(json!({"tcpSocket": {"port": 8080}, "periodSeconds": -1})),
        probe(json!({"tcpSocket": {"port": 8080}, "periodSeconds": 0})),
        probe(json!({"tcpSocket": {"port": 8080}, "timeoutSeconds": -1})),
        probe(json!({"tcpSocket": {"port": 8080}, "failureThreshold": -1})),
        probe(json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": -1})),
        probe(json!({"tcpSocket": {"port": 8080}, "successThreshold": 0})),
        probe(json!({"tcpSocket": {"port": 8080}, "terminationGracePeriodSeconds": 9})),
        probe(json!({"tcpSocket": {"port": 8080}, "grpc": {"port": 8080}})),
        probe(json!({"httpGet": {"path": "no-slash", "port": "http"}})),
        probe(json!({"httpGet": {"path": "", "port": 8080}})),
        probe(json!({"httpGet": {"port": 8080, "scheme": "FTP"}})),
        probe(json!({"httpGet": {"port": 8080, "scheme": ""}})),
        probe(json!({"httpGet": {"port": 8080, "httpHeaders": [{"name": "not a name", "value": "x"}]}})),
        probe(json!({"httpGet": {"port": 8080, "httpHeaders": [{"name": "", "value": ""}]}})),
        probe(json!({"grpc": {"port": 0}})),
        probe(json!({"grpc": {"port": 70_000}})),
        probe(json!({"grpc": {"port": 8080, "service": "a/b c"}})),
        probe(json!({"exec": {"command": ["true"]}})),
        probe(json!({})),
    ]
}

/// The spec of a cluster policy that the API server accepts: any policy, or only a maximum.
fn cluster_policy() -> impl Strategy<Value = Value> {
    let cap = prop::sample::select(vec![20, 60, 300]);
    prop_oneof![2 => policy(), 1 => cap.prop_map(|cap| json!({"maxGracePeriodSeconds": cap}))]
}

fn services() -> Vec<Value> {
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let selector = json!({"app": APP});
    vec![
        service("plain", json!({"selector": selector, "ports": [{"port": 8080}]})),
        service("named", json!({"selector": selector, "ports": [{"port": 80, "targetPort": "http"}]})),
        service(
            "several",
            json!({"selector": selector, "ports": [
                {"name": "a", "port": 80, "targetPort": 8080}, {"name": "b", "port": 81, "targetPort": "admin"},
                {"name": "c", "port": 53, "protocol": "UDP", "targetPort": 53},
            ]}),
        ),
        service("peers", json!({"clusterIP": "None", "selector": selector, "ports": [{"port": 9000}]})),
        service(
            "bootstrap",
            json!({"publishNotReadyAddresses": true, "selector": selector, "ports": [{"port": 9000}]}),
        ),
        service(
            "secure",
            json!({"selector": selector, "ports": [{"port": 443, "targetPort": "https", "appProtocol": "https"}]}),
        ),
        service("undeclared", json!({"selector": selector, "ports": [{"port": 4444}]})),
        service("others", json!({"selector": {"app": "other"}, "ports": [{"port": 8080}]})),
        service("external", json!({"type": "ExternalName", "externalName": "db.example"})),
    ]
}

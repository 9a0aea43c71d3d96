//! The names and specs of the Deployments.

use serde_json::{Value, json};

/// Pods of each Deployment.
pub const PODS_EACH: i32 = 10;
/// The nodes that kwok simulates.
pub const NODES: u32 = 50;
/// The namespaces of the opted-in Deployments.
pub const NAMESPACES: u32 = 50;
/// The label of all Deployments here; its value names the client that patches them.
pub const FLEET: &str = "fleet";
/// The namespace of the Deployments for the loops.
pub const PLAIN_NAMESPACE: &str = "plain";

/// The namespace and name of a Deployment, with its node.
#[derive(Clone, Debug)]
pub struct DeploymentKey {
    pub namespace: String,
    pub name: String,
    node: String,
    owner: &'static str,
}

/// A Deployment that adieu patches.
pub fn key(number: u32) -> DeploymentKey {
    key_in_namespace(format!("fleet-{}", number % NAMESPACES), number)
}

/// A Deployment in the given namespace.
pub fn key_in_namespace(namespace: String, number: u32) -> DeploymentKey {
    DeploymentKey { namespace, name: format!("web-{number}"), node: node(number % NODES), owner: "adieu" }
}

/// A Deployment for the loops.
pub fn plain_key(number: u32) -> DeploymentKey {
    let (namespace, node) = (PLAIN_NAMESPACE.to_owned(), node(number % NODES));
    DeploymentKey { namespace, name: format!("plain-{number}"), node, owner: "loop" }
}

/// The name of a node.
pub fn node(number: u32) -> String {
    format!("fake-{number}")
}

impl DeploymentKey {
    /// A Deployment of realistic size: two containers with environment, probes and resources.
    pub fn deployment(&self) -> Value {
        let Self { namespace, name, node, owner } = self;
        let labels = json!({"app": name});
        let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5});
        let variables: Vec<_> =
            (0..12).map(|number| json!({"name": format!("SETTING_{number}"), "value": "a value"})).collect();
        let container = |name: &str| {
            json!({
                "name": name, "image": "registry.example/app:1", "env": variables,
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            })
        };
        let (mut app, proxy) = (container("app"), container("proxy"));
        app["ports"] = json!([{"name": "http", "containerPort": 8080}]);
        app["readinessProbe"] = probe.clone();
        app["livenessProbe"] = probe;
        json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {FLEET: owner}},
            "spec": {
                "replicas": PODS_EACH,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"nodeName": node, "containers": [app, proxy]},
                },
            },
        })
    }
}

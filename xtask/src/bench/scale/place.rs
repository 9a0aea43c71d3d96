//! Where each Deployment is, and what it looks like.

use serde_json::{Value, json};

use super::field::PODS_EACH;

/// The nodes that kwok plays.
pub const NODES: u32 = 50;
/// Opted-in Deployments are spread over as many namespaces.
pub const NAMESPACES: u32 = 50;
/// The label of all Deployments here; its value tells who patches them.
pub const FIELD: &str = "field";
/// Where the Deployments for the bare loops are.
pub const BARE_NAMESPACE: &str = "bare";

/// A Deployment, by its place.
#[derive(Clone, Debug)]
pub struct Place {
    pub namespace: String,
    pub name: String,
    node: String,
    whose: &'static str,
}

/// A Deployment that adieu patches.
pub fn place(number: u32) -> Place {
    place_in(format!("field-{}", number % NAMESPACES), number)
}

/// The same in a namespace of the caller's choice.
pub fn place_in(namespace: String, number: u32) -> Place {
    Place { namespace, name: format!("web-{number}"), node: node(number % NODES), whose: "adieu" }
}

/// A Deployment for the bare loops.
pub fn bare(number: u32) -> Place {
    let (namespace, node) = (BARE_NAMESPACE.to_owned(), node(number % NODES));
    Place { namespace, name: format!("bare-{number}"), node, whose: "bare" }
}

/// The name of a node.
pub fn node(number: u32) -> String {
    format!("fake-{number}")
}

impl Place {
    /// Of the size that people's are: two containers, their environment, probes, resources.
    pub fn deployment(&self) -> Value {
        let Self { namespace, name, node, whose } = self;
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
            "metadata": {"name": name, "namespace": namespace, "labels": {FIELD: whose}},
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

//! Checks permissions before a calibration.

use kube::Client;

use super::way::Way;
use crate::disruption::{Error, Permission, require_access};

/// What else a calibration does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether the address of a node is needed.
    pub needs_node: bool,
    /// Whether the result is written to a policy.
    pub applies: bool,
}

/// Checks that RBAC allows a calibration in a namespace.
///
/// # Errors
/// All missing permissions.
pub async fn check(client: &Client, namespace: &str, ways: &[Way], options: Options) -> Result<(), Error> {
    require_access(client, &required(namespace, ways, options)).await
}

fn required(namespace: &str, ways: &[Way], options: Options) -> Vec<Permission> {
    let permission = |namespace: Option<&str>, group, resource: &str, verb| Permission {
        verb,
        group,
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
    };
    let mut required = Vec::new();
    let mut inside = |group, resource: &str, verbs: &[&'static str]| {
        required.extend(verbs.iter().map(|verb| permission(Some(namespace), group, resource, *verb)));
    };
    inside("batch", "jobs", &["create", "delete"]);
    inside("", "pods", &["create", "delete", "list", "watch"]);
    inside("", "pods/log", &["get"]);
    inside("", "services", &["create", "list", "watch"]);
    inside("discovery.k8s.io", "endpointslices", &["list", "watch"]);
    if ways.iter().any(|way| matches!(way, Way::Ingress { .. })) {
        inside("networking.k8s.io", "ingresses", &["create", "list", "watch"]);
    }
    if ways.iter().any(|way| matches!(way, Way::Gateway { .. })) {
        inside("gateway.networking.k8s.io", "gateways", &["create", "list", "watch"]);
        inside("gateway.networking.k8s.io", "httproutes", &["create"]);
    }
    if options.needs_node {
        required.push(permission(None, "", "nodes", "list"));
    }
    if options.applies {
        let policies = "clustergracefulpolicies";
        required.extend(["get", "patch"].map(|verb| permission(None, "adieu.dev", policies, verb)));
    }
    required
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_measured_needs_permissions() {
        let ingress = Way::Ingress { class: "nginx".to_owned() };
        let gateway = Way::Gateway { class: "eg".to_owned() };
        for (way, options, resource, expected) in [
            (&Way::ClusterIp, Options::default(), "services", true),
            (&Way::ClusterIp, Options::default(), "ingresses", false),
            (&Way::ClusterIp, Options::default(), "nodes", false),
            (&Way::NodePort, Options { needs_node: true, applies: false }, "nodes", true),
            (&ingress, Options::default(), "ingresses", true),
            (&ingress, Options::default(), "gateways", false),
            (&gateway, Options::default(), "httproutes", true),
            (&Way::ClusterIp, Options { needs_node: false, applies: true }, "clustergracefulpolicies", true),
        ] {
            let required = required("shop", std::slice::from_ref(way), options);
            let found = required.iter().any(|permission| permission.resource == resource);
            assert_eq!(found, expected, "{way} {options:?} {resource}");
        }
    }
}

//! The objects of a cluster that lead requests to Services.

use std::sync::Arc;

use adieu_exposures::{KINDS, Kind, TrafficObject};
use kube::{
    Client, Discovery, Error, Resource as _,
    core::DynamicObject,
    discovery::{ApiResource, Scope, verbs},
};

use super::{
    live_object::{LiveObject, MEMORY_LIMIT},
    manifests::warn,
};
use crate::{
    index::{
        exposures::served,
        list::{Selectors, for_each},
        memory_estimate::parsed_size,
    },
    plan::Completeness,
    runtime::api_errors::describe,
};

/// The objects of all [`KINDS`], as far as they can be read.
#[derive(Debug, Default)]
pub(super) struct TrafficObjects {
    /// The objects.
    pub(super) objects: Vec<Arc<TrafficObject>>,
    /// The kinds that the user may not list.
    denied: Vec<String>,
    /// The kinds of which something cannot be read, with the reason.
    unreadable: Vec<String>,
}

impl TrafficObjects {
    /// Reads the objects of all namespaces, because they may be in another one than the Service that they lead to. Of a kind
    /// that the user may list only in `namespace`, if one is given, reads those. A kind that isn't installed has none.
    pub(super) async fn read(client: &Client, namespace: Option<&str>) -> Self {
        let mut found = Self::default();
        let groups: Vec<_> = KINDS.iter().map(|kind| kind.group).collect();
        let discovery = match Discovery::new(client.clone()).filter(&groups).run().await {
            Ok(discovery) => discovery,
            Err(error) => {
                found.unreadable.push(format!("all kinds ({})", describe(&error)));
                return found;
            }
        };
        for kind in KINDS {
            if let Some((resource, capabilities)) = served(&discovery, kind, verbs::LIST) {
                let inside = namespace.filter(|_| capabilities.scope == Scope::Namespaced);
                found.list_where_allowed(client, kind, &resource, inside).await;
            }
        }
        found
    }

    /// Adds the objects of a kind: of all namespaces, or else of the one given.
    async fn list_where_allowed(
        &mut self,
        client: &Client,
        kind: &'static Kind,
        resource: &ApiResource,
        namespace: Option<&str>,
    ) {
        let name = name_of(kind);
        let mut listed = self.list(client, kind, resource, None).await;
        if is_denied(&listed)
            && let Some(namespace) = namespace
        {
            listed = self.list(client, kind, resource, Some(namespace)).await;
            if listed.is_ok() {
                return self.denied.push(format!("{name} outside of namespace {namespace}"));
            }
        }
        if is_denied(&listed) {
            self.denied.push(name);
        } else if let Err(error) = listed {
            self.unreadable.push(format!("{name} ({})", describe(&error)));
        }
    }

    /// Adds the objects of a kind in a namespace, or in all.
    async fn list(
        &mut self,
        client: &Client,
        kind: &'static Kind,
        resource: &ApiResource,
        namespace: Option<&str>,
    ) -> Result<(), Error> {
        let path = DynamicObject::url_path(resource, namespace);
        let unreadable = format!("{} (an object is too large or cannot be decoded)", name_of(kind));
        let keep = |text: &[u8]| {
            if let Some(object) = decoded(kind, text) {
                self.objects.push(Arc::new(object));
            } else if !self.unreadable.contains(&unreadable) {
                self.unreadable.push(unreadable.clone());
            }
        };
        for_each(client, &path, Selectors::default(), keep).await
    }

    /// Prints one line that names the kinds that were skipped.
    pub(super) fn report_skipped(&self) {
        if let Some(line) = self.skipped() {
            warn(&line);
        }
    }

    /// The kinds that were skipped; `None` if none were.
    pub(super) fn skipped(&self) -> Option<String> {
        let groups = [("you may not list", &self.denied), ("unreadable:", &self.unreadable)];
        let groups = groups.iter().filter(|(_, kinds)| !kinds.is_empty());
        let groups: Vec<_> = groups.map(|(why, kinds)| format!("{why} {}", kinds.join(", "))).collect();
        (!groups.is_empty()).then(|| format!("the exposures are incomplete: {}", groups.join("; ")))
    }

    /// Whether the exposures that follow are all.
    pub(super) fn completeness(&self) -> Completeness {
        match self.skipped() {
            None => Completeness::Complete,
            Some(_) => Completeness::Incomplete { object: None },
        }
    }
}

/// An object of a list; `None` if it is larger than a limit, or if it cannot be decoded.
fn decoded(kind: &Kind, text: &[u8]) -> Option<TrafficObject> {
    let text = std::str::from_utf8(text).ok().filter(|text| parsed_size(text) <= MEMORY_LIMIT)?;
    let object: DynamicObject = serde_json::from_str::<LiveObject>(text).ok()?.into();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let object = serde_json::to_value(object).ok()?;
    TrafficObject::read(kind.group, kind.kind, &namespace, &object)
}

fn is_denied(listed: &Result<(), Error>) -> bool {
    matches!(listed, Err(Error::Api(status)) if status.code == 403)
}

/// A kind with its group, by which kinds of the same name differ.
fn name_of(kind: &Kind) -> String {
    format!("{}.{}", kind.kind, kind.group)
}

#[cfg(test)]
mod tests {
    use adieu_exposures::exposures_of_service;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        index::list::OBJECT_LIMIT,
        runtime::test_support::{client, failure, not_found},
    };

    fn group(name: &str, versions: &[&str]) -> Value {
        let version =
            |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
        json!({"name": name, "versions": versions.iter().map(version).collect::<Vec<_>>()})
    }

    /// The kinds of a version, each with its name in paths and whether it has namespaces.
    fn resources(version: &str, kinds: &[(&str, &str, bool)]) -> Value {
        let resource = |(kind, name, namespaced): &(&str, &str, bool)| json!({"kind": kind, "name": name, "namespaced": namespaced, "singularName": "", "verbs": ["get", "list"]});
        let resources: Vec<_> = kinds.iter().map(resource).collect();
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
    }

    fn list(items: Value) -> (u16, Value) {
        (200, json!({"metadata": {}, "items": items}))
    }

    /// An API server with Ingresses and the Gateway API, of whose Gateways none may be listed, and of whose routes only those
    /// of a namespace.
    fn answer(path: &str) -> (u16, Value) {
        let denied = || (403, failure(403, "denied"));
        let ingress = json!({
            "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
        });
        let route = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "web"}]}]},
        });
        match path {
            "/apis" => {
                let groups = [
                    group("apps", &["v1"]),
                    group("networking.k8s.io", &["v1"]),
                    group("gateway.networking.k8s.io", &["v1beta1", "v1"]),
                ];
                (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            "/apis/networking.k8s.io/v1" => {
                let kinds = [("Ingress", "ingresses", true), ("IngressClass", "ingressclasses", false)];
                (200, resources("networking.k8s.io/v1", &kinds))
            }
            "/apis/gateway.networking.k8s.io/v1" => {
                let kinds = [("HTTPRoute", "httproutes", true), ("Gateway", "gateways", true)];
                (200, resources("gateway.networking.k8s.io/v1", &kinds))
            }
            "/apis/gateway.networking.k8s.io/v1beta1" => {
                (200, resources("gateway.networking.k8s.io/v1beta1", &[("HTTPRoute", "httproutes", true)]))
            }
            "/apis/networking.k8s.io/v1/ingresses" => {
                list(json!([{"metadata": {"name": "x".repeat(OBJECT_LIMIT)}}, ingress]))
            }
            "/apis/networking.k8s.io/v1/ingressclasses" => (500, failure(500, "etcd has no leader")),
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes" => list(json!([route])),
            path if path.starts_with("/apis/gateway.networking.k8s.io/v1/") => denied(),
            _ => (404, not_found()),
        }
    }

    #[tokio::test]
    async fn kinds_that_may_not_be_listed_are_named_and_others_may_not_be_installed() {
        let client = client(|_, target| Some(answer(target.split('?').next().unwrap_or_default())));
        let found = TrafficObjects::read(&client, Some("shop")).await;
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {}})).unwrap();
        let exposures = exposures_of_service("shop", &service, &found.objects);
        let names: Vec<_> = exposures.iter().map(|exposure| exposure.profile.name).collect();
        assert_eq!(names, ["cluster-ip", "ingress-nginx", "gateway"]);
        assert_eq!(found.completeness(), Completeness::Incomplete { object: None });
        let skipped = found.skipped().unwrap();
        for expected in [
            "the exposures are incomplete: you may not list HTTPRoute.gateway.networking.k8s.io outside of namespace shop, \
             Gateway.gateway.networking.k8s.io; unreadable: ",
            "Ingress.networking.k8s.io (an object is too large or cannot be decoded), \
             IngressClass.networking.k8s.io (",
        ] {
            assert!(skipped.contains(expected), "{expected}: {skipped}");
        }
        assert!(!skipped.contains("traefik.io") && !skipped.contains("GRPCRoute"), "{skipped}");
    }

    #[tokio::test]
    async fn without_discovery_all_kinds_are_skipped() {
        let client = client(|_, _| Some((403, failure(403, "denied"))));
        let found = TrafficObjects::read(&client, Some("shop")).await;
        assert!(found.objects.is_empty());
        let skipped = found.skipped().unwrap();
        assert!(skipped.starts_with("the exposures are incomplete: unreadable: all kinds ("), "{skipped}");
    }
}

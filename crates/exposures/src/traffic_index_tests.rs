use serde_json::{Value, json};

use super::*;

const GATEWAY_API: &str = "gateway.networking.k8s.io";

fn object(group: &str, kind: &str, namespace: &str, name: &str, spec: &Value) -> TrafficObject {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    TrafficObject::read(group, kind, namespace, &object).unwrap()
}

fn ingress(namespace: &str, name: &str, class: Option<&str>, service: &str) -> TrafficObject {
    let spec = json!({"ingressClassName": class, "defaultBackend": {"service": {"name": service}}});
    object("networking.k8s.io", "Ingress", namespace, name, &spec)
}

fn class(name: &str, controller: &str, is_default: bool) -> TrafficObject {
    let annotations = json!({"ingressclass.kubernetes.io/is-default-class": is_default.to_string()});
    let object =
        json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}});
    TrafficObject::read("networking.k8s.io", "IngressClass", "", &object).unwrap()
}

fn route(namespace: &str, name: &str, gateway: &str, backends: &Value) -> TrafficObject {
    let spec =
        json!({"parentRefs": [{"name": gateway, "namespace": "edge"}], "rules": [{"backendRefs": backends}]});
    object(GATEWAY_API, "HTTPRoute", namespace, name, &spec)
}

fn traefik(group: &str, kind: &str, name: &str, backends: &Value) -> TrafficObject {
    let spec = if kind == "TraefikService" {
        json!({"weighted": {"services": backends}})
    } else {
        json!({"routes": [{"services": backends}]})
    };
    object(group, kind, "shop", name, &spec)
}

/// The affected Services as `namespace/name`.
fn names(affected: &BTreeSet<AffectedService>) -> Vec<String> {
    let name = |service: &AffectedService| {
        format!("{}/{}", service.namespace, service.name.as_deref().unwrap_or("*"))
    };
    affected.iter().map(name).collect()
}

/// The objects that lead to a Service, in order of their names.
fn leading(index: &TrafficIndex, namespace: &str, service: &str) -> Vec<String> {
    let mut found: Vec<_> =
        index.leading_to(namespace, [service]).iter().map(|object| object.name.to_string()).collect();
    found.sort();
    found
}

fn kind(group: &str, kind: &str) -> &'static Kind {
    Kind::find(group, kind).unwrap()
}

#[test]
fn a_change_affects_the_services_that_the_object_leads_to_before_and_after() {
    let mut index = TrafficIndex::default();
    assert_eq!(names(&index.insert(ingress("shop", "a", Some("nginx"), "web"))), ["shop/web"]);
    assert!(index.insert(ingress("shop", "a", Some("nginx"), "web")).is_empty(), "nothing changed");
    assert_eq!(names(&index.insert(ingress("shop", "a", Some("nginx"), "api"))), ["shop/api", "shop/web"]);
    assert_eq!(leading(&index, "shop", "web"), [""; 0]);
    assert_eq!(leading(&index, "shop", "api"), ["Ingress shop/a"]);
    assert_eq!(leading(&index, "bank", "api"), [""; 0]);
    let ingresses = kind("networking.k8s.io", "Ingress");
    assert_eq!(names(&index.remove(ingresses, "shop", "a")), ["shop/api"]);
    assert!(index.remove(ingresses, "shop", "a").is_empty() && index.objects.is_empty());
    assert!(index.referring.is_empty(), "{:?}", index.referring);
}

#[test]
fn objects_of_a_namespace_decide_where_its_gateways_and_routes_are_allowed() {
    let mut index = TrafficIndex::default();
    drop(index.insert(route("shop", "web", "public", &json!([{"name": "web"}]))));
    let from = json!([{"group": GATEWAY_API, "kind": "HTTPRoute", "namespace": "shop"}]);
    let spec = json!({"from": from, "to": [{"group": "", "kind": "Service"}]});
    drop(index.insert(object(GATEWAY_API, "ReferenceGrant", "bank", "shop", &spec)));
    for (namespace, expected) in [
        ("edge", &["bank", "edge", "shop"][..]),
        ("shop", &["bank", "shop"]),
        ("bank", &["bank"]),
        ("hostile", &["hostile"]),
    ] {
        let decided: Vec<_> = index.decided_by([namespace].into()).into_iter().collect();
        assert_eq!(decided, expected);
    }
}

#[test]
fn a_class_affects_the_ingresses_that_have_it_and_a_default_one_those_without_a_class() {
    let mut index = TrafficIndex::default();
    for ingress in [ingress("shop", "a", Some("alb"), "web"), ingress("bank", "b", None, "api")] {
        drop(index.insert(ingress));
    }
    assert_eq!(names(&index.insert(class("alb", "ingress.k8s.aws/alb", false))), ["shop/web"]);
    assert_eq!(names(&index.insert(class("nginx", "k8s.io/ingress-nginx", true))), ["bank/api"]);
    assert_eq!(leading(&index, "shop", "web"), ["Ingress shop/a", "IngressClass alb"]);
    assert_eq!(leading(&index, "bank", "api"), ["Ingress bank/b", "IngressClass nginx"]);
    assert_eq!(names(&index.insert(class("nginx", "k8s.io/ingress-nginx", false))), ["bank/api"]);
    assert_eq!(leading(&index, "bank", "api"), ["Ingress bank/b"]);
}

#[test]
fn gateways_and_their_classes_affect_the_services_of_their_routes() {
    let mut index = TrafficIndex::default();
    let backends = json!([{"name": "web"}, {"name": "api", "namespace": "bank"}]);
    assert_eq!(names(&index.insert(route("shop", "r", "public", &backends))), ["bank/api", "shop/web"]);
    let gateway = object(GATEWAY_API, "Gateway", "edge", "public", &json!({"gatewayClassName": "eg"}));
    assert_eq!(names(&index.insert(gateway)), ["bank/api", "shop/web"]);
    let of_class = object(GATEWAY_API, "GatewayClass", "", "eg", &json!({"controllerName": "example/a"}));
    assert_eq!(names(&index.insert(of_class)), ["bank/api", "shop/web"]);
    let expected = ["Gateway edge/public", "GatewayClass eg", "HTTPRoute shop/r"];
    assert_eq!(leading(&index, "bank", "api"), expected);
    // A route to a Gateway is not a way to what is behind that Gateway.
    let hostile = json!([{"kind": "Gateway", "name": "public", "namespace": "edge"}]);
    assert!(index.insert(route("shop", "hostile", "other", &hostile)).is_empty());
    assert_eq!(leading(&index, "bank", "api"), expected);
}

#[test]
fn routes_with_a_parent_of_another_kind_have_nothing_in_common() {
    let mut index = TrafficIndex::default();
    for name in ["web", "api"] {
        let parents = json!([{"group": "example.com", "kind": "Listener", "name": "common"}]);
        let spec = json!({"parentRefs": parents, "rules": [{"backendRefs": [{"name": name}]}]});
        assert_eq!(
            names(&index.insert(object(GATEWAY_API, "HTTPRoute", "shop", name, &spec))),
            [format!("shop/{name}")]
        );
    }
    assert_eq!(leading(&index, "shop", "web"), ["HTTPRoute shop/web"]);
}

#[test]
fn chains_are_followed_and_may_be_circles() {
    let mut index = TrafficIndex::default();
    let group = "traefik.io";
    drop(index.insert(traefik(
        group,
        "IngressRoute",
        "r",
        &json!([{"name": "a", "kind": "TraefikService"}]),
    )));
    let to_b = json!([{"name": "b", "kind": "TraefikService"}]);
    assert!(index.insert(traefik(group, "TraefikService", "a", &to_b)).is_empty());
    let to_web = json!([{"name": "web"}, {"name": "a", "kind": "TraefikService"}]);
    assert_eq!(names(&index.insert(traefik(group, "TraefikService", "b", &to_web))), ["shop/web"]);
    let expected = ["IngressRoute shop/r", "TraefikService shop/a", "TraefikService shop/b"];
    assert_eq!(leading(&index, "shop", "web"), expected);
    assert_eq!(names(&index.remove(kind(group, "IngressRoute"), "shop", "r")), ["shop/web"]);
}

#[test]
fn an_object_that_leads_to_too_many_services_affects_its_namespace() {
    let mut index = TrafficIndex::default();
    let mut names = vec![];
    for number in 0..=MAX_FOLLOWED / 1000 {
        let services = (0..1000).map(|service| json!({"name": format!("web-{number}-{service}")}));
        let name = number.to_string();
        let services = Value::Array(services.collect());
        let affected = index.insert(traefik("traefik.io", "TraefikService", &name, &services));
        assert_eq!(affected.len(), 1000);
        names.push(json!({"kind": "TraefikService", "name": name}));
    }
    let affected = index.insert(traefik("traefik.io", "IngressRoute", "r", &Value::Array(names)));
    let namespace = AffectedService { namespace: "shop".to_owned(), name: None };
    assert!(affected.contains(&namespace) && affected.len() <= MAX_FOLLOWED, "{}", affected.len());
}

#[test]
fn objects_of_two_groups_may_have_one_name() {
    let (new, old) = ("traefik.io", "traefik.containo.us");
    let mut index = TrafficIndex::default();
    for group in [new, old] {
        drop(index.insert(traefik(group, "IngressRoute", "r", &json!([{"name": "web"}]))));
    }
    assert_eq!(index.leading_to("shop", ["web"]).len(), 2);
    let count = |index: &TrafficIndex, group: &str| index.names(kind(group, "IngressRoute")).count();
    assert_eq!((count(&index, new), count(&index, old)), (1, 1));
    assert_eq!(names(&index.remove(kind(old, "IngressRoute"), "shop", "r")), ["shop/web"]);
    assert_eq!(leading(&index, "shop", "web"), ["IngressRoute shop/r"]);
    assert_eq!(index.leading_to("shop", ["web"])[0].kind.group, new);
    assert!(index.remove(kind(old, "IngressRoute"), "shop", "r").is_empty());
    assert_eq!((count(&index, new), count(&index, old)), (1, 0));
}

#[test]
fn settings_that_services_name_affect_their_namespace() {
    let mut index = TrafficIndex::default();
    let config = json!({"connectionDraining": {"drainingTimeoutSec": 60}});
    let config = object("cloud.google.com", "BackendConfig", "shop", "slow", &config);
    assert_eq!(names(&index.insert(config)), ["shop/*"]);
    assert_eq!(leading(&index, "shop", "web"), ["BackendConfig shop/slow"]);
    assert_eq!(leading(&index, "bank", "web"), [""; 0]);
}

#[test]
fn the_size_of_an_object_grows_with_what_it_refers_to() {
    let backends = |count: usize| {
        let backends = (0..count).map(|number| json!({"name": format!("web-{number}")}));
        Value::Array(backends.collect())
    };
    let [one, many] = [1, 5000].map(|count| route("shop", "r", "public", &backends(count)));
    assert!(one.size() > 1000 && many.size() > 100 * one.size(), "{} {}", one.size(), many.size());
    // References are limited.
    assert!(many.size() < 2000 * one.size());
}

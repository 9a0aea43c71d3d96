use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{watched_traffic::WatchedTraffic, *};
use crate::{
    index::{unusable_objects::UnusableReason, watched::Watched as _},
    plan::{self, Workload},
    runtime::{
        metrics::Metrics,
        test_support::{client, failure},
    },
};

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const LIMIT: Duration = Duration::from_mins(5);

fn service(name: &str) -> Arc<Service> {
    let metadata = json!({"name": name, "namespace": "shop"});
    let service = json!({"metadata": metadata, "spec": {"selector": {"app": name}}});
    Arc::new(serde_json::from_value(service).unwrap())
}

/// The exposures of the namespace `shop`, whose Service `api` proxies of other namespaces don't see.
fn exposures(traffic: &TrafficCache) -> Arc<dyn Exposures> {
    let mut api = Service::clone(&service("api"));
    let annotation = ("networking.istio.io/exportTo".to_owned(), ".".to_owned());
    api.metadata.annotations = Some(BTreeMap::from([annotation]));
    let services = vec![service("web"), Arc::new(api)];
    let context = NamespaceContext { services, ..NamespaceContext::default() };
    traffic.added_to(context, "shop").exposures.unwrap()
}

fn labels(app: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), app.to_owned())])
}

/// The drain that pods of the namespace `shop` with this label need, and the exposure that needs it.
fn drain(traffic: &TrafficCache, app: &str) -> Option<(i64, String)> {
    let required = exposures(traffic).required_drain(&labels(app));
    required.map(|required| (required.seconds, required.exposure))
}

/// Whether the exposures of such pods are known.
fn completeness(traffic: &TrafficCache, app: &str) -> Completeness {
    exposures(traffic).completeness(&labels(app))
}

fn group(name: &str) -> Value {
    let version = format!("{name}/v1");
    json!({"name": name, "versions": [{"groupVersion": version, "version": "v1"}]})
}

fn resources(group: &str, kinds: &[(&str, &str)]) -> (u16, Value) {
    let resource = |(kind, name): &(&str, &str)| {
        let verbs = ["get", "list", "watch"];
        json!({"kind": kind, "name": name, "namespaced": true, "singularName": "", "verbs": verbs})
    };
    let resources: Vec<_> = kinds.iter().map(resource).collect();
    let version = format!("{group}/v1");
    (
        200,
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}),
    )
}

fn list(items: Value) -> (u16, Value) {
    (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}))
}

/// An API server without permission to list the classes of Ingresses. The CRD of routes is added at the first watch of CRDs,
/// and served from the third discovery on.
fn api_server() -> Client {
    let (discoveries, crd_watches) = (AtomicUsize::new(0), AtomicUsize::new(0));
    client(move |_, target| {
        let is_watch = target.contains("watch=");
        let path = target.split('?').next().unwrap_or_default();
        Some(match path {
            "/apis" => {
                let is_served = discoveries.fetch_add(1, Ordering::Relaxed) >= 2;
                let groups = if is_served {
                    vec![group("networking.k8s.io"), group(GATEWAY_API)]
                } else {
                    vec![group("networking.k8s.io")]
                };
                (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            "/apis/networking.k8s.io/v1" => resources(
                "networking.k8s.io",
                &[("Ingress", "ingresses"), ("IngressClass", "ingressclasses")],
            ),
            "/apis/gateway.networking.k8s.io/v1" => resources(GATEWAY_API, &[("HTTPRoute", "httproutes")]),
            path if path.ends_with("/customresourcedefinitions") => {
                if !is_watch {
                    return Some(list(json!([])));
                }
                if crd_watches.fetch_add(1, Ordering::Relaxed) > 0 {
                    return None;
                }
                let metadata = json!({"name": format!("httproutes.{GATEWAY_API}"), "resourceVersion": "2"});
                (200, json!({"type": "ADDED", "object": {"metadata": metadata}}))
            }
            _ if is_watch => return None,
            path if path.ends_with("/ingresses") => list(json!([{
                "metadata": {"name": "shop", "namespace": "shop"},
                "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
            }])),
            path if path.ends_with("/httproutes") => list(json!([{
                "metadata": {"name": "api", "namespace": "shop"},
                "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "api"}]}]},
            }])),
            _ => (403, failure(403, "denied")),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn kinds_are_read_as_far_as_they_are_served_and_permitted_also_those_that_are_installed_later() {
    let metrics = Metrics::default();
    let unusable = UnusableObjects::new(&metrics);
    let dirty = Dirty::default();
    let kinds = KINDS.iter().collect();
    let (traffic, watches) = TrafficCache::follow(&api_server(), kinds, &Quota::default(), &dirty, &unusable);
    assert!(timeout(Duration::ZERO, traffic.listed()).await.is_err());
    let check = async {
        traffic.listed().await;
        assert_eq!(drain(&traffic, "web"), Some((30, "Ingress shop/shop (class nginx)".into())));
        assert_eq!(drain(&traffic, "api"), Some((10, "Service shop/api (cluster-ip)".into())));
        assert_eq!(drain(&traffic, "worker"), None);
        let denied = "adieu_denied_kinds{kind=\"ingressclasses.networking.k8s.io\"} 1";
        assert!(metrics.render().unwrap().contains(denied));
        assert_eq!(completeness(&traffic, "web"), Completeness::Incomplete { object: None });
        let mut services = BTreeSet::new();
        while !services.contains(&("shop".to_owned(), "api".to_owned())) {
            services.extend(dirty.take().await.services);
        }
        assert_eq!(drain(&traffic, "api").map(|(seconds, _)| seconds), Some(30));
        // It ends with the list.
        traffic.listed().await;
        services
    };
    let services = tokio::select! {
        () = watches => unreachable!(),
        services = timeout(LIMIT, check) => services.expect("the end"),
    };
    // Only what the objects refer to.
    assert_eq!(services.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_kinds_nothing_is_requested() {
    let requesting = client(|_, target| panic!("{target}"));
    let (dirty, unusable) = (Dirty::default(), UnusableObjects::default());
    let (traffic, watches) = TrafficCache::follow(&requesting, vec![], &Quota::default(), &dirty, &unusable);
    traffic.listed().await;
    assert!(timeout(LIMIT, watches).await.is_err());
}

#[test]
fn of_the_annotations_of_services_those_of_load_balancers_are_kept() {
    let kind = "service.beta.kubernetes.io/aws-load-balancer-type";
    let decode = |annotations: Value| {
        let service = json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {}});
        Service::decode(service.to_string().as_bytes()).unwrap().metadata.annotations
    };
    let expected = BTreeMap::from([(kind.to_owned(), "nlb-ip".to_owned())]);
    assert_eq!(decode(json!({kind: "nlb-ip", "team": "shop"})), Some(expected));
    assert_eq!(decode(json!({"team": "shop"})), None);
}

#[test]
fn a_context_has_the_longest_of_the_exposures_of_all_services_that_select_the_pods() {
    let with_class = |class: &str, service: &str| {
        let ingress = json!({
            "metadata": {"name": class},
            "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": service}}},
        });
        TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap()
    };
    let objects = [("nginx", "all"), ("traefik", "web"), ("azure-application-gateway", "api")];
    let traffic = TrafficCache::fixed(objects.map(|(class, service)| with_class(class, service)));
    let mut all = Service::clone(&service("all"));
    all.spec.as_mut().unwrap().selector = Some(BTreeMap::from([("team".to_owned(), "shop".to_owned())]));
    let services = vec![Arc::new(all), service("web"), service("api")];
    let context = NamespaceContext { services, ..NamespaceContext::default() };
    let exposures = traffic.added_to(context, "shop").exposures.unwrap();
    for (app, expected) in [
        ("web", Some((30, "Ingress shop/nginx (class nginx)"))),
        ("api", Some((90, "Ingress shop/azure-application-gateway (class azure-application-gateway)"))),
        ("web", Some((30, "Ingress shop/nginx (class nginx)"))),
        ("worker", Some((30, "Ingress shop/nginx (class nginx)"))),
    ] {
        let labels = [("app", app), ("team", "shop")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let required = exposures.required_drain(&labels.into());
        let found = required.as_ref().map(|required| (required.seconds, required.exposure.as_str()));
        assert_eq!(found, expected, "{app}");
    }
    assert_eq!(exposures.required_drain(&BTreeMap::new()), None);
}

#[test]
fn exposures_are_incomplete_until_all_kinds_are_listed() {
    let (sender, unknown) = watch::channel(UnknownKinds { unlisted: 1, denied: 0 });
    let traffic = TrafficCache { unknown, ..TrafficCache::default() };
    let before = traffic.added_to(NamespaceContext::default(), "shop").exposures.unwrap();
    let incomplete = Completeness::Incomplete { object: None };
    assert_eq!(before.completeness(&BTreeMap::new()), incomplete);
    sender.send_replace(UnknownKinds::default());
    assert_eq!(completeness(&traffic, "web"), Completeness::Complete);
    // It may have looked up something before.
    assert_eq!(before.completeness(&BTreeMap::new()), incomplete);
    let after = exposures(&traffic);
    sender.send_replace(UnknownKinds { unlisted: 0, denied: 1 });
    assert_eq!(after.completeness(&labels("web")), incomplete, "its objects may have been dropped");
    assert_eq!(completeness(&traffic.without_some_kinds(), "web"), incomplete);
}

/// Objects that lead to the Service `web` of the namespace `shop`, a grant for routes of `edge`, and a route whose Gateway is in
/// `infra`.
fn with_grant_and_gateway() -> TrafficCache {
    let object = |kind: &str, namespace: &str, spec: Value| {
        let object = json!({"metadata": {"name": "web"}, "spec": spec});
        TrafficObject::read(GATEWAY_API, kind, namespace, &object).unwrap()
    };
    let from = json!({"group": GATEWAY_API, "kind": "HTTPRoute", "namespace": "edge"});
    let to = json!({"group": "", "kind": "Service", "name": "web"});
    let route = |namespace: &str, gateway: &str| {
        let parent = json!({"name": "public", "namespace": gateway});
        let backend = json!({"name": "web", "namespace": "shop"});
        let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [backend]}]});
        object("HTTPRoute", namespace, spec)
    };
    let grant = object("ReferenceGrant", "shop", json!({"from": [from], "to": [to]}));
    TrafficCache::fixed([grant, route("shop", "infra"), route("hostile", "hostile")])
}

#[test]
fn exposures_are_incomplete_while_an_object_that_may_lead_to_the_service_cannot_be_used() {
    let mesh = "virtualservices.networking.istio.io";
    let because_of = |object: &str| Completeness::Incomplete { object: Some(object.to_owned()) };
    let unknown = || Completeness::Incomplete { object: None };
    let complete = || Completeness::Complete;
    for (kind, namespace, of_web, of_api) in [
        (
            "ingresses.networking.k8s.io",
            "shop",
            because_of("Ingress shop/big"),
            because_of("Ingress shop/big"),
        ),
        ("ingresses.networking.k8s.io", "hostile", complete(), complete()),
        (
            "gatewayclasses.gateway.networking.k8s.io",
            "",
            because_of("GatewayClass big"),
            because_of("GatewayClass big"),
        ),
        ("httproutes.gateway.networking.k8s.io", "edge", because_of("HTTPRoute edge/big"), complete()),
        ("httproutes.gateway.networking.k8s.io", "hostile", complete(), complete()),
        ("gateways.gateway.networking.k8s.io", "infra", because_of("Gateway infra/big"), complete()),
        (mesh, "shop", because_of("VirtualService shop/big"), because_of("VirtualService shop/big")),
        // Its Service api isn't exported.
        (mesh, "hostile", unknown(), complete()),
    ] {
        let traffic = with_grant_and_gateway();
        let (name, namespace) = (Some("big".to_owned()), Some(namespace.to_owned()));
        let object = ObjectReference { name, namespace, ..ObjectReference::default() };
        traffic.unusable.add(kind, object, UnusableReason::TooLarge("more than fits".to_owned()));
        let found = ["web", "api", "worker"].map(|app| completeness(&traffic, app));
        assert_eq!(found, [of_web.clone(), of_api, complete()], "{kind}");
        // Another kind may not be read.
        let expected = if of_web == complete() { unknown() } else { of_web };
        assert_eq!(completeness(&traffic.without_some_kinds(), "web"), expected, "{kind}");
    }
}

#[test]
fn exposures_are_incomplete_if_an_object_becomes_usable_while_they_are_looked_up() {
    let (kind, traffic) = ("ingresses.networking.k8s.io", TrafficCache::default());
    let (name, namespace) = (Some("big".to_owned()), Some("shop".to_owned()));
    let object = ObjectReference { name, namespace, ..ObjectReference::default() };
    traffic.unusable.add(kind, object, UnusableReason::TooLarge("more than fits".to_owned()));
    let before = traffic.unusable_groups();
    traffic.unusable.remove(kind, Some("shop"), Some("big"));
    let completeness = |unusable: &[UnusableGroup]| {
        let service = service("web");
        exposures_of_each("shop", &[service.as_ref()], &[], |found| {
            traffic.completeness("shop", &found, unusable)
        })
    };
    assert_eq!(completeness(&before), [Completeness::Incomplete { object: None }]);
    assert_eq!(completeness(&traffic.unusable_groups()), [Completeness::Complete]);
}

#[tokio::test(start_paused = true)]
async fn an_object_more_than_a_namespace_may_have_makes_its_exposures_incomplete() {
    let count = WatchedTraffic::MAX_IN_NAMESPACE + 1;
    let client = client(move |_, target| {
        let path = target.split('?').next().unwrap_or_default();
        let ingress = |number: usize| {
            let metadata = json!({"name": format!("{number:04}"), "namespace": "shop"});
            json!({"metadata": metadata, "spec": {"defaultBackend": {"service": {"name": "web"}}}})
        };
        Some(match path {
            "/apis" => {
                let groups = [group("networking.k8s.io")];
                (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            "/apis/networking.k8s.io/v1" => resources("networking.k8s.io", &[("Ingress", "ingresses")]),
            _ if target.contains("watch=") => return None,
            path if path.ends_with("/ingresses") => list((0..count).map(ingress).collect()),
            _ => list(json!([])),
        })
    });
    let (dirty, unusable) = (Dirty::default(), UnusableObjects::default());
    let kinds = KINDS.iter().collect();
    let (traffic, watches) = TrafficCache::follow(&client, kinds, &Quota::default(), &dirty, &unusable);
    tokio::select! {
        () = watches => unreachable!(),
        listed = timeout(LIMIT, traffic.listed()) => listed.expect("the end of the list"),
    }
    let object = Some(format!("Ingress shop/{}", count - 1));
    assert_eq!(completeness(&traffic, "web"), Completeness::Incomplete { object });
    assert_eq!(completeness(&traffic, "worker"), Completeness::Complete);
}

#[test]
fn an_injection_keeps_its_drain_while_exposures_are_incomplete() {
    let annotations = BTreeMap::from([("adieu.dev/graceful".to_owned(), "true".to_owned())]);
    let ingress = json!({
        "metadata": {"name": "shop"},
        "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
    });
    let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
    let context = |traffic: &TrafficCache| {
        let context = NamespaceContext { services: vec![service("web")], ..NamespaceContext::default() };
        traffic.added_to(context, "shop")
    };
    let sleep = |template: &Value| {
        template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64()
    };
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "v1"}], "terminationGracePeriodSeconds": 30},
    });
    let workload = Workload::new(plan::Kind::Deployment, &annotations, &template);
    let injected = plan::evaluate(&workload, &context(&TrafficCache::fixed([ingress]))).template.unwrap();
    assert_eq!(sleep(&injected), Some(30));
    let mut changed = injected.clone();
    changed["spec"]["containers"][0]["image"] = json!("v2");
    let [old, new] = [&injected, &changed].map(|template| workload.with_template(template));
    let (sender, unknown) = watch::channel(UnknownKinds::default());
    let empty = TrafficCache { unknown, ..TrafficCache::default() };
    for (unlisted, denied, expected) in [(1, 0, 30), (0, 1, 30), (0, 0, 10)] {
        sender.send_replace(UnknownKinds { unlisted, denied });
        let admission = plan::admit(&new, Some(&old), &context(&empty));
        assert_eq!(sleep(admission.template.as_ref().unwrap_or(&changed)), Some(expected), "{unlisted}");
    }
}

#[test]
fn the_chart_permits_to_read_all_kinds() {
    const PERMITTED: &str = include_str!("../../../charts/adieu/files/exposures.yaml");
    const VALUES: &str = include_str!("../../../charts/adieu/values.yaml");
    const SCHEMA: &str = include_str!("../../../charts/adieu/values.schema.json");
    let permitted: BTreeMap<String, Vec<String>> = serde_saphyr::from_str(PERMITTED).unwrap();
    let in_group = |(group, resources): (&String, &Vec<String>)| {
        resources.iter().map(|resource| format!("{resource}.{group}")).collect::<Vec<_>>()
    };
    let resources: BTreeSet<_> = permitted.iter().flat_map(in_group).collect();
    assert_eq!(resources, KINDS.iter().map(|kind| kind.resource.to_owned()).collect());
    let values: Value = serde_saphyr::from_str(VALUES).unwrap();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let items = &schema["properties"]["drain"]["properties"]["exposures"]["items"];
    for groups in [&values["drain"]["exposures"], &items["enum"]] {
        let groups: BTreeSet<_> = groups.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(groups, permitted.keys().map(String::as_str).collect());
    }
}

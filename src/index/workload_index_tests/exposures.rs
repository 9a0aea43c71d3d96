//! Changes of the objects that lead requests to Services.

use adieu_exposures::TrafficObject;
use k8s_openapi::api::core::v1::Service;

use super::*;
use crate::plan::{self, InjectionState, Workload};

fn service(name: &str) -> Service {
    let metadata = json!({"name": name, "namespace": "shop"});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"selector": {"app": name}}})).unwrap()
}

/// An Ingress to the Service `web`, through a load balancer that sends to pods.
fn ingress() -> TrafficObject {
    let object = json!({
        "metadata": {"name": "shop", "annotations": {"alb.ingress.kubernetes.io/target-type": "ip"}},
        "spec": {"ingressClassName": "alb", "defaultBackend": {"service": {"name": "web"}}},
    });
    TrafficObject::read("networking.k8s.io", "Ingress", "shop", &object).unwrap()
}

/// A Deployment that is injected for the exposures of these caches.
fn injected(name: &str, caches: &Caches) -> (Kind, DynamicObject) {
    let (kind, mut object) = deployment("shop", name, json!({}));
    object.metadata.annotations = Some([("adieu.dev/graceful".into(), "true".into())].into());
    let context = caches.namespace_context("shop");
    let template = plan::evaluate(&Workload::of(kind, &object), &context).template.unwrap();
    object.data["spec"]["template"] = template;
    (kind, object)
}

#[tokio::test]
async fn an_exposure_that_appears_causes_no_rollout_and_its_workload_has_a_short_drain() {
    let caches = |workloads| Caches::fixed(vec![], vec![service("web"), service("api")], workloads);
    let before = caches(vec![]);
    let workloads = vec![injected("web", &before), injected("api", &before)];
    let evaluations = Counter::default();
    let index = Index::new(evaluations.clone());
    index.refresh(&caches(workloads.clone()));
    let short = |name: &str| index.get(&key("shop", name)).unwrap().desired.short_drain.clone();
    assert!(short("web").is_none() && short("api").is_none());
    changed(index.other_changes(Kind::Deployment));
    let evaluated = evaluations.get();

    let with_ingress = caches(workloads.clone()).with_traffic(vec![ingress()]);
    let batch = Batch { services: [("shop".to_owned(), "web".to_owned())].into(), ..Batch::default() };
    index.evaluate(&with_ingress, batch.clone()).await;
    assert_eq!(evaluations.get() - evaluated, 1, "only the workload that the Service selects");
    let web = index.get(&key("shop", "web")).unwrap();
    assert_eq!((web.desired.state, web.desired.desired_template), (InjectionState::Injected, None));
    let found = short("web").unwrap();
    assert_eq!((found.seconds, found.needed_seconds), (10, 90));
    assert_eq!(changed(index.other_changes(Kind::Deployment)), [key("shop", "web")], "for its Event");
    assert!(changed(index.urgent_changes(Kind::Deployment)).is_empty());

    // A workload that changed as well is evaluated once, for both.
    let both = Batch { workloads: [key("shop", "web"), key("shop", "api")].into(), ..batch.clone() };
    index.evaluate(&caches(workloads), both).await;
    assert!(short("web").is_none(), "the Ingress is gone");

    // With the next change of its template it gets the longer drain.
    let later = injected("web", &with_ingress);
    index.evaluate(&caches(vec![later]).with_traffic(vec![ingress()]), batch).await;
    assert!(short("web").is_none());
}

//! Finds the idle timeouts of the load balancers in front of a workload.

use adieu_exposures::{Pods, idle_timeouts_of};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, api::ListParams, core::DynamicObject};

use crate::{
    cli::{manifests::warn, traffic_objects::TrafficObjects},
    plan::pod_labels,
    runtime::api_errors::describe,
    verify::LoadBalancer,
};

/// The load balancers and proxies whose idle timeout is known, by annotations or as a default.
pub(super) async fn find(client: &Client, namespace: &str, workload: &DynamicObject) -> Vec<LoadBalancer> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let services = match services.list(&ListParams::default()).await {
        Ok(services) => services.items,
        Err(error) => {
            let error = describe(&error);
            warn(&format!("load balancers are unknown: Services cannot be listed: {error}; use --lb-idle"));
            return vec![];
        }
    };
    let found = TrafficObjects::read(client, Some(namespace)).await;
    found.report_skipped();
    let labels = pod_labels(workload);
    let timeouts = idle_timeouts_of(Pods { namespace, labels: &labels }, &services, &found.objects);
    let known = timeouts.into_iter().filter_map(|timeout| {
        Some(LoadBalancer {
            name: timeout.object.to_string(),
            idle_seconds: u32::try_from(timeout.seconds).ok()?.into(),
            source: timeout.source,
        })
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::test_support::{client, failure, not_found};

    fn workload() -> DynamicObject {
        let template = json!({"metadata": {"labels": {"app": "web"}}});
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"template": template}})).unwrap()
    }

    #[tokio::test]
    async fn the_idle_timeout_of_a_classic_load_balancer_is_read_from_its_service() {
        let client = client(|_, target| {
            let key = "service.beta.kubernetes.io/aws-load-balancer-connection-idle-timeout";
            let service = json!({
                "metadata": {"name": "web", "namespace": "shop", "annotations": {key: "90"}},
                "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"app": "web"}},
            });
            Some(match target.split('?').next().unwrap_or_default() {
                "/api/v1/namespaces/shop/services" => (200, json!({"metadata": {}, "items": [service]})),
                "/apis" => (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
                _ => (404, not_found()),
            })
        });
        let found = find(&client, "shop", &workload()).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].name.as_str(), found[0].idle_seconds), ("Service shop/web", 90.0));
    }

    #[tokio::test]
    async fn without_access_to_services_no_load_balancer_is_known() {
        let client = client(|_, _| Some((403, failure(403, "denied"))));
        assert!(find(&client, "shop", &workload()).await.is_empty());
    }
}

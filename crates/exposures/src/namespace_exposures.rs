//! The exposures of the pods of a namespace, as the plan uses them.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::plan::{Completeness, Exposures, NamespaceContext, RequiredDrain};
use k8s_openapi::api::core::v1::Service;

use crate::{
    drain::{Profiles, required_drain},
    find::{Pods, exposures_of},
    traffic_object::TrafficObject,
};

/// The Services of a namespace, the objects that may lead to them, and the drain profiles that apply.
#[derive(Debug)]
pub struct NamespaceExposures {
    namespace: String,
    services: Vec<Arc<Service>>,
    objects: Arc<[Arc<TrafficObject>]>,
    profiles: Profiles,
    completeness: Completeness,
}

impl NamespaceExposures {
    /// Those of a namespace whose context has Services and cluster policies. The objects may be in any namespace, and
    /// `completeness` says whether they are all that may lead to it.
    #[must_use]
    pub fn new(
        namespace: &str,
        context: &NamespaceContext,
        objects: Arc<[Arc<TrafficObject>]>,
        completeness: Completeness,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            services: context.services.clone(),
            objects,
            profiles: Profiles::of(&context.cluster_policies),
            completeness,
        }
    }

    /// The context of the namespace with its exposures, as [`Self::new`] has them.
    #[must_use]
    pub fn added_to(
        context: NamespaceContext,
        namespace: &str,
        objects: Arc<[Arc<TrafficObject>]>,
        completeness: Completeness,
    ) -> NamespaceContext {
        let exposures = Self::new(namespace, &context, objects, completeness);
        NamespaceContext { exposures: Some(Arc::new(exposures)), ..context }
    }
}

impl Exposures for NamespaceExposures {
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain> {
        let pods = Pods { namespace: &self.namespace, labels };
        let services = self.services.iter().map(|service| &**service);
        required_drain(&exposures_of(pods, services, &self.objects), &self.profiles)
    }

    fn completeness(&self, _labels: &BTreeMap<String, String>) -> Completeness {
        self.completeness.clone()
    }
}

#[cfg(test)]
mod tests {
    use adieu_core::plan::DrainOrigin;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_plan_gets_the_longest_drain_of_the_pods_with_its_origin() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}});
        let ingress = json!({
            "metadata": {"name": "shop"},
            "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
        });
        let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
        let measured = json!({"time": "2026-01-31T12:00:00Z", "terminations": 200});
        let profiles = [
            (json!([]), 30, "Ingress shop/shop (class nginx)", DrainOrigin::BuiltIn),
            (
                json!([{"exposure": "IngressClass/nginx", "seconds": 45}]),
                45,
                "Ingress shop/shop (class nginx)",
                DrainOrigin::DrainProfiles,
            ),
            (
                json!([
                    {"exposure": "ingress-nginx", "seconds": 3, "measured": measured},
                    {"exposure": "cluster-ip", "seconds": 2, "measured": measured},
                ]),
                3,
                "Ingress shop/shop (class nginx)",
                DrainOrigin::Measured,
            ),
            (
                json!([{"exposure": "ingress-nginx", "seconds": 3, "measured": measured}]),
                10,
                "Service shop/web (cluster-ip)",
                DrainOrigin::BuiltIn,
            ),
        ];
        for (list, seconds, exposure, origin) in profiles {
            let policy = json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
                "metadata": {"name": "platform"}, "spec": {"drainProfiles": list},
            });
            let context = NamespaceContext {
                services: vec![Arc::new(serde_json::from_value(service.clone()).unwrap())],
                cluster_policies: vec![Arc::new(serde_json::from_value(policy).unwrap())],
                ..NamespaceContext::default()
            };
            let objects = Arc::from([Arc::new(ingress.clone())]);
            let context = NamespaceExposures::added_to(context, "shop", objects, Completeness::Complete);
            let exposures = context.exposures.unwrap();
            let labels = |app: &str| BTreeMap::from([("app".to_owned(), app.to_owned())]);
            let expected = RequiredDrain { seconds, exposure: exposure.to_owned(), origin };
            assert_eq!(exposures.required_drain(&labels("web")), Some(expected), "{list}");
            assert_eq!(exposures.required_drain(&labels("worker")), None);
        }
    }
}

//! The exposures of a Service by itself.

use adieu_core::plan::is_headless;

use crate::{
    backend::Backend,
    controllers::of_load_balancer,
    data_planes::Classified,
    exposure::Exposure,
    profiles::{CLUSTER_IP, HEADLESS, NODE_PORT, TRAFFIC_POLICY_LOCAL},
};

/// The exposures of a Service by its type. `sessionAffinity` needs no longer drain: kube-proxy also stops sending to a
/// withdrawn endpoint for clients that were bound to it.
pub(crate) fn own_exposures(backend: &Backend<'_>) -> Vec<Exposure> {
    let plain = |profile| Exposure::of(profile, backend.name.clone());
    let Some(spec) = &backend.service.spec else { return vec![plain(&CLUSTER_IP)] };
    if is_headless(backend.service) {
        // Such addresses are not withdrawn before the pod is gone, whatever it waits for.
        let is_withdrawn = spec.publish_not_ready_addresses != Some(true);
        return is_withdrawn.then(|| plain(&HEADLESS)).into_iter().collect();
    }
    let mut exposures = vec![plain(&CLUSTER_IP)];
    let has_nodes = match spec.type_.as_deref() {
        Some("NodePort") => {
            exposures.push(plain(&NODE_PORT));
            true
        }
        Some("LoadBalancer") => {
            let class = spec.load_balancer_class.as_deref();
            let data_plane = of_load_balancer(class, backend.annotations);
            let class = class.map(|class| format!("LoadBalancerClass/{class}"));
            let exposure = backend.exposure(Classified::new(data_plane, class), None);
            let has_nodes = exposure.profile == data_plane.nodes;
            exposures.push(exposure);
            has_nodes
        }
        _ => false,
    };
    if has_nodes && spec.external_traffic_policy.as_deref() == Some("Local") {
        exposures.push(plain(&TRAFFIC_POLICY_LOCAL));
    }
    exposures
}

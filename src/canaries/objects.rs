//! The objects of a calibration, as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    pacing::Pacing,
    server::READY,
    way::{Exposed, Way},
};
use crate::disruption::{Image, Owner, container_security, pod_security};

/// The label with the name of the application.
const NAME: &str = "app.kubernetes.io/name";
/// The label with the name of the run.
pub(super) const RUN: &str = "app.kubernetes.io/instance";
/// Not the operator's name, so that the selectors of its Services and of the guard don't match canaries.
const CANARY: &str = "adieu-canary";
/// The port of the canary.
const PORT: u16 = 8080;

/// The Job that owns everything else. It has no pods; with its deadline it is removed, and so is everything else.
pub(super) fn deadline(image: &Image, limit: Duration) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"generateName": "adieu-calibrate-", "labels": {NAME: CANARY}},
        "spec": {
            "parallelism": 0,
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds(limit).max(1),
            "ttlSecondsAfterFinished": 0,
            "template": {
                "metadata": {"labels": {NAME: CANARY}},
                "spec": canary(image, "unused", Pacing::default()),
            },
        },
    })
}

/// A canary, which serves after its deletion until its observation is over, and for `limit` in total.
pub(super) fn pod(owner: &Owner, name: &str, image: &Image, pacing: Pacing, limit: Duration) -> Value {
    let mut object = object(owner, "v1", "Pod", name);
    // Policies may select any pod, and a sidecar that terminates would break the canary's connections.
    object["metadata"]["annotations"] =
        json!({"adieu.dev/graceful": "false", "linkerd.io/inject": "disabled"});
    object["metadata"]["labels"][NAME] = json!(CANARY);
    object["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
    object["spec"] = canary(image, name, pacing);
    object["spec"]["activeDeadlineSeconds"] = json!(seconds(limit).max(1));
    object["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(owner)},
    }]);
    object
}

fn canary(image: &Image, pod: &str, pacing: Pacing) -> Value {
    let quiet = format!("{}ms", pacing.quiet.as_millis());
    let pull_secrets: Vec<_> = image.pull_secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": pull_secrets,
        // Without a preStop hook, SIGTERM comes with the deletion. The canary ends by itself: the kubelet ignores a
        // grace period that is shortened later (kubernetes#83916).
        "terminationGracePeriodSeconds": seconds(pacing.grace_period()),
        "securityContext": pod_security(),
        "containers": [{
            "name": "canary",
            "image": image.name,
            "imagePullPolicy": "IfNotPresent",
            "args": ["canary", "--pod", pod, "--port", PORT.to_string(), "--quiet", quiet],
            "ports": [{"name": "http", "containerPort": PORT}],
            "readinessProbe": {"httpGet": {"path": READY, "port": "http"}, "periodSeconds": 1},
            "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": container_security(),
        }],
    })
}

/// The objects of a way, beside the Service of all ways, which has the name of the run. The way has this index, and its
/// requests this host, or any.
pub(super) fn of_way(
    owner: &Owner,
    (index, way): (usize, &Way),
    host: Option<&str>,
    exposed: &Exposed,
) -> Vec<Value> {
    let name = format!("{}-{index}", owner.name);
    match way {
        Way::ClusterIp => vec![],
        Way::NodePort => vec![service(owner, &name, "NodePort")],
        Way::LoadBalancer { class } => {
            let mut service = annotated(service(owner, &name, "LoadBalancer"), exposed);
            if let Some(class) = class {
                service["spec"]["loadBalancerClass"] = json!(class);
            }
            vec![service]
        }
        Way::Ingress { class } => vec![annotated(ingress(owner, &name, class, host), exposed)],
        Way::Gateway { class } => {
            let gateway = gateway(owner, &name, class, exposed.gateway_port);
            vec![annotated(gateway, exposed), route(owner, &name, host)]
        }
    }
}

/// A Service of the canaries.
pub(super) fn service(owner: &Owner, name: &str, kind: &str) -> Value {
    let mut object = object(owner, "v1", "Service", name);
    object["spec"] = json!({
        "type": kind,
        "selector": selector(owner),
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    });
    object
}

fn ingress(owner: &Owner, name: &str, class: &str, host: Option<&str>) -> Value {
    let backend = json!({"service": {"name": owner.name, "port": {"number": 80}}});
    let paths = json!([{"path": path(owner), "pathType": "Prefix", "backend": backend}]);
    let mut rule = json!({"http": {"paths": paths}});
    if let Some(host) = host {
        rule["host"] = json!(host);
    }
    let mut object = object(owner, "networking.k8s.io/v1", "Ingress", name);
    object["spec"] = json!({"ingressClassName": class, "rules": [rule]});
    object
}

fn gateway(owner: &Owner, name: &str, class: &str, port: u16) -> Value {
    let mut object = object(owner, "gateway.networking.k8s.io/v1", "Gateway", name);
    object["spec"] = json!({
        "gatewayClassName": class,
        "listeners": [{
            "name": "http", "protocol": "HTTP", "port": port,
            "allowedRoutes": {"namespaces": {"from": "Same"}},
        }],
    });
    object
}

fn route(owner: &Owner, name: &str, host: Option<&str>) -> Value {
    let mut object = object(owner, "gateway.networking.k8s.io/v1", "HTTPRoute", name);
    object["spec"] = json!({
        "parentRefs": [{"name": name}],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": path(owner)}}],
            "backendRefs": [{"name": owner.name, "port": 80}],
        }],
    });
    if let Some(host) = host {
        object["spec"]["hostnames"] = json!([host]);
    }
    object
}

/// The beginning of the paths of requests, which distinguishes them from others at the same host.
pub(super) fn path(owner: &Owner) -> String {
    format!("/{}", owner.name)
}

fn annotated(mut object: Value, exposed: &Exposed) -> Value {
    for (key, value) in &exposed.annotations {
        object["metadata"]["annotations"][key.as_str()] = json!(value);
    }
    object
}

fn selector(owner: &Owner) -> Value {
    json!({NAME: CANARY, RUN: owner.name})
}

fn object(owner: &Owner, api_version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {
            "name": name, "namespace": owner.namespace, "labels": {RUN: owner.name},
            "ownerReferences": [owner.reference()],
        },
    })
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        batch::v1::Job,
        core::v1::{Pod, Service},
        networking::v1::Ingress,
    };

    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "shop".to_owned(), name: "adieu-calibrate-x".to_owned(), uid: "1".to_owned() }
    }

    fn image() -> Image {
        Image { name: "adieu:1".to_owned(), pull_secret: None }
    }

    fn exposed() -> Exposed {
        Exposed { annotations: vec![("a/b".to_owned(), "c".to_owned())], gateway_port: 8000 }
    }

    #[test]
    fn the_owner_is_a_job_without_pods_that_is_removed_at_its_deadline() {
        let job: Job = serde_json::from_value(deadline(&image(), Duration::from_millis(90_500))).unwrap();
        let spec = job.spec.unwrap();
        assert_eq!((spec.parallelism, spec.completions), (Some(0), None));
        assert_eq!((spec.active_deadline_seconds, spec.ttl_seconds_after_finished), (Some(91), Some(0)));
    }

    #[test]
    fn a_canary_is_restricted_owned_and_serves_for_the_window() {
        let pacing = Pacing { quiet: Duration::from_secs(8), window: Duration::from_mins(1) };
        let pod = pod(&owner(), "adieu-calibrate-x-1", &image(), pacing, Duration::from_mins(10));
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let owners = pod.metadata.owner_references.unwrap();
        let owner_reference = &owners[0];
        assert_eq!((owner_reference.kind.as_str(), owner_reference.uid.as_str()), ("Job", "1"));
        assert_eq!(owner_reference.controller, None);
        let labels = pod.metadata.labels.unwrap();
        assert!(selector(&owner()).as_object().unwrap().iter().all(|(key, value)| labels[key] == *value));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.termination_grace_period_seconds, Some(96));
        assert_eq!(spec.active_deadline_seconds, Some(600));
        assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
        let container = &spec.containers[0];
        assert_eq!(container.security_context.as_ref().unwrap().allow_privilege_escalation, Some(false));
        assert!(container.lifecycle.is_none());
        let expected = ["canary", "--pod", "adieu-calibrate-x-1", "--port", "8080", "--quiet", "8000ms"]
            .map(str::to_owned);
        assert_eq!(container.args.as_deref(), Some(&expected[..]));
    }

    #[test]
    fn each_way_has_its_objects() {
        let balancer = Way::LoadBalancer { class: Some("example.com/lb".to_owned()) };
        let ingress = Way::Ingress { class: "nginx".to_owned() };
        let gateway = Way::Gateway { class: "eg".to_owned() };
        for (way, kinds) in [
            (&Way::ClusterIp, vec![]),
            (&Way::NodePort, vec!["Service"]),
            (&balancer, vec!["Service"]),
            (&ingress, vec!["Ingress"]),
            (&gateway, vec!["Gateway", "HTTPRoute"]),
        ] {
            let objects = of_way(&owner(), (3, way), Some("a.invalid"), &exposed());
            let found: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
            assert_eq!(found, kinds, "{way}");
            assert_eq!(found, way.kinds(), "{way}");
            for object in objects {
                assert_eq!(object["metadata"]["name"], "adieu-calibrate-x-3");
                assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "adieu-calibrate-x");
            }
        }
    }

    #[test]
    fn requests_of_a_proxy_are_led_to_the_canaries_by_host_and_path() {
        let way = Way::Ingress { class: "nginx".to_owned() };
        let objects = of_way(&owner(), (0, &way), Some("shop.example.com"), &exposed());
        let ingress: Ingress = serde_json::from_value(objects[0].clone()).unwrap();
        assert_eq!(ingress.metadata.annotations.unwrap()["a/b"], "c");
        let spec = ingress.spec.unwrap();
        assert_eq!(spec.ingress_class_name.as_deref(), Some("nginx"));
        let rule = &spec.rules.unwrap()[0];
        assert_eq!(rule.host.as_deref(), Some("shop.example.com"));
        assert_eq!(rule.http.as_ref().unwrap().paths[0].path.as_deref(), Some("/adieu-calibrate-x"));

        let way = Way::Gateway { class: "eg".to_owned() };
        let objects = of_way(&owner(), (0, &way), None, &exposed());
        assert_eq!(objects[0]["spec"]["listeners"][0]["port"], 8000);
        assert_eq!(objects[1]["spec"]["parentRefs"][0]["name"], objects[0]["metadata"]["name"]);
        assert!(objects[1]["spec"].get("hostnames").is_none());
    }

    #[test]
    fn a_load_balancer_has_its_class_and_annotations() {
        let way = Way::LoadBalancer { class: Some("example.com/lb".to_owned()) };
        let objects = of_way(&owner(), (0, &way), None, &exposed());
        let service: Service = serde_json::from_value(objects[0].clone()).unwrap();
        assert_eq!(service.metadata.annotations.unwrap()["a/b"], "c");
        assert_eq!(service.spec.unwrap().load_balancer_class.as_deref(), Some("example.com/lb"));
    }
}

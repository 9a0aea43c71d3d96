//! The drains that follow from recorded objects, as their sources give them.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use adieu_core::plan::string_map;
use adieu_exposures::{
    BUILT_IN, Drain, Exposure, Pods, Profiles, TrafficIndex, TrafficObject, drain_of, exposures_of,
    is_service_annotation,
};
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize as _;
use serde_json::Value;

/// A fixture, one of its Deployments, the profiles of its exposures, the drain in seconds, and a part of the reason.
type Row = (&'static str, &'static str, &'static [&'static str], i64, &'static str);

#[rustfmt::skip]
const DRAINS: &[Row] = &[
    ("aws-alb-class-ip", "web", &["cluster-ip", "aws-alb-ip"], 40, "IngressClass/public): it keeps connections to a deregistered pod for 30 s"),
    ("aws-alb-default", "web", &["cluster-ip", "node-port", "aws-instance"], 70, "none with 70 s"),
    ("aws-alb-instance", "web", &["cluster-ip", "node-port", "aws-instance"], 70, "none with 70 s"),
    ("aws-alb-ip", "web", &["cluster-ip", "aws-alb-ip"], 90, "Ingress shop/shop (AWS Application Load Balancer whose targets are pods, IngressClass/alb): 60 to 90 s"),
    ("aws-alb-ip-delay", "web", &["cluster-ip", "aws-alb-ip"], 40, "for 30 s, and takes 10 s to deregister it (alb.ingress.kubernetes.io/target-group-attributes of Ingress shop/shop)"),
    ("aws-classic", "web", &["cluster-ip", "aws-instance"], 70, "none with 70 s"),
    ("aws-gateway", "web", &["cluster-ip", "aws-alb-ip"], 55, "GatewayClass/public): it keeps connections to a deregistered pod for 45 s"),
    ("aws-nlb-default-ip", "web", &["cluster-ip", "aws-nlb-ip"], 190, "for 180 s"),
    ("aws-nlb-instance", "web", &["cluster-ip", "aws-instance"], 70, "LoadBalancerClass/service.k8s.aws/nlb"),
    ("aws-nlb-ip", "web", &["cluster-ip", "aws-nlb-ip"], 300, "270 to 300 s were needed"),
    ("aws-nlb-ip-short-delay", "web", &["cluster-ip", "aws-nlb-ip"], 120, "a delay of 5 s"),
    ("aws-target-group-binding", "web", &["cluster-ip", "aws-nlb-ip"], 300, "TargetGroupBinding shop/public"),
    ("azure-application-gateway", "web", &["cluster-ip", "azure-application-gateway"], 90, "a delay of 30 s"),
    ("cluster-ip", "web", &["cluster-ip"], 10, "Service shop/web (Service, through kube-proxy): 3 to 5 s are usual"),
    ("contour-http-proxy", "web", &["cluster-ip", "envoy"], 15, "HTTPProxy shop/shop"),
    ("envoy-gateway", "db", &["cluster-ip", "envoy"], 15, "TCPRoute shop/db"),
    ("envoy-gateway", "envoy-shop-internal-5f3c1d2e", &["cluster-ip", "load-balancer", "external-traffic-policy-local"], 40, "health checks"),
    ("gateway-of-another-controller", "web", &["cluster-ip", "gateway"], 30, "TLSRoute shop/shop (Gateway of another controller)"),
    ("google-gateway", "web", &["cluster-ip", "google"], 40, "a delay of 10 s (spec.default.connectionDraining.drainingTimeoutSec of GCPBackendPolicy shop/web)"),
    ("google-ingress", "web", &["cluster-ip", "google"], 60, "40 to 60 s are needed"),
    ("google-ingress-delay", "web", &["cluster-ip", "google"], 130, "for 120 s, and takes 10 s to deregister it (spec.connectionDraining.drainingTimeoutSec of BackendConfig shop/web)"),
    ("google-network-endpoint-group", "web", &["cluster-ip", "google"], 60, "Service shop/web (load balancer of Google Cloud"),
    ("gateway-api-grant", "api", &["cluster-ip"], 10, "3 to 5 s are usual"),
    ("gateway-api-grant", "web", &["cluster-ip", "envoy"], 15, "HTTPRoute edge/shop"),
    ("gateway-api-mesh", "web", &["cluster-ip"], 10, "3 to 5 s are usual"),
    ("headless", "grpc", &["headless"], 35, "the TTL of cluster DNS"),
    ("headless-of-peers", "cache", &[], 10, "no exposure is known"),
    ("ingress-nginx-behind-nlb", "web", &["cluster-ip", "ingress-nginx"], 30, "IngressClass/public): it may take 15 to 30 s"),
    ("ingress-nginx-behind-nlb", "ingress-nginx-controller", &["cluster-ip", "aws-nlb-ip"], 280, "for 270 s"),
    ("ingress-of-another-controller", "web", &["cluster-ip", "ingress"], 30, "IngressClass/haproxy"),
    ("istio-export-to", "gateway-only", &["cluster-ip"], 10, "3 to 5 s are usual"),
    ("istio-export-to", "open", &["cluster-ip", "envoy"], 15, "VirtualService edge/own"),
    ("istio-export-to", "private", &["cluster-ip"], 10, "3 to 5 s are usual"),
    ("istio-virtual-service", "reviews-v2", &["cluster-ip", "envoy"], 15, "VirtualService istio-system/reviews"),
    ("knative", "hello-00002-deployment", &["cluster-ip", "knative"], 30, "Knative Service shop/hello"),
    ("load-balancer", "web", &["cluster-ip", "load-balancer"], 30, "all nodes"),
    ("load-balancer-local", "web", &["cluster-ip", "load-balancer", "external-traffic-policy-local"], 40, "health checks"),
    ("no-service", "worker", &[], 10, "no exposure is known"),
    ("node-port-local", "edge", &["cluster-ip", "node-port", "external-traffic-policy-local"], 40, "health checks"),
    ("traefik-ingress", "web", &["cluster-ip", "traefik"], 10, "IngressClass/traefik): it gathers changes for 2 s"),
    ("traefik-ingress-route", "web", &["cluster-ip", "traefik"], 10, "IngressRoute shop/shop"),
    ("traefik-other-namespace", "web", &["cluster-ip"], 10, "3 to 5 s are usual"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The pods of a Deployment of a fixture, with the Services of their namespace and all other objects.
struct Fixture {
    namespace: String,
    labels: BTreeMap<String, String>,
    services: Vec<Service>,
    objects: Vec<Arc<TrafficObject>>,
}

impl Fixture {
    fn read(fixture: &str, deployment: &str) -> Self {
        let text = fs::read_to_string(folder().join(format!("{fixture}.yaml"))).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let mut pods = None;
        let mut services: BTreeMap<String, Vec<Service>> = BTreeMap::new();
        let mut objects = Vec::new();
        for object in &documents {
            let api_version = object["apiVersion"].as_str().unwrap();
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            let kind = object["kind"].as_str().unwrap();
            let is_of_cluster = kind.ends_with("Class") || kind == "IngressClassParams";
            let default = if is_of_cluster { "" } else { "default" };
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(default).to_owned();
            match (group, kind) {
                ("apps", "Deployment") if object["metadata"]["name"] == deployment => {
                    pods = Some((namespace, string_map(&object["spec"]["template"]["metadata"]["labels"])));
                }
                ("", "Service") => {
                    services.entry(namespace).or_default().push(Service::deserialize(object).unwrap());
                }
                (group, kind) => {
                    objects.extend(TrafficObject::read(group, kind, &namespace, object).map(Arc::new));
                }
            }
        }
        let (namespace, labels) = pods.unwrap_or_else(|| panic!("{fixture}: {deployment} is missing"));
        let services = services.remove(&namespace).unwrap_or_default();
        Self { namespace, labels, services, objects }
    }

    /// The exposures of the pods, with these of the objects.
    fn exposures(&self, objects: &[Arc<TrafficObject>]) -> Vec<Exposure> {
        let pods = Pods { namespace: &self.namespace, labels: &self.labels };
        exposures_of(pods, &self.services, objects)
    }
}

#[test]
fn recorded_objects_have_the_drains_of_their_sources() {
    for (fixture, deployment, profiles, seconds, reason) in DRAINS {
        let pods = Fixture::read(fixture, deployment);
        let exposures = pods.exposures(&pods.objects);
        let names: Vec<_> = exposures.iter().map(|exposure| exposure.profile.name).collect();
        assert_eq!(names, *profiles, "{fixture}: {deployment}");
        let Drain { seconds: found, because } = drain_of(&exposures, &Profiles::default());
        assert_eq!(found, *seconds, "{fixture}: {deployment}: {because}");
        assert!(because.contains(*reason), "{fixture}: {deployment}: {because}");
    }
}

#[test]
fn the_objects_of_an_index_and_some_annotations_of_services_suffice() {
    for (fixture, deployment, ..) in DRAINS {
        let mut of = Fixture::read(fixture, deployment);
        let expected: HashSet<_> = of.exposures(&of.objects).into_iter().collect();
        let mut index = TrafficIndex::default();
        for object in &of.objects {
            drop(index.insert(TrafficObject::clone(object)));
        }
        for annotations in of.services.iter_mut().filter_map(|one| one.metadata.annotations.as_mut()) {
            annotations.retain(|key, _| is_service_annotation(key));
        }
        let names = of.services.iter().filter_map(|service| service.metadata.name.as_deref());
        let leading = index.leading_to(&of.namespace, names);
        let found: HashSet<_> = of.exposures(&leading).into_iter().collect();
        assert_eq!(found, expected, "{fixture}: {deployment}");
    }
}

#[test]
fn every_fixture_and_every_profile_is_tested() {
    let files = fs::read_dir(folder()).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().path().file_stem().unwrap().to_owned()).collect();
    let named: BTreeSet<_> = DRAINS.iter().map(|(fixture, ..)| OsString::from(*fixture)).collect();
    assert_eq!(files, named);
    let tested: BTreeSet<_> = DRAINS.iter().flat_map(|(_, _, profiles, ..)| *profiles).copied().collect();
    let built_in: BTreeSet<_> = BUILT_IN.iter().map(|profile| profile.name).collect();
    assert_eq!(tested, built_in);
}

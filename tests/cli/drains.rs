//! The drain that follows from the exposures in the input.

use serde_json::{Value, json};

use crate::{
    WEB, inject, revert,
    support::{documents, succeed},
};

const EXPOSURES: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 80}}}}
";

/// A `ClusterGracefulPolicy` with such fields.
fn cluster_policy(spec: &str) -> String {
    format!(
        "---\napiVersion: adieu.dev/v1alpha1\nkind: ClusterGracefulPolicy\nmetadata: {{name: platform}}\nspec: {spec}\n"
    )
}

/// The drain of the only Deployment, and the source that its record has.
fn drain(injected: &str) -> (Value, Value) {
    let documents = documents(injected);
    let deployment = documents.iter().find(|document| document["kind"] == "Deployment").unwrap();
    let template = &deployment["spec"]["template"];
    let record = template["metadata"]["annotations"]["adieu.dev/injected"].as_str().unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    let sleep = &template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
    (sleep.clone(), record["settings"]["drainSeconds"]["from"].clone())
}

#[test]
fn the_drain_follows_from_the_exposures_in_the_input() {
    let measured = r#"{drainProfiles: [
      {exposure: IngressClass/nginx, seconds: 4, measured: {time: "2026-01-31T12:00:00Z", terminations: 200}},
      {exposure: cluster-ip, seconds: 2, measured: {time: "2026-01-31T12:00:00Z", terminations: 200}}]}"#;
    for (more, seconds, from) in [
        (String::new(), 10, None),
        (EXPOSURES.to_owned(), 30, Some("Auto: Ingress default/shop (class nginx) needs 30 s (built in)")),
        (
            EXPOSURES.to_owned()
                + &cluster_policy("{drainProfiles: [{exposure: ingress-nginx, seconds: 45}]}"),
            45,
            Some("Auto: Ingress default/shop (class nginx) needs 45 s (drainProfiles)"),
        ),
        (
            EXPOSURES.to_owned() + &cluster_policy(measured),
            4,
            Some("Auto: Ingress default/shop (class nginx) needs 4 s (measured)"),
        ),
        (EXPOSURES.to_owned() + &cluster_policy("{drainSeconds: 20}"), 20, Some("cluster policy platform")),
    ] {
        for input in [format!("{WEB}{more}"), format!("{}---\n{WEB}", more.trim_start_matches("---\n"))] {
            let injected = inject(&input);
            assert_eq!(drain(&injected), (json!(seconds), json!(from)), "{input}");
            assert_eq!(inject(&injected), injected, "injecting again changes nothing");
            assert_eq!(revert(&injected), input);
        }
    }
}

#[test]
fn a_drain_profile_of_an_unknown_exposure_is_reported() {
    let policy = cluster_policy("{drainProfiles: [{exposure: nginx-ingress, seconds: 45}]}");
    let (_, reported) = succeed(&["inject", "-f", "-"], &format!("{WEB}{policy}"));
    let expected = "ClusterGracefulPolicy platform: spec.drainProfiles: exposure \"nginx-ingress\" isn't a built-in profile";
    assert!(reported.contains(expected), "{reported}");
}

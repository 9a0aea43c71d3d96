use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::Value;
use tower::service_fn;

use super::*;

/// The parts of a cluster that the checks read.
#[derive(Clone)]
struct Cluster {
    kinds: &'static [&'static str],
    /// The admission of a Deployment.
    admits: fn(Value) -> Result<Value, (u16, &'static str)>,
    /// `None` if they may not be listed.
    webhooks: Option<Value>,
    /// The shutdown grace periods of its kubelets; `None` if nodes may not be listed.
    nodes: Option<&'static [(&'static str, &'static str)]>,
}

/// The API server's messages for a missing right, and for a webhook that fails closed and can't be called.
const FORBIDDEN: &str = "deployments.apps is forbidden: User \"jane\" cannot create resource \"deployments\"";
const CALLING: &str =
    "Internal error occurred: failed calling webhook \"annotated.adieu.dev\": connection refused";
const OTHERS: &str = "Internal error occurred: failed calling webhook \"validate.kyverno.svc\": timeout";

/// A cluster without problems.
const HEALTHY: Cluster = Cluster {
    kinds: &["GracefulPolicy", "ClusterGracefulPolicy"],
    admits: inject,
    webhooks: None,
    nodes: None,
};

fn inject(mut deployment: Value) -> Result<Value, (u16, &'static str)> {
    deny_invalid(deployment.clone())?;
    let template = &mut deployment["spec"]["template"];
    template["metadata"]["annotations"] = json!({"adieu.dev/injected": "{}"});
    template["spec"]["terminationGracePeriodSeconds"] = json!(45);
    template["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 10}}});
    Ok(deployment)
}

/// adieu's answer with a policy in mode `Audit`.
fn deny_invalid(deployment: Value) -> Result<Value, (u16, &'static str)> {
    if deployment["metadata"]["annotations"].get("adieu.dev/drain-seconds").is_some() {
        return Err((
            403,
            "admission webhook denied the request: metadata.annotations[adieu.dev/drain-seconds]: Invalid value",
        ));
    }
    Ok(deployment)
}

impl Cluster {
    fn answer(&self, method: &Method, path: &str, query: &str, sent: Value) -> (StatusCode, Value) {
        let refuse = |code: StatusCode, message: &str| {
            (code, json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": message}))
        };
        match path {
            "/version" => (
                StatusCode::OK,
                json!({
                    "major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                }),
            ),
            "/apis/adieu.dev/v1alpha1" if self.kinds.is_empty() => refuse(StatusCode::NOT_FOUND, "not found"),
            "/apis/adieu.dev/v1alpha1" => {
                let resource = |kind: &&str| json!({"name": kind.to_lowercase(), "singularName": "", "namespaced": true, "kind": kind, "verbs": []});
                let resources: Vec<_> = self.kinds.iter().map(resource).collect();
                (StatusCode::OK, json!({"groupVersion": "adieu.dev/v1alpha1", "resources": resources}))
            }
            "/apis/apps/v1/namespaces/shop/deployments" => {
                assert_eq!(method, Method::POST);
                assert!(query.contains("dryRun=All"), "something would be created: {query}");
                match (self.admits)(sent) {
                    Ok(deployment) => (StatusCode::CREATED, deployment),
                    Err((code, message)) => refuse(StatusCode::from_u16(code).unwrap(), message),
                }
            }
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => match &self.webhooks {
                Some(webhooks) => {
                    let configuration = json!({"metadata": {"name": "adieu"}, "webhooks": webhooks});
                    (StatusCode::OK, json!({"metadata": {}, "items": [configuration]}))
                }
                None => refuse(StatusCode::FORBIDDEN, "may not list"),
            },
            "/api/v1/nodes" => match self.nodes {
                Some(nodes) => {
                    let metadata = |(name, _): &(&str, &str)| json!({"metadata": {"name": name}});
                    let items: Vec<_> = nodes.iter().map(metadata).collect();
                    (StatusCode::OK, json!({"metadata": {}, "items": items}))
                }
                None => refuse(StatusCode::FORBIDDEN, "may not list"),
            },
            path if path.starts_with("/api/v1/nodes/") => {
                let name = path.split('/').nth(4).unwrap();
                let (_, period) = self.nodes.unwrap().iter().find(|(node, _)| *node == name).unwrap();
                let config = json!({"shutdownGracePeriod": period, "shutdownGracePeriodCriticalPods": "0s"});
                match *period {
                    "forbidden" => refuse(StatusCode::FORBIDDEN, "may not get nodes/proxy"),
                    _ => (StatusCode::OK, json!({"kubeletconfig": config})),
                }
            }
            other => panic!("unexpected request: {other}"),
        }
    }

    async fn checked(self) -> Vec<Check> {
        let service = service_fn(move |request: Request<Body>| {
            let cluster = self.clone();
            async move {
                let (parts, body) = request.into_parts();
                let sent = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
                let query = parts.uri.query().unwrap_or_default();
                let (code, answer) = cluster.answer(&parts.method, parts.uri.path(), query, sent);
                let answer =
                    Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let namespace = Some("shop".into());
        let arguments =
            Arguments { pre: false, namespace, image: "pause".into(), wait: 0, output: Format::Text };
        run_checks(&Client::new(service, "default"), &arguments).await
    }
}

fn webhook(bundle: Option<&str>, excluded: &str) -> Value {
    json!({
        "name": "annotated.adieu.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"caBundle": bundle},
        "namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", excluded]},
        ]},
    })
}

#[tokio::test]
async fn all_checks_succeed_in_a_healthy_cluster() {
    let findings: Vec<_> = HEALTHY.checked().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        findings,
        [
            "the API server is reachable: v1.36.3",
            "GracefulPolicy and ClusterGracefulPolicy are served",
            "an opted-in Deployment in shop is injected: preStop sleep 10 s, grace period 45 s",
        ]
    );
}

#[tokio::test]
async fn nodes_with_a_shorter_shutdown_grace_period_cause_a_warning() {
    let nodes = &[("a", "25s"), ("b", "0s"), ("c", "1m"), ("d", "forbidden"), ("e", "45s"), ("f", "44s")];
    let findings = Cluster { nodes: Some(nodes), ..HEALTHY }.checked().await;
    let problems: Vec<_> = findings.into_iter().filter_map(Result::err).collect();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.is_warning());
    let said = problem.to_string();
    assert!(said.contains("grace period of 45 s: a 25 s, f 44 s\n  Drain a node"), "{said}");
}

#[tokio::test]
async fn a_webhook_that_becomes_available_during_a_check_is_healthy() {
    static CALLED: AtomicBool = AtomicBool::new(false);
    let from_the_second_on = |deployment| {
        if CALLED.swap(true, Ordering::Relaxed) { inject(deployment) } else { Ok(deployment) }
    };
    let findings = Cluster { admits: from_the_second_on, ..HEALTHY }.checked().await;
    assert!(findings.iter().all(Result::is_ok), "{findings:?}");
}

#[tokio::test]
async fn problems_are_reported_with_a_remedy() {
    let untouched = Cluster { admits: Ok, ..HEALTHY };
    let with = |webhooks: Value| Cluster { webhooks: Some(webhooks), ..untouched.clone() };
    let other = json!([{"name": "other.example", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {}}]);
    for (cluster, expected, remedy) in [
        (
            Cluster { kinds: &[], ..HEALTHY },
            "does not serve GracefulPolicy and ClusterGracefulPolicy (",
            "crds.enabled",
        ),
        (
            Cluster { kinds: &["GracefulPolicy"], ..HEALTHY },
            "does not serve ClusterGracefulPolicy (",
            "adieu crd",
        ),
        (Cluster { admits: |_| Err((403, "only our images")), ..HEALTHY }, "only our images", "--image"),
        (
            Cluster { admits: |_| Err((403, FORBIDDEN)), ..HEALTHY },
            "cannot create Deployments",
            "--namespace",
        ),
        (Cluster { admits: |_| Err((500, CALLING)), ..HEALTHY }, "cannot call adieu", "NetworkPolicy"),
        (Cluster { admits: |_| Err((500, OTHERS)), ..HEALTHY }, "cannot be reached", "KUBECONFIG"),
        (Cluster { admits: |_| Err((429, "too many")), ..HEALTHY }, "cannot be reached", "KUBECONFIG"),
        (Cluster { admits: deny_invalid, ..HEALTHY }, "injects nothing", "Audit"),
        (untouched.clone(), "is not changed", "NetworkPolicy"),
        (with(other), "no MutatingWebhookConfiguration", "helm install"),
        (with(json!([webhook(None, "adieu-system")])), "adieu has no caBundle", "logs"),
        (with(json!([webhook(Some("eA=="), "shop")])), "ignores the namespace shop", "--namespace"),
        (with(json!([webhook(Some("eA=="), "adieu-system")])), "is not changed", "NetworkPolicy"),
    ] {
        let problems: Vec<_> = cluster.checked().await.into_iter().filter_map(Result::err).collect();
        let [problem] = problems.as_slice() else { panic!("{expected}: {problems:?}") };
        let said = problem.to_string();
        let (what, what_to_do) = said.split_once("\n  ").unwrap();
        assert!(what.contains(expected), "{said}");
        assert!(what_to_do.contains(remedy), "{said}");
    }
}

#[test]
fn json_has_the_result_message_and_remedy_of_each_check() {
    let checks =
        [Ok("it works".to_owned()), Err(Problem::NotInstalled), Err(Problem::ShortNames("a of b".into()))];
    let json: Value = serde_json::from_str(&json(&checks).unwrap()).unwrap();
    let results: Vec<_> = json["checks"].as_array().unwrap().iter().map(|check| &check["result"]).collect();
    assert_eq!(results, ["ok", "problem", "warning"]);
    assert_eq!(json["checks"][1]["message"], "no MutatingWebhookConfiguration has webhooks of adieu");
    assert_eq!(json["checks"][1]["remedy"], "Install adieu: helm install adieu …");
}

/// Adds a record without a hook.
fn inject_no_drain(deployment: Value) -> Result<Value, (u16, &'static str)> {
    let mut deployment = inject(deployment)?;
    deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"].take();
    Ok(deployment)
}

#[tokio::test]
async fn an_injection_without_a_drain_has_no_hook() {
    let findings = Cluster { admits: inject_no_drain, ..HEALTHY }.checked().await;
    let said = findings.into_iter().last().unwrap().unwrap();
    assert_eq!(said, "an opted-in Deployment in shop is injected: preStop none, grace period 45 s");
}

#[test]
fn only_transient_problems_are_retried() {
    let answered = |code: u16, message: &str| {
        let status = kube::core::Status::failure(message, "").with_code(code).boxed();
        Problem::of(kube::Error::Api(status), "shop")
    };
    for (problem, is_transient) in [
        (Problem::NotInstalled, true),
        (Problem::NoBundle("adieu".into()), true),
        (Problem::NotCalledSilently("shop".into()), true),
        (Problem::Excluded("shop".into()), false),
        (Problem::NotInjected("shop".into()), false),
        (Problem::NotServed("GracefulPolicy".into()), false),
        (answered(500, CALLING), true),
        (answered(500, OTHERS), true),
        (answered(429, "too many requests"), true),
        (answered(403, FORBIDDEN), false),
        (answered(403, "only our images"), false),
    ] {
        assert_eq!(problem.is_transient(), is_transient, "{problem}");
    }
}

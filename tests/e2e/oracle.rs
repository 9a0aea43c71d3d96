//! The API server as the oracle: objects that it accepts are also accepted after injection, and others are denied for
//! the same reasons. All requests have `dryRun=All`.
//!
//! `ADIEU_ORACLE_CASES` sets how many workloads are generated, `ADIEU_ORACLE_SEED` which ones. Both are printed, so
//! that a failure can be replayed.

mod answer;
mod compare;
mod search;

use std::{collections::BTreeMap, sync::Arc};

use adieu::{
    api::{GracefulPolicy, WorkloadKind, annotations::INJECTED, check_policy},
    plan::{Completeness, NamespaceContext},
};
use adieu_exposures::NamespaceExposures;
use kube::{
    Client, Discovery,
    core::GroupVersionKind,
    discovery::{ApiResource, Scope},
};
use serde_json::{Value, json};

use self::{
    answer::Answer,
    compare::{
        admitted, annotated_as, comparable, equal, opted_in, reverted, same_verdict, template_of,
        without_instructions, without_namespace, without_replaced_hooks, without_stop_signals,
    },
    search::check_all,
};
use crate::{
    figures::print_line,
    generate::{self, Case},
    manifests::{self, Document},
    random::{from_environment, generated},
    support::{Scene, eventually},
};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn accepted_workloads_are_accepted_after_injection() {
    let scene = Scene::new().await;
    let oracle = Oracle::new(&scene);
    let trees =
        generated("ADIEU_ORACLE_SEED", &generate::cases(), from_environment("ADIEU_ORACLE_CASES", 2000));
    let (oracle, nothing) = (&oracle, &NamespaceContext::default());
    let check = |case: Case| async move { oracle.check(&case.workload, nothing, &case.context).await };
    let outcomes = check_all(trees, check).await;
    let count = |what: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| what(outcome)).count();
    let (accepted, injected) = (count(|outcome| outcome.accepted), count(|outcome| outcome.injected));
    let by_policy = count(|outcome| outcome.injected_by_policy);
    let denied = outcomes.len() - accepted;
    print_line(&format!(
        "{} workloads: {accepted} accepted ({injected} of them injected by annotation, {by_policy} under policies), \
         {denied} denied ({} of those fixed)",
        outcomes.len(),
        count(|outcome| outcome.fixed),
    ));
    // Otherwise the run proves little.
    assert!(accepted * 2 >= outcomes.len(), "the API server accepts too few generated workloads");
    assert!(injected * 10 >= accepted * 6, "too few are injected by annotation");
    assert!(by_policy * 10 >= accepted * 3, "too few are injected under policies");
    assert!(denied * 20 >= outcomes.len(), "the API server denies too few generated workloads");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_manifest_is_accepted_before_and_after_injection() {
    let documents = manifests::all();
    let mut scenes: BTreeMap<&str, Scene> = BTreeMap::new();
    for document in &documents {
        if !scenes.contains_key(document.file.as_str()) {
            scenes.insert(&document.file, Scene::new().await);
        }
        // adieu reads these, so they are created without dryRun.
        if matches!(document.object["kind"].as_str(), Some("Service" | "GracefulPolicy")) {
            scenes[document.file.as_str()].create(&without_namespace(&document.object)).await;
        }
    }
    let last = Scene::new().await;
    everything_is_seen(&last).await;

    let discovery = Discovery::new(last.client.clone()).run().await.unwrap();
    let (mut accepted, mut injected) = (0, 0);
    for document in &documents {
        let Document { name, object, context, .. } = document;
        let oracle = Oracle::new(&scenes[document.file.as_str()]);
        if generate::is_workload(object) {
            let context = &NamespaceExposures::added_to(
                context.clone(),
                oracle.namespace,
                Arc::from([]),
                Completeness::Complete,
            );
            let checked = oracle.check(&without_namespace(object), context, context).await;
            let outcome = checked.unwrap_or_else(|error| unreachable!("{name}: {error}"));
            assert_ne!(outcome.accepted, document.is_incomplete(), "{name}: as it is");
            accepted += usize::from(outcome.accepted);
            injected += usize::from(outcome.injected);
        } else if let Some(answer) = oracle.create_any(&discovery, object).await {
            assert!(matches!(answer, Answer::Accepted(_)), "{name}: {answer:?}");
        }
    }
    print_line(&format!("{accepted} workloads of {} files, {injected} of them injected", scenes.len()));
    assert!(accepted >= 60 && injected >= 50);
    for scene in scenes.into_values().chain([last]) {
        scene.end().await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_accepted_policy_makes_a_workload_invalid() {
    let scene = Scene::new().await;
    let oracle = &Oracle::new(&scene);
    let trees = generated(
        "ADIEU_ORACLE_SEED",
        &generate::odd_policies(),
        from_environment("ADIEU_ORACLE_CASES", 2000) / 2,
    );
    let outcomes = check_all(trees, |policy| async move { oracle.check_policy(&policy).await }).await;
    let accepted = outcomes.iter().filter(|accepted| **accepted).count();
    print_line(&format!(
        "{} policies: {accepted} accepted, {} denied",
        outcomes.len(),
        outcomes.len() - accepted
    ));
    // Most of these policies are generated to be denied, but enough must be accepted.
    assert!(accepted * 10 >= outcomes.len() && accepted < outcomes.len());
    scene.end().await;
}

/// The outcome of one workload.
#[allow(clippy::struct_excessive_bools)]
struct Outcome {
    /// The API server accepts it without injection.
    accepted: bool,
    /// It is accepted only after injection, because it had a sleep longer than the grace period.
    fixed: bool,
    /// The webhook changed it.
    injected: bool,
    /// The policies would change it.
    injected_by_policy: bool,
}

/// An API server with adieu, and a namespace in which only annotated workloads are injected.
struct Oracle<'a> {
    client: Client,
    namespace: &'a str,
}

impl<'a> Oracle<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self { client: scene.client.clone(), namespace: &scene.namespace }
    }

    /// Creates a workload without injection, opted in, and injected under policies. `around` is the namespace's
    /// context, `policies` a hypothetical one.
    async fn check(
        &self,
        workload: &Value,
        around: &NamespaceContext,
        policies: &NamespaceContext,
    ) -> Result<Outcome, String> {
        let workload = &without_stop_signals(workload);
        let (plain, opted_in) = (without_instructions(workload), opted_in(workload));
        let original = self.create_workload(&plain).await;
        let injected = self.create_workload(&opted_in).await;
        same_verdict(&original, &injected).map_err(|error| format!("opted in: {error}"))?;
        let mut outcome = Outcome {
            accepted: matches!(original, Answer::Accepted(_)),
            fixed: false,
            injected: false,
            injected_by_policy: false,
        };
        if let (Answer::Accepted(plain), Answer::Accepted(injected)) = (&original, &injected) {
            equal("reverted", &reverted(injected), &comparable(plain))?;
            let here = admitted(&annotated_as(plain, &opted_in), around);
            equal("here and by the webhook", template_of(&here.object), template_of(injected))?;
            outcome.injected = here.injected;
        }
        outcome.fixed = !outcome.accepted && matches!(injected, Answer::Accepted(_));

        // The manifest, as for the command line, and the object, as for the webhook.
        let manifest = admitted(&opted_in, policies);
        let of_manifest = self.create_workload(&without_instructions(&manifest.object)).await;
        let kept = without_replaced_hooks(&plain, &manifest.object);
        let as_kept = if kept == plain { None } else { Some(self.create_workload(&kept).await) };
        same_verdict(as_kept.as_ref().unwrap_or(&original), &of_manifest)
            .map_err(|error| format!("under policies: {error}\n{:#}", manifest.object))?;
        if let Answer::Accepted(plain) = &original {
            let object = admitted(&annotated_as(plain, &opted_in), policies);
            let of_object = self.create_workload(&without_instructions(&object.object)).await;
            let (Answer::Accepted(of_manifest), Answer::Accepted(of_object)) = (&of_manifest, &of_object)
            else {
                return Err(format!("under policies, filled in: {of_object:?}\n{:#}", object.object));
            };
            equal("from a manifest and from an object", template_of(of_manifest), template_of(of_object))?;
            let record = &template_of(&object.object)["metadata"]["annotations"][INJECTED];
            let mut recorded = of_object.clone();
            if record.is_string() {
                recorded["spec"]["template"]["metadata"]["annotations"][INJECTED] = record.clone();
            }
            equal("reverted under policies", &reverted(&recorded), &comparable(plain))?;
            outcome.injected_by_policy = object.injected;
        }
        Ok(outcome)
    }

    /// Whether the API server accepts a policy, which must agree with the offline check; if so, workloads are
    /// injected under it.
    async fn check_policy(&self, spec: &Value) -> Result<bool, String> {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "p"}, "spec": spec,
        });
        let path = format!("/apis/adieu.dev/v1alpha1/namespaces/{}/gracefulpolicies", self.namespace);
        let offline = check_policy(&policy);
        // Like kubectl, denies unknown fields.
        let policy = match self.send(&format!("{path}?dryRun=All&fieldValidation=Strict"), &policy).await {
            Answer::Accepted(policy) if offline.is_empty() => policy,
            Answer::Denied { .. } if !offline.is_empty() => return Ok(false),
            answer => return Err(format!("offline {offline:?}, and the API server {answer:?}")),
        };
        let policy: GracefulPolicy = serde_json::from_value(policy)
            .map_err(|error| format!("accepted, but adieu cannot decode it: {error}"))?;
        let around = NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() };
        for workload in plain_workloads() {
            let injected = admitted(&workload, &around).object;
            if let Answer::Denied { message, .. } =
                self.create_workload(&without_instructions(&injected)).await
            {
                return Err(format!("{message}\n{injected:#}"));
            }
        }
        Ok(true)
    }

    async fn create_workload(&self, workload: &Value) -> Answer {
        let plural = match generate::kind(workload) {
            WorkloadKind::Deployment => "deployments",
            WorkloadKind::StatefulSet => "statefulsets",
            WorkloadKind::DaemonSet => "daemonsets",
        };
        self.create(&format!("/apis/apps/v1/namespaces/{}/{plural}", self.namespace), workload).await
    }

    /// The same for an object of any kind that the API server knows.
    async fn create_any(&self, discovery: &Discovery, object: &Value) -> Option<Answer> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let (ApiResource { plural, .. }, capabilities) =
            discovery.resolve_gvk(&GroupVersionKind::gvk(group, version, text("kind")))?;
        let prefix = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let path = match capabilities.scope {
            Scope::Cluster => format!("{prefix}/{version}/{plural}"),
            Scope::Namespaced => format!("{prefix}/{version}/namespaces/{}/{plural}", self.namespace),
        };
        match self.create(&path, &without_namespace(object)).await {
            // It exists: a Service of the same file.
            Answer::Denied { message, .. } if message.contains("already exists") => None,
            answer => Some(answer),
        }
    }

    async fn create(&self, path: &str, object: &Value) -> Answer {
        self.send(&format!("{path}?dryRun=All"), object).await
    }

    async fn send(&self, target: &str, object: &Value) -> Answer {
        let request = http::Request::post(target)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(object).unwrap())
            .unwrap();
        match self.client.request(request).await {
            Ok(created) => Answer::Accepted(created),
            Err(kube::Error::Api(status)) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let causes = causes.map(|cause| format!("{} {}", cause.field, cause.reason)).collect();
                Answer::Denied { message: status.message.clone(), causes }
            }
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// Ordinary workloads, opted in by every policy.
fn plain_workloads() -> impl Iterator<Item = Value> {
    let http = json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 8081, "name": "admin"}]);
    let containers = [
        json!([{"name": "app", "image": "registry.example/web:1", "ports": http}]),
        json!([{"name": "app", "image": "registry.example/web:1", "ports": http}, {
            "name": "proxy", "image": "registry.example/proxy:1", "ports": [{"containerPort": 9000}],
            "lifecycle": {"preStop": {"exec": {"command": ["/drain"]}}, "postStart": {"sleep": {"seconds": 20}}},
        }]),
    ];
    ["Deployment", "StatefulSet"].into_iter().flat_map(move |kind| {
        containers.clone().into_iter().map(move |containers| {
            let labels = json!({"app": generate::APP});
            json!({
                "apiVersion": "apps/v1", "kind": kind,
                "metadata": {"name": "web", "annotations": {"adieu.dev/policy": "p"}},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
                },
            })
        })
    })
}

/// Waits until the webhook knows every Service and policy created before.
async fn everything_is_seen(scene: &Scene) {
    let labels = json!({"app": "canary"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "canary"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "canary"},
        "spec": {"drainSeconds": 77},
    });
    let containers = json!([
        {"name": "web", "image": "registry.example/web:1", "ports": [{"containerPort": 8080}]},
        {"name": "proxy", "image": "registry.example/proxy:1"},
    ]);
    let canary = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "canary", "annotations": {"adieu.dev/policy": "canary"}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    });
    scene.create(&service).await;
    scene.create(&policy).await;
    let (oracle, canary) = (&Oracle::new(scene), &canary);
    eventually("the webhook to know the created objects", || async move {
        let Answer::Accepted(canary) = oracle.create_workload(canary).await else { return false };
        let container = &template_of(&canary)["spec"]["containers"][0];
        container["lifecycle"]["preStop"]["sleep"]["seconds"] == 77 && container["readinessProbe"].is_object()
    })
    .await;
}

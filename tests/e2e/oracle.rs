//! The API server as the oracle: what it takes, it takes injected, and what it refuses, it refuses for the
//! same reasons. Everything is created with `dryRun=All`.
//!
//! `ADIEU_ORACLE_CASES` sets how many workloads are generated, `ADIEU_ORACLE_SEED` which ones; what was used
//! is printed, so that a failure can be replayed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use adieu::{
    api::{GracefulPolicy, WorkloadKind, annotations::INJECTED, check_policy},
    plan::{self, NamespaceContext},
};
use futures::{StreamExt as _, stream};
use kube::{
    Client, Discovery,
    core::GroupVersionKind,
    discovery::{ApiResource, Scope},
};
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

use crate::{
    figures::say,
    generate::{self, Case},
    manifests::{self, Document},
    random::{from_environment, generated},
    support::{Scene, eventually},
};

/// Requests under way at a time.
const AT_ONCE: usize = 8;
/// Steps towards a smaller case that fails as well.
const SIMPLER: usize = 400;
/// Of the annotations by which adieu is told something, and of the record.
const PREFIX: &str = "adieu.dev/";

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_the_api_server_takes_it_takes_injected() {
    let scene = Scene::new().await;
    let oracle = Oracle::new(&scene);
    let trees =
        generated("ADIEU_ORACLE_SEED", &generate::cases(), from_environment("ADIEU_ORACLE_CASES", 2000));
    let (oracle, nothing) = (&oracle, &NamespaceContext::default());
    let check = |case: Case| async move { oracle.check(&case.workload, nothing, &case.context).await };
    let outcomes = all_hold(trees, check).await;
    let count = |what: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| what(outcome)).count();
    let (accepted, injected) = (count(|outcome| outcome.accepted), count(|outcome| outcome.injected));
    let by_policy = count(|outcome| outcome.injected_by_policy);
    let refused = outcomes.len() - accepted;
    say(&format!(
        "{} workloads: {accepted} accepted ({injected} of them injected by annotation, {by_policy} under policies), \
         {refused} refused ({} of those mended)",
        outcomes.len(),
        count(|outcome| outcome.mended),
    ));
    // Otherwise this would show little.
    assert!(accepted * 2 >= outcomes.len(), "the API server takes too few of what is generated");
    assert!(injected * 10 >= accepted * 6, "too few are injected by annotation");
    assert!(by_policy * 10 >= accepted * 3, "too few are injected under policies");
    assert!(refused * 20 >= outcomes.len(), "the API server refuses too few of what is generated");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_manifest_is_taken_as_it_is_and_injected() {
    let documents = manifests::all();
    let mut scenes: BTreeMap<&str, Scene> = BTreeMap::new();
    for document in &documents {
        if !scenes.contains_key(document.file.as_str()) {
            scenes.insert(&document.file, Scene::new().await);
        }
        // These are what adieu looks at, so they are really there.
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
            let checked = oracle.check(&without_namespace(object), context, context).await;
            let outcome = checked.unwrap_or_else(|error| unreachable!("{name}: {error}"));
            assert_ne!(outcome.accepted, document.is_incomplete(), "{name}: as it is");
            accepted += usize::from(outcome.accepted);
            injected += usize::from(outcome.injected);
        } else if let Some(answer) = oracle.ask_any(&discovery, object).await {
            assert!(matches!(answer, Answer::Accepted(_)), "{name}: {answer:?}");
        }
    }
    say(&format!("{accepted} workloads of {} files, {injected} of them injected", scenes.len()));
    assert!(accepted >= 60 && injected >= 50);
    for scene in scenes.into_values().chain([last]) {
        scene.end().await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_policy_that_the_api_server_takes_makes_it_refuse_a_workload() {
    let scene = Scene::new().await;
    let oracle = &Oracle::new(&scene);
    let trees = generated(
        "ADIEU_ORACLE_SEED",
        &generate::odd_policies(),
        from_environment("ADIEU_ORACLE_CASES", 2000) / 2,
    );
    let outcomes = all_hold(trees, |policy| async move { oracle.check_policy(&policy).await }).await;
    let accepted = outcomes.iter().filter(|accepted| **accepted).count();
    say(&format!("{} policies: {accepted} accepted, {} refused", outcomes.len(), outcomes.len() - accepted));
    // Most of these policies are made to be refused; of the rest there must be enough to show something.
    assert!(accepted * 10 >= outcomes.len() && accepted < outcomes.len());
    scene.end().await;
}

/// What came of one workload.
#[allow(clippy::struct_excessive_bools)]
struct Outcome {
    /// The API server takes it as it is.
    accepted: bool,
    /// It refuses it as it is and takes it injected: what was wrong was a sleep longer than the grace period.
    mended: bool,
    /// The webhook changed it.
    injected: bool,
    /// The policies around it would change it.
    injected_by_policy: bool,
}

/// An API server with adieu, and a namespace that it injects into only what carries an annotation.
struct Oracle<'a> {
    client: Client,
    namespace: &'a str,
}

/// What the API server says to an object.
#[derive(Debug)]
enum Answer {
    /// It takes it, and makes this of it.
    Accepted(Value),
    /// It refuses it. What is wrong with a field is the field and the kind of reason.
    Refused { message: String, causes: BTreeSet<String> },
}

impl<'a> Oracle<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self { client: scene.client.clone(), namespace: &scene.namespace }
    }

    /// Creates a workload as it is, opted in, and injected under policies. `around` is what is in the
    /// namespace, `policies` what could be.
    async fn check(
        &self,
        workload: &Value,
        around: &NamespaceContext,
        policies: &NamespaceContext,
    ) -> Result<Outcome, String> {
        let workload = &without_stop_signals(workload);
        let (plain, opted_in) = (without_instructions(workload), opted_in(workload));
        let as_it_is = self.ask(&plain).await;
        let injected = self.ask(&opted_in).await;
        same_verdict(&as_it_is, &injected).map_err(|error| format!("opted in: {error}"))?;
        let mut outcome = Outcome {
            accepted: matches!(as_it_is, Answer::Accepted(_)),
            mended: false,
            injected: false,
            injected_by_policy: false,
        };
        if let (Answer::Accepted(plain), Answer::Accepted(injected)) = (&as_it_is, &injected) {
            equal("reverted", &reverted(injected), &comparable(plain))?;
            let here = admitted(&annotated_as(plain, &opted_in), around);
            equal("here and by the webhook", template_of(&here.object), template_of(injected))?;
            outcome.injected = here.injected;
        }
        outcome.mended = !outcome.accepted && matches!(injected, Answer::Accepted(_));

        // The manifest as the command line has it, and the object as the webhook has it.
        let manifest = admitted(&opted_in, policies);
        let of_manifest = self.ask(&without_instructions(&manifest.object)).await;
        let kept = without_replaced_hooks(&plain, &manifest.object);
        let as_kept = if kept == plain { None } else { Some(self.ask(&kept).await) };
        same_verdict(as_kept.as_ref().unwrap_or(&as_it_is), &of_manifest)
            .map_err(|error| format!("under policies: {error}\n{:#}", manifest.object))?;
        if let Answer::Accepted(plain) = &as_it_is {
            let object = admitted(&annotated_as(plain, &opted_in), policies);
            let of_object = self.ask(&without_instructions(&object.object)).await;
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

    /// Whether the API server takes a policy, as the command line does; if so, workloads are injected under it.
    async fn check_policy(&self, spec: &Value) -> Result<bool, String> {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "p"}, "spec": spec,
        });
        let path = format!("/apis/adieu.dev/v1alpha1/namespaces/{}/gracefulpolicies", self.namespace);
        let offline = check_policy(&policy);
        // As kubectl asks: an unknown field is no less a mistake.
        let policy = match self.send(&format!("{path}?dryRun=All&fieldValidation=Strict"), &policy).await {
            Answer::Accepted(policy) if offline.is_empty() => policy,
            Answer::Refused { .. } if !offline.is_empty() => return Ok(false),
            answer => return Err(format!("offline {offline:?}, and the API server {answer:?}")),
        };
        let policy: GracefulPolicy = serde_json::from_value(policy)
            .map_err(|error| format!("taken, but adieu can't read it: {error}"))?;
        let around = NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() };
        for workload in plain_workloads() {
            let injected = admitted(&workload, &around).object;
            if let Answer::Refused { message, .. } = self.ask(&without_instructions(&injected)).await {
                return Err(format!("{message}\n{injected:#}"));
            }
        }
        Ok(true)
    }

    async fn ask(&self, workload: &Value) -> Answer {
        let plural = match generate::kind(workload) {
            WorkloadKind::Deployment => "deployments",
            WorkloadKind::StatefulSet => "statefulsets",
            WorkloadKind::DaemonSet => "daemonsets",
        };
        self.create(&format!("/apis/apps/v1/namespaces/{}/{plural}", self.namespace), workload).await
    }

    /// The same for an object of any kind that the API server knows.
    async fn ask_any(&self, discovery: &Discovery, object: &Value) -> Option<Answer> {
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
            // It is there: a Service of the same file.
            Answer::Refused { message, .. } if message.contains("already exists") => None,
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
                Answer::Refused { message: status.message.clone(), causes }
            }
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// An object, and what a decision made of it.
struct Admitted {
    object: Value,
    injected: bool,
}

/// What the webhook would answer to the creation of `object`.
fn admitted(object: &Value, around: &NamespaceContext) -> Admitted {
    let typed = generate::object(object);
    let workload = generate::workload(&typed);
    let admission = plan::admit(&workload, None, around);
    assert!(admission.refusals.is_empty(), "{:?}", admission.refusals);
    let mut object = object.clone();
    let injected = admission.template.is_some();
    if let Some(template) = admission.template {
        object["spec"]["template"] = template;
    }
    Admitted { object, injected }
}

/// What was taken is taken, and what was refused is refused for the same reasons, but for what injection
/// mends: a sleep longer than the grace period.
fn same_verdict(plain: &Answer, injected: &Answer) -> Result<(), String> {
    let mended = |cause: &&String| cause.contains(".sleep");
    match (plain, injected) {
        (Answer::Accepted(_), Answer::Accepted(_)) => Ok(()),
        (Answer::Accepted(_), Answer::Refused { message, .. }) => Err(format!("no longer taken: {message}")),
        (Answer::Refused { causes, .. }, Answer::Accepted(_))
            if !causes.is_empty() && causes.iter().all(|cause| mended(&cause)) =>
        {
            Ok(())
        }
        (Answer::Refused { message, .. }, Answer::Accepted(_)) => {
            Err(format!("no longer refused: {message}"))
        }
        (
            Answer::Refused { message, causes },
            Answer::Refused { message: injected_message, causes: injected_causes },
        ) => {
            // An injected spread counts the workload's own pods: by a selector that is refused as it is.
            let selector = causes.iter().any(|cause| cause.starts_with("spec.selector"));
            let copied = |cause: &String| selector && cause.contains("topologySpreadConstraints");
            let same = injected_causes.difference(causes).all(copied)
                && causes.difference(injected_causes).all(|cause| mended(&cause))
                && (!causes.is_empty() || message == injected_message);
            same.then_some(())
                .ok_or_else(|| format!("refused before: {message}\nand now: {injected_message}"))
        }
    }
}

fn equal(what: &str, one: &Value, other: &Value) -> Result<(), String> {
    let patch = || serde_json::to_string_pretty(&json_patch::diff(one, other)).unwrap_or_default();
    (one == other).then_some(()).ok_or_else(|| format!("{what}: not the same; what differs is\n{}", patch()))
}

fn template_of(workload: &Value) -> &Value {
    &workload["spec"]["template"]
}

/// The object as it was before it was opted in.
fn reverted(injected: &Value) -> Value {
    let mut object = injected.clone();
    object["spec"]["template"] = plan::original(template_of(injected), None);
    // The webhook takes it away with the record.
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(INJECTED);
        if labels.is_empty() {
            object["metadata"].as_object_mut().unwrap().remove("labels");
        }
    }
    comparable(&without_instructions(&object))
}

/// An object that the API server answered with, without what it leaves out where it is empty.
fn comparable(object: &Value) -> Value {
    let mut object = without_what_the_server_sets(object);
    if let Some(metadata) = object["spec"]["template"]["metadata"].as_object_mut()
        && metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        metadata.remove("annotations");
    }
    object
}

/// Without stop signals: that feature is off in 1.36, and they are dropped only after admission, so that
/// what is left of a lifecycle depends on what was injected beside them.
fn without_stop_signals(workload: &Value) -> Value {
    let mut workload = workload.clone();
    let template = &mut workload["spec"]["template"];
    for list in ["containers", "initContainers"] {
        for container in generate::list_mut(template, list).into_iter().flatten() {
            container
                .pointer_mut("/lifecycle")
                .and_then(Value::as_object_mut)
                .map(|l| l.remove("stopSignal"));
        }
    }
    workload
}

/// Without the hooks that injection, which a policy told to, put others in the place of: whatever was wrong with
/// those doesn't matter any more.
fn without_replaced_hooks(plain: &Value, injected: &Value) -> Value {
    let mut kept = plain.clone();
    let template = kept.pointer_mut("/spec/template");
    let containers = template.and_then(|template| generate::list_mut(template, "containers"));
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let now = &template_of(injected)["spec"]["containers"][index]["lifecycle"]["preStop"];
        if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut)
            && lifecycle.get("preStop").is_some_and(|before| !before.is_null() && before != now)
        {
            lifecycle.remove("preStop");
        }
    }
    kept
}

/// Without what differs from one creation to the next.
fn without_what_the_server_sets(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "managedFields"] {
            metadata.remove(field);
        }
    }
    object
}

/// Without annotations of adieu's: the webhook isn't asked. Annotations that hold nothing more go.
fn without_instructions(workload: &Value) -> Value {
    let mut workload = without_what_the_server_sets(workload);
    for metadata in ["/metadata", "/spec/template/metadata"] {
        let Some(metadata) = workload.pointer_mut(metadata).and_then(Value::as_object_mut) else { continue };
        let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
            continue;
        };
        let count = annotations.len();
        annotations.retain(|key, _| !key.starts_with(PREFIX));
        if annotations.is_empty() && count > 0 {
            metadata.remove("annotations");
        }
    }
    workload
}

fn opted_in(workload: &Value) -> Value {
    let mut workload = workload.clone();
    workload["metadata"]["annotations"]["adieu.dev/graceful"] = json!("true");
    workload
}

/// `object` with adieu's annotations of another.
fn annotated_as(object: &Value, other: &Value) -> Value {
    let mut object = object.clone();
    for path in ["/metadata", "/spec/template/metadata"] {
        let theirs = other.pointer(path).and_then(|metadata| metadata["annotations"].as_object());
        let Some(metadata) = object.pointer_mut(path) else { continue };
        for (key, value) in theirs.into_iter().flatten().filter(|(key, _)| key.starts_with(PREFIX)) {
            metadata["annotations"][key] = value.clone();
        }
    }
    object
}

fn without_namespace(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    object
}

/// Workloads with nothing odd about them, opted in by every policy.
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

/// Returns when the webhook knows every Service and policy created before.
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
    eventually("the webhook to see what was created", || async move {
        let Answer::Accepted(canary) = oracle.ask(canary).await else { return false };
        let container = &template_of(&canary)["spec"]["containers"][0];
        container["lifecycle"]["preStop"]["sleep"]["seconds"] == 77 && container["readinessProbe"].is_object()
    })
    .await;
}

/// Checks every value, several at a time, and fails with the simplest that can be found of the first that
/// doesn't hold.
async fn all_hold<T: ValueTree, O, F>(mut trees: Vec<T>, check: impl Fn(T::Value) -> F) -> Vec<O>
where
    F: Future<Output = Result<O, String>>,
{
    let cases: Vec<_> = trees.iter().map(ValueTree::current).enumerate().collect();
    let checks = cases.into_iter().map(|(index, case)| {
        let checked = check(case);
        async move { (index, checked.await) }
    });
    let checked: Vec<_> = stream::iter(checks).buffer_unordered(AT_ONCE).collect().await;
    let mut failures = HashMap::new();
    let mut outcomes = Vec::new();
    for (index, outcome) in checked {
        match outcome {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => drop(failures.insert(index, error)),
        }
    }
    if let Some(first) = failures.keys().min().copied() {
        let heads: BTreeSet<_> = failures.values().filter_map(|error| error.lines().next()).collect();
        say(&format!("{} of {} fail: {heads:#?}", failures.len(), trees.len()));
        let (case, error) = simplest(&mut trees[first], failures[&first].clone(), check).await;
        unreachable!("case {first}: {error}\nsimplified to {case:?}");
    }
    outcomes
}

async fn simplest<T: ValueTree, O, F>(
    tree: &mut T,
    error: String,
    check: impl Fn(T::Value) -> F,
) -> (T::Value, String)
where
    F: Future<Output = Result<O, String>>,
{
    let mut found = (tree.current(), error);
    let mut goes_on = tree.simplify();
    for _ in 0..SIMPLER {
        if !goes_on {
            break;
        }
        let case = tree.current();
        goes_on = match check(tree.current()).await {
            Err(error) => {
                found = (case, error);
                tree.simplify()
            }
            Ok(_) => tree.complicate(),
        };
    }
    found
}

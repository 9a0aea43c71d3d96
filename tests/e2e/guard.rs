//! What the operator's own service account can do with a token that was stolen: the API server refuses
//! every field but those that adieu is there for.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingAdmissionPolicy},
    authentication::v1::TokenRequest,
    coordination::v1::Lease,
    core::v1::{Secret, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    figures::{figure, say},
    operator::ADIEU,
    refusal,
    schema::{Change, Schema},
    support::{Scene, drain, eventually, workload},
};

/// What each message of the guard begins with.
const GUARD: &str = "adieu's own service account may ";

/// The fields that are adieu's to change; there are tests of their own of what they may become.
const ITS_OWN: [&str; 4] = [
    "spec.template.spec.containers[].lifecycle.preStop",
    "spec.template.spec.containers[].readinessProbe",
    "spec.template.spec.terminationGracePeriodSeconds",
    "spec.template.spec.topologySpreadConstraints",
];
/// What the API server itself keeps.
const KEPT: [&str; 3] = ["metadata.generation", "metadata.managedFields", "metadata.resourceVersion"];

/// A client with a token of the operator's service account.
async fn stolen(scene: &Scene) -> Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(scene.client.clone(), ADIEU);
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let account = accounts.list(&ours).await.unwrap().items[0].name_any();
    let request: TokenRequest =
        serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": []}})).unwrap();
    let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await.unwrap();
    let token = answer.status.unwrap().token;
    let mut config = Config::infer().await.unwrap();
    config.auth_info = serde_json::from_value(json!({"token": token})).unwrap();
    Client::try_from(config).unwrap()
}

/// The scene as the operator's service account sees it.
pub async fn as_the_operator(scene: &Scene) -> Scene {
    Scene { client: stolen(scene).await, namespace: scene.namespace.clone() }
}

/// A workload that nobody runs, as the API server has it.
async fn quiet(scene: &Scene, kind: &str, name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut object = workload(kind, name, &json!({}));
    if kind == "DaemonSet" {
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"there-is": "none"});
    } else {
        object["spec"]["replicas"] = json!(0);
    }
    change(&mut object);
    scene.create(&object).await;
    // Its controller writes annotations and the status once.
    eventually("its controller to have seen it", || async {
        let seen = object_of(scene, kind, name).await;
        seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
    })
    .await;
    object_of(scene, kind, name).await
}

async fn object_of(scene: &Scene, kind: &str, name: &str) -> Value {
    serde_json::to_value(scene.api("apps/v1", kind).get(name).await.unwrap()).unwrap()
}

/// Makes `new` of `old`, by the difference, as the operator does.
async fn change(scene: &Scene, old: &Value, new: &Value, dry_run: bool) -> Result<Value, String> {
    let kind = old["kind"].as_str().unwrap();
    let parameters = PatchParams { dry_run, ..PatchParams::default() };
    let patch = Patch::Json::<()>(json_patch::diff(old, new));
    let api = scene.api("apps/v1", kind);
    let changed = api.patch(old["metadata"]["name"].as_str().unwrap(), &parameters, &patch).await;
    changed.map(|changed| serde_json::to_value(changed).unwrap()).map_err(refusal)
}

fn with(old: &Value, pointer: &str, value: Value) -> Value {
    let mut new = old.clone();
    set(&mut new, pointer, value);
    new
}

/// Sets what a pointer leads to, and makes the objects on the way.
fn set(new: &mut Value, pointer: &str, value: Value) {
    let mut at = new;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/");
        at = match token.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => &mut at[token],
        };
    }
    *at = value;
}

const CONTAINER: &str = "/spec/template/spec/containers/0";
const RECORD: &str = "/spec/template/metadata/annotations/adieu.dev~1injected";

fn with_record(old: &Value, record: &str) -> Value {
    with(old, RECORD, json!(record))
}

fn in_container(path: &str) -> String {
    format!("{CONTAINER}/{path}")
}

fn is_guarded<T: std::fmt::Debug>(outcome: &Result<T, String>) -> bool {
    outcome.as_ref().is_err_and(|message| message.contains(GUARD))
}

/// Every property that the API server's own schema has of a workload, one after the other, is changed to
/// something that the schema allows.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_other_field_of_a_workload_is_refused_to_the_operator() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let schema = Schema::fetch(&scene.client, "/openapi/v3/apis/apps/v1").await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let base = quiet(&scene, kind, &kind.to_lowercase(), |object| {
            object["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
            let spec = &mut object["spec"]["template"]["spec"];
            spec["initContainers"] =
                json!([{"name": "sidecar", "image": "sidecar", "restartPolicy": "Always"}]);
            spec["volumes"] = json!([{"name": "adieu-test", "emptyDir": {}}]);
        })
        .await;
        let (mut guarded, mut invalid, mut without_effect) = (0, 0, 0);
        let (mut compared, mut unreached) = (BTreeSet::new(), BTreeSet::new());
        for Change { path, object } in schema.changes(&format!("io.k8s.api.apps.v1.{kind}"), &base) {
            if ITS_OWN.iter().chain(&KEPT).any(|own| is_within(&path, own)) {
                continue;
            }
            let field = named(&path);
            match change(&operator, &base, &object, true).await {
                Err(message) if message.contains(GUARD) => {
                    assert!(message.contains(&field), "{path} is not named: {message}");
                    compared.insert(field);
                    guarded += 1;
                }
                // The API server's own rules come first.
                Err(_) => {
                    unreached.insert(field);
                    invalid += 1;
                }
                Ok(changed) => {
                    // Emptied, it has no hook any more, which is adieu's to take away; the rest stays.
                    let taken = path == "spec.template.spec.containers[].lifecycle";
                    let expected =
                        if taken { with(&base, &in_container("lifecycle"), json!({})) } else { base.clone() };
                    assert_eq!(without_kept(&changed), without_kept(&expected), "{path} was changed");
                    unreached.insert(field);
                    without_effect += 1;
                }
            }
        }
        let unreached: Vec<_> = unreached.difference(&compared).cloned().collect();
        say(&format!("{kind}: the guard was not asked for {}", unreached.join(", ")));
        figure(
            &format!(
                "Each of {} properties of a {kind} changed with the operator's token",
                guarded + invalid + without_effect
            ),
            &format!(
                "{guarded} were refused by the guard, {invalid} by the API server's own rules before it, \
                 {without_effect} not taken from anybody; of {} fields that the guard names, {} were not reached",
                compared.len() + unreached.len(),
                unreached.len(),
            ),
        );
        assert!(guarded > invalid && compared.len() > 2 * unreached.len(), "too few get as far as the guard");
    }
    scene.end().await;
}

fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The part of a path that the guard names.
fn named(path: &str) -> String {
    let container = "spec.template.spec.containers[].";
    // One of another name is another container.
    if let Some(field) = path.strip_prefix(container).filter(|field| *field != "name") {
        let depth = if field.starts_with("lifecycle.") { 2 } else { 1 };
        let field: Vec<_> = field.split(['.', '[']).take(depth).collect();
        return format!("spec.template.spec.containers[web].{}", field.join("."));
    }
    let holders = ["spec.template.metadata.", "spec.template.spec.", "spec.template.", "metadata.", "spec."];
    let holder = holders.into_iter().find(|holder| path.starts_with(holder)).unwrap_or_default();
    let field = path[holder.len()..].split(['.', '[']).next().unwrap_or_default();
    format!("{holder}{field}")
}

/// Without what the API server itself keeps, and the record, which is adieu's to write.
fn without_kept(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| !KEPT.contains(&format!("metadata.{key}").as_str()));
    metadata["annotations"].as_object_mut().unwrap().remove("deprecated.daemonset.template.generation");
    object.as_object_mut().unwrap().remove("status");
    set(&mut object, RECORD, Value::Null);
    object
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stolen_token_runs_nothing_in_a_container() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let base = quiet(&scene, "Deployment", "web", |_| {}).await;
    let refused = [
        ("image", json!("registry.example/other")),
        ("command", json!(["/bin/evil"])),
        ("volumeMounts", json!([{"name": "root", "mountPath": "/host"}])),
        ("securityContext", json!({"privileged": true})),
        ("lifecycle", json!({"postStart": {"exec": {"command": ["/bin/evil"]}}})),
        ("livenessProbe", json!({"exec": {"command": ["/bin/evil"]}})),
    ];
    let mut outcomes = Vec::new();
    for (field, value) in refused {
        let mut new = with(&base, &in_container(field), value);
        if field == "volumeMounts" {
            new["spec"]["template"]["spec"]["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]);
        }
        outcomes.push((field.to_owned(), change(&operator, &base, &new, true).await));
    }
    let hook = |hook: Value| with(&base, &in_container("lifecycle"), json!({"preStop": hook}));
    let spread = |when: &str| {
        let constraint =
            json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": when});
        with(&base, "/spec/template/spec/topologySpreadConstraints", json!([constraint]))
    };
    let probe = |probe: Value| with(&base, &in_container("readinessProbe"), probe);
    for new in [
        with(&base, "/spec/template/spec/serviceAccountName", json!("admin")),
        with(&base, "/spec/template/spec/hostNetwork", json!(true)),
        with(&base, "/spec/replicas", json!(100)),
        spread("DoNotSchedule"),
        with(&base, "/metadata/annotations/adieu.dev~1graceful", json!("true")),
        with(&base, "/metadata/labels/team", json!("other")),
        with(&base, "/metadata/labels/adieu.dev~1injected", json!("false")),
        with(&base, "/spec/template/metadata/labels/tier", json!("other")),
        with(&base, "/spec/template/metadata/labels/adieu.dev~1injection", json!("disabled")),
        hook(json!({"exec": {"command": ["/bin/evil"]}})),
        hook(json!({"exec": {"command": ["sleep", "1; evil"]}})),
        hook(json!({"exec": {"command": ["sh", "-c", "sleep 1"]}})),
        hook(json!({"httpGet": {"port": 80, "host": "elsewhere.example"}})),
        hook(json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a", "value": "b"}]}})),
        hook(json!({"tcpSocket": {"port": 80}})),
        probe(json!({"exec": {"command": ["/bin/evil"]}})),
        probe(json!({"httpGet": {"port": 80, "host": "elsewhere.example"}})),
        probe(json!({"tcpSocket": {"port": 80, "host": "elsewhere.example"}})),
    ] {
        let changed = serde_json::to_string(&json_patch::diff(&base, &new)).unwrap();
        outcomes.push((changed, change(&operator, &base, &new, true).await));
    }
    for (changed, outcome) in outcomes {
        assert!(is_guarded(&outcome), "{changed}: {outcome:?}");
    }
    // What the policies don't look at, RBAC doesn't grant.
    let api = operator.api("apps/v1", "Deployment");
    let scale = Patch::Merge(json!({"spec": {"replicas": 100}}));
    let status = Patch::Merge(json!({"status": {"replicas": 100}}));
    let (post, patch, delete) = (PostParams::default(), PatchParams::default(), DeleteParams::default());
    for outcome in [
        api.patch_scale("web", &patch, &scale).await.map(drop),
        api.patch_status("web", &patch, &status).await.map(drop),
        api.delete("web", &delete).await.map(drop),
        api.create(&post, &serde_json::from_value(workload("Deployment", "other", &json!({}))).unwrap())
            .await
            .map(drop),
    ] {
        let message = refusal(outcome.unwrap_err());
        assert!(message.contains("is forbidden: User \"system:serviceaccount:"), "{message}");
    }
    for new in [
        hook(json!({"sleep": {"seconds": 7}})),
        hook(json!({"exec": {"command": ["sleep", "7"]}})),
        hook(json!({"httpGet": {"path": "/prestop", "port": 8081, "scheme": "HTTP"}})),
        probe(
            json!({"httpGet": {"path": "/ready", "port": "http", "httpHeaders": [{"name": "a", "value": "b"}]}}),
        ),
        probe(json!({"tcpSocket": {"port": 80}, "periodSeconds": 5})),
        probe(json!({"grpc": {"port": 80, "service": "web"}})),
        spread("ScheduleAnyway"),
        with(&base, "/spec/template/spec/terminationGracePeriodSeconds", json!(45)),
        with(&base, "/metadata/labels/adieu.dev~1injected", json!("true")),
        with(&base, "/spec/template/metadata/labels/adieu.dev~1injection", json!("enabled")),
    ] {
        change(&operator, &base, &new, true).await.unwrap();
    }
    scene.end().await;
}

/// A command that needs every escape of JSON that there is a short form of.
fn own_hook() -> Value {
    json!({"exec": {"command": ["/bin/sh", "-c", "echo \"a\\b\"\r\n\tnginx -s quit; sleep 5 # Ω"]}})
}

fn line(hook: &Value) -> String {
    json!({"web": hook}).to_string()
}

/// Whoever may write the record must not be able to have something restored that never stood there: not by
/// itself, and not by a request of somebody else that adieu's webhook answers.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_forged_record_restores_nothing() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let evil = json!({"exec": {"command": ["/bin/evil"]}});
    // In adieu's own namespace, which the controller leaves alone.
    let inside = Scene { client: scene.client.clone(), namespace: ADIEU.into() };
    let by_operator = as_the_operator(&inside).await;
    let hook = in_container("lifecycle");
    let mut current = quiet(&inside, "Deployment", "forged", |_| {}).await;
    for (record, restored) in [
        // A first line is none that restores.
        (line(&evil), &evil),
        // Neither is an empty one, for what has no line.
        ("{}\n\n".to_owned(), &json!({"tcpSocket": {"port": 80}})),
    ] {
        current = change(&by_operator, &current, &with_record(&current, &record), false).await.unwrap();
        let outcome =
            change(&by_operator, &current, &with(&current, &hook, json!({"preStop": restored})), true).await;
        assert!(is_guarded(&outcome), "{record}: {outcome:?}");
    }
    // Lines of hooks that never stood there.
    let lines = [line(&evil), line(&json!({})), line(&json!({"sleep": {"seconds": 5}})), "anything".into()];
    for line in lines {
        let outcome =
            change(&by_operator, &current, &with_record(&current, &format!("{{}}\n{line}")), true).await;
        assert!(is_guarded(&outcome), "{line}: {outcome:?}");
        // Also where the first one is the same.
        let outcome =
            change(&by_operator, &current, &with_record(&current, &format!("{line}\n{line}")), true).await;
        assert!(is_guarded(&outcome), "{line}: {outcome:?}");
    }
    inside.api("apps/v1", "Deployment").delete("forged", &DeleteParams::default()).await.unwrap();

    let before = quiet(&scene, "Deployment", "web", |_| {}).await;
    let injected = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    let record = injected.pointer(RECORD).unwrap().as_str().unwrap();
    let forged = with_record(&injected, &format!("{record}\n{}", line(&evil)));
    let outcome = change(&operator, &injected, &forged, false).await;
    assert!(is_guarded(&outcome), "{outcome:?}");

    // Where the first line says so, the guard lets it pass, and nobody listens.
    let mut first: Value = serde_json::from_str(record).unwrap();
    first["containers"]["web"]["preStop"]["before"] = evil.clone();
    first["containers"]["web"]["readinessProbe"] =
        json!({"injected": {"tcpSocket": {"port": 1}}, "before": evil});
    let current = object_of(&scene, "Deployment", "web").await;
    let forged =
        change(&operator, &current, &with_record(&current, &first.to_string()), false).await.unwrap();
    assert_eq!(forged["spec"], with_record(&current, &first.to_string())["spec"]);
    let opted_out = scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    assert_eq!(opted_out["spec"]["template"], before["spec"]["template"]);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_hook_that_stood_in_the_container_is_replaced_and_restored_by_the_operator() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    for own in [own_hook(), json!({"httpGet": {"path": "/", "port": "http", "host": "h", "scheme": "HTTP"}})]
    {
        let name = format!("by-hand-{}", own.as_object().unwrap().keys().next().unwrap().to_lowercase());
        let before = quiet(&scene, "Deployment", &name, |object| {
            let containers = &mut object["spec"]["template"]["spec"]["containers"];
            containers[0]["lifecycle"] = json!({"preStop": own});
            let mut other = containers[0].clone();
            (other["name"], other["lifecycle"]) = (json!("other"), Value::Null);
            containers.as_array_mut().unwrap().push(other);
        })
        .await;
        let hook = in_container("lifecycle/preStop");
        let mut replaced = with(&before, &hook, json!({"sleep": {"seconds": 10}}));
        set(&mut replaced, RECORD, json!(format!("{{}}\n{}", line(&own))));
        let replaced = change(&operator, &before, &replaced, false).await.unwrap();
        // Not in another container.
        let other = hook.replace("/0/", "/1/");
        let outcome = change(&operator, &replaced, &with(&replaced, &other, own.clone()), true).await;
        assert!(is_guarded(&outcome), "{outcome:?}");
        let mut restored = with(&replaced, &hook, own.clone());
        set(&mut restored, "/spec/template/metadata/annotations", json!({}));
        let restored = change(&operator, &replaced, &restored, false).await.unwrap();
        assert_eq!(restored["spec"]["template"], before["spec"]["template"]);
    }

    // By the operator itself, as policies say.
    quiet(&scene, "Deployment", "web", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = json!({"preStop": own_hook()});
    })
    .await;
    let policy = |existing: &str| {
        json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "preStop": {"existingHookPolicy": existing}},
        })
    };
    scene.create(&policy("Replace")).await;
    eventually("the hook to be replaced", || async { drain(&scene.deployment("web").await) == Some(10) })
        .await;
    scene.patch("GracefulPolicy", "all", &policy("Keep")).await.unwrap();
    eventually("the hook to be restored", || async {
        scene.deployment("web").await.pointer(&in_container("lifecycle/preStop")) == Some(&own_hook())
    })
    .await;
    scene.end().await;
}

/// Expressions have a budget in the API server, and too large an object would be refused for it.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_guard_holds_for_fifty_containers() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let own = json!({"exec": {"command": ["/bin/sh", "-c", "echo \"good bye\"; ".repeat(60)]}});
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let before = quiet(&scene, kind, &kind.to_lowercase(), |object| {
            let spec = &mut object["spec"]["template"]["spec"];
            let mut container = spec["containers"][0].clone();
            container["ports"] = Value::Null;
            container["lifecycle"] = json!({"preStop": own});
            container["env"] =
                (0..100).map(|i| json!({"name": format!("E{i}"), "value": "v".repeat(50)})).collect();
            let named = |i| with(&container, "/name", json!(format!("container-{i}")));
            spec["containers"] = (0..50).map(named).collect();
        })
        .await;
        let mut replaced = before.clone();
        let mut record = vec!["{}".to_owned()];
        for container in replaced["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
            container["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 10}});
            record.push(json!({container["name"].as_str().unwrap(): own}).to_string());
        }
        set(&mut replaced, RECORD, json!(record.join("\n")));
        let replaced = change(&operator, &before, &replaced, false).await.unwrap();
        let mut restored = before.clone();
        restored["metadata"] = replaced["metadata"].clone();
        change(&operator, &replaced, &restored, true).await.unwrap();
        let image = with(&replaced, "/spec/template/spec/containers/49/image", json!("other"));
        let outcome = change(&operator, &replaced, &image, true).await;
        assert!(is_guarded(&outcome), "{outcome:?}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_has_no_complaint_about_a_policy() {
    let scene = Scene::new().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(scene.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    eventually("every policy to be checked", || async {
        let policies = policies.list(&ours).await.unwrap().items;
        let checked = policies.iter().filter_map(|policy| policy.status.as_ref()?.type_checking.as_ref());
        let warnings: Vec<_> =
            checked.clone().filter_map(|checked| checked.expression_warnings.clone()).collect();
        assert!(warnings.is_empty(), "{warnings:?}");
        policies.len() > 4 && checked.count() == policies.len()
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stolen_token_does_not_redirect_admission() {
    let scene = Scene::new().await;
    let admin: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let name = admin.list(&ours).await.unwrap().items[0].name_any();
    let operator: Api<MutatingWebhookConfiguration> = Api::all(stolen(&scene).await);
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = async |patch: Value| {
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        operator.patch(&name, &dry_run, &patch).await.map(drop).map_err(refusal)
    };
    let client = "/webhooks/0/clientConfig";
    for (refused, field) in [
        (
            json!([{"op": "replace", "path": client, "value": {"url": "https://elsewhere.example/"}}]),
            "clientConfig",
        ),
        (
            json!([{"op": "replace", "path": format!("{client}/service/name"), "value": "other"}]),
            "clientConfig.service",
        ),
        (
            json!([{"op": "replace", "path": format!("{client}/service/namespace"), "value": "other"}]),
            "clientConfig.service",
        ),
        (
            json!([{"op": "replace", "path": format!("{client}/service/path"), "value": "/other"}]),
            "clientConfig.service",
        ),
        (json!([{"op": "add", "path": "/webhooks/0/rules/0/resources/-", "value": "secrets"}]), "rules"),
        (json!([{"op": "remove", "path": "/webhooks/0/namespaceSelector"}]), "namespaceSelector"),
        (json!([{"op": "remove", "path": "/webhooks/0/matchConditions"}]), "matchConditions"),
        (json!([{"op": "replace", "path": "/webhooks/2/objectSelector", "value": {}}]), "objectSelector"),
        (json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]), "failurePolicy"),
        (json!([{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 30}]), "timeoutSeconds"),
        (json!([{"op": "remove", "path": "/webhooks/0"}]), "webhooks"),
        (
            json!([{"op": "add", "path": "/metadata/annotations/adieu.dev~1failure-policy", "value": "Fail"}]),
            "metadata.annotations",
        ),
        (json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]), "metadata.labels"),
        (
            json!([{"op": "add", "path": "/metadata/finalizers", "value": ["a.example/b"]}]),
            "metadata.finalizers",
        ),
    ] {
        let message = patch(refused.clone()).await.unwrap_err();
        assert!(message.contains(GUARD) && message.contains(field), "{refused}: {message}");
    }
    patch(json!([{"op": "replace", "path": format!("{client}/caBundle"), "value": ""}])).await.unwrap();
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stolen_token_makes_no_other_token_and_touches_no_other_budget() {
    let scene = Scene::new().await;
    let client = stolen(&scene).await;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ADIEU);
    let token = json!({
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    });
    let refused = secrets.create(&dry_run, &serde_json::from_value(token).unwrap()).await.map_err(refusal);
    assert!(is_guarded(&refused), "{refused:?}");
    let leases: Api<Lease> = Api::namespaced(client.clone(), ADIEU);
    let lease = json!({"metadata": {"name": "somebody-elses"}});
    let refused = leases.create(&dry_run, &serde_json::from_value(lease).unwrap()).await.map_err(refusal);
    assert!(is_guarded(&refused), "{refused:?}");

    let budget = |labels: Value, available: Value| -> PodDisruptionBudget {
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u"});
        serde_json::from_value(json!({
            "metadata": {"name": "web-deployment-adieu", "labels": labels, "ownerReferences": [owner]},
            "spec": {"maxUnavailable": available, "selector": {"matchLabels": {"app": "web"}}},
        }))
        .unwrap()
    };
    let (theirs, ours) = (json!({"team": "shop"}), json!({"app.kubernetes.io/managed-by": "adieu"}));
    let admin: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let operator: Api<PodDisruptionBudget> = Api::namespaced(client, &scene.namespace);
    operator.create(&dry_run, &budget(ours.clone(), json!("10%"))).await.unwrap();
    for blocking in
        [budget(ours.clone(), json!(0)), budget(ours, json!("0%")), budget(theirs.clone(), json!(1))]
    {
        let refused = operator.create(&dry_run, &blocking).await.map_err(refusal);
        assert!(is_guarded(&refused), "{refused:?}");
    }
    // Its owner doesn't exist: with the reference it would be collected at any moment.
    let mut existing = budget(theirs, json!(1));
    existing.metadata.owner_references = None;
    admin.create(&PostParams::default(), &existing).await.unwrap();
    let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let refused = operator.delete("web-deployment-adieu", &dry_run).await.map(drop).map_err(refusal);
    assert!(is_guarded(&refused), "{refused:?}");
    scene.end().await;
}

//! The guard on the operator's service account: even with a stolen token, the API server denies changes of all fields
//! except those that adieu injects.

use std::collections::BTreeSet;

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    figures::{figure, print_line},
    operator::ADIEU,
    rejection,
    schema::{Change, Schema},
    support::{Scene, eventually, is_observed, workload},
};

/// The beginning of the guard's messages.
pub const GUARD: &str = "adieu's own service account may ";

/// The fields that adieu may change; other tests check their values.
const ITS_OWN: [&str; 4] = [
    "spec.template.spec.containers[].lifecycle.preStop",
    "spec.template.spec.containers[].readinessProbe",
    "spec.template.spec.terminationGracePeriodSeconds",
    "spec.template.spec.topologySpreadConstraints",
];
/// Fields that the API server sets.
const KEPT: [&str; 3] = ["metadata.generation", "metadata.managedFields", "metadata.resourceVersion"];

/// A client with a token of the operator's service account.
pub async fn stolen(scene: &Scene) -> Client {
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

/// The scene with a client of the operator's service account.
pub async fn as_the_operator(scene: &Scene) -> Scene {
    Scene { client: stolen(scene).await, namespace: scene.namespace.clone() }
}

/// A workload without pods, from the API server.
pub async fn quiet(scene: &Scene, kind: &str, name: &str, change: impl Fn(&mut Value)) -> Value {
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
        is_observed(&object_of(scene, kind, name).await)
    })
    .await;
    object_of(scene, kind, name).await
}

pub async fn object_of(scene: &Scene, kind: &str, name: &str) -> Value {
    serde_json::to_value(scene.api("apps/v1", kind).get(name).await.unwrap()).unwrap()
}

/// Patches `old` to `new`, as the operator does.
pub async fn change(scene: &Scene, old: &Value, new: &Value, dry_run: bool) -> Result<Value, String> {
    let kind = old["kind"].as_str().unwrap();
    let parameters = PatchParams { dry_run, ..PatchParams::default() };
    let patch = Patch::Json::<()>(json_patch::diff(old, new));
    let api = scene.api("apps/v1", kind);
    let changed = api.patch(old["metadata"]["name"].as_str().unwrap(), &parameters, &patch).await;
    changed.map(|changed| serde_json::to_value(changed).unwrap()).map_err(rejection)
}

pub fn with(old: &Value, pointer: &str, value: Value) -> Value {
    let mut new = old.clone();
    set(&mut new, pointer, value);
    new
}

/// Sets the value at a pointer, and creates its parents.
pub fn set(new: &mut Value, pointer: &str, value: Value) {
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
pub const RECORD: &str = "/spec/template/metadata/annotations/adieu.dev~1injected";

pub fn with_record(old: &Value, record: &str) -> Value {
    with(old, RECORD, json!(record))
}

pub fn in_container(path: &str) -> String {
    format!("{CONTAINER}/{path}")
}

pub fn is_guarded<T: std::fmt::Debug>(outcome: &Result<T, String>) -> bool {
    outcome.as_ref().is_err_and(|message| message.contains(GUARD))
}

/// Changes every property of a workload in the API server's schema, one by one, to another value that the schema
/// allows.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_operator_can_change_no_other_field_of_a_workload() {
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
                // The API server's validation comes first.
                Err(_) => {
                    unreached.insert(field);
                    invalid += 1;
                }
                Ok(changed) => {
                    // An empty lifecycle removes the hook, which adieu may do; other fields stay.
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
        print_line(&format!("{kind}: the guard was not reached for {}", unreached.join(", ")));
        figure(
            &format!(
                "Each of {} properties of a {kind} changed with the operator's token",
                guarded + invalid + without_effect
            ),
            &format!(
                "{guarded} were denied by the guard, {invalid} by the API server's validation before it, \
                 {without_effect} had no effect; of {} fields that the guard names, {} were not reached",
                compared.len() + unreached.len(),
                unreached.len(),
            ),
        );
        assert!(guarded > invalid && compared.len() > 2 * unreached.len(), "too few reach the guard");
    }
    scene.end().await;
}

fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The part of a path that the guard names.
fn named(path: &str) -> String {
    let container = "spec.template.spec.containers[].";
    // A container with another name is another container.
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

/// The object without fields that the API server sets, and without the record, which adieu may write.
fn without_kept(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| !KEPT.contains(&format!("metadata.{key}").as_str()));
    metadata["annotations"].as_object_mut().unwrap().remove("deprecated.daemonset.template.generation");
    object.as_object_mut().unwrap().remove("status");
    set(&mut object, RECORD, Value::Null);
    object
}

fn with_hook(base: &Value, hook: Value) -> Value {
    with(base, &in_container("lifecycle"), json!({"preStop": hook}))
}

fn with_probe(base: &Value, probe: Value) -> Value {
    with(base, &in_container("readinessProbe"), probe)
}

fn with_spread(base: &Value, when: &str) -> Value {
    let constraint =
        json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": when});
    with(base, "/spec/template/spec/topologySpreadConstraints", json!([constraint]))
}

/// Changes of a Deployment that the guard must deny.
fn forbidden(base: &Value) -> Vec<Value> {
    vec![
        with(base, "/spec/template/spec/serviceAccountName", json!("admin")),
        with(base, "/spec/template/spec/hostNetwork", json!(true)),
        with(base, "/spec/replicas", json!(100)),
        with_spread(base, "DoNotSchedule"),
        with(base, "/metadata/annotations/adieu.dev~1graceful", json!("true")),
        with(base, "/metadata/labels/team", json!("other")),
        with(base, "/metadata/labels/adieu.dev~1injected", json!("false")),
        with(base, "/spec/template/metadata/labels/tier", json!("other")),
        with(base, "/spec/template/metadata/labels/adieu.dev~1injection", json!("disabled")),
        with_hook(base, json!({"exec": {"command": ["/bin/evil"]}})),
        with_hook(base, json!({"exec": {"command": ["sleep", "1; evil"]}})),
        with_hook(base, json!({"exec": {"command": ["sh", "-c", "sleep 1"]}})),
        with_hook(base, json!({"httpGet": {"port": 80, "host": "elsewhere.example"}})),
        with_hook(base, json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a", "value": "b"}]}})),
        with_hook(base, json!({"tcpSocket": {"port": 80}})),
        with_probe(base, json!({"exec": {"command": ["/bin/evil"]}})),
        with_probe(base, json!({"httpGet": {"port": 80, "host": "elsewhere.example"}})),
        with_probe(base, json!({"tcpSocket": {"port": 80, "host": "elsewhere.example"}})),
    ]
}

/// Changes of a Deployment that the guard must allow.
fn allowed(base: &Value) -> Vec<Value> {
    vec![
        with_hook(base, json!({"sleep": {"seconds": 7}})),
        with_hook(base, json!({"exec": {"command": ["sleep", "7"]}})),
        with_hook(base, json!({"httpGet": {"path": "/prestop", "port": 8081, "scheme": "HTTP"}})),
        with_probe(
            base,
            json!({"httpGet": {"path": "/ready", "port": "http", "httpHeaders": [{"name": "a", "value": "b"}]}}),
        ),
        with_probe(base, json!({"tcpSocket": {"port": 80}, "periodSeconds": 5})),
        with_probe(base, json!({"grpc": {"port": 80, "service": "web"}})),
        with_spread(base, "ScheduleAnyway"),
        with(base, "/spec/template/spec/terminationGracePeriodSeconds", json!(45)),
        with(base, "/metadata/labels/adieu.dev~1injected", json!("true")),
        with(base, "/spec/template/metadata/labels/adieu.dev~1injection", json!("enabled")),
    ]
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stolen_token_runs_nothing_in_a_container() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let base = quiet(&scene, "Deployment", "web", |_| {}).await;
    let denied = [
        ("image", json!("registry.example/other")),
        ("command", json!(["/bin/evil"])),
        ("volumeMounts", json!([{"name": "root", "mountPath": "/host"}])),
        ("securityContext", json!({"privileged": true})),
        ("lifecycle", json!({"postStart": {"exec": {"command": ["/bin/evil"]}}})),
        ("livenessProbe", json!({"exec": {"command": ["/bin/evil"]}})),
    ];
    let mut outcomes = Vec::new();
    for (field, value) in denied {
        let mut new = with(&base, &in_container(field), value);
        if field == "volumeMounts" {
            new["spec"]["template"]["spec"]["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]);
        }
        outcomes.push((field.to_owned(), change(&operator, &base, &new, true).await));
    }
    for new in forbidden(&base) {
        let changed = serde_json::to_string(&json_patch::diff(&base, &new)).unwrap();
        outcomes.push((changed, change(&operator, &base, &new, true).await));
    }
    for (changed, outcome) in outcomes {
        assert!(is_guarded(&outcome), "{changed}: {outcome:?}");
    }
    // RBAC doesn't allow other requests.
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
        let message = rejection(outcome.unwrap_err());
        assert!(message.contains("is forbidden: User \"system:serviceaccount:"), "{message}");
    }
    for new in allowed(&base) {
        change(&operator, &base, &new, true).await.unwrap();
    }
    scene.end().await;
}

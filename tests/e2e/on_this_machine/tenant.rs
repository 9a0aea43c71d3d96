//! A hostile tenant with the role `edit` in one namespace, while another namespace deploys.

use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle, time::Duration};

use k8s_openapi::api::{
    core::v1::{Event, Pod},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    attack::Attack,
    floods::{BODIES, CONNECTIONS, ENDLESS, PIPELINED, bodies, flood, hold, joined, pipeline},
    target::Target,
};
use crate::{
    operator::{ADIEU, Operator, is_ready, restarts},
    random::from_environment,
    support::{Scene, drain, eventually, pods_of, web, within},
};

/// The share of its memory limit that a replica may use: sockets count in addition to resident memory.
const SHARE: f64 = 0.9;
/// The limit for a replica to start with the tenant's objects.
const START: Duration = Duration::from_mins(4);
/// etcd's limit for one object, less the rest of the object.
const LARGE: usize = 1_400_000;
/// Text that adieu caches: a template may have 256 KiB. And the number of such objects that fill its cache.
const CACHED: usize = 240_000;
const CACHE_FILLING: usize = 300;

/// The tenant's namespace, with a client that has only the role `edit`.
async fn tenant() -> Scene {
    let scene = Scene::new().await;
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "tenant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": scene.namespace}],
    }))
    .unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(scene.client.clone(), &scene.namespace);
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let mut config = Config::infer().await.unwrap();
    let header = http::HeaderName::from_static("impersonate-user");
    config.headers.push((header, scene.namespace.parse().unwrap()));
    let tenant = Scene { client: Client::try_from(config).unwrap(), namespace: scene.namespace };
    eventually("the tenant's permissions", || async {
        tenant.try_create_dry(&policy("allowed", 0)).await.is_ok()
    })
    .await;
    tenant
}

/// Random letters and digits, which don't compress well.
fn random(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64 ^ u64::from(std::process::id());
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[usize::try_from(state % 64).unwrap()])
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A Deployment without pods.
fn idle(name: &str, annotations: &Value) -> Value {
    let mut object = web(name, annotations);
    object["spec"]["replicas"] = json!(0);
    object
}

fn large(name: &str, annotations: &Value, text: &str) -> Value {
    let mut object = idle(name, annotations);
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": text}]);
    object
}

/// A policy of about the maximal size.
fn policy(name: &str, generation: usize) -> Value {
    let values: Vec<_> = (0..8).map(|n| format!("{n}{}", "v".repeat(62))).collect();
    let key = |n: usize| format!("{}/{n}{}", ["p".repeat(61).as_str(); 4].join("."), "k".repeat(62));
    let expressions: Vec<_> =
        (0..8).map(|n| json!({"key": key(n), "operator": "In", "values": values})).collect();
    let labels: BTreeMap<_, _> = (0..8).map(|n| (key(n), "v".repeat(63))).collect();
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": name},
        "spec": {
            "selector": {"matchExpressions": expressions, "matchLabels": labels},
            "drainSeconds": 1 + generation % 9,
            "rollout": {"maxConcurrent": 1000},
            "readinessProbe": {"probe": {"httpGet": {
                "path": format!("/{}", "p".repeat(1000)), "port": "http",
                "httpHeaders": vec![json!({"name": "n".repeat(128), "value": "v".repeat(512)}); 8],
            }}},
            "excludedContainers": (0..32).map(|n| format!("{n:02}{}", "c".repeat(61))).collect::<Vec<_>>(),
        },
    })
}

/// Objects of the maximal size: opted-in ones and others, and one with only empty strings.
async fn objects(tenant: &Scene, count: usize) {
    let text = random(LARGE);
    for n in 0..count {
        let annotations = if n % 10 == 0 { json!({"adieu.dev/graceful": "true"}) } else { json!({}) };
        let rotated = [&text[n..], &text[..n]].concat();
        tenant.create(&large(&format!("large-{n}"), &annotations, &rotated)).await;
    }
    let mut empty = idle("empty-strings", &json!({}));
    empty["spec"]["template"]["spec"]["containers"][0]["args"] = json!(vec![""; 740_000]);
    tenant.create(&empty).await;
}

/// Objects that adieu caches with their templates, until the namespace's share of the cache is full.
async fn fill_the_cache(tenant: &Scene) {
    let text = random(CACHED + CACHE_FILLING);
    for n in 0..CACHE_FILLING {
        let annotations = if n % 10 == 0 { json!({"adieu.dev/graceful": "true"}) } else { json!({}) };
        tenant.create(&large(&format!("cached-{n}"), &annotations, &text[n..n + CACHED])).await;
    }
    let events: Api<Event> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    eventually("an Event that the share is full", || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        let notes = events.iter().filter_map(|event| event.message.as_deref());
        notes.into_iter().any(|note| note.contains("of the objects of its namespace"))
    })
    .await;
}

/// Invalid policies, and many large valid ones.
async fn policies(tenant: &Scene, count: usize) {
    for number in [json!(3_000_000_000_u64), json!(1_u64 << 53), json!(-1), json!(1.5)] {
        let mut bad = policy("bad", 0);
        bad["spec"]["disruptionBudget"] = json!({"maxUnavailable": number});
        assert!(tenant.try_create_dry(&bad).await.is_err(), "{number} is accepted");
    }
    for n in 0..count {
        tenant.create(&policy(&format!("policy-{n}"), n)).await;
    }
}

/// Malformed and large annotations and records.
async fn annotations(tenant: &Scene) {
    let record = |text: &str| {
        let mut object = idle("record", &json!({"adieu.dev/graceful": "true"}));
        object["spec"]["template"]["metadata"]["annotations"] = json!({"adieu.dev/injected": text});
        object
    };
    let many = format!(r#"{{"containers":{{{}}}}}"#, vec![r#""c":{}"#; 20_000].join(","));
    for text in ["true", "[]", "{", "{}", "null", &"[".repeat(200_000), &random(200_000), &many] {
        let _ = tenant.try_create_dry(&record(text)).await;
    }
    for value in ["", "-1", "1e9", "99999999999999999999", &"9".repeat(200_000)] {
        let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": value});
        let is_denied = tenant.try_create_dry(&idle("annotated", &annotations)).await.is_err();
        assert!(is_denied, "{} is accepted", &value[..value.len().min(30)]);
    }
}

/// Objects whose `managedFields` are as large as etcd stores, and take a hundred times the memory when parsed. The API
/// server keeps those that a client sends. Returns the size of the largest, in bytes.
async fn managed_fields(tenant: &Scene) -> usize {
    let nested = (0..60).fold(json!({}), |inner, _| json!({ "f:a": inner }));
    let field: serde_json::Map<_, _> = (0..2000).map(|n| (format!("f:{n}"), nested.clone())).collect();
    let mut largest = 0;
    for manager in ["adieu", "kubectl"] {
        let entry = json!({
            "manager": manager, "operation": "Update", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": field}},
        });
        let with_fields = |mut object: Value| {
            object["metadata"]["managedFields"] = json!([entry]);
            object
        };
        let annotations = json!({"adieu.dev/graceful": "true"});
        let mut selecting = policy(&format!("fields-{manager}"), 0);
        selecting["spec"]["selector"] = json!({"matchLabels": {"app": format!("fields-{manager}")}});
        for object in [idle(&format!("fields-{manager}"), &annotations), selecting] {
            let created = tenant.create(&with_fields(object)).await;
            largest = largest.max(created["metadata"]["managedFields"].to_string().len());
        }
    }
    largest
}

/// Rollouts that never complete: a policy that changes repeatedly, for workloads that never become ready.
async fn rollouts(tenant: &Scene, rounds: usize) {
    let mut selecting = policy("rolling", 0);
    selecting["spec"]["selector"] = json!({});
    tenant.create(&selecting).await;
    for n in 0..10 {
        let mut object = web(&format!("never-ready-{n}"), &json!({}));
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.invalid/none:1");
        tenant.create(&object).await;
    }
    for round in 0..rounds {
        let drain = json!({"spec": {"drainSeconds": 1 + round % 9}});
        tenant.patch("GracefulPolicy", "rolling", &drain).await.unwrap();
    }
}

/// Sends requests to the webhook's port from the attacking pods.
async fn attack_the_port(attack: &Attack<'_>, attackers: &[Pod], targets: &[Target], namespace: &str) {
    let in_all = targets.len() * attackers.len() * CONNECTIONS * BODIES;
    for (what, body) in bodies() {
        let body = Arc::new(body);
        let floods = from_all(attackers, targets, |attacker, target| flood(attacker, target, &body));
        let what = format!("{in_all} bodies of 4 MiB from two pods: {what}");
        let answered = attack.phase(&what, floods, |answered| format!("{answered} were answered")).await;
        assert!(answered > 0, "{what}: no body was answered");
    }
    let what =
        format!("all connections held by requests that never end, {} from each of two pods", ENDLESS.0);
    let connections = |opened: &usize| format!("{opened} connections were opened");
    let opened = attack.phase(&what, from_all(attackers, targets, hold), connections).await;
    assert!(opened > 2 * targets.len() * ENDLESS.0, "only {opened} were opened: none made room for another");
    let what = format!(
        "small reviews over {} connections from each of two pods, without waiting for answers",
        PIPELINED.0
    );
    let pipelines = from_all(attackers, targets, |attacker, target| pipeline(attacker, target, namespace));
    let opened = attack.phase(&what, pipelines, connections).await;
    assert!(opened >= targets.len() * PIPELINED.0, "only {opened} connections were opened");
}

/// Runs clients in the network of each attacking pod for each target. Returns the sum of their outcomes.
async fn from_all(
    attackers: &[Pod],
    targets: &[Target],
    clients: impl Fn(&Pod, &Target) -> JoinHandle<usize>,
) -> usize {
    let pairs = targets.iter().flat_map(|target| attackers.iter().map(move |attacker| (attacker, target)));
    joined(pairs.map(|(attacker, target)| clients(attacker, target)).collect()).await
}

/// Creates objects that adieu watches.
async fn create_objects(attack: &Attack<'_>, tenant: &Scene, count: usize) {
    let what = format!("{count} Deployments of 1.4 MB, some annotated, and one of 740,000 empty strings");
    attack.run(&what, objects(tenant, count), "all were created").await;
    let what = format!("{CACHE_FILLING} Deployments of 240 kB, more than its share of the cache");
    let result = "all were created; an Event reports that the share is full";
    attack.run(&what, fill_the_cache(tenant), result).await;
    let what = format!("{count} policies of the maximum size, and some with invalid numbers");
    let result = "the API server denied those with invalid numbers, and created the others";
    attack.run(&what, policies(tenant, count), result).await;
    let what = "malformed and large annotations and records";
    attack.run(what, annotations(tenant), "malformed annotations were denied").await;
    attack.run("a policy that changes 50 times, for pods that never start", rollouts(tenant, 50), "–").await;
    let kept = |largest: &usize| format!("the API server keeps {} kB of them", largest / 1000);
    let largest = attack.phase("managedFields of 1 MB", managed_fields(tenant), kept).await;
    assert!(largest > 900_000, "the API server kept only {largest} bytes of managedFields");
}

/// Replaces a replica. Returns the time until the new one is ready.
async fn replace_a_replica(operator: &Operator, client: &Client) -> Duration {
    let gone = operator.pods().await[0].name_any();
    let pods: Api<Pod> = Api::namespaced(client.clone(), ADIEU);
    let deleted = Instant::now();
    pods.delete(&gone, &DeleteParams::default()).await.unwrap();
    within(START, "a replica that starts among the tenant's objects", || async {
        let pods = operator.pods().await;
        pods.len() == 2 && pods.iter().all(|pod| pod.name_any() != gone && is_ready(pod))
    })
    .await;
    let took = deleted.elapsed();
    operator.is_reachable().await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_hostile_tenant_delays_and_changes_nothing_in_another_namespace() {
    let (tenant, neighbour) = (tenant().await, Scene::new().await);
    let count = usize::try_from(from_environment("ADIEU_TENANT_OBJECTS", 72)).unwrap();
    let operator = Operator::find(&neighbour.client).await;
    operator.scale_from_zero(2).await;
    for name in ["attacker-1", "attacker-2"] {
        // Opted out, so that policies don't replace them.
        tenant.create(&web(name, &json!({"adieu.dev/graceful": "false"}))).await;
        tenant.rolled_out(name).await;
    }
    let attackers = [pods_of(&tenant, "attacker-1").await, pods_of(&tenant, "attacker-2").await].concat();
    let attack = Attack::start("tenant", &neighbour, SHARE).await;
    attack.run("none", async {}, "–").await;
    create_objects(&attack, &tenant, count).await;
    let replaced = replace_a_replica(&operator, &neighbour.client);
    let ready = |took: &Duration| format!("the new replica was ready after {:.1} s", took.as_secs_f64());
    attack.phase("a replica is replaced meanwhile", replaced, ready).await;

    let replicas = operator.pods().await;
    let mut targets = Vec::new();
    for replica in &replicas {
        targets.push(Target::of(&neighbour, &operator.name, replica).await);
    }
    attack_the_port(&attack, &attackers, &targets, &tenant.namespace).await;
    let after = operator.pods().await;
    assert!(after.iter().all(|pod| restarts(pod) == 0), "a replica was restarted");
    attack.end();

    let deployed = neighbour.create(&web("neighbour", &json!({"adieu.dev/graceful": "true"}))).await;
    assert_eq!(drain(&deployed), Some(10));
    neighbour.rolled_out("neighbour").await;
    Scene { client: neighbour.client.clone(), namespace: tenant.namespace }.end().await;
    neighbour.end().await;
}

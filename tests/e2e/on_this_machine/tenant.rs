//! A tenant with `edit` in one namespace does its worst, while another namespace deploys.

use std::{
    fs::{self, File},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use k8s_openapi::api::{core::v1::Pod, rbac::v1::RoleBinding};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{hostile::Target, processes};
use crate::{
    admissions::{Admissions, Outcome},
    figures::figure,
    operator::{ADIEU, Operator, is_ready, memory_limit, restarts},
    random::from_environment,
    support::{Scene, drain, eventually, web, within},
};

/// Others' admissions stay within this at the 99th percentile.
const P99: Duration = Duration::from_secs(1);
/// How much of its memory limit a replica may use: its sockets count beside what is resident.
const SHARE: f64 = 0.9;
/// How long a replica may take to start among the tenant's objects.
const START: Duration = Duration::from_mins(4);
/// What etcd takes of one object, less what surrounds the random text.
const LARGE: usize = 1_400_000;

/// The tenant's namespace and its client, which may do what the role `edit` may, and no more.
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
    eventually("the tenant's rights", || async {
        tenant.try_create_dry(&policy("allowed", 0)).await.is_ok()
    })
    .await;
    tenant
}

/// Random letters and digits: nothing compresses them well.
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

/// A Deployment that nobody runs and nobody opted in.
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

/// A policy as large as its schema allows, more or less.
fn policy(name: &str, generation: usize) -> Value {
    let values: Vec<_> = (0..32).map(|n| format!("{n:02}{}", "v".repeat(61))).collect();
    let expressions: Vec<_> = (0..12)
        .map(|n| json!({"key": format!("{n:02}{}", "k".repeat(61)), "operator": "In", "values": values}))
        .collect();
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": name},
        "spec": {
            "selector": {"matchExpressions": expressions}, "drainSeconds": 1 + generation % 9,
            "rollout": {"maxConcurrent": 1000},
        },
    })
}

/// The memory of every replica over time, and what was going on.
struct MemoryCurve {
    over: Arc<AtomicBool>,
    peaks: Arc<Mutex<Vec<(&'static str, f64)>>>,
    watcher: thread::JoinHandle<()>,
}

impl MemoryCurve {
    /// Follows the replicas' containers; replicas that come later as well.
    fn start(operator: Operator) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let peaks = Arc::new(Mutex::new(vec![("at rest", 0.0)]));
        let (stop, seen) = (over.clone(), peaks.clone());
        let watcher = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                while !stop.load(Ordering::Relaxed) {
                    let pods = operator.pods().await;
                    let most = pods.iter().flat_map(processes).filter_map(resident).fold(0.0, f64::max);
                    if let Some((_, peak)) = seen.lock().unwrap().last_mut() {
                        *peak = most.max(*peak);
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        });
        Self { over, peaks, watcher }
    }

    fn phase(&self, what: &'static str) {
        self.peaks.lock().unwrap().push((what, 0.0));
    }

    /// The peak of each phase, in MiB.
    fn end(self) -> Vec<(&'static str, f64)> {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().unwrap();
        self.peaks.lock().unwrap().clone()
    }
}

/// What a process has in memory, in MiB.
fn resident(process: nix::unistd::Pid) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// Bodies that cost much more memory as values than as text.
fn bodies() -> Vec<String> {
    let review = |object: &str| {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","operation":"CREATE","kind":{{"group":"apps","version":"v1","kind":"Deployment"}},"object":{object}}}}}"#
        )
    };
    let list = |item: &str| {
        let count = 4 * 1024 * 1024 / (item.len() + 1);
        format!(r#"{{"a":[{}]}}"#, vec![item; count].join(","))
    };
    let keys: Vec<_> = (0..400_000).map(|n| format!("\"{n:x}\":0")).collect();
    vec![
        review(&list("0")),
        review(&list("\"\"")),
        review(&list("{}")),
        review(&list("[[]]")),
        review(&format!("{{{}}}", keys.join(","))),
        review(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        review(&format!("\"{}\"", "\\u0041".repeat(700_000))),
        list("0"),
    ]
}

/// Sends every body over so many connections at once, from within the network of a pod; how many were answered.
fn flood(from: &Pod, target: &Target, connections: usize, rounds: usize) -> thread::JoinHandle<usize> {
    let network = File::open(format!("/proc/{}/ns/net", processes(from)[0])).unwrap();
    let target = target.clone();
    thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bodies: Arc<Vec<String>> = Arc::new(bodies());
            let mut senders = JoinSet::new();
            for sender in 0..connections {
                let (target, bodies) = (target.clone(), bodies.clone());
                senders.spawn(async move {
                    let mut answered = 0;
                    for round in 0..rounds {
                        answered +=
                            usize::from(send(&target, &bodies[(sender + round) % bodies.len()]).await);
                    }
                    answered
                });
            }
            senders.join_all().await.into_iter().sum()
        })
    })
}

/// Whether there was an answer: whoever is turned away may find the connection closed instead.
async fn send(target: &Target, body: &str) -> bool {
    let Ok(Ok(mut client)) = timeout(Duration::from_secs(10), target.try_connect()).await else {
        return false;
    };
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    let exchange = async {
        client.write_all(head.as_bytes()).await.ok()?;
        let _ = client.write_all(body.as_bytes()).await;
        let _ = client.flush().await;
        client.read_to_end(&mut answer).await.ok()
    };
    let _ = timeout(Duration::from_secs(30), exchange).await;
    answer.starts_with(b"HTTP/1.1 ")
}

/// Objects as large as they can be: some to be decoded, some to be kept, one of nothing but empty strings.
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

/// Policies that are refused, and as many as there may be that are not.
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

/// Annotations and records that mean nothing, or far too much.
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
        let said = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": value});
        let refused = tenant.try_create_dry(&idle("annotated", &said)).await.is_err();
        assert!(refused, "{} is accepted", &value[..value.len().min(30)]);
    }
}

/// Rollouts that never end: policies that change all the time, for workloads that never become ready.
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

/// What another namespace deploys meanwhile is injected, in time and as it should be.
fn judge(phase: &str, others: &Outcome) -> String {
    assert_eq!(others.failed, Vec::<String>::new(), "{phase}");
    let p99 = others.percentile(99);
    assert!(p99 <= P99, "{phase}: p99 is {} ms", p99.as_millis());
    format!("{phase}: {} admissions, p99 {} ms", others.count, p99.as_millis())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_tenant_at_its_worst_delays_and_changes_nothing_in_another_namespace() {
    let (tenant, neighbour) = (tenant().await, Scene::new().await);
    let count = usize::try_from(from_environment("ADIEU_TENANT_OBJECTS", 72)).unwrap();
    let operator = Operator::find(&neighbour.client).await;
    operator.anew(2).await;
    for name in ["attacker-1", "attacker-2"] {
        tenant.create(&web(name, &json!({}))).await;
        tenant.rolled_out(name).await;
    }
    let pods: Api<Pod> = Api::namespaced(neighbour.client.clone(), &tenant.namespace);
    let attackers =
        pods.list(&ListParams::default().labels("app in (attacker-1, attacker-2)")).await.unwrap().items;
    let curve = MemoryCurve::start(Operator::find(&neighbour.client).await);
    let mut told = Vec::new();

    curve.phase("large objects");
    let admissions = Admissions::start(&neighbour);
    objects(&tenant, count).await;
    told.push(judge("large objects", &admissions.end().await));

    curve.phase("policies, annotations, rollouts");
    let admissions = Admissions::start(&neighbour);
    policies(&tenant, count).await;
    annotations(&tenant).await;
    rollouts(&tenant, 50).await;
    told.push(judge("policies, annotations and rollouts", &admissions.end().await));

    curve.phase("a replica starts among them");
    let before = operator.pods().await;
    let gone = before[0].name_any();
    let own: Api<Pod> = Api::namespaced(neighbour.client.clone(), ADIEU);
    let started = Instant::now();
    own.delete(&gone, &DeleteParams::default()).await.unwrap();
    within(START, "a replica that starts among the tenant's objects", || async {
        let pods = operator.pods().await;
        pods.len() == 2 && pods.iter().all(|pod| pod.name_any() != gone) && pods.iter().all(is_ready)
    })
    .await;
    let started = started.elapsed();
    operator.is_asked().await;

    curve.phase("bodies");
    let (replicas, admissions) = (operator.pods().await, Admissions::start(&neighbour));
    let mut floods = Vec::new();
    for replica in &replicas {
        let target = Target::of(&neighbour, &operator.name, replica).await;
        floods.extend(attackers.iter().map(|attacker| flood(attacker, &target, 20, 16)));
    }
    let answered =
        tokio::task::spawn_blocking(move || floods.into_iter().map(|f| f.join().unwrap()).sum::<usize>());
    let answered = answered.await.unwrap();
    told.push(judge("bodies", &admissions.end().await));

    let mut injected = web("neighbour", &json!({"adieu.dev/graceful": "true"}));
    injected["spec"]["replicas"] = json!(1);
    assert_eq!(drain(&neighbour.create(&injected).await), Some(10));
    neighbour.rolled_out("neighbour").await;

    let peaks = curve.end();
    let after = operator.pods().await;
    assert!(after.iter().all(|pod| restarts(pod) == 0), "a replica was restarted");
    let limit = memory_limit(&after[0]);
    let curve: Vec<_> = peaks.iter().map(|(phase, peak)| format!("{phase} {peak:.0}")).collect();
    figure(
        &format!(
            "A tenant with `edit` in one namespace: {count} Deployments of 1.4 MB, one of 740,000 empty strings, {count} policies as large as may be, malformed annotations, rollouts without end, and {answered} hostile bodies from two pods"
        ),
        &format!(
            "in another namespace no admission was late or wrong ({}); no replica was restarted, and one that started among all that was ready after {:.0} s; memory of a replica in MiB, at most: {}, of {limit:.0}",
            told.join("; "),
            started.as_secs_f64(),
            curve.join(", "),
        ),
    );
    let peak = peaks.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
    assert!(peak < limit * SHARE, "{peak:.1} of {limit:.0} MiB were in use");
    Scene { client: neighbour.client.clone(), namespace: tenant.namespace }.end().await;
    neighbour.end().await;
}

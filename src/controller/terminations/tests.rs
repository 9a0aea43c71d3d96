use std::{collections::VecDeque, sync::Mutex};

use http::Method;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt as _, core::DynamicObject};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::*;
use crate::{
    api::{Bucket, Histograms, OutcomeCounts, RequestedTimes, TerminationProfileStatus},
    controller::test_support::context_with,
    index::caches::Caches,
    plan::Kind,
    runtime::{
        client::WATCH_SILENCE,
        test_support::{client_of_bodies, failure},
    },
};

const START: i64 = 1_800_000_000;

type Writes = Arc<Mutex<Vec<(String, Value)>>>;

fn time(second: i64) -> String {
    Timestamp::from_second(START + second).unwrap().to_string()
}

/// A pod that was killed at the end of its grace period.
fn pod() -> Value {
    let state = json!({"terminated": {"exitCode": 137, "finishedAt": time(30)}});
    json!({
        "metadata": {
            "namespace": "shop", "name": "web-7d4b9-x2x", "uid": "uid-1", "resourceVersion": "8",
            "labels": {"pod-template-hash": "7d4b9"},
            "annotations": {"adieu.dev/injected": json!({"optedInBy": "annotation", "settings": {}}).to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9", "uid": "2", "controller": true}],
            "deletionTimestamp": time(30), "deletionGracePeriodSeconds": 30,
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
        "status": {"containerStatuses": [{"name": "app", "state": state}]},
    })
}

fn deployment() -> (Kind, DynamicObject) {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "of-web",
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app"}]}}},
    });
    (Kind::Deployment, serde_json::from_value(object).unwrap())
}

/// An API server with one pod. It records the writes to profiles.
struct Server {
    pod: Value,
    /// The events of the first watches of pods, one each; `None`: the watch is silent. Later ones are.
    watches: VecDeque<Option<Value>>,
    profiles: Vec<Value>,
    /// How often the list of profiles fails first.
    failed_lists: usize,
    /// The codes of the responses to the first patches of profiles; `None`: no response. Later ones succeed.
    patches: VecDeque<Option<u16>>,
    writes: Writes,
}

impl Default for Server {
    /// The pod is gone after the list, and there are no profiles.
    fn default() -> Self {
        Self {
            pod: pod(),
            watches: [Some(json!({"type": "DELETED", "object": pod()}))].into(),
            profiles: vec![],
            failed_lists: 0,
            patches: VecDeque::new(),
            writes: Writes::default(),
        }
    }
}

impl Server {
    fn client(self) -> Client {
        let server = Mutex::new(self);
        client_of_bodies(move |method, target, body| server.lock().unwrap().answer(method, target, body))
    }

    fn answer(&mut self, method: &Method, target: &str, body: &[u8]) -> Option<(u16, Value)> {
        let path = target.split('?').next().unwrap();
        if *method != Method::GET {
            if path.contains("terminationprofiles") {
                let body = serde_json::from_slice(body).unwrap();
                self.writes.lock().unwrap().push((format!("{method} {path}"), body));
            }
            let next = if *method == Method::PATCH { self.patches.pop_front() } else { None };
            return next.unwrap_or(Some(200)).map(|code| match code {
                200 => (code, json!({})),
                _ => (code, failure(code, "failed")),
            });
        }
        let list = |items: Value| Some((200, json!({"metadata": {"resourceVersion": "9"}, "items": items})));
        match (target.contains("watch="), path.rsplit('/').next().unwrap()) {
            (true, "pods") => self.watches.pop_front().flatten().map(|event| (200, event)),
            (true, _) => None,
            (_, "pods") => list(json!([self.pod])),
            (_, "web-7d4b9") => {
                let annotations = json!({"deployment.kubernetes.io/revision": "1"});
                Some((200, json!({"metadata": {"annotations": annotations}, "spec": {"replicas": 0}})))
            }
            (_, "terminationprofiles") if self.failed_lists > 0 => {
                self.failed_lists -= 1;
                Some((500, failure(500, "etcd has no leader")))
            }
            (_, "terminationprofiles") => list(json!(self.profiles)),
            _ => list(json!([])),
        }
    }
}

/// A replica that leads until the sender changes.
struct TestReplica {
    context: Arc<ReconcileContext>,
    writes: Writes,
    is_leader: watch::Sender<bool>,
    shutdown: CancellationToken,
    _paused: watch::Sender<bool>,
}

impl TestReplica {
    fn new(server: Server, workload: (Kind, DynamicObject)) -> Self {
        Self::with(server, Caches::fixed(vec![], vec![], vec![workload]))
    }

    fn with(server: Server, caches: Caches) -> Self {
        let writes = server.writes.clone();
        let (context, [is_leader, paused]) = context_with(server.client(), caches, 1);
        let (context, shutdown) = (Arc::new(context), CancellationToken::new());
        Self { context, writes, is_leader, shutdown, _paused: paused }
    }

    fn report(&self, scope: ObserverScope) -> BoxFuture<'static, ()> {
        let observation = Observation {
            scope,
            writes_profiles: true,
            field_selector: "metadata.namespace!=kube-system".into(),
        };
        report(self.context.clone(), observation, self.shutdown.clone()).boxed()
    }

    fn writes(&self) -> Vec<(String, Value)> {
        self.writes.lock().unwrap().clone()
    }

    /// The methods of the writes.
    fn methods(&self) -> Vec<String> {
        self.writes().iter().map(|(request, _)| request.split(' ').next().unwrap().to_owned()).collect()
    }

    fn metrics(&self) -> String {
        self.context.metrics.render().unwrap()
    }
}

/// Runs the report for some minutes. Returns the writes, and the metrics.
async fn report_with(server: Server, scope: ObserverScope, leads: bool) -> (Vec<(String, Value)>, String) {
    let replica = TestReplica::new(server, deployment());
    replica.is_leader.send_replace(leads);
    drop(timeout(Duration::from_mins(5), replica.report(scope)).await);
    (replica.writes(), replica.metrics())
}

/// The profile that a leader writes, owned by the workload with this uid.
async fn stored_profile(uid: &str) -> Value {
    let (writes, _) = report_with(Server::default(), ObserverScope::All, true).await;
    let [(_, object), (_, status)] = writes.as_slice() else { panic!("{writes:?}") };
    let mut stored = object.clone();
    stored["metadata"]["namespace"] = "shop".into();
    stored["metadata"]["ownerReferences"][0]["uid"] = uid.into();
    stored["status"] = status["status"].clone();
    stored
}

const OBJECT: &str = "/apis/adieu.dev/v1alpha1/namespaces/shop/terminationprofiles";

#[tokio::test(start_paused = true)]
async fn the_leader_writes_a_profile_of_the_workload() {
    let (writes, metrics) = report_with(Server::default(), ObserverScope::All, true).await;
    let [(create, object), (patch, status)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(*create, format!("POST {OBJECT}"));
    assert_eq!(object["metadata"]["name"], "deployment-web");
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "of-web");
    assert_eq!(object["spec"], json!({"kind": "Deployment", "name": "web"}));
    assert_eq!(*patch, format!("PATCH {OBJECT}/deployment-web/status"));
    let status = &status["status"];
    assert_eq!((&status["terminations"], &status["outcomes"]["Killed"]), (&json!(1), &json!(1)));
    assert_eq!(status["causes"]["Rollout"], 1, "the ReplicaSet has an older revision");
    for line in [
        "adieu_terminations_total{kind=\"Deployment\",outcome=\"killed\",cause=\"rollout\"} 1",
        "adieu_failed_terminations_total{workload_namespace=\"shop\",outcome=\"killed\"} 1",
        "adieu_termination_shutdown_duration_seconds_sum 30.0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_replicas_and_scopes_write_nothing() {
    for (scope, leads) in
        [(ObserverScope::All, false), (ObserverScope::Managed, true), (ObserverScope::Off, true)]
    {
        let (writes, metrics) = report_with(Server::default(), scope, leads).await;
        assert!(writes.is_empty() && !metrics.contains("adieu_terminations_total{"), "{scope:?}: {writes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_adds_to_the_profile_of_the_previous_one() {
    let server = Server { profiles: vec![stored_profile("of-web").await], ..Server::default() };
    let (writes, _) = report_with(server, ObserverScope::All, true).await;
    let [(patch, status)] = writes.as_slice() else { panic!("{writes:?}") };
    assert!(patch.starts_with("PATCH"), "{patch}");
    assert_eq!(status["status"]["terminations"], 2);
    assert_eq!(status["status"]["histograms"]["shutdownSeconds"], json!([{"seconds": 30, "count": 2}]));
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_was_created_again_has_a_new_profile() {
    let server = Server { profiles: vec![stored_profile("of-an-earlier-web").await], ..Server::default() };
    let (writes, _) = report_with(server, ObserverScope::All, true).await;
    let [(create, object), (_, status)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(*create, format!("POST {OBJECT}"));
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "of-web");
    assert_eq!(status["status"]["terminations"], 1, "those of the earlier one don't count");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_profile_is_created_again() {
    let server = Server { patches: [Some(404)].into(), ..Server::default() };
    let replica = TestReplica::new(server, deployment());
    drop(timeout(Duration::from_mins(5), replica.report(ObserverScope::All)).await);
    assert_eq!(replica.methods(), ["POST", "PATCH", "POST", "PATCH"]);
    assert_eq!(replica.writes()[3].1["status"]["terminations"], 1, "it counts once");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_profiles_that_fails_delays_only_their_writes() {
    let replica = TestReplica::new(Server { failed_lists: 12, ..Server::default() }, deployment());
    let mut reporting = replica.report(ObserverScope::All);
    drop(timeout(Duration::from_mins(1), &mut reporting).await);
    let metrics = replica.metrics();
    assert!(metrics.contains("outcome=\"killed\",cause=\"rollout\"} 1"), "{metrics}");
    assert!(replica.writes().is_empty(), "they wait for the list");
    drop(timeout(Duration::from_mins(5), reporting).await);
    assert_eq!(replica.methods(), ["POST", "PATCH"]);
    assert_eq!(replica.writes()[1].1["status"]["terminations"], 1, "it was kept");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_shutdown_cuts_off_is_repeated() {
    // The second write may be cut off as well.
    for patches in [vec![None::<u16>], vec![None, None]] {
        let is_answered = patches.len() == 1;
        let replica = TestReplica::new(Server { patches: patches.into(), ..Server::default() }, deployment());
        let mut reporting = replica.report(ObserverScope::All);
        assert!(timeout(FLUSH_TIMEOUT, &mut reporting).await.is_err(), "it leads");
        assert_eq!(replica.methods(), ["POST", "PATCH"]);
        let stopped = Instant::now();
        replica.shutdown.cancel();
        timeout(2 * FLUSH_TIMEOUT, reporting).await.expect("the end");
        assert_eq!(stopped.elapsed() < FLUSH_TIMEOUT, is_answered);
        assert_eq!(replica.methods(), ["POST", "PATCH", "POST", "PATCH"]);
        assert_eq!(replica.writes()[3].1["status"]["terminations"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_write_is_repeated_once_a_minute_and_once_at_shutdown() {
    let server = Server { patches: [Some(422); 1000].into(), ..Server::default() };
    let replica = TestReplica::new(server, deployment());
    let mut reporting = replica.report(ObserverScope::All);
    let patches = || replica.methods().iter().filter(|method| *method == "PATCH").count();
    drop(timeout(Duration::from_secs(150), &mut reporting).await);
    assert_eq!(patches(), 3);
    let stopped = Instant::now();
    replica.shutdown.cancel();
    timeout(2 * FLUSH_TIMEOUT, reporting).await.expect("the end");
    assert!(stopped.elapsed() < FLUSH_TIMEOUT, "it doesn't wait for the next attempt");
    assert_eq!(patches(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_followed_to_its_end_although_its_workload_is_opted_out_meanwhile() {
    let event = |kind: &str| Some(json!({"type": kind, "object": pod()}));
    let mut running = pod();
    running["status"]["containerStatuses"][0]["state"] = json!({"running": {"startedAt": time(-100)}});
    let watches = [None, event("MODIFIED"), event("DELETED")].into();
    let (kind, mut managed) = deployment();
    managed.annotations_mut().insert("adieu.dev/graceful".into(), "true".into());
    let replica = TestReplica::new(Server { pod: running, watches, ..Server::default() }, (kind, managed));
    let mut reporting = replica.report(ObserverScope::Managed);
    drop(timeout(WATCH_SILENCE / 2, &mut reporting).await);
    replica.context.index.refresh(&Caches::fixed(vec![], vec![], vec![deployment()]));
    drop(timeout(Duration::from_mins(5), reporting).await);
    let metrics = replica.metrics();
    assert!(metrics.contains("outcome=\"killed\",cause=\"rollout\"} 1"), "{metrics}");
}

/// The stored profile of the Deployment, 7 of whose 40 pods were killed after a shutdown timeout of 30 s.
fn slow_profile() -> Value {
    let requested =
        RequestedTimes { grace_period_seconds: 30, pre_stop_seconds: 0, shutdown_timeout_seconds: Some(30) };
    let bucket = |seconds, count| Bucket { seconds, count };
    let status = TerminationProfileStatus {
        observed_since: time(0),
        last_termination_time: time(0),
        terminations: 40,
        current_outcomes: OutcomeCounts { completed: 33, killed: 7, ..OutcomeCounts::default() },
        requested: Some(requested),
        histograms: Histograms {
            shutdown_seconds: vec![bucket(20, 33), bucket(30, 7)],
            ..Histograms::default()
        },
        ..TerminationProfileStatus::default()
    };
    json!({
        "metadata": {"namespace": "shop", "ownerReferences": [{"uid": "of-web"}]},
        "spec": {"kind": "Deployment", "name": "web"},
        "status": status,
    })
}

#[tokio::test(start_paused = true)]
async fn a_recommendation_reaches_the_reconciler_and_the_profile_as_the_policy_says() {
    let key = Key { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() };
    for (mode, is_reported, is_requeued) in
        [("Off", false, false), ("Report", true, false), ("Apply", true, true)]
    {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop"},
            "spec": {"selector": {}, "recommendations": mode},
        });
        let server = Server { profiles: vec![slow_profile()], ..Server::default() };
        let caches = Caches::fixed(vec![serde_json::from_value(policy).unwrap()], vec![], vec![deployment()]);
        let replica = TestReplica::with(server, caches);
        let context = &replica.context;
        let mut requeued = pin!(context.index.other_changes(Kind::Deployment).stream(Duration::ZERO));
        while requeued.next().now_or_never().is_some() {}
        drop(timeout(Duration::from_mins(5), replica.report(ObserverScope::All)).await);
        assert_eq!(requeued.next().now_or_never(), is_requeued.then(|| Some(key.clone())), "{mode}");
        let recommended = |uid| context.recommendations.get(&key, Some(uid)).map(|found| found.summary);
        let summary = "shutdownTimeoutSeconds 30 -> 55: 8 of 41 were killed at the deadline";
        assert_eq!((recommended("of-web").as_deref(), recommended("other")), (Some(summary), None), "{mode}");
        let writes = replica.writes();
        let [(_, status)] = writes.as_slice() else { panic!("{writes:?}") };
        let reported = &status["status"]["recommendation"];
        assert_eq!(reported["summary"] == summary, is_reported, "{mode}: {status}");
        assert_eq!(reported.is_null(), !is_reported, "{mode}: {status}");
    }
}

#[test]
fn only_some_namespaces_have_metrics_of_their_own() {
    let namespaces = Namespaces::default();
    for number in 0..MAX_NAMESPACES {
        assert_eq!(namespaces.label(&number.to_string()), number.to_string());
    }
    assert_eq!((namespaces.label("shop").as_str(), namespaces.label("7").as_str()), ("other", "7"));
}

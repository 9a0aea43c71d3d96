//! Day two: who leads, what a policy's rollout does when one fails, what keeps adieu from writing, and
//! admission while the operator itself is replaced.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    },
    core::v1::{Pod, Secret},
    events::v1::Event,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    admissions::{Admissions, Outcome},
    figures::figure,
    guard::as_the_operator,
    mutator::Mutator,
    operator::{ADIEU, Operator},
    random::from_environment,
    support::{Scene, drain, eventually, web, within},
};

/// How long the cluster may be without a leader after one crashed or was cut off.
pub const LEADERLESS: Duration = Duration::from_secs(15);

/// How long it may be without one after one left: it gives the Lease up, which would run out 10 s later.
const HANDED_OVER: Duration = Duration::from_secs(3);

/// How long a Deployment may take to be created without the webhook, whose time limit is 5 s.
const HELD_UP: Duration = Duration::from_secs(2);

/// How long after the operator was asked back all may take to be injected: its pods start, one of them comes to
/// lead, and then it looks at everything.
const BROUGHT_IN: Duration = Duration::from_secs(30);

/// A policy called `all`.
pub fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    })
}

async fn condition(scene: &Scene, type_: &str) -> Option<String> {
    let policy = scene.policy("all").await;
    let conditions = policy["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == type_)?;
    Some(format!("{} {}", found["status"].as_str()?, found["message"].as_str()?))
}

/// Waits for the policy's condition `Blocked` to be so, with this part in its message.
async fn blocked(scene: &Scene, status: &str, part: &str) {
    eventually(&format!("the policy's condition Blocked to be {status}"), || async {
        let blocked = condition(scene, "Blocked").await;
        blocked.is_some_and(|text| text.starts_with(status) && text.contains(part))
    })
    .await;
}

/// Waits for an Event on the object of that name whose note has this part.
pub async fn told(scene: &Scene, name: &str, reason: &str, part: &str) {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually(&format!("the event {reason} of {name}"), || async {
        let told = events.list(&ListParams::default().fields(&format!("reason={reason}"))).await.unwrap();
        told.items.iter().any(|event| {
            let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            regarding == Some(name) && event.note.as_ref().is_some_and(|note| note.contains(part))
        })
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_leader_that_goes_is_replaced() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale(2).await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), ADIEU);
    let by_force = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for (how, parameters, limit) in
        [("was removed by force", by_force, LEADERLESS), ("left", DeleteParams::default(), HANDED_OVER)]
    {
        let before = operator.led().await.name_any();
        operator.has(2).await;
        pods.delete(&before, &parameters).await.unwrap();
        // One that leaves leads while it drains.
        if how == "left" {
            eventually("the leader to be gone", || async { pods.get_opt(&before).await.unwrap().is_none() })
                .await;
        }
        let started = Instant::now();
        eventually("another leader", || async { operator.leader().await.is_some_and(|now| now != before) })
            .await;
        figure(
            &format!("The leader {how}"),
            &format!("another leads {:.1} s later", started.elapsed().as_secs_f64()),
        );
        assert!(started.elapsed() < limit, "{how}");
    }
    operator.scale(1).await;

    operator.delete_lease().await;
    let started = Instant::now();
    eventually("the deleted Lease to be there again", || async { operator.leader().await.is_some() }).await;
    assert!(started.elapsed() < LEADERLESS, "the Lease was deleted");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_rollout_that_fails_stops_its_policy_until_it_is_mended() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    // Nothing listens on the first one's other port: with a probe of it, no new pod becomes ready.
    let mut first = web("first", &json!({}));
    first["spec"]["progressDeadlineSeconds"] = json!(3);
    let ports = &mut first["spec"]["template"]["spec"]["containers"][0]["ports"];
    ports.as_array_mut().unwrap().push(json!({"containerPort": 9999, "name": "other"}));
    scene.create(&first).await;
    scene.rolled_out("first").await;
    scene.create(&web("second", &json!({}))).await;
    scene.rolled_out("second").await;
    let sound = json!({"selector": {}, "drainSeconds": 2, "readinessProbe": {"mode": "Never"}});
    scene.create(&policy(&sound)).await;
    for name in ["first", "second"] {
        eventually(name, || async { drain(&scene.deployment(name).await) == Some(2) }).await;
        scene.rolled_out(name).await;
    }
    let second = scene.deployment("second").await;

    let probe = json!({"tcpSocket": {"port": "other"}});
    let broken = json!({"spec": {"drainSeconds": 3, "readinessProbe": {"mode": "Auto", "probe": probe}}});
    scene.patch("GracefulPolicy", "all", &broken).await.unwrap();
    eventually("the policy to be stalled", || async {
        condition(&scene, "Stalled")
            .await
            .is_some_and(|stalled| stalled.starts_with("True the rollout of first failed"))
    })
    .await;
    assert_eq!(scene.policy("all").await["status"]["workloads"]["rolloutFailed"], 1);
    assert_eq!(drain(&scene.deployment("first").await), Some(3), "the oldest goes first");
    assert_eq!(scene.deployment("second").await["spec"], second["spec"], "no other follows");
    told(&scene, "all", "Stalled", "the rollout of first failed").await;
    let described = scene.kubectl(&["describe", "gracefulpolicy", "all"]).await;
    for words in [
        ["Type:", "Stalled"].as_slice(),
        &["Reason:", "RolloutFailed"],
        &["Message:", "the rollout of first failed, and 1 workload waits"],
        &["Warning", "Stalled", "the rollout of first failed"],
    ] {
        let tells = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(described.lines().any(tells), "{words:?} is missing in {described}");
    }

    // Undone, it isn't rolled into the same failure again.
    scene.kubectl(&["rollout", "undo", "deployment/first"]).await;
    scene.rolled_out("first").await;
    let undone = scene.deployment("first").await["spec"].clone();
    operator.lets_wait_again(&scene, &["first", "second"]).await;
    for (name, spec) in [("first", &undone), ("second", &second["spec"])] {
        assert_eq!(scene.deployment(name).await["spec"], *spec, "{name}");
    }
    assert_eq!(drain(&json!({"spec": undone})), Some(2));
    eventually("the policy to say that both wait", || async {
        let stalled = condition(&scene, "Stalled").await;
        stalled.is_some_and(|text| text.starts_with("True the rollout of first failed, and 2 workloads wait"))
    })
    .await;

    let mended = json!({"spec": {"readinessProbe": {"mode": "Never", "probe": null}}});
    scene.patch("GracefulPolicy", "all", &mended).await.unwrap();
    for name in ["first", "second"] {
        eventually(name, || async { drain(&scene.deployment(name).await) == Some(3) }).await;
        scene.rolled_out(name).await;
    }
    eventually("the policy to be ready", || async {
        let conditions = [condition(&scene, "Ready").await, condition(&scene, "Stalled").await];
        conditions.map(|condition| condition.is_some_and(|text| text.starts_with("True"))) == [true, false]
    })
    .await;

    // The last one stalls it as well, though nobody waits.
    scene.kubectl(&["delete", "deployment", "second"]).await;
    let broken = json!({"spec": {"drainSeconds": 4, "readinessProbe": {"mode": "Auto", "probe": probe}}});
    scene.patch("GracefulPolicy", "all", &broken).await.unwrap();
    for (type_, says) in [("Stalled", "True the rollout of first failed"), ("Ready", "False")] {
        eventually(&format!("{type_}: {says}"), || async {
            condition(&scene, type_).await.is_some_and(|condition| condition.starts_with(says))
        })
        .await;
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_broke_by_itself_holds_up_nobody_and_follows_once_mended() {
    let scene = Scene::new().await;
    // Its pods run where this label is.
    let there = format!("{}=there", scene.namespace);
    scene.kubectl(&["label", "nodes", "--all", &there]).await;
    let mut broken = web("broken", &json!({}));
    broken["spec"]["template"]["spec"]["nodeSelector"] = json!({scene.namespace.as_str(): "there"});
    for deployment in [broken, web("sound", &json!({}))] {
        scene.create(&deployment).await;
        scene.rolled_out(deployment["metadata"]["name"].as_str().unwrap()).await;
    }
    scene.kubectl(&["label", "nodes", "--all", &format!("{}-", scene.namespace)]).await;
    scene.kubectl(&["delete", "pods", "--selector", "app=broken"]).await;
    eventually("its pods to be pending", || async {
        let status = scene.deployment("broken").await["status"].take();
        status["availableReplicas"].is_null() && status["replicas"] == status["updatedReplicas"]
    })
    .await;

    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 3}))).await;
    eventually("the other to follow", || async { drain(&scene.deployment("sound").await) == Some(3) }).await;
    assert_eq!(drain(&scene.deployment("broken").await), None, "it is its user's to mend");
    scene.kubectl(&["label", "nodes", "--all", &there]).await;
    eventually("the mended one to follow", || async { drain(&scene.deployment("broken").await) == Some(3) })
        .await;
    scene.rolled_out("broken").await;
    scene.kubectl(&["label", "nodes", "--all", &format!("{}-", scene.namespace)]).await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_a_person_should_know_is_an_event() {
    let scene = Scene::new().await;
    scene.create(&web("mistyped", &json!({"adieu.dev/gracefull": "true"}))).await;
    told(&scene, "mistyped", "Degraded", "adieu.dev/gracefull").await;

    scene.create(&web("watched", &json!({}))).await;
    let selector = json!({"matchLabels": {"app": "watched"}});
    scene.create(&policy(&json!({"selector": selector, "mode": "Audit"}))).await;
    told(&scene, "watched", "WouldInject", "has the mode Audit").await;
    eventually("the policy to say so", || async {
        let ready = condition(&scene, "Ready").await;
        ready.is_some_and(|ready| ready == "True 1 of 1 workloads would be changed")
    })
    .await;
    assert_eq!(drain(&scene.deployment("watched").await), None);
    scene.end().await;
}

/// The operator's account passes the webhook by, as everybody does where the API server doesn't reach it.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_somebody_keeps_changing_back_is_left_and_told() {
    let scene = Scene::new().await;
    scene.create(&policy(&json!({"selector": {}}))).await;
    let mut object = web("web", &json!({"adieu.dev/graceful": "true"}));
    object["spec"]["replicas"] = json!(0);
    scene.create(&object).await;
    let is = async |seconds| drain(&scene.deployment("web").await) == seconds;
    assert!(is(Some(10)).await);
    let deployments = as_the_operator(&scene).await.api("apps/v1", "Deployment");
    let hook = json!([{"op": "remove", "path": "/spec/template/spec/containers/0/lifecycle/preStop"}]);
    let back = Patch::<()>::Json(serde_json::from_value(hook).unwrap());
    for _ in 0..3 {
        deployments.patch("web", &PatchParams::default(), &back).await.unwrap();
        eventually("the hook to be there again", || is(Some(10))).await;
    }
    deployments.patch("web", &PatchParams::default(), &back).await.unwrap();
    told(&scene, "web", "Blocked", "keeps being changed back").await;
    blocked(&scene, "True", "keeps being changed back").await;
    assert!(is(None).await);

    // What a person asks for is another matter.
    scene.annotate("Deployment", "web", "drain-seconds", Some("20")).await.unwrap();
    assert!(is(Some(20)).await);
    blocked(&scene, "False", "").await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nothing_is_written_while_somebody_paused_it() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let (leases, name) = (operator.leases(), operator.name);
    let pause = |value: Value| {
        let patch = json!({"metadata": {"annotations": {"adieu.dev/paused": value}}});
        let (leases, name) = (leases.clone(), name.clone());
        async move { leases.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap() }
    };
    pause(json!("true")).await;
    let before = scene.create(&web("web", &json!({}))).await;
    scene.rolled_out("web").await;
    scene.create(&policy(&json!({"selector": {}}))).await;
    eventually("the policy to say what is pending", || async {
        scene.policy("all").await["status"]["workloads"]["pending"] == 1
    })
    .await;
    assert_eq!(scene.deployment("web").await["spec"], before["spec"]);
    pause(Value::Null).await;
    eventually("the Deployment to be brought in", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_disruption_budget_is_there_while_no_other_is() {
    let scene = Scene::new().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let names = || async {
        let all = budgets.list(&ListParams::default()).await.unwrap().items;
        all.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    };
    let is = async |what: &str, expected: &[&str]| {
        eventually(what, || async { names().await == expected }).await;
    };
    scene.create(&policy(&json!({"drainSeconds": 1, "disruptionBudget": {"maxUnavailable": 1}}))).await;
    eventually("the policy in the webhook's cache", || async {
        let annotated = web("web", &json!({"adieu.dev/policy": "all"}));
        drain(&serde_json::to_value(scene.try_create_dry(&annotated).await.unwrap()).unwrap()) == Some(1)
    })
    .await;
    let created = scene.create(&web("web", &json!({"adieu.dev/policy": "all"}))).await;
    is("a budget", &["web-deployment-adieu"]).await;
    let budget = budgets.get("web-deployment-adieu").await.unwrap();
    let owner = &budget.owner_references()[0];
    assert_eq!(json!(owner.uid), created["metadata"]["uid"]);
    assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));

    // The only pod can be evicted.
    scene.rolled_out("web").await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let pod = pods.list(&ListParams::default().labels("app=web")).await.unwrap().items[0].name_any();
    eventually("the eviction", || async { pods.evict(&pod, &EvictParams::default()).await.is_ok() }).await;

    let own = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "own"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    budgets.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    is("only the user's own", &["own"]).await;
    budgets.delete("own", &DeleteParams::default()).await.unwrap();
    is("adieu's again", &["web-deployment-adieu"]).await;
    scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    is("none once opted out", &[]).await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_that_two_workloads_select_are_in_one_budget() {
    let scene = Scene::new().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let is = async |what: &str, expected: &str| {
        eventually(what, || async {
            let all = budgets.list(&ListParams::default()).await.unwrap().items;
            all.iter().map(kube::ResourceExt::name_any).eq([expected])
        })
        .await;
    };
    let spec = json!({"selector": {}, "drainSeconds": 1, "disruptionBudget": {"maxUnavailable": 1}});
    scene.create(&policy(&spec)).await;
    let mut canary = web("canary", &json!({}));
    for labels in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        *canary.pointer_mut(labels).unwrap() = json!({"app": "web", "track": "canary"});
    }
    scene.create(&canary).await;
    is("a budget of its own", "canary-deployment-adieu").await;
    scene.create(&web("web", &json!({}))).await;
    is("the one that is for the pods of both", "web-deployment-adieu").await;
    eventually("its injection", || async { drain(&scene.deployment("canary").await) == Some(1) }).await;
    scene.rolled_out("canary").await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the eviction", || async {
        let found = pods.list(&ListParams::default().labels("track=canary")).await.unwrap().items;
        // One that goes already is evicted whatever its budgets.
        let pod = found.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        let Some(pod) = pod else { return false };
        pods.evict(&pod.name_any(), &EvictParams::default()).await.is_ok()
    })
    .await;
    scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    is("its own again", "canary-deployment-adieu").await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_write_that_is_refused_is_told_and_tried_again() {
    let scene = Scene::new().await;
    let name = format!("{}-frozen", scene.namespace);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(scene.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(scene.client.clone());
    let frozen = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
                "resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}],
            },
            "validations": [{"expression": "object.spec.template == oldObject.spec.template", "message": "frozen for the season"}],
        },
    });
    let binding =
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    scene.create(&web("web", &json!({}))).await;
    scene.rolled_out("web").await;
    policies.create(&PostParams::default(), &serde_json::from_value(frozen).unwrap()).await.unwrap();
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    eventually("the policy to be in force", || async {
        let image = json!({"spec": {"template": {"metadata": {"labels": {"try": "it"}}}}});
        let api = scene.api("apps/v1", "Deployment");
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch("web", &dry_run, &Patch::Merge(image)).await.is_err()
    })
    .await;

    scene.create(&policy(&json!({"selector": {}}))).await;
    blocked(&scene, "True", "frozen for the season").await;
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the event that tells of it", || async {
        !events.list(&ListParams::default().fields("reason=Blocked")).await.unwrap().items.is_empty()
    })
    .await;
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("the Deployment to be brought in", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    blocked(&scene, "False", "").await;
    scene.end().await;
}

/// The webhook isn't asked about what the operator writes, so nothing puts back what the mutator takes away.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_mutator_that_interferes_blocks_and_is_not_fought() {
    /// Long enough for several attempts, and soon after them the next is minutes away.
    const WATCHED: Duration = Duration::from_secs(30);
    const NEXT: Duration = Duration::from_mins(4);
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["replicas"] = json!(0);
    scene.create(&object).await;
    let has_hook = "has(object.spec.template.spec.containers[0].lifecycle)";
    let takes_it = "[JSONPatch{op: 'remove', path: '/spec/template/spec/containers/0/lifecycle'}]";
    let mutator = Mutator::start(&scene, ("apps", "deployments", "UPDATE"), has_hook, takes_it).await;
    let deployments = as_the_operator(&scene).await.api("apps/v1", "Deployment");
    eventually("the mutator to interfere", || async {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let hook = json!([{"op": "add", "path": "/spec/template/spec/containers/0/lifecycle",
            "value": {"preStop": {"sleep": {"seconds": 3}}}}]);
        let hook = Patch::<()>::Json(serde_json::from_value(hook).unwrap());
        let patched = deployments.patch("web", &dry_run, &hook).await.unwrap();
        drain(&serde_json::to_value(patched).unwrap()).is_none()
    })
    .await;

    scene.create(&policy(&json!({"selector": {}}))).await;
    blocked(&scene, "True", "undid the write").await;
    told(&scene, "web", "Blocked", "undid the write").await;
    let generation = || async { scene.deployment("web").await["metadata"]["generation"].take() };
    let (before, since) = (generation().await, Instant::now());
    eventually("the operator to have tried again", || async {
        assert_eq!(generation().await, before, "it is fought");
        since.elapsed() >= WATCHED
    })
    .await;
    assert_eq!(drain(&scene.deployment("web").await), None);
    mutator.end().await;
    within(NEXT, "the Deployment to be brought in", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    blocked(&scene, "False", "").await;
    scene.end().await;
}

/// Under `Fail`: a request that nobody answers is refused.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_admission_fails_while_the_operator_or_its_certificates_are_replaced() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let name = &operator.name;
    operator.scale(2).await;
    operator.fail("Fail").await;

    let admissions = Admissions::start(&scene);
    let operators = Scene { client: scene.client.clone(), namespace: ADIEU.into() };
    let restarts = from_environment("ADIEU_RESTARTS", 2);
    for _ in 0..restarts {
        operators.kubectl(&["rollout", "restart", &format!("deployment/{name}")]).await;
        operators.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=120s"]).await;
        operator.has(2).await;
    }
    let rolled = admissions.end().await;

    let admissions = Admissions::start(&scene);
    admissions.further(10).await;
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), ADIEU);
    let secret = format!("{name}-certificates");
    let serving = || async { secrets.get_opt(&secret).await.unwrap()?.data?.remove("tls.crt") };
    let before = serving().await.unwrap();
    secrets.delete(&secret, &DeleteParams::default()).await.unwrap();
    eventually("a new serving certificate", || async { serving().await.is_some_and(|now| now != before) })
        .await;
    // What is served with from now on was signed by the new authority, in every replica.
    admissions.further(200).await;
    let rotated = admissions.end().await;

    // Before anything can fail: the tests to come rely on it.
    operator.fail("Ignore").await;
    operator.scale(1).await;
    let meanwhile = [
        (format!("The operator rolled {restarts} times, under failurePolicy Fail"), rolled),
        ("Its authority and certificates were replaced, under failurePolicy Fail".to_owned(), rotated),
    ];
    for (what, Outcome { count, failed, slowest, .. }) in meanwhile {
        let slowest = slowest.as_millis();
        figure(
            &what,
            &format!("{} of {count} admissions failed, the slowest took {slowest} ms", failed.len()),
        );
        assert_eq!(failed, Vec::<String>::new(), "{what}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn deploys_go_on_without_the_webhook_and_are_brought_in_once_it_is_back() {
    const DEPLOYMENTS: u8 = 50;
    let away = Duration::from_secs(from_environment("ADIEU_AWAY_SECONDS", 5));
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let let_pass =
        || of_our_webhooks(&scene, "apiserver_admission_webhook_fail_open_count", r#"type="admit""#);
    operator.scale(0).await;
    let (gone, passed_before) = (Instant::now(), let_pass().await);
    let mut slowest = Duration::ZERO;
    for index in 0..DEPLOYMENTS {
        let mut deployment = web(&format!("web-{index}"), &json!({"adieu.dev/graceful": "true"}));
        deployment["spec"]["replicas"] = json!(0);
        let asked = Instant::now();
        assert_eq!(drain(&scene.create(&deployment).await), None, "nobody is there to inject");
        slowest = slowest.max(asked.elapsed());
    }
    let passed = let_pass().await - passed_before;
    eventually("the time to be over", || async { gone.elapsed() >= away }).await;

    let (absent, back) = (gone.elapsed(), Instant::now());
    let all = scene.api("apps/v1", "Deployment");
    let brought_in = async {
        eventually("all Deployments to be brought in", || async {
            let listed = all.list(&ListParams::default()).await.unwrap().items;
            listed.iter().all(|one| drain(&serde_json::to_value(one).unwrap()) == Some(10))
        })
        .await;
        back.elapsed()
    };
    let reached = async {
        operator.scale(2).await;
        back.elapsed()
    };
    let (brought_in, reached) = tokio::join!(brought_in, reached);
    figure(
        &format!("{DEPLOYMENTS} Deployments created while the webhook was away for {} s", absent.as_secs()),
        &format!(
            "none was held up, the slowest took {} ms; all are injected {:.1} s after the operator was asked back, \
             whose replicas were ready, and reached, after {:.1} s",
            slowest.as_millis(),
            brought_in.as_secs_f64(),
            reached.as_secs_f64(),
        ),
    );
    operator.scale(1).await;
    assert!(slowest < HELD_UP, "a Deployment was held up for {slowest:?}");
    assert!(brought_in < BROUGHT_IN, "the Deployments were brought in after {brought_in:?}");
    assert!(passed >= DEPLOYMENTS.into(), "the API server tells of {passed} requests that it let pass");
    scene.end().await;
}

/// What an alert tells of whom `failurePolicy: Fail` refuses, by a webhook of our names that there isn't.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_counts_whom_it_refuses_for_want_of_a_webhook() {
    let scene = Scene::new().await;
    let refused = || {
        let for_want_of_it = r#"error_type="calling_webhook_error""#;
        of_our_webhooks(&scene, "apiserver_admission_webhook_rejection_count", for_want_of_it)
    };
    let before = refused().await;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    let configuration = json!({
        "metadata": {"name": scene.namespace},
        "webhooks": [{
            "name": "nowhere.adieu.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "failurePolicy": "Fail", "timeoutSeconds": 1,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
        }],
    });
    let configuration = serde_json::from_value(configuration).unwrap();
    configurations.create(&PostParams::default(), &configuration).await.unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "probe-"}});
    eventually("a request to be refused", || async { scene.try_create_dry(&secret).await.is_err() }).await;
    configurations.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    assert!(refused().await > before, "the API server doesn't tell of it");
    scene.end().await;
}

/// What the API server has counted of adieu's webhooks with this label, under a name that an alert asks for.
async fn of_our_webhooks(scene: &Scene, metric: &str, label: &str) -> f64 {
    assert!(
        include_str!("../../charts/adieu/files/alerts.yaml").contains(metric),
        "no alert is about {metric}"
    );
    let request = http::Request::get("/metrics").body(vec![]).unwrap();
    let text = scene.client.request_text(request).await.unwrap();
    let is_ours = |line: &&str| {
        let labels = line.strip_prefix(metric).and_then(|rest| rest.strip_prefix('{'));
        labels.is_some_and(|labels| labels.contains(r#".adieu.dev""#) && labels.contains(label))
    };
    let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    text.lines().filter(is_ours).map(count).sum()
}

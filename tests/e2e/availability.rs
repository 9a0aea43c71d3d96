//! Admission while the operator is replaced, or unavailable.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret, events::v1::Event,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    admissions::{Admissions, Outcome},
    figures::figure,
    operator::{ADIEU, Operator},
    random::from_environment,
    support::{Scene, drain, eventually, web},
};

/// The limit for creating a Deployment without the webhook, whose timeout is 5 s.
const CREATE_LIMIT: Duration = Duration::from_secs(2);

/// The limit for injecting all Deployments after the operator is scaled up: its pods start, one of them becomes the
/// leader, and evaluates everything.
const INJECTION_LIMIT: Duration = Duration::from_secs(30);

/// With `failurePolicy: Fail` a request is denied if no replica answers.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_admission_fails_while_the_operator_or_its_certificates_are_replaced() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let name = &operator.name;
    operator.scale(2).await;
    operator.set_failure_policy("Fail").await;

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
    // By then every replica serves a certificate of the new CA.
    admissions.further(200).await;
    let rotated = admissions.end().await;

    // Before an assertion can fail, because later tests depend on it.
    operator.set_failure_policy("Ignore").await;
    operator.scale_down(1).await;
    let meanwhile = [
        (format!("The operator restarted {restarts} times, under failurePolicy Fail"), rolled),
        ("Its CA and certificates were replaced, under failurePolicy Fail".to_owned(), rotated),
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
async fn deployments_are_created_without_the_webhook_and_injected_once_it_is_back() {
    const DEPLOYMENTS: u8 = 50;
    let outage = Duration::from_secs(from_environment("ADIEU_AWAY_SECONDS", 5));
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let fail_open =
        || of_our_webhooks(&scene, "apiserver_admission_webhook_fail_open_count", r#"type="admit""#);
    operator.stop().await;
    let (scaled_down, before) = (Instant::now(), fail_open().await);
    let mut slowest = Duration::ZERO;
    for index in 0..DEPLOYMENTS {
        let mut deployment = web(&format!("web-{index}"), &json!({"adieu.dev/graceful": "true"}));
        deployment["spec"]["replicas"] = json!(0);
        let started = Instant::now();
        assert_eq!(drain(&scene.create(&deployment).await), None, "the webhook is unavailable");
        slowest = slowest.max(started.elapsed());
    }
    let passed = fail_open().await - before;
    eventually("the outage to end", || async { scaled_down.elapsed() >= outage }).await;

    let (outage, scaled_up) = (scaled_down.elapsed(), Instant::now());
    let all = scene.api("apps/v1", "Deployment");
    let injected = async {
        eventually("all Deployments to be injected", || async {
            let listed = all.list(&ListParams::default()).await.unwrap().items;
            listed.iter().all(|one| drain(&serde_json::to_value(one).unwrap()) == Some(10))
        })
        .await;
        scaled_up.elapsed()
    };
    let reached = async {
        operator.scale(2).await;
        scaled_up.elapsed()
    };
    let (injected, reached) = tokio::join!(injected, reached);
    figure(
        &format!(
            "{DEPLOYMENTS} Deployments created while the webhook was unavailable for {} s",
            outage.as_secs()
        ),
        &format!(
            "no request was delayed, the slowest took {} ms; all Deployments are injected {:.1} s after the operator \
             was scaled up, whose replicas were ready and reachable after {:.1} s",
            slowest.as_millis(),
            injected.as_secs_f64(),
            reached.as_secs_f64(),
        ),
    );
    operator.scale_down(1).await;
    assert!(slowest < CREATE_LIMIT, "a Deployment was delayed for {slowest:?}");
    assert!(injected < INJECTION_LIMIT, "the Deployments were injected after {injected:?}");
    assert!(
        passed >= DEPLOYMENTS.into(),
        "the API server counts {passed} requests that it admitted without the webhook"
    );
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn workloads_that_bypass_an_unavailable_webhook_are_injected_later() {
    let scene = Scene::new().await;
    scene.create(&web("web", &json!({}))).await;
    scene.create(&web("unmanaged", &json!({}))).await;
    scene.rolled_out("web").await;
    scene.rolled_out("unmanaged").await;
    let unmanaged = scene.deployment("unmanaged").await;

    let operator = Operator::find(&scene.client).await;
    operator.stop().await;
    let annotated = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    assert_eq!(drain(&annotated), None, "the webhook is unavailable");
    operator.scale(1).await;
    eventually("the Deployment to be injected", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    eventually("no field to be owned by adieu", || async {
        let deployment = scene.deployment("web").await;
        let fields = deployment["metadata"]["managedFields"].as_array().unwrap();
        fields.iter().all(|entry| entry["manager"] != "adieu")
    })
    .await;
    scene.rolled_out("web").await;
    assert_eq!(scene.revisions("web").await, 2);
    assert_eq!(scene.deployment("unmanaged").await, unmanaged);

    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the event about it", || async {
        let found = events.list(&ListParams::default().fields("reason=Injected")).await.unwrap();
        let notes: Vec<_> = found.items.into_iter().filter_map(|event| event.note).collect();
        notes.iter().any(|note| note.contains("drain 10 s (") && note.contains("grace period 45 s"))
    })
    .await;
    scene.end().await;
}

/// The metric of an alert about requests that `failurePolicy: Fail` denies, with an unreachable webhook of the same
/// name.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_counts_requests_denied_without_the_webhook() {
    let scene = Scene::new().await;
    let denied = || {
        let label = r#"error_type="calling_webhook_error""#;
        of_our_webhooks(&scene, "apiserver_admission_webhook_rejection_count", label)
    };
    let before = denied().await;
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
    eventually("a request to be denied", || async { scene.try_create_dry(&secret).await.is_err() }).await;
    configurations.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    assert!(denied().await > before, "the API server does not count it");
    scene.end().await;
}

/// The API server's counter of adieu's webhooks with this label. An alert must use the metric.
async fn of_our_webhooks(scene: &Scene, metric: &str, label: &str) -> f64 {
    assert!(include_str!("../../charts/adieu/files/alerts.yaml").contains(metric), "no alert uses {metric}");
    let request = http::Request::get("/metrics").body(vec![]).unwrap();
    let text = scene.client.request_text(request).await.unwrap();
    let is_ours = |line: &&str| {
        let labels = line.strip_prefix(metric).and_then(|rest| rest.strip_prefix('{'));
        labels.is_some_and(|labels| labels.contains(r#".adieu.dev""#) && labels.contains(label))
    };
    let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    text.lines().filter(is_ours).map(count).sum()
}

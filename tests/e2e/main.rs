//! The whole path on a real cluster with adieu installed. `cargo xtask test` runs these; by themselves they
//! need `KUBECONFIG`, `ADIEU_TEST_IMAGE` and `--ignored --test-threads=1` (one test takes the operator away).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod admissions;
mod figures;
#[path = "../generate/mod.rs"]
mod generate;
mod guard;
mod interoperability;
mod lifecycle;
mod load;
#[path = "../manifests/mod.rs"]
mod manifests;
mod matching;
mod mutator;
mod nodes;
mod on_this_machine;
mod operations;
mod operator;
mod oracle;
mod pipes;
mod pods;
mod policies;
mod random;
mod revert;
mod scenarios;
mod schema;
mod support;
mod traffic;
mod triggers;
mod turns;
mod verify;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret, events::v1::Event,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use operator::{ADIEU, Operator};
use serde_json::{Value, json};
use support::{Scene, drain, eventually, grace_period, web, workload};

fn refusal(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => unreachable!("{other}"),
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn annotating_an_existing_deployment_injects_at_once_and_rolls_once() {
    let scene = Scene::new().await;
    scene.create(&web("web", &json!({}))).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    scene.create(&service).await;
    scene.rolled_out("web").await;

    let annotated = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    assert_eq!((drain(&annotated), grace_period(&annotated)), (Some(10), Some(45)));
    let container = &annotated["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["readinessProbe"]["tcpSocket"]["port"], 8080);
    scene.rolled_out("web").await;
    assert_eq!(scene.revisions("web").await, 2);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_kind_is_injected_as_it_is_created() {
    let scene = Scene::new().await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "3"});
        let created = scene.create(&workload(kind, "web", &annotations)).await;
        assert_eq!((drain(&created), grace_period(&created)), (Some(3), Some(38)), "{kind}");
        let probe = created["spec"]["template"]["spec"]["containers"][0].get("readinessProbe");
        assert_eq!(probe.is_some(), kind == "Deployment", "{kind}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_annotation_on_the_pod_template_counts_too() {
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["template"]["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
    assert_eq!(drain(&scene.create(&object).await), Some(10));
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_holds_for_who_names_it_and_tells_how_far_it_is() {
    let scene = Scene::new().await;
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "slow"},
        "spec": {"drainSeconds": 7, "shutdownTimeoutSeconds": 40},
    });
    scene.create(&policy).await;
    eventually("the policy in the webhook's cache", || async {
        let mut probe = web("probe", &json!({"adieu.dev/policy": "slow"}));
        probe["metadata"]["name"] = json!(format!("probe-{}", uid()));
        drain(&scene.create(&probe).await) == Some(7)
    })
    .await;
    let created = scene.create(&web("web", &json!({"adieu.dev/policy": "slow"}))).await;
    assert_eq!((drain(&created), grace_period(&created)), (Some(7), Some(52)));
    eventually("the policy's status", || async {
        let status = scene.policy("slow").await["status"].clone();
        let counts = &status["workloads"];
        counts["matched"].as_i64() >= Some(2)
            && counts["matched"] == counts["injected"]
            && status["effective"]["gracePeriodSeconds"] == 52
            && condition(&status, "Ready") == "True"
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_brings_in_what_it_selects_one_rollout_at_a_time() {
    let scene = Scene::new().await;
    let names = ["a", "b", "c"];
    for name in names {
        let mut object = web(name, &json!({}));
        object["spec"]["template"]["metadata"]["labels"]["team"] = json!("shop");
        scene.create(&object).await;
    }
    scene.create(&web("other", &json!({}))).await;
    for name in names.iter().chain(&["other"]) {
        scene.rolled_out(name).await;
    }
    let other = scene.deployment("other").await;

    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "shop"},
        "spec": {"selector": {"matchLabels": {"team": "shop"}}, "drainSeconds": 2},
    });
    scene.create(&policy).await;
    for seconds in [2, 3] {
        scene.patch("GracefulPolicy", "shop", &json!({"spec": {"drainSeconds": seconds}})).await.unwrap();
        eventually("every selected Deployment to be injected", || async {
            let mut rolling = 0;
            let mut injected = 0;
            for deployment in scene.deployments(&names).await {
                let status = &deployment["status"];
                let complete = status["observedGeneration"] == deployment["metadata"]["generation"]
                    && status["updatedReplicas"] == 1
                    && status["replicas"] == 1
                    && status["availableReplicas"] == 1;
                rolling += usize::from(!complete);
                injected += usize::from(drain(&deployment) == Some(seconds));
            }
            assert!(rolling <= 1, "{rolling} Deployments roll out at the same time");
            injected == names.len() && rolling == 0
        })
        .await;
    }
    eventually("the policy's status", || async {
        let status = scene.policy("shop").await["status"].clone();
        status["workloads"]
            == json!({"matched": 3, "injected": 3, "pending": 0, "unsatisfiable": 0, "rolloutFailed": 0})
    })
    .await;
    for name in names {
        assert_eq!(scene.revisions(name).await, 3, "{name}: as created, and one for each value");
    }
    let unselected = scene.deployment("other").await;
    assert_eq!(unselected["metadata"]["generation"], other["metadata"]["generation"]);
    assert_eq!(unselected["metadata"]["managedFields"], other["metadata"]["managedFields"]);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_slips_past_while_the_webhook_is_away_is_brought_in() {
    let scene = Scene::new().await;
    scene.create(&web("web", &json!({}))).await;
    scene.create(&web("stranger", &json!({}))).await;
    scene.rolled_out("web").await;
    scene.rolled_out("stranger").await;
    let stranger = scene.deployment("stranger").await;

    let operator = Operator::find(&scene.client).await;
    operator.scale(0).await;
    let annotated = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    assert_eq!(drain(&annotated), None, "nobody is there to inject");
    operator.scale(1).await;
    eventually("the Deployment to be brought in", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    eventually("nothing to be owned by adieu", || async {
        let deployment = scene.deployment("web").await;
        let fields = deployment["metadata"]["managedFields"].as_array().unwrap();
        fields.iter().all(|entry| entry["manager"] != "adieu")
    })
    .await;
    scene.rolled_out("web").await;
    assert_eq!(scene.revisions("web").await, 2);
    assert_eq!(scene.deployment("stranger").await, stranger);

    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the event that tells of it", || async {
        let found = events.list(&ListParams::default().fields("reason=Injected")).await.unwrap();
        let notes: Vec<_> = found.items.into_iter().filter_map(|event| event.note).collect();
        notes.iter().any(|note| note.contains("drain 10 s (default)") && note.contains("grace period 45 s"))
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_malformed_annotation_is_refused_with_its_rule() {
    let scene = Scene::new().await;
    scene.create(&web("web", &json!({}))).await;
    let patch = json!({"metadata": {"annotations": {"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "ten"}}});
    let message = refusal(scene.patch("Deployment", "web", &patch).await.unwrap_err());
    for part in [
        "metadata.annotations[adieu.dev/drain-seconds]",
        "\"ten\"",
        "whole number of seconds from 0 to 3600",
        "\"15\"",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    assert_eq!(scene.deployment("web").await["metadata"]["annotations"].get("adieu.dev/graceful"), None);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_senseless_policy_is_refused_by_the_api_server() {
    let scene = Scene::new().await;
    for (spec, part) in [
        (json!({"drainSeconds": -1}), "spec.drainSeconds"),
        (json!({"drainSeconds": 3601}), "spec.drainSeconds"),
        (json!({"marginSeconds": "5"}), "spec.marginSeconds"),
        (json!({"maxGracePeriodSeconds": 0}), "spec.maxGracePeriodSeconds"),
        (
            json!({"drainSeconds": 300, "shutdownTimeoutSeconds": 301}),
            "must not exceed maxGracePeriodSeconds",
        ),
        (json!({"drainSeconds": 50, "maxGracePeriodSeconds": 40}), "must not exceed maxGracePeriodSeconds"),
    ] {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "p"}, "spec": spec,
        });
        let message = refusal(scene.try_create(&policy).await.unwrap_err());
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_warns_where_the_grace_period_is_too_short() {
    // In adieu's own namespace, where no webhook makes it longer again.
    let scene = Scene::new().await;
    let inside = Scene { client: scene.client.clone(), namespace: ADIEU.into() };
    let longer = r#""shutdownTimeoutSeconds":{"value":60,"from":"annotation"}"#;
    let drains = r#""drainSeconds":{"value":20,"from":"annotation"}"#;
    let command = |words: &[&str]| json!({"exec": {"command": words}});
    let (sleep, exec) = (json!({"sleep": {"seconds": 10}}), command(&["sleep", "10"]));
    let short = "39 s is shorter than the drain of 10 s and the shutdown timeout of 30 s";
    for (grace, settings, drain, warned) in [
        (45, "", &sleep, None),
        (39, "", &sleep, Some(short)),
        (69, longer, &exec, Some("the shutdown timeout of 60 s")),
        (70, longer, &exec, None),
        (49, "", &command(&["sh", "-c", "sleep 20 && nginx -s quit"]), Some("the drain of 20 s")),
        (50, "", &command(&["/bin/sh", "-ec", "/bin/sleep 20s; nginx -s quit"]), None),
        (38, "", &command(&["sh", "-c", "sleep 3\nnginx -s quit"]), None),
        (140, "", &command(&["sleep", "2m"]), Some("the drain of 120 s")),
        (139, "", &command(&["bash", "-lc", "exec sleep 110"]), Some("the drain of 110 s")),
        (39, "", &command(&["sh", "-c", "/bin/sleep 9.5s || true"]), Some(short)),
        (40, "", &command(&["sh", "-c", "/bin/sleep 9.5s || true"]), None),
        (89, "", &command(&["sh", "-c", "touch /tmp/out && sleep 30; sleep 30"]), Some("the drain of 60 s")),
        // How long these take can't be known.
        (39, "", &command(&["sh", "-c", "sleep 1 & sleep 60"]), Some(short)),
        (39, "", &command(&["/drain.sh"]), Some(short)),
        (40, "", &command(&["/drain.sh"]), None),
        (49, drains, &json!({"httpGet": {"path": "/drain", "port": 8080}}), Some("the drain of 20 s")),
        (50, drains, &command(&["sh", "-c", "sleep 30; /drain --timeout=300s"]), None),
        (39, "", &command(&["sleep", "10ss"]), Some(short)),
    ] {
        let mut object = web("web", &json!({}));
        // By which the API server selects before it looks further.
        object["metadata"]["labels"] = json!({"adieu.dev/injected": "true"});
        let template = &mut object["spec"]["template"];
        template["metadata"]["annotations"] = json!({
            "adieu.dev/injected": format!(r#"{{"optedInBy":"annotation","settings":{{{settings}}}}}"#),
        });
        template["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        template["spec"]["containers"][0]["lifecycle"] = json!({"preStop": drain});
        let said = inside.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &object).await.unwrap();
        assert_eq!(said.contains("Warning"), warned.is_some(), "{said}");
        assert!(said.contains(warned.unwrap_or_default()), "{said}");
    }
    for (grace, warned) in [(119, true), (120, false)] {
        let mut object = web("web", &json!({}));
        object["metadata"]["labels"] = json!({"adieu.dev/injected": "true"});
        let template = &mut object["spec"]["template"];
        template["metadata"]["annotations"] =
            json!({"adieu.dev/injected": r#"{"optedInBy":"annotation","settings":{}}"#});
        template["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        template["spec"]["initContainers"] = json!([{
            "name": "proxy", "image": "registry.example/proxy:1", "restartPolicy": "Always",
            "lifecycle": {"preStop": command(&["/bin/sleep", "120"])},
        }]);
        let said = inside.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &object).await.unwrap();
        assert_eq!(said.contains("the preStop of 120 s of a native sidecar"), warned, "{said}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn opting_out_restores_what_was_there() {
    let scene = Scene::new().await;
    let before = scene.create(&web("web", &json!({}))).await["spec"]["template"].clone();
    let managed = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    assert_ne!(managed["spec"]["template"], before);
    let opted_out = scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    assert_eq!(opted_out["spec"]["template"], before);
    scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    let unannotated = scene.annotate("Deployment", "web", "graceful", None).await.unwrap();
    assert_eq!(unannotated["spec"]["template"], before);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn in_a_labelled_namespace_a_policy_takes_effect_on_creation() {
    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "drainSeconds": 4},
    });
    scene.create(&policy).await;
    eventually("the policy in the webhook's cache", || async {
        drain(&scene.create(&web(&format!("web-{}", uid()), &json!({}))).await) == Some(4)
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_ca_bundle_and_a_lost_secret_come_back() {
    let scene = Scene::new().await;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let name = configurations.list(&ours).await.unwrap().items[0].name_any();
    let bundle = || async {
        let webhooks = configurations.get(&name).await.unwrap().webhooks.unwrap();
        webhooks.into_iter().map(|webhook| webhook.client_config.ca_bundle).collect::<Vec<_>>()
    };
    let before = bundle().await;
    assert!(before.iter().all(Option::is_some));
    let patch = Patch::Json::<()>(
        serde_json::from_value(json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]))
            .unwrap(),
    );
    configurations.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    eventually("the caBundle", || async { bundle().await == before }).await;

    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), ADIEU);
    let secret = format!("{name}-certificates");
    secrets.delete(&secret, &DeleteParams::default()).await.unwrap();
    eventually("a new authority in every webhook", || async {
        let secret = secrets.get_opt(&secret).await.unwrap();
        let authority = secret.and_then(|secret| secret.data?.remove("ca.crt"));
        authority.is_some()
            && bundle().await.iter().all(|bundle| *bundle == authority)
            && bundle().await != before
    })
    .await;
    eventually("admission with the new certificate", || async {
        drain(&scene.create(&web(&format!("web-{}", uid()), &json!({"adieu.dev/graceful": "true"}))).await)
            == Some(10)
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn metrics_tell_of_admissions() {
    let scene = Scene::new().await;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(scene.client.clone(), ADIEU);
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let name = services.list(&ours).await.unwrap().items[0].name_any();
    let path = &format!("/api/v1/namespaces/{ADIEU}/services/{name}:metrics/proxy/metrics");
    // Who is asked and who is admitted by may be two replicas, or the one from before a restart.
    eventually("an admission in the metrics", || async {
        scene.create(&web(&format!("web-{}", uid()), &json!({"adieu.dev/graceful": "true"}))).await;
        let request = http::Request::get(path).body(vec![]).unwrap();
        let text = scene.client.request_text(request).await.unwrap_or_default();
        text.contains("adieu_admission_requests_total{kind=\"Deployment\",result=\"patched\"}")
    })
    .await;
    scene.end().await;
}

fn condition(status: &Value, type_: &str) -> String {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

/// A suffix that no other object has.
fn uid() -> String {
    use std::time::{SystemTime, UNIX_EPOCH};
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{nanoseconds:x}")
}

//! Other parts of an installation: the final check, certificates, metrics.

use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    operator::ADIEU,
    support::{Scene, drain, eventually, web},
    uid,
};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_warns_if_the_grace_period_is_too_short() {
    // In adieu's own namespace, where no webhook extends it.
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
        // The duration of these is unknown.
        (39, "", &command(&["sh", "-c", "sleep 1 & sleep 60"]), Some(short)),
        (39, "", &command(&["/drain.sh"]), Some(short)),
        (40, "", &command(&["/drain.sh"]), None),
        (49, drains, &json!({"httpGet": {"path": "/drain", "port": 8080}}), Some("the drain of 20 s")),
        (50, drains, &command(&["sh", "-c", "sleep 30; /drain --timeout=300s"]), None),
        (39, "", &command(&["sleep", "10ss"]), Some(short)),
    ] {
        let mut object = web("web", &json!({}));
        // The label that the check selects.
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
async fn the_ca_bundle_and_a_deleted_secret_are_restored() {
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
    eventually("a new CA in every webhook", || async {
        let secret = secrets.get_opt(&secret).await.unwrap();
        let ca = secret.and_then(|secret| secret.data?.remove("ca.crt"));
        ca.is_some() && bundle().await.iter().all(|bundle| *bundle == ca) && bundle().await != before
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
async fn metrics_count_admissions() {
    let scene = Scene::new().await;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(scene.client.clone(), ADIEU);
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let name = services.list(&ours).await.unwrap().items[0].name_any();
    let path = &format!("/api/v1/namespaces/{ADIEU}/services/{name}:metrics/proxy/metrics");
    // The replica that serves the metrics may not be the one that admits, or may have restarted.
    eventually("an admission in the metrics", || async {
        scene.create(&web(&format!("web-{}", uid()), &json!({"adieu.dev/graceful": "true"}))).await;
        let request = http::Request::get(path).body(vec![]).unwrap();
        let text = scene.client.request_text(request).await.unwrap_or_default();
        text.contains("adieu_admission_requests_total{kind=\"Deployment\",result=\"patched\"}")
    })
    .await;
    scene.end().await;
}

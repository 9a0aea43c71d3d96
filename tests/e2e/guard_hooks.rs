//! The guard on hooks and on the record of previous values.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    guard::{
        RECORD, as_the_operator, change, in_container, is_guarded, object_of, quiet, set, with, with_record,
    },
    operator::ADIEU,
    support::{Scene, drain, eventually},
};

/// A command that needs every short escape of JSON.
fn own_hook() -> Value {
    json!({"exec": {"command": ["/bin/sh", "-c", "echo \"a\\b\"\r\n\tnginx -s quit; sleep 5 # Ω"]}})
}

fn line(hook: &Value) -> String {
    json!({"web": hook}).to_string()
}

/// A client that can write the record must not be able to restore values that never existed, neither itself nor by
/// another client's request that adieu's webhook handles.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_forged_record_restores_nothing() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let evil = json!({"exec": {"command": ["/bin/evil"]}});
    // In adieu's own namespace, where the controller changes nothing.
    let inside = Scene { client: scene.client.clone(), namespace: ADIEU.into() };
    let by_operator = as_the_operator(&inside).await;
    let hook = in_container("lifecycle");
    let mut current = quiet(&inside, "Deployment", "forged", |_| {}).await;
    for (record, restored) in [
        // The first line can't restore a hook.
        (line(&evil), &evil),
        // Neither can an empty line.
        ("{}\n\n".to_owned(), &json!({"tcpSocket": {"port": 80}})),
    ] {
        current = change(&by_operator, &current, &with_record(&current, &record), false).await.unwrap();
        let outcome =
            change(&by_operator, &current, &with(&current, &hook, json!({"preStop": restored})), true).await;
        assert!(is_guarded(&outcome), "{record}: {outcome:?}");
    }
    // Lines with hooks that never existed.
    let lines = [line(&evil), line(&json!({})), line(&json!({"sleep": {"seconds": 5}})), "anything".into()];
    for line in lines {
        let outcome =
            change(&by_operator, &current, &with_record(&current, &format!("{{}}\n{line}")), true).await;
        assert!(is_guarded(&outcome), "{line}: {outcome:?}");
        // Also if the first line is the same.
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

    // The guard allows it in the first line, but it has no effect.
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
async fn the_operator_can_replace_and_restore_a_containers_own_hook() {
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

    // By the operator itself, because of a policy.
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

/// The API server limits the cost of expressions, which could deny large objects.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_guard_holds_for_fifty_containers() {
    let scene = Scene::new().await;
    let operator = as_the_operator(&scene).await;
    let own = json!({"exec": {"command": ["/bin/sh", "-c", "echo \"good day\"; ".repeat(60)]}});
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

//! The command line in pipes between tools that render and apply manifests.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Scene, drain, grace_period, output, web};

/// Pipes manifests through `adieu`.
async fn adieu(command: &str, more: &[&str], input: String) -> String {
    let mut adieu = Command::new(env!("CARGO_BIN_EXE_adieu"));
    adieu.arg(command).args(more).args(["-f", "-"]);
    let output = output(adieu, input).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn write(folder: &Path, files: &[(&str, String)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn output_of_helm_and_kustomize_is_injected_in_a_pipe_to_kubectl() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let deployment = |name: &str| {
        let mut deployment =
            web(name, &json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "3"}));
        deployment["spec"]["replicas"] = json!(0);
        deployment
    };
    let templated = deployment("of-helm").to_string().replace("\"3\"", "\"{{ .Values.drain }}\"");
    write(
        folder.path(),
        &[
            ("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".into()),
            ("chart/values.yaml", "drain: \"3\"\n".into()),
            ("chart/templates/web.yaml", templated),
            ("base/web.yaml", deployment("kustomize").to_string()),
            ("base/kustomization.yaml", "resources: [web.yaml]\nnamePrefix: of-\n".into()),
        ],
    );
    let path = |name: &str| folder.path().join(name).display().to_string();
    let helm = ["template".into(), "web".into(), path("chart")];
    for (name, rendered) in [
        ("of-helm", scene.run("helm", &helm, None).await.unwrap()),
        ("of-kustomize", scene.kubectl(&["kustomize", &path("base")]).await),
    ] {
        let injected = adieu("inject", &[], rendered).await;
        let apply = ["apply", "--filename=-"].map(str::to_owned);
        scene.run("kubectl", &apply, Some(injected.clone())).await.unwrap();
        let deployment = scene.deployment(name).await;
        assert_eq!((drain(&deployment), grace_period(&deployment)), (Some(3), Some(38)), "{injected}");
        let diff = ["diff", "--filename=-"].map(str::to_owned);
        scene.run("kubectl", &diff, Some(injected)).await.unwrap_or_else(|diff| unreachable!("{diff}"));
    }
    scene.end().await;
}

/// The objects of a stream as kubectl reads them, without the API server.
async fn read_by_kubectl(scene: &Scene, text: &str) -> Result<Vec<Value>, String> {
    let arguments = ["create", "--dry-run=client", "--validate=false", "--output=json", "--filename=-"];
    let read = scene.run("kubectl", &arguments.map(str::to_owned), Some(text.to_owned())).await?;
    let objects = serde_json::Deserializer::from_str(&read).into_iter::<Value>();
    let items = objects.map(Result::unwrap).map(|object| match &object["items"] {
        Value::Array(items) => items.clone(),
        _ => vec![object],
    });
    Ok(items.collect::<Vec<_>>().concat())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn kubectl_reads_reverted_manifests_like_the_originals() {
    let scene = Scene::new().await;
    let mut read = 0;
    for file in crate::manifests::files::files() {
        let text = fs::read_to_string(&file).unwrap();
        // kubectl reads only objects with a name and of kinds that the cluster knows.
        let Ok(before) = read_by_kubectl(&scene, &text).await else { continue };
        let injected = adieu("inject", &["--all"], text).await;
        let now = read_by_kubectl(&scene, &injected).await.unwrap();
        assert_eq!(before.len(), now.len(), "{}", file.display());
        let reverted = adieu("revert", &[], injected).await;
        assert_eq!(read_by_kubectl(&scene, &reverted).await.unwrap(), before, "{}", file.display());
        read += 1;
    }
    assert!(read >= 20, "kubectl has read only {read} files");
    scene.end().await;
}

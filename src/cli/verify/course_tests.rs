use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use http::Method;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    plan::Kind,
    trial::test_support::{client, failure},
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// The URL of a service that answers every request.
async fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    format!("http://{address}/")
}

/// What is found of the Deployment `web` with two pods that are ready and stay, where the API server answers
/// so.
async fn found(
    disrupt: &str,
    answer: impl Fn(&Method, &str) -> (u16, Value) + Send + 'static,
) -> anyhow::Result<Findings> {
    let url = service().await;
    let line =
        ["verify", "deploy/web", "--url", &url, "--disrupt", disrupt, "--duration", "1ms", "--limit", "1s"];
    let arguments = Line::parse_from(line).arguments;
    let client = client(move |method, target| {
        let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}});
        let is_web = *method == Method::GET && target.ends_with("/deployments/web");
        Some(if is_web { (200, web) } else { answer(method, target) })
    });
    let workload = Workload::find(&client, Kind::Deployment, "shop", "web").await?.0;
    let (tell, lives) = watch::channel(Lives::default());
    tell.send_modify(|lives| {
        for name in ["web-a", "web-b"] {
            let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            let pod = json!({"metadata": {"name": name, "uid": name}, "status": status});
            lives.pod_event(Duration::ZERO, &Event::Apply(serde_json::from_value(pod).unwrap()));
        }
    });
    let mut scene = Scene {
        trial: Trial::new(&client, &workload, arguments.disrupt, lives.clone()),
        client,
        image: None,
        workload,
        origin: Instant::now(),
        lives,
        _follows: CancellationToken::new().drop_guard(),
    };
    let options = Options::to(url);
    let (never, progress) = (CancellationToken::new(), Progress::new());
    let course = load_and_disrupt(&arguments, &options, &mut scene, None, &never, &progress);
    let outcome = Box::pin(course).await;
    drop(tell);
    outcome.map(|(findings, _)| findings)
}

#[tokio::test]
async fn an_error_of_the_disruption_is_told_with_what_was_found() {
    let found = found("evict", |_, _| (500, failure(500, "etcd has no leader")));
    let findings = Box::pin(found).await.unwrap();
    assert!(findings.requests.sent > 0 && findings.nothing_is_lost(), "{:?}", findings.requests);
    let told = findings.incomplete.unwrap();
    assert!(told.contains("evicting the pod web-a") && told.contains("etcd has no leader"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_put_back_is_told_with_what_was_found() {
    let scaled = AtomicBool::default();
    let answer = move |method: &Method, _: &str| {
        let before = if *method == Method::PATCH {
            scaled.swap(true, Ordering::Relaxed)
        } else {
            scaled.load(Ordering::Relaxed)
        };
        if *method == Method::PATCH && before {
            return (500, failure(500, "etcd has no leader"));
        }
        (200, json!({"metadata": {"name": "web"}, "spec": {"replicas": if before { 1 } else { 2 }}}))
    };
    let findings = Box::pin(found("scale-down", answer)).await.unwrap();
    assert!(findings.requests.sent > 0 && findings.nothing_is_lost(), "{:?}", findings.requests);
    let told = findings.incomplete.unwrap();
    for part in [
        "it took longer than 1 s",
        "; Deployment/web is still scaled down",
        "etcd has no leader",
        "kubectl -n shop scale deployment web --replicas=2",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
}

#[test]
fn an_error_in_the_end_hides_neither_findings_nor_another_error() {
    let recording = Recording::default();
    let findings = Findings::of(Subject::default(), &recording);
    let (findings, recording) =
        conclude(Ok((findings, recording)), Err(anyhow!("removing the Job"))).unwrap();
    assert_eq!(findings.incomplete.as_deref(), Some("removing the Job"));
    let twice = conclude(Ok((findings, recording)), Err(anyhow!("removing the Job"))).unwrap();
    assert_eq!(twice.0.incomplete.as_deref(), Some("removing the Job"));
    let both = conclude(Err(anyhow!("no image")), Err(anyhow!("removing the Job"))).unwrap_err();
    assert_eq!(both.to_string(), "no image; removing the Job");
    let left = conclude(Err(anyhow!(Interrupted)), Err(anyhow!("removing the Job"))).unwrap_err();
    assert_eq!(left.to_string(), "removing the Job");
    assert!(conclude(Err(anyhow!(Interrupted)), Ok(())).unwrap_err().is::<Interrupted>());
}

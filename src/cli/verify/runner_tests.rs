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
    runtime::test_support::{client, failure},
    verify::PodTimelines,
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

/// The report about the Deployment `web`, with two pods that stay ready, against an API server with these answers.
async fn report(
    disrupt: &str,
    answer: impl Fn(&Method, &str) -> (u16, Value) + Send + 'static,
) -> anyhow::Result<VerificationReport> {
    let url = service().await;
    let line =
        ["verify", "deploy/web", "--url", &url, "--disrupt", disrupt, "--duration", "1ms", "--limit", "1s"];
    let arguments = Line::parse_from(line).arguments;
    let client = client(move |method, target| {
        let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}});
        let is_web = *method == Method::GET && target.ends_with("/deployments/web");
        Some(if is_web { (200, web) } else { answer(method, target) })
    });
    let workload = TargetWorkload::find(&client, Kind::Deployment, "shop", "web").await?.0;
    let (sender, timelines) = watch::channel(PodTimelines::default());
    sender.send_modify(|timelines| {
        for name in ["web-a", "web-b"] {
            let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            let pod = json!({"metadata": {"name": name, "uid": name}, "status": status});
            timelines.pod_event(Duration::ZERO, &Event::Apply(serde_json::from_value(pod).unwrap()));
        }
    });
    let mut prepared = PreparedRun {
        disruptor: Disruptor::new(&client, &workload, arguments.disrupt, timelines.clone()),
        client,
        image: None,
        workload,
        origin: Instant::now(),
        timelines,
        load_balancers: vec![],
        _watches: CancellationToken::new().drop_guard(),
    };
    let (options, interrupted) = (Options::to(url), CancellationToken::new());
    let runner = Runner {
        arguments: &arguments,
        options: &options,
        interrupted: &interrupted,
        progress: PhaseIndicator::new(),
    };
    let outcome = Box::pin(runner.load_and_disrupt(&mut prepared, None)).await;
    drop(sender);
    outcome.map(|(report, _)| report)
}

#[tokio::test]
async fn a_failed_disruption_is_reported_with_the_requests() {
    let report = report("evict", |_, _| (500, failure(500, "etcd has no leader")));
    let report = Box::pin(report).await.unwrap();
    assert!(report.requests.sent > 0 && report.is_lossless(), "{:?}", report.requests);
    let incomplete = report.incomplete.unwrap();
    assert!(incomplete.contains("cannot evict the pod web-a"), "{incomplete}");
    assert!(incomplete.contains("etcd has no leader"), "{incomplete}");
}

#[tokio::test]
async fn a_failed_revert_is_reported_with_the_requests() {
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
    let report = Box::pin(report("scale-down", answer)).await.unwrap();
    assert!(report.requests.sent > 0 && report.is_lossless(), "{:?}", report.requests);
    let incomplete = report.incomplete.unwrap();
    for part in [
        "the disruption took longer than 1 s",
        "; Deployment/web is still scaled down",
        "etcd has no leader",
        "kubectl -n shop scale deployment web --replicas=2",
    ] {
        assert!(incomplete.contains(part), "{part} is missing in {incomplete}");
    }
}

#[test]
fn a_late_error_hides_neither_the_report_nor_another_error() {
    let recording = Recording::default();
    let report = VerificationReport::of(RunDescription::default(), &recording);
    let (report, recording) =
        merge_errors(Ok((report, recording)), Err(anyhow!("timed out deleting the Job"))).unwrap();
    assert_eq!(report.incomplete.as_deref(), Some("timed out deleting the Job"));
    let twice = merge_errors(Ok((report, recording)), Err(anyhow!("timed out deleting the Job"))).unwrap();
    assert_eq!(twice.0.incomplete.as_deref(), Some("timed out deleting the Job"));
    let both =
        merge_errors(Err(anyhow!("no image")), Err(anyhow!("timed out deleting the Job"))).unwrap_err();
    assert_eq!(both.to_string(), "no image; timed out deleting the Job");
    let left =
        merge_errors(Err(anyhow!(Interrupted(""))), Err(anyhow!("timed out deleting the Job"))).unwrap_err();
    assert_eq!(left.to_string(), "timed out deleting the Job");
    assert!(merge_errors(Err(anyhow!(Interrupted(""))), Ok(())).unwrap_err().is::<Interrupted>());
}

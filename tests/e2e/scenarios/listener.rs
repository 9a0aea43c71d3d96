//! Graceful shutdown for containers in Go, part 2: an application that is notified of its termination by a request,
//! while ten replicas are replaced, and while it is scaled from 20 replicas to one and back in one step.

use std::time::Duration;

use serde_json::json;

use super::{
    app::App,
    count,
    figures::figure,
    load::{Load, Pace},
    rolling_updates, updates,
};
use crate::support::{Scene, eventually};

/// The latency of a connected request that counts as a spike: the handler takes a second, and the rest allows for a
/// busy machine.
const SPIKE: Duration = Duration::from_secs(4);
/// Linux's first SYN retransmission, less the inaccuracy of timers.
const REPEATED: Duration = Duration::from_millis(990);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_application_that_drains_by_request_loses_none_when_updated_or_scaled_in_one_step() {
    let scene = Scene::new().await;
    let load = Load {
        pace: Pace::Clients(count(100, 400)),
        path: |_| "/".to_owned(),
        limit: Duration::from_secs(90),
    };
    let update = format!("{} of 10 replicas", rolling_updates(updates()));
    let app = App::deploy(&scene, "listener", "listener", json!({}), &[]).await;
    let without = app.under(load.clone(), 0, || app.update(updates())).await;
    figure("prestop-listener", &update, "without", &without, &without.spread());

    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "listener"},
        "spec": {
            "selector": {"matchLabels": {"app": "listener"}},
            "preStop": {"method": "HTTPGet", "httpGet": {"path": "/prestop", "port": 8080}},
        },
    });
    scene.create(&policy).await;
    eventually("the policy's hook", || async {
        let deployment = scene.deployment("listener").await;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        container["lifecycle"]["preStop"]["httpGet"]["path"] == "/prestop"
    })
    .await;
    app.settled().await;
    let app = app.behind("with").await;
    let minimum = count(5_000, 200_000);
    let with = app.under(load.clone(), minimum, || app.update(updates())).await;
    figure("prestop-listener", &update, "with", &with, &with.spread());

    app.scale(20).await;
    let down = app.under(load.clone(), 0, || app.scale(1)).await;
    figure("prestop-listener", "20 → 1 replicas in one step", "with", &down, &down.spread());
    let up = app.under(load.clone(), 0, || app.scale(20)).await;
    figure("prestop-listener", "1 → 20 replicas in one step", "with", &up, &up.spread());
    for (what, report) in [("the update", &with), ("20 → 1", &down), ("1 → 20", &up)] {
        report.assert_none_lost(what);
        let slowest = report.slowest_once_connected();
        assert!(slowest < SPIKE, "{what}: an answer took {slowest:?} once it was connected");
        let (waited, repeated) = (report.waited_for_connections(REPEATED), report.repeated_syns);
        assert!(waited <= repeated, "{what}: {waited} waited for connections, of {repeated} SYNs sent again");
    }
    scene.end().await;
}

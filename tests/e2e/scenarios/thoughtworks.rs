//! Graceful shutdown of services in Kubernetes: Spring Boot with a graceful shutdown of up to 30 s, and requests
//! that take as long.

use std::time::Duration;

use adieu::verify::Outcome;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use super::{
    app::App,
    count,
    figures::{figure, row},
    load::{Load, Pace},
    managed, rolling_updates, updates,
};
use crate::{
    load::get,
    support::{Scene, drain, grace_period},
};

/// Longer than any request here takes.
const LIMIT: Duration = Duration::from_secs(90);

/// Requests of all lengths up to 8 s.
fn short(number: usize) -> String {
    format!("/?seconds={}.{}", number * 5 % 8, number % 10)
}

/// Requests of all lengths up to 30 s.
fn long(number: usize) -> String {
    format!("/?seconds={}.{}", number * 7 % 30, number % 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn long_requests_to_spring_boot_are_answered_through_a_rolling_update() {
    let scene = Scene::new().await;
    // A constant number of concurrent requests, so that some are always sent to a terminating pod.
    let rate = count(20, 10);
    let load =
        Load { pace: Pace::PerSecond(rate), path: count::<fn(usize) -> String>(short, long), limit: LIMIT };
    let (plain, adieu) = tokio::join!(
        App::deploy(&scene, "spring", "plain", json!({}), &[]),
        App::deploy(&scene, "spring", "adieu", managed(), &[]),
    );
    let deployment = scene.deployment("adieu").await;
    assert_eq!((drain(&deployment), grace_period(&deployment)), (Some(10), Some(45)));

    let updated = async |app: &App<'_>| app.under(load.clone(), 0, || app.update(updates())).await;
    let (without, with) = tokio::join!(updated(&plain), updated(&adieu));
    let update = rolling_updates(updates());
    let what = format!("{update} of 2 replicas, requests of up to {} s", count(8, 30));
    figure("thoughtworks", &what, "without", &without, &without.quantiles());
    figure("thoughtworks", &what, "with", &with, &with.quantiles());
    assert!(without.lost() > 0, "nothing was lost without adieu");
    with.assert_none_lost("with adieu");
    is_cut(&adieu).await;
    scene.end().await;
}

/// A request that takes longer than the shutdown timeout is aborted at its end, which the application logs.
async fn is_cut(app: &App<'_>) {
    let pods: Api<Pod> = Api::namespaced(app.scene.client.clone(), &app.scene.namespace);
    let ours = ListParams::default().labels(&format!("app={}", app.name));
    let mut logs = JoinSet::new();
    for pod in pods.list(&ours).await.unwrap() {
        let scene = app.scene.again();
        logs.spawn(async move { scene.kubectl(&["logs", "--follow", &pod.name_any()]).await });
    }
    let address = app.address;
    let asked = Instant::now();
    let request = tokio::spawn(async move { (get(address, "/?seconds=60", LIMIT).await, asked.elapsed()) });
    pods.delete_collection(&DeleteParams::default(), &ours).await.unwrap();
    let (answer, took) = request.await.unwrap();
    let Outcome::Lost(cause) = answer.outcome else {
        unreachable!("a request of 60 s was answered within a timeout of 30 s")
    };
    // Drain and timeout, from the deletion of its pod.
    assert!((40..50).contains(&took.as_secs()), "it was cut after {took:?}");
    app.settled().await;
    let log = logs.join_all().await.concat();
    assert!(log.contains("still running after timeout"), "{log}");
    let found = format!("{cause} after {:.1} s, the drain and the shutdown timeout", took.as_secs_f64());
    row("thoughtworks", "deletion of the pods, a request of 60 s", "with", [1, 1], &found);
}

//! Hundreds of replicas of the smallest server, replaced under load.

use std::time::Duration;

use serde_json::json;

use super::{
    app::App,
    count,
    figures::figure,
    load::{Load, Pace},
    rolling_updates, updates,
};
use crate::support::{Scene, drain, web};

const RATE: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn hundreds_of_replicas_are_replaced_without_a_lost_request() {
    let scene = Scene::new().await;
    let replicas = count(60, 300);
    let mut object = web("web", &json!({}));
    object["spec"]["replicas"] = json!(replicas);
    let app = App::of(&scene, object).await;
    let load = Load { pace: Pace::PerSecond(RATE), path: |_| "/".to_owned(), limit: Duration::from_secs(90) };
    let update = format!("{} of {replicas} replicas, {RATE} requests/s", rolling_updates(updates()));

    // The last of these opts it in, so the terminated pods aren't injected.
    let opted_in_at_last = || async {
        app.update(updates() - 1).await;
        app.opt_in().await;
    };
    let without = app.under(load.clone(), 0, opted_in_at_last).await;
    figure("scale", &update, "without", &without, &without.quantiles());
    assert_eq!(drain(&scene.deployment("web").await), Some(10));

    let app = app.behind("with").await;
    let with = app.under(load, 0, || app.update(updates())).await;
    figure("scale", &update, "with", &with, &with.quantiles());
    with.assert_none_lost("with adieu");
    scene.end().await;
}

//! integrii/go-k8s-graceful-termination: 100,000 requests, one after another, while the only pod is replaced
//! again and again; none may be lost.

use std::time::Duration;

use serde_json::json;

use super::{
    app::App,
    count,
    figures::figure,
    load::{Load, Pace},
    managed, rolling_updates,
};
use crate::support::{Scene, grace_period};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn one_replica_is_replaced_again_and_again_without_a_lost_request() {
    let scene = Scene::new().await;
    let minimum = count(5_000, 100_000);
    let load = Load { pace: Pace::Clients(1), path: |_| "/".to_owned(), limit: Duration::from_secs(10) };
    let (plain, adieu) = tokio::join!(
        App::deploy(&scene, "integrii", "plain", json!({}), &[]),
        App::deploy(&scene, "integrii", "adieu", managed(), &[]),
    );
    assert_eq!(grace_period(&scene.deployment("adieu").await), Some(60), "the longer one stays");
    let updates = count(2, 20);
    let replaced = async |app: &App<'_>| app.under(load.clone(), minimum, || app.update(updates)).await;
    let (without, with) = tokio::join!(replaced(&plain), replaced(&adieu));
    let what = format!("{} of one replica, requests one after another", rolling_updates(updates));
    figure("integrii", &what, "without", &without, &without.quantiles());
    figure("integrii", &what, "with", &with, &with.quantiles());
    with.assert_none_lost("with adieu");
    scene.end().await;
}

//! The lost requests of the rollout that opts in a Deployment, whose old pods are not injected.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::{
    app::App,
    count,
    figures::figure,
    load::{Load, Pace},
};
use crate::support::{Scene, drain, web};

const RATE: u32 = 100;

/// The default strategy, and one that starts all new pods before the first old one terminates.
const STRATEGIES: [(&str, &str, &str); 2] = [("default", "25%", "25%"), ("surge", "100%", "0")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_rollout_that_opts_in_loses_requests_like_earlier_ones() {
    let scene = Scene::new().await;
    let replicas = count(10, 20);
    let opted_in = STRATEGIES.map(|(name, surge, unavailable)| {
        let scene = &scene;
        async move {
            let mut object = web(name, &json!({}));
            object["spec"]["replicas"] = json!(replicas);
            let update = json!({"maxSurge": quantity(surge), "maxUnavailable": quantity(unavailable)});
            object["spec"]["strategy"] = json!({"rollingUpdate": update});
            let app = App::of(scene, object).await;
            let load = Load {
                pace: Pace::PerSecond(RATE),
                path: |_| "/".to_owned(),
                limit: Duration::from_secs(30),
            };
            (name, surge, app.under(load, 0, || app.opt_in()).await)
        }
    });
    for (name, surge, report) in join_all(opted_in).await {
        let what = format!("annotated at {RATE} requests/s, {replicas} replicas, maxSurge {surge}");
        figure("first rollout", &what, "its first", &report, &report.quantiles());
        assert_eq!(drain(&scene.deployment(name).await), Some(10));
        assert!(report.lost() > 0, "the terminated pods were not injected, and lost nothing");
    }
    scene.end().await;
}

/// A number, or a percentage.
fn quantity(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number))
}

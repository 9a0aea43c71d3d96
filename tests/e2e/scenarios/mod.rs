//! Published applications with the load and the disruption of their sources, each without adieu and with it. Shorter
//! than there, unless `ADIEU_SCENARIOS` is `full`.

mod app;
mod elegant;
mod figures;
mod first_rollout;
mod integrii;
mod listener;
mod load;
mod scale;
mod thoughtworks;

use std::net::SocketAddr;

use serde_json::{Value, json};

use self::app::App;
use crate::support::Scene;

/// Creates the application tests/apps/APP, with `values` for words of its manifests, and waits until it answers. Returns
/// its address at a node.
pub async fn serve(scene: &Scene, app: &str, annotations: Value, values: &[(&str, &str)]) -> SocketAddr {
    App::deploy(scene, app, app, annotations, values).await.address
}

/// A count of a run: `short`, or the source's own with `ADIEU_SCENARIOS=full`.
fn count<T>(short: T, source: T) -> T {
    if full() { source } else { short }
}

fn full() -> bool {
    std::env::var("ADIEU_SCENARIOS").is_ok_and(|form| form == "full")
}

/// The number of rolling updates of a scenario, so that it doesn't depend on a single one.
fn updates() -> usize {
    count(1, 3)
}

/// The number of updates in words.
fn rolling_updates(updates: usize) -> String {
    if updates == 1 { "rolling update".to_owned() } else { format!("{updates} rolling updates") }
}

/// Annotations that opt a workload in.
fn managed() -> Value {
    json!({"adieu.dev/graceful": "true"})
}

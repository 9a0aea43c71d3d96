//! The applications that the project comes from, under the load and the disruption of their sources: each
//! without adieu and with it. Shorter than there, unless `ADIEU_SCENARIOS` is `full`.

mod app;
mod elegant;
mod figures;
mod first_rollout;
mod integrii;
mod listener;
mod load;
mod scale;
mod thoughtworks;

use serde_json::{Value, json};

/// What a run counts with: `short` as a rule, `source` where the source's own counts are asked for.
fn count<T>(short: T, source: T) -> T {
    if full() { source } else { short }
}

fn full() -> bool {
    std::env::var("ADIEU_SCENARIOS").is_ok_and(|form| form == "full")
}

/// How many rolling updates a scenario is made of, so that no lucky one decides.
fn updates() -> usize {
    count(1, 3)
}

/// What a row calls so many.
fn rolling_updates(updates: usize) -> String {
    if updates == 1 { "rolling update".to_owned() } else { format!("{updates} rolling updates") }
}

/// What opts a workload in.
fn managed() -> Value {
    json!({"adieu.dev/graceful": "true"})
}

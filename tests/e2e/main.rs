//! End-to-end tests on a real cluster with adieu installed. `cargo xtask test` runs those in `concurrent` several at a
//! time, and then the others one at a time, because some scale the operator to zero. Without it they need `KUBECONFIG`,
//! `ADIEU_TEST_IMAGE` and `--ignored --test-threads=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod admissions;
mod availability;
mod bounds;
mod calibrate;
mod concurrent;
mod disruptions;
mod figures;
#[path = "../../crates/core/tests/generate/mod.rs"]
mod generate;
mod guard;
mod guard_hooks;
mod guard_objects;
mod installation;
mod lifecycle;
mod load;
#[path = "../manifests/mod.rs"]
mod manifests;
mod mutator;
mod nodes;
mod on_this_machine;
mod operations;
mod operator;
mod oracle;
mod pod_log;
mod processes;
mod random;
mod rollout_causes;
mod scenarios;
mod scheduling;
mod schema;
mod support;
mod terminations;
mod traffic;
mod uninstall;
mod verify;

fn rejection(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => unreachable!("{other}"),
    }
}

/// A unique suffix.
fn uid() -> String {
    use std::time::{SystemTime, UNIX_EPOCH};
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{nanoseconds:x}")
}

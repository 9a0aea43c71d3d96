//! Whole reviews for `cargo xtask bench instructions`, from the bytes of the request to those of the response:
//! `review NAME COUNT` does COUNT reviews of the case of that name. Without arguments, it lists the cases.

mod fixtures;

use std::{env, hint::black_box};

use adieu::webhook::review;
use anyhow::Context as _;
use fixtures::Case;
use serde_json::{Value, json};

fn main() -> anyhow::Result<()> {
    let cases = fixtures::cases()?;
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(name) = arguments.next() else {
        for case in &cases {
            println!("{}", case.name);
        }
        return Ok(());
    };
    let count: u32 = arguments.next().context("give a count after the name")?.parse()?;
    let case = cases.iter().find(|case| case.name == name).context("there is no case of that name")?;
    let body = serde_json::to_vec(&admission_review(case))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        for _ in 0..count {
            let reviewed = review(black_box(&body), &case.caches).await?;
            black_box(reviewed.encode());
        }
        Ok(())
    })
}

fn admission_review(case: &Case) -> Value {
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let gvr = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": gvk,
            "resource": gvr,
            "requestKind": gvk,
            "requestResource": gvr,
            "namespace": fixtures::NAMESPACE,
            "name": case.new.metadata.name,
            "operation": if case.old.is_none() { "CREATE" } else { "UPDATE" },
            "userInfo": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
            "object": case.new,
            "oldObject": case.old,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

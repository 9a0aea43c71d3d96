//! `adieu controller`, the operator, as a kubelet runs it.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal::SIGTERM, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines},
    process::Command,
    time::timeout,
};

use crate::support::{kubeconfig, server};

/// The limit for any step.
const LIMIT: Duration = Duration::from_secs(30);

/// The answers of an API server on which only adieu is installed.
fn installed(target: &str) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let failure = |code: u16, reason| {
        (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}))
    };
    let configuration = json!({"metadata": {"name": "adieu", "resourceVersion": "1"}, "webhooks": [
        {"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {}},
    ]});
    let listed = |items: Value| (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}));
    let lists = query.contains("fieldSelector=");
    match path.rsplit('/').next().unwrap() {
        // Retried with back-off.
        _ if query.contains("watch=true") => failure(500, "InternalError"),
        "version" => (200, json!({"major": "1", "minor": "36"})),
        "leases" if lists => listed(json!([])),
        "leases" => (201, json!({"metadata": {"name": "adieu"}, "spec": {"holderIdentity": "adieu-1"}})),
        "secrets" if !lists => (201, json!({"metadata": {"name": "adieu-certificates"}})),
        "adieu-certificates" => failure(404, "NotFound"),
        "mutatingwebhookconfigurations" => listed(json!([configuration])),
        "adieu" if path.contains("/mutatingwebhookconfigurations/") => (200, configuration),
        "adieu" => (200, json!({"metadata": {"name": "adieu"}, "spec": {"holderIdentity": "adieu-1"}})),
        _ => listed(json!([])),
    }
}

#[tokio::test]
async fn the_operator_exits_with_0_after_sigterm() {
    let config = kubeconfig("controller-ends", server(installed));
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).args(["controller", "--namespace", "adieu-system"]);
    command.args(["--pod-name", "adieu-1", "--webhook-address", "127.0.0.1:0"]);
    command.args(["--admin-address", "127.0.0.1:0"]).stderr(Stdio::piped()).kill_on_drop(true);
    let mut operator = command.spawn().unwrap();
    let mut log = BufReader::new(operator.stderr.take().unwrap()).lines();
    wait_for(&mut log, "\"remaining\":0").await;
    kill(Pid::from_raw(operator.id().unwrap().try_into().unwrap()), SIGTERM).unwrap();
    wait_for(&mut log, "shut down").await;
    let ended = timeout(LIMIT, operator.wait()).await.expect("an end");
    assert_eq!(ended.unwrap().code(), Some(0));
}

/// Waits for a line with this part.
async fn wait_for(log: &mut Lines<impl AsyncBufRead + Unpin>, part: &str) {
    let mut said = Vec::new();
    let line = async {
        while let Some(line) = log.next_line().await.unwrap() {
            let found = line.contains(part);
            said.push(line);
            if found {
                return true;
            }
        }
        false
    };
    let found = timeout(LIMIT, line).await.unwrap_or(false);
    assert!(found, "{part} is missing in {}", said.join("\n"));
}

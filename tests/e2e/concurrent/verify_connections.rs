//! `adieu verify --idle` on servers whose behavior is known.

use std::ops::Range;

use serde_json::{Value, json};

use crate::{scenarios::serve, support::Scene, verify::Verification};

/// The findings, each with its rule and whether it is a problem.
fn findings(run: &Verification) -> Vec<(&str, bool)> {
    let findings = run.report["connections"]["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| (finding["rule"].as_str().unwrap(), finding["isProblem"].as_bool().unwrap()))
        .collect()
}

/// How connections of a kind ended.
fn behaviors<'a>(run: &'a Verification, kind: &str) -> Vec<&'a str> {
    let ended = run.report["connections"]["terminations"].as_array().unwrap().iter();
    let of_kind = ended.filter(|ended| ended["kind"] == kind);
    of_kind.map(|ended| ended["behavior"].as_str().unwrap()).collect()
}

fn keep_alive(run: &Verification) -> &Value {
    &run.report["connections"]["keepAlive"]
}

/// Asserts when the server ends idle connections, in seconds.
fn assert_ends(run: &Verification, expected: Range<f64>) {
    let ends = keep_alive(run)["endsAfterSeconds"].as_f64();
    assert!(ends.is_some_and(|ends| expected.contains(&ends)), "{:#}", run.report);
}

/// Asserts that connections with requests are closed right after SIGTERM. Those with a request in progress then end in
/// other ways: nginx cuts the request, and Node.js continues to serve the connection.
fn assert_closed(run: &Verification) {
    assert!(behaviors(run, "busy").contains(&"closed"), "{:#}", run.report);
}

fn assert_served_until_killed(run: &Verification) {
    let busy = behaviors(run, "busy");
    let expected = ["servedUntilExit", "cut", "reset"];
    assert!(!busy.is_empty() && busy.iter().all(|how| expected.contains(how)), "{:#}", run.report);
    assert!(findings(run).contains(&("notAnnounced", true)), "{:#}", run.report);
    assert_eq!(run.code, Some(1), "{:#}", run.report);
}

/// The arguments for connections over a termination, with little time for others.
const BRIEFLY: [&str; 5] = ["--idle", "--idle-limit", "1s", "--duration", "2s"];

/// The annotations of a workload that drains for 5 s, and may take 5 s from SIGTERM.
fn managed() -> Value {
    json!({
        "adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "5",
        "adieu.dev/shutdown-timeout-seconds": "5", "adieu.dev/margin-seconds": "1",
    })
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_keep_alive_timeout_shorter_than_the_load_balancers_is_a_problem() {
    let scene = Scene::new().await;
    let [url, inside] = scene.shop_with(&["idle", "3"], &managed(), 2).await;
    let arguments = ["--idle", "--idle-limit", "6s", "--disrupt", "none", "--duration", "1s"];
    for (url, more, rule) in [
        (&url, &["--lb-idle", "60"][..], ("keepAliveTooShort", true)),
        (&url, &["--lb-idle", "2"], ("", false)),
        (&inside, &["--in-cluster", "--lb-idle", "60"], ("keepAliveTooShort", true)),
    ] {
        let run = scene.verify("web", url, &[&arguments[..], more].concat()).await;
        assert_ends(&run, 2.5..4.5);
        let expected: Vec<_> = Some(rule).filter(|(name, _)| !name.is_empty()).into_iter().collect();
        assert_eq!(findings(&run), expected, "{:#}", run.report);
        assert_eq!(run.code, Some(i32::from(rule.1)), "{:#}", run.report);
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_server_that_shuts_down_ends_kept_connections_and_web_sockets_in_order() {
    let scene = Scene::new().await;
    let [url, _] = scene.shop_with(&["idle", "120"], &managed(), 2).await;
    let arguments = ["--idle", "--idle-limit", "1s", "--websocket", "/events", "--duration", "2s"];
    let run = scene.verify("web", &url, &arguments).await;
    assert_eq!(run.report["requests"]["lost"], 0, "{:#}", run.report);
    assert_eq!(run.terminated().len(), 2);
    assert_eq!(behaviors(&run, "webSocket"), ["announced"], "{:#}", run.report);
    assert_eq!(behaviors(&run, "idle"), ["closed"], "{:#}", run.report);
    // A request that is sent as the server closes the connection is cut.
    let busy = behaviors(&run, "busy");
    assert!(busy.contains(&"announced") || busy.contains(&"closed"), "{:#}", run.report);
    assert!(!busy.contains(&"servedUntilExit"), "{:#}", run.report);
    assert!(!findings(&run).contains(&("streamsCut", true)), "{:#}", run.report);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_server_that_ignores_sigterm_serves_kept_connections_until_it_is_killed() {
    let scene = Scene::new().await;
    let [url, _] = scene.shop_with(&["ignore"], &managed(), 2).await;
    assert_served_until_killed(&scene.verify("web", &url, &BRIEFLY).await);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_server_that_resets_connections_is_a_problem() {
    let scene = Scene::new().await;
    // Not one of the tested idle times: a request that is sent as the connection is reset may find it closed.
    let [url, _] = scene.shop_with(&["reset", "9"], &managed(), 2).await;
    let arguments = ["--idle", "--idle-limit", "10s", "--lb-idle", "60", "--duration", "2s"];
    let run = scene.verify("web", &url, &arguments).await;
    assert_eq!(keep_alive(&run)["endedBy"], "reset", "{:#}", run.report);
    assert_ends(&run, 8.5..10.5);
    assert!(behaviors(&run, "busy").contains(&"reset"), "{:#}", run.report);
    assert!(findings(&run).contains(&("keepAliveTooShort", true)), "{:#}", run.report);
    assert!(findings(&run).contains(&("notAnnounced", true)), "{:#}", run.report);
    assert_eq!(run.code, Some(1), "{:#}", run.report);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn spring_boot_keeps_idle_connections_for_the_connection_timeout_of_tomcat() {
    let scene = Scene::new().await;
    let url = format!("http://{}/", serve(&scene, "spring", json!({}), &[]).await);
    let arguments =
        ["--idle", "--idle-limit", "70s", "--lb-idle", "60", "--disrupt", "none", "--duration", "1s"];
    let run = scene.verify("spring", &url, &arguments).await;
    // Tomcat notices after its default of 60 s, within some seconds.
    assert_ends(&run, 55.0..68.0);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn node_js_keeps_idle_connections_for_5_s_and_closes_kept_ones_when_its_server_is_closed() {
    let scene = Scene::new().await;
    let url = format!("http://{}/", serve(&scene, "node", managed(), &[("ARGUMENTS", "[]")]).await);
    let arguments = ["--idle", "--idle-limit", "8s", "--lb-idle", "60", "--duration", "2s"];
    let run = scene.verify("node", &url, &arguments).await;
    assert_eq!(keep_alive(&run)["advertisedSeconds"], 5, "{:#}", run.report);
    // Newer versions add a second.
    assert_ends(&run, 4.5..7.5);
    assert!(findings(&run).contains(&("keepAliveTooShort", true)), "{:#}", run.report);
    assert_closed(&run);
    assert_eq!(run.code, Some(1), "{:#}", run.report);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn node_js_without_a_handler_serves_kept_connections_until_it_is_killed() {
    let scene = Scene::new().await;
    let url = format!("http://{}/", serve(&scene, "node", managed(), &[("ARGUMENTS", "[default]")]).await);
    assert_served_until_killed(&scene.verify("node", &url, &BRIEFLY).await);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nginx_keeps_idle_connections_for_75_s_and_ends_all_immediately_after_sigterm() {
    let scene = Scene::new().await;
    let address = serve(&scene, "nginx", managed(), &[]).await;
    let arguments = ["--idle", "--idle-limit", "80s", "--lb-idle", "60", "--duration", "2s"];
    let run = scene.verify("nginx", &format!("http://{address}/"), &arguments).await;
    assert_ends(&run, 74.0..78.0);
    assert!(!findings(&run).iter().any(|(rule, _)| rule.starts_with("keepAlive")), "{:#}", run.report);
    assert_eq!(behaviors(&run, "idle"), ["closed"], "{:#}", run.report);
    assert_closed(&run);

    // Most connections have a request in progress.
    let run = scene.verify("nginx", &format!("http://{address}/slow"), &BRIEFLY).await;
    assert!(behaviors(&run, "busy").contains(&"cut"), "{:#}", run.report);
    assert!(findings(&run).contains(&("notAnnounced", true)), "{:#}", run.report);
    assert_eq!(run.code, Some(1), "{:#}", run.report);
    scene.end().await;
}

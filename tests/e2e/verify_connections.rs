//! `adieu verify --idle` on servers whose behavior is known.

use serde_json::{Value, json};

use crate::{scenarios::spring, support::Scene, verify::Verification};

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
        let ends = keep_alive(&run)["endsAfterSeconds"].as_f64().unwrap();
        assert!((2.5..5.5).contains(&ends), "{:#}", run.report);
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
    let run = scene.verify("web", &url, &["--idle", "--idle-limit", "1s", "--duration", "2s"]).await;
    let busy = behaviors(&run, "busy");
    let expected = ["servedUntilExit", "cut", "reset"];
    assert!(!busy.is_empty() && busy.iter().all(|how| expected.contains(how)), "{:#}", run.report);
    assert!(findings(&run).contains(&("notAnnounced", true)), "{:#}", run.report);
    assert_eq!(run.code, Some(1), "{:#}", run.report);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn spring_boot_keeps_idle_connections_for_the_connection_timeout_of_tomcat() {
    let scene = Scene::new().await;
    let url = format!("http://{}/", spring(&scene).await);
    let arguments =
        ["--idle", "--idle-limit", "70s", "--lb-idle", "60", "--disrupt", "none", "--duration", "1s"];
    let run = scene.verify("spring", &url, &arguments).await;
    // Tomcat notices after its default of 60 s, within some seconds.
    let ends = keep_alive(&run)["endsAfterSeconds"].as_f64().unwrap();
    assert!((55.0..68.0).contains(&ends), "{:#}", run.report);
    scene.end().await;
}

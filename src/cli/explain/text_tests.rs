use std::{collections::BTreeMap, sync::Arc};

use kube::core::DynamicObject;
use serde_json::json;

use super::*;
use crate::{
    api::{GracefulPolicy, OutcomeCounts, TerminationCause},
    cli::explain::timeline::{
        self,
        tests::{exposure, observed},
    },
    plan::{self, Kind, NamespaceContext},
};

#[test]
fn the_text_shows_settings_and_the_timeline() {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "checkout"},
        "spec": {"selector": {}, "drainSeconds": 20},
    }))
    .unwrap();
    let context = NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() };
    let object: DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "annotations": BTreeMap::from([("adieu.dev/margin-seconds", "10")])},
        "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
    }))
    .unwrap();
    let text = explained(&Explained::of(Kind::Deployment, "shop", &object, &context, &[]));
    let text = anstream::adapter::strip_str(&text).to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "Deployment shop/web: opted in by policy checkout; to be injected; its template is written once a rollout \
         slot is free"
    );
    for expected in [
        "  change: drain none → 20 s: drainSeconds 20 (policy checkout)",
        "  change: grace period 30 s → 60 s: drainSeconds 20 (policy checkout), shutdownTimeoutSeconds 30 (default), \
         marginSeconds 10 (annotation)",
        "  drainSeconds                20       policy checkout  Auto (default)",
        "  marginSeconds               10       annotation       5 (default)",
        "  recommendationBounds        -        default",
        "  █    0 to   20  drain: preStop hooks, requests still arrive",
        "  █   20 to   50  shutdown: SIGTERM, requests in progress are completed",
        "  █   50 to   60  margin, then SIGKILL",
        "  container web: SIGTERM after 20 s",
    ] {
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(lines.iter().any(|line| squeezed(line) == squeezed(expected)), "{expected}: {text}");
    }
    let bar = lines.iter().find(|line| line.contains("██") && line.contains("pod")).unwrap();
    assert_eq!(bar.chars().filter(|character| *character == '█').count(), WIDTH);
}

#[test]
fn observed_terminations_are_drawn_on_the_same_scale() {
    let status = TerminationProfileStatus {
        observed_since: "2026-01-31T12:00:00Z".into(),
        last_termination_time: "2026-01-31T13:00:00Z".into(),
        outcomes: OutcomeCounts { completed: 293, killed: 7, ..OutcomeCounts::default() },
        problem: Some("too slow, killed (7 of 214)".into()),
        recent: vec![RecentTermination {
            pod: "web-1".into(),
            container: Some("app".into()),
            time: "2026-01-31T13:00:00Z".into(),
            outcome: Outcome::Killed,
            cause: TerminationCause::Rollout,
            reason: "killed at the end of the grace period of 45 s".into(),
        }],
        ..observed()
    };
    let with_termination = timeline::tests::termination();
    let timelines = Timelines::of(&with_termination, Some(&status), &[]);
    let text = termination(&with_termination, &timelines) + &observations(&status, timelines.ends);
    let text = anstream::adapter::strip_str(&text).to_string();
    for expected in [
        "Observed since 2026-01-31T12:00:00Z: 300 terminations (293 completed, 7 killed), the last at 2026-01-31T13:00:00Z",
        "ended after 13 s (p50, ●), 19 s (p99, ◆), 22 s (max, ▲)",
        "no EndpointSlice had the pod as ready after 0 s (p50), 2 s (p99), 2 s (max)",
        "failed: 2026-01-31T13:00:00Z, pod web-1, container app: killed at the end of the grace period of 45 s \
         (cause: Rollout)",
        "problem: too slow, killed (7 of 214)",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let row = text.lines().find(|line| line.trim_start().starts_with("observed ")).unwrap();
    let column = |mark: char| row.chars().position(|character| character == mark).unwrap() - 12;
    // A second of 45 is 1.42 columns of 64.
    assert_eq!(['●', '◆', '▲'].map(column), [18, 27, 31], "{text}");
}

#[test]
fn each_exposure_is_in_the_table_and_has_a_row_on_the_same_scale() {
    let exposures = [exposure("cluster-ip", 10), exposure("ingress-nginx", 30)];
    let with_termination = timeline::tests::termination();
    let timelines = Timelines::of(&with_termination, None, &exposures);
    let text = exposed(&exposures) + &termination(&with_termination, &timelines);
    let text = anstream::adapter::strip_str(&text).to_string();
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "EXPOSURE OBJECT NEEDED DRAIN REASON",
        "ingress-nginx Service shop/web 30 s it was measured (a test)",
        "█ 0 to 10 cluster-ip: requests still arrive",
        "█ 10 to 30 ingress-nginx: requests still arrive after SIGTERM, the drain is too short",
    ] {
        assert!(text.lines().any(|line| squeezed(line) == expected), "{expected}: {text}");
    }
    // Columns of 64 for 10, 30 and 45 of 45 s.
    for (name, columns) in [("network: cluster-ip", 14), ("network: ingress-nginx", 42), ("pod", 64)] {
        let row = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
        assert_eq!(row.matches('█').count(), columns, "{text}");
    }
}

#[test]
fn a_workload_that_is_not_opted_in_has_no_settings() {
    let object: DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "web\u{1b}[31m", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
    }))
    .unwrap();
    let text =
        explained(&Explained::of(Kind::Deployment, "shop", &object, &NamespaceContext::default(), &[]));
    let text = anstream::adapter::strip_str(&text).to_string();
    assert!(text.contains("not opted in, its pods terminate without adieu"), "{text}");
    assert!(text.contains("\n  no change\n"), "{text}");
    assert!(!text.contains("SETTING") && !text.contains('\u{1b}'), "{text}");
}

/// The lines before the tables, of a Deployment with this template, annotations and policy.
fn start(template: &Value, annotations: &Value, policy: &Value) -> String {
    let policies = if policy.is_null() {
        vec![]
    } else {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": policy,
        });
        vec![Arc::new(serde_json::from_value(policy).unwrap())]
    };
    let context = NamespaceContext { policies, ..NamespaceContext::default() };
    let object: DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"template": template},
    }))
    .unwrap();
    let text = explained(&Explained::of(Kind::Deployment, "shop", &object, &context, &[]));
    let text = anstream::adapter::strip_str(&text).to_string();
    text.split("\n\n").next().unwrap().replace("Deployment shop/web: ", "")
}

#[test]
fn pending_changes_are_shown_with_their_causes_or_a_line_that_nothing_changes() {
    let (none, graceful) = (json!({}), json!({"adieu.dev/graceful": "true"}));
    let containers =
        json!([{"name": "web"}, {"name": "log", "lifecycle": {"preStop": {"sleep": {"seconds": 0}}}}]);
    let plain = json!({"spec": {"containers": containers}});
    let audit = json!({"selector": {}, "mode": "Audit"});
    assert_eq!(
        start(&plain, &none, &audit),
        "opted in by policy all; to be injected; its policy only audits, so nothing is written\n  \
         would change: drain none → 10 s (web): drainSeconds 10 (default)\n  \
         would change: grace period 30 s → 45 s: drainSeconds 10 (default), shutdownTimeoutSeconds 30 (default), \
         marginSeconds 5 (default)"
    );

    let annotations = [("adieu.dev/graceful".to_owned(), "true".to_owned())].into();
    let injected = plan::evaluate(
        &plan::Workload::new(Kind::Deployment, &annotations, &plain),
        &NamespaceContext::default(),
    );
    let injected = injected.template.unwrap();
    assert_eq!(
        start(&injected, &graceful, &Value::Null),
        "opted in by annotation; injected\n  no change: its pod template is up to date"
    );
    assert_eq!(
        start(&injected, &json!({"adieu.dev/graceful": "false"}), &Value::Null),
        "opted out by annotation; its template is written immediately\n  \
         change: drain 10 s → none (web): opted out by annotation\n  \
         change: grace period 45 s → 30 s: opted out by annotation"
    );
    let by_pod = start(&injected, &graceful, &json!({"selector": {}, "injectionTarget": "Pod"}));
    assert!(by_pod.ends_with("\n  no change of the values that its pods get"), "{by_pod}");
}

#[test]
fn quantiles_in_a_wrong_order_are_drawn() {
    let wrong = Quantiles { p50: 900, p90: 20, p99: 3, max: 1 };
    let observed = TerminationProfileStatus {
        shutdown_seconds: Some(wrong),
        endpoint_withdrawal_seconds: Some(wrong),
        ..observed()
    };
    let timelines = Timelines::of(&timeline::tests::termination(), Some(&observed), &[]);
    let text = termination(&timeline::tests::termination(), &timelines);
    assert!(text.contains('◆') && text.contains('▲'), "{text}");
}

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::*;

const ALERTS: &str = include_str!("../../../charts/adieu/files/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../charts/adieu/files/dashboard.json");
const RUNBOOKS: &str = include_str!("../../../docs/runbooks.md");
/// The pages that list the metrics.
const PAGES: [&str; 2] =
    [include_str!("../../../docs/metrics.md"), include_str!("../../../docs/terminations.md")];
/// The address of the runbooks, up to the anchor.
const RUNBOOKS_URL: &str = "https://github.com/adieu-dev/adieu/blob/main/docs/runbooks.md#";

#[test]
fn names_follow_the_conventions() {
    let metrics = Metrics::default();
    let labels = AdmissionLabels { kind: KindLabel("Deployment"), result: AdmissionResult::Patched };
    metrics.admission_requests.get_or_create(&labels).inc();
    metrics.admission_duration.observe(0.001);
    let text = metrics.render().unwrap();
    for line in [
        "adieu_admission_requests_total{kind=\"Deployment\",result=\"patched\"} 1",
        "adieu_admission_duration_seconds_count 1",
        "adieu_certificate_not_before_timestamp_seconds 0",
        "adieu_certificate_expiration_timestamp_seconds 0",
        "adieu_build_info{version=",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// Metrics with a series of each family.
fn metrics_with_series() -> Metrics {
    let metrics = Metrics::default();
    let kind = || KindLabel("Deployment");
    let reconciled = ReconcileLabels { kind: kind(), result: ReconcileResult::ApiError };
    metrics.reconciles.get_or_create(&reconciled).inc();
    let admitted = AdmissionLabels { kind: kind(), result: AdmissionResult::Patched };
    metrics.admission_requests.get_or_create(&admitted).inc();
    let counted = WorkloadLabels { kind: kind(), state: WorkloadState::Injected };
    metrics.workloads.get_or_create(&counted).set(1);
    let counted = PolicyWorkloadLabels {
        policy_kind: KindLabel("GracefulPolicy"),
        policy_namespace: "shop".into(),
        policy: "checkout".into(),
        state: WorkloadState::Injected,
    };
    metrics.policy_workloads.get_or_create(&counted).set(1);
    metrics.reconcile_duration.get_or_create(&ObjectLabels { kind: kind() }).observe(0.1);
    let requested = ApiRequestLabels { verb: Verb::Get, code: ApiCode(None) };
    metrics.api_requests.get_or_create(&requested).inc();
    for family in [&metrics.undecodable_objects, &metrics.oversized_objects, &metrics.denied_kinds] {
        family.get_or_create(&ObjectLabels { kind: kind() }).set(1);
    }
    let outcome = OutcomeLabel::Killed;
    let terminated = TerminationLabels { kind: kind(), outcome, cause: CauseLabel::Rollout };
    metrics.terminations.get_or_create(&terminated).inc();
    let failed = FailedTerminationLabels { workload_namespace: "shop".into(), outcome };
    metrics.failed_terminations.get_or_create(&failed).inc();
    metrics
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let text = metrics_with_series().render().unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let own = types.filter(|(name, _)| name.starts_with("adieu_"));
    let suffix = |kind: &str| match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let names: BTreeSet<_> = own.map(|(name, kind)| format!("{name}{}", suffix(kind))).collect();
    let listed = Regex::new("(?m)^\\| `(adieu_[a-z_]+)").unwrap();
    let documented: BTreeSet<_> =
        PAGES.iter().flat_map(|page| listed.captures_iter(page)).map(|found| found[1].to_owned()).collect();
    assert_eq!(documented, names);
}

#[test]
fn alerts_and_dashboard_use_existing_metrics() {
    let text = metrics_with_series().render().unwrap();
    let name = Regex::new("adieu_[a-z_]+").unwrap();
    for (file, least) in [(ALERTS, 15), (DASHBOARD, 25)] {
        let named: BTreeSet<_> = name.find_iter(file).map(|found| found.as_str()).collect();
        assert!(named.len() >= least, "{named:?}");
        for name in named {
            let is = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
            assert!(text.lines().any(is), "{name} is not a metric:\n{text}");
        }
    }
}

#[test]
fn alerts_and_dashboard_use_existing_label_values() {
    let states = WorkloadState::ALL.iter().map(|state| state.as_str());
    let results = ReconcileResult::ALL.iter().map(|result| result.as_str());
    let admissions = AdmissionResult::ALL.iter().map(|result| result.as_str());
    let outcomes = OutcomeLabel::ALL.iter().map(|outcome| outcome.as_str());
    let causes = CauseLabel::ALL.iter().map(|cause| cause.as_str());
    let known: BTreeSet<_> = states.chain(results).chain(admissions).chain(outcomes).chain(causes).collect();
    let selected = Regex::new(r#"(?:result|state|outcome|cause)[!=]=?~?\\?"([A-Za-z_|]+)\\?""#).unwrap();
    for (file, least) in [(ALERTS, 4), (DASHBOARD, 5)] {
        let values: BTreeSet<_> =
            selected.captures_iter(file).flat_map(|found| found.extract::<1>().1[0].split('|')).collect();
        assert!(values.len() >= least, "{values:?}");
        for value in values {
            assert!(known.contains(value), "no metric has the label value {value}");
        }
    }
}

/// The alerts of a file of rules.
fn alerts(file: &str) -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(file).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The anchors of a page's headings, as GitHub derives them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let headings = page.lines().filter_map(|line| {
        is_code ^= line.trim_start().starts_with("```");
        line.strip_prefix('#').filter(|_| !is_code).map(|heading| heading.trim_start_matches('#').trim())
    });
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|kept| kept.is_alphanumeric() || "-_ ".contains(*kept));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// What an alert lacks: a runbook, or the label `cluster`, by which a Prometheus tells the clusters apart that it scrapes.
fn problems(alert: &Value, anchors: &BTreeSet<String>) -> Vec<String> {
    let name = alert["alert"].as_str().unwrap_or_default();
    let mut problems = Vec::new();
    let url = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
    if !url.strip_prefix(RUNBOOKS_URL).is_some_and(|anchor| anchors.contains(anchor)) {
        problems.push(format!("{name}: docs/runbooks.md has no heading for runbook_url {url:?}"));
    }
    let expression = alert["expr"].as_str().unwrap_or_default();
    let operators = "sum|min|max|avg|group|count|count_values|stddev|stdvar|topk|bottomk|quantile|on";
    let kept = Regex::new(&format!(r"\b(?:{operators})\b\s*(?:by\s*)?\(([^)]*)\)")).unwrap();
    for found in kept.captures_iter(expression) {
        if !found[1].split(',').any(|label| label.trim() == "cluster") {
            problems.push(format!("{name}: {} drops the label cluster", &found[0]));
        }
    }
    let dropped = Regex::new(r"\b(?:without|ignoring)\s*\([^)]*\bcluster\b").unwrap();
    problems.extend(dropped.find(expression).map(|found| format!("{name}: {}", found.as_str())));
    problems
}

#[test]
fn every_alert_has_a_runbook_and_keeps_the_cluster() {
    let (alerts, anchors) = (alerts(ALERTS), anchors(RUNBOOKS));
    assert!(alerts.len() >= 13, "{}", alerts.len());
    let problems: Vec<_> = alerts.iter().flat_map(|alert| problems(alert, &anchors)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(url, format!("{RUNBOOKS_URL}{}", name.to_lowercase()));
    }
    let pages =
        [("runbooks.md", RUNBOOKS), ("terminations.md", include_str!("../../../docs/terminations.md"))];
    let link = Regex::new(r"\]\((runbooks\.md|terminations\.md|)#([^)]+)\)").unwrap();
    for (name, page) in pages {
        for found in link.captures_iter(page) {
            let of = if found[1].is_empty() { name } else { &found[1] };
            let (_, linked) = pages.into_iter().find(|(name, _)| *name == of).unwrap();
            assert!(self::anchors(linked).contains(&found[2]), "{name}: {of} has no heading #{}", &found[2]);
        }
    }
}

#[test]
fn an_alert_without_a_runbook_or_the_cluster_is_reported() {
    let page = "# Runbooks\n\n```console\n# Comment\n```\n\n## A `x.y` alert\n";
    assert_eq!(anchors(page), ["runbooks".to_owned(), "a-xy-alert".to_owned()].into());
    let count = |anchor: &str, expression: &str| {
        let url = format!("{RUNBOOKS_URL}{anchor}");
        let alert =
            serde_json::json!({"alert": "A", "expr": expression, "annotations": {"runbook_url": url}});
        problems(&alert, &anchors(page)).len()
    };
    assert_eq!(count("a-xy-alert", "sum by (cluster, kind) (increase(x_count[1h])) > 0 or y{by=\"z\"}"), 0);
    assert_eq!(count("comment", "x > 0"), 1);
    assert_eq!(count("", "x > 0"), 1);
    for expression in [
        "sum(x) > 0",
        "max by (namespace) (x)",
        "count(rate(x[5m]))",
        "x / on (namespace) y",
        "sum without (cluster) (x)",
    ] {
        assert_eq!(count("a-xy-alert", expression), 1, "{expression}");
    }
}

#[test]
fn every_panel_has_its_own_id_and_place_and_shows_one_cluster() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_i64().unwrap()), "{title}: its id is used twice");
        let [left, top, width, height] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_i64().unwrap());
        assert!(left + width <= 24, "{title} is too wide");
        for cell in (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} covers another panel");
        }
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let all = expression.matches('{').count();
            assert_eq!(expression.matches("{cluster=\"$cluster\",").count(), all, "{title}: {expression}");
        }
    }
}

use std::collections::BTreeSet;

use super::*;

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

#[test]
fn alerts_and_dashboard_use_existing_metrics() {
    let metrics = Metrics::default();
    let kind = || KindLabel("Deployment");
    let reconciled = ReconcileLabels { kind: kind(), result: ReconcileResult::ApiError };
    metrics.reconciles.get_or_create(&reconciled).inc();
    let admitted = AdmissionLabels { kind: kind(), result: AdmissionResult::Patched };
    metrics.admission_requests.get_or_create(&admitted).inc();
    let counted = WorkloadLabels { kind: kind(), state: WorkloadState::Injected };
    metrics.workloads.get_or_create(&counted).set(1);
    for family in [&metrics.undecodable_objects, &metrics.oversized_objects] {
        family.get_or_create(&ObjectLabels { kind: kind() }).set(1);
    }
    let text = metrics.render().unwrap();
    let name = regex::Regex::new("adieu_[a-z_]+").unwrap();
    for (file, least) in [
        (include_str!("../../../charts/adieu/files/alerts.yaml"), 5),
        (include_str!("../../../charts/adieu/files/dashboard.json"), 9),
    ] {
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
    let known: BTreeSet<_> = states.chain(results).chain(admissions).collect();
    let selected = regex::Regex::new(r#"(?:result|state)[!=]=?~?\\?"([A-Za-z_|]+)\\?""#).unwrap();
    for (file, least) in [
        (include_str!("../../../charts/adieu/files/alerts.yaml"), 1),
        (include_str!("../../../charts/adieu/files/dashboard.json"), 3),
    ] {
        let values: BTreeSet<_> =
            selected.captures_iter(file).flat_map(|found| found.extract::<1>().1[0].split('|')).collect();
        assert!(values.len() >= least, "{values:?}");
        for value in values {
            assert!(known.contains(value), "no metric has the label value {value}");
        }
    }
}

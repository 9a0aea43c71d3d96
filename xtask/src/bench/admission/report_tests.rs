use serde_json::Value;

use super::*;

/// A run in which each arm adds this many milliseconds. For objects that are not opted in, `unmanaged` has what adieu
/// and the minimal configuration add to a create, an update, a pod and a Job, relative to the do-nothing webhook.
fn report(patch: f64, map: f64, adieu: f64, unmanaged: [[f64; 2]; 4]) -> Result<Report> {
    let setting = Setting { kubernetes: "v1.36.3".into(), cores: 2, requests: 1000 };
    let adds = |added: f64| vec![0.002 + added / 1000.0; 1000];
    let samples = [
        (Arm::None, adds(0.0)),
        (Arm::Noop, adds(1.0)),
        (Arm::Patch, adds(patch)),
        (Arm::Condition, adds(patch)),
        (Arm::Policy, adds(map)),
        (Arm::Adieu, adds(adieu)),
        (Arm::Labelled, adds(patch)),
    ];
    let mut measured = UnmanagedSamples::default();
    for (operation, [adieu, floor]) in OPERATIONS.into_iter().zip(unmanaged) {
        for (with, added) in CONFIGURATIONS.into_iter().zip([0.0, 1.0, adieu, floor]) {
            measured.push(operation, with, 0.002 + added / 1000.0);
        }
    }
    Report::new(setting, &samples, &AllCalls::default(), &measured)
}

const GOOD: [[f64; 2]; 4] = [[0.4, 0.4], [0.45, 0.45], [0.05, 0.0], [0.3, 0.25]];

fn verdict(report: Result<Report>) -> String {
    report.unwrap().verdict().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn limits_apply_to_the_latency_added_at_the_median() {
    assert_eq!(verdict(report(2.0, 2.1, 2.15, GOOD)), "");
    let slow = verdict(report(2.0, 4.0, 2.4, GOOD));
    assert!(
        slow.contains("1.20 times what a webhook with the same patch ready adds, at most 1.1 is"),
        "{slow}"
    );
    assert!(!slow.contains("Policy") && !slow.contains("not opted in"), "{slow}");
    let slower = verdict(report(0.9, 1.0, 1.2, GOOD));
    assert!(slower.contains("1.20 times what a MutatingAdmissionPolicy adds, at most 1.05 is"), "{slower}");
    let pods = verdict(report(2.0, 4.0, 2.0, [GOOD[0], GOOD[1], [0.2, 0.0], GOOD[3]]));
    assert!(pods.contains("0.20 times what a do-nothing webhook adds, for a pod"), "{pods}");
}

#[test]
fn the_worse_of_create_and_update_counts_unless_the_minimum_exceeds_the_limit() {
    for (create, update, missed) in [
        ([0.4, 0.4], [0.5, 0.5], false),
        ([0.6, 0.4], [0.4, 0.4], true),
        ([0.4, 0.4], [0.6, 0.49], true),
        // The minimal configuration exceeds the limit.
        ([0.4, 0.4], [0.6, 0.58], false),
        ([0.4, 0.4], [0.7, 0.58], true),
    ] {
        let error = verdict(report(2.0, 4.0, 2.0, [create, update, GOOD[2], GOOD[3]]));
        assert_eq!(
            error.contains("for a workload that is not opted in"),
            missed,
            "{create:?} {update:?}: {error}"
        );
    }
}

#[test]
fn a_run_in_which_an_alternative_adds_no_latency_is_invalid() {
    assert!(report(0.0, 4.0, 1.0, GOOD).is_err());
    assert!(report(1.0, -1.0, 1.0, GOOD).is_err());
}

#[test]
fn the_ratios_are_at_the_top_of_the_report() {
    let json: Value = serde_json::to_value(report(1.0, 4.0, 2.0, GOOD).unwrap()).unwrap();
    for (key, expected) in [
        ("ratio_to_ready", 2.0),
        ("ratio_to_map", 0.5),
        ("ratio_stranger_pod", 0.05),
        ("ratio_stranger_workload", 0.45),
        ("ratio_stranger_job", 0.3),
        ("ratio_stranger_job_floor", 0.25),
    ] {
        assert!((json[key].as_f64().unwrap() - expected).abs() < 1e-6, "{key}: {json}");
    }
    assert_eq!((&json["requests"], &json["cores"]), (&1000.into(), &2.into()));
    assert!((json["adieu"]["addedSeconds"]["p99"].as_f64().unwrap() - 0.002).abs() < 1e-9, "{json}");
}

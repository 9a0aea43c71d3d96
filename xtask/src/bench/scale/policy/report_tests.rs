use std::time::Duration;

use super::*;

fn latency(p99: f64) -> Percentiles {
    Percentiles { p50: 0.004, p90: 0.006, p99 }
}

fn stage(deployments: u32) -> Stage {
    let arm = |p99: f64, counted: f64, profile_writes: u32| Arm {
        at_rest: latency(0.01),
        beside_deletions: latency(p99),
        idle: 0.5,
        memory: 60.0 * MIB,
        counted,
        took: Duration::from_mins(1),
        requests: [
            ("list terminationprofiles", 1),
            ("create terminationprofiles", profile_writes),
            ("patch terminationprofiles", 9),
        ]
        .map(|(request, count)| (request.to_owned(), count))
        .into(),
    };
    Stage {
        size: Size { deployments },
        cpu_at_rest: 0.01,
        cpu_under_events: 0.05,
        events_per_second: 50.0,
        admission: Admission { at_rest: latency(0.01), beside_change: latency(0.015) },
        idle_at_rest: 0.9,
        delays: Delays::new(vec![0.5, 0.4, 3.0], vec![2.0]),
        terminations: Terminations {
            deleted: deployments,
            without_observer: arm(0.012, 0.0, 0),
            with_observer: arm(0.015, f64::from(deployments), 7),
        },
        memory: 60.0 * MIB,
        rollouts_per_second: 30.0,
    }
}

fn verdict(stages: Vec<Stage>) -> String {
    Report { stages }.verdict().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_value_at_its_limit_is_allowed() {
    assert_eq!(verdict(vec![stage(2500), stage(5000)]), "");
}

#[test]
fn each_missed_limit_is_named_with_its_size() {
    let change = |change: fn(&mut Stage)| {
        let mut full = stage(5000);
        change(&mut full);
        verdict(vec![stage(2500), full])
    };
    for (said, expected) in [
        (change(|stage| stage.cpu_at_rest = 0.011), "CPU at rest, of a core: 1.10 %, at most 1 %"),
        (change(|stage| stage.cpu_under_events = 0.06), "status events, of a core: 6.00 %, at most 5 %"),
        (change(|stage| stage.admission.beside_change.p99 = 0.016), "relative to rest: 1.60, at most 1.5"),
        (
            change(|stage| stage.terminations.with_observer.beside_deletions.p99 = 0.016),
            "within a minute, relative to rest: 1.60, at most 1.5",
        ),
        (
            change(|stage| stage.terminations.with_observer.counted = 4999.0),
            "terminations that are counted: 1.00, at least 1",
        ),
        (change(|stage| stage.memory = 61.0 * MIB), "61.0 MiB, at most 60 MiB"),
        (change(|stage| stage.delays.evaluated.median = 1.1), "1.10 s, at most 1 s"),
        (change(|stage| stage.rollouts_per_second = 29.0), "ten slots: 29.0/s, at least 30/s"),
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(said.contains("with 5000 Deployments") && !said.contains("2500"), "{said}");
    }
}

#[test]
fn the_time_for_evaluation_is_in_proportion_to_the_size() {
    let within = |deployments: u32| stage(deployments).evaluated_within();
    assert!((within(5000) - 1.0).abs() < 1e-9);
    assert!((within(2500) - 0.5).abs() < 1e-9);
    assert!((within(100) - EVALUATED_AT_LEAST).abs() < 1e-9, "the resolution of the metrics");
    let mut half = stage(2500);
    half.delays.evaluated.median = 0.6;
    assert!(verdict(vec![half, stage(5000)]).contains("at most 0.5 s"));
}

#[test]
fn a_spread_has_the_median_and_the_largest() {
    assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, largest: 3.0 });
    assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.0, largest: 4.0 });
    assert!(Spread::of(vec![]).median.is_nan());
}

#[test]
fn an_unknown_value_misses_its_limit() {
    let mut unknown = stage(5000);
    unknown.delays = Delays::new(vec![], vec![]);
    assert!(verdict(vec![unknown]).contains("all evaluated"));
}

#[test]
fn the_report_names_missed_limits() {
    let mut slow = stage(5000);
    slow.rollouts_per_second = 3.0;
    let json = Report { stages: vec![stage(2500), slow.clone()] }.json();
    assert_eq!(json["stages"][0]["missed"], json!([]));
    assert_eq!(
        json["stages"][1]["missed"],
        json!(["rollouts that are complete immediately, with ten slots"])
    );
    assert_eq!(json["stages"][1]["policies"], 271);
    assert_eq!(slow.profile_writes(), 16, "lists do not count");
}

#[test]
fn the_larger_ratios_of_both_sizes_are_reported() {
    let mut slow = stage(2500);
    slow.terminations.with_observer.beside_deletions = latency(0.03);
    slow.terminations.without_observer.beside_deletions = latency(0.02);
    let json = Report { stages: vec![slow, stage(5000)] }.json();
    let is = |key: &str, expected: f64| (json[key].as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(is("ratio_admission_terminations", 3.0), "{json}");
    assert!(is("ratio_admission_terminations_without_observer", 2.0), "{json}");
    assert!(is("ratio_admission_observer", 1.5), "{json}");
    let of_full = &json["stages"][1]["terminations"];
    assert!((of_full["observerRatioP99"].as_f64().unwrap() - 1.25).abs() < 1e-9, "{of_full}");
    assert_eq!(of_full["withoutObserver"]["counted"], 0.0);
}

#[test]
fn the_table_has_the_figures_of_both_sizes_and_both_arms() {
    let mut full = stage(5000);
    full.terminations.without_observer.beside_deletions = latency(0.015);
    let table = Report { stages: vec![stage(2500), full] }.figures().markdown();
    let cells = |row: &str| row.split('|').skip(1).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    assert!(rows.iter().skip(1).all(|row| !row[1].is_empty() && !row[2].is_empty()), "{table}");
    for expected in [
        ["", "half", "full"],
        ["Deployments", "2500", "5000"],
        ["admission while pods end, p50 / p99", "4.0 ms / 15.0 ms", "4.0 ms / 15.0 ms"],
        ["without the observer: admission while pods end, p50 / p99", "4.0 ms / 12.0 ms", "4.0 ms / 15.0 ms"],
        ["admission p99 while pods end, relative to that without the observer", "1.25", "1.00"],
    ] {
        assert!(rows.iter().any(|row| row[..3] == expected), "{expected:?}: {table}");
    }
}

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
        replay: latency(0.012),
        replayed_cpu: Duration::from_millis(500),
        evaluation_cpu: Duration::from_millis(700),
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

fn report(stages: Vec<Stage>) -> Report {
    Report { full: 5000, stages }
}

fn verdict(stages: Vec<Stage>) -> String {
    report(stages).verdict().err().map(|error| error.to_string()).unwrap_or_default()
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
    let within = |deployments: u32| evaluation_limit(Size { deployments });
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
    let json = report(vec![stage(2500), slow.clone()]).json();
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
    let json = report(vec![slow, stage(5000)]).json();
    let is = |key: &str, expected: f64| (json[key].as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(is("ratio_admission_terminations", 3.0), "{json}");
    assert!(is("ratio_admission_terminations_without_observer", 2.0), "{json}");
    assert!(is("ratio_admission_observer", 1.5), "{json}");
    let of_full = &json["stages"][1]["terminations"];
    assert!((of_full["observerRatioP99"].as_f64().unwrap() - 1.25).abs() < 1e-9, "{of_full}");
    assert_eq!(of_full["withoutObserver"]["counted"], 0.0);
}

/// The cells of the table's rows, without the line below the header.
fn rows(report: &Report) -> Vec<Vec<String>> {
    let table = report.figures().markdown();
    let cells = |row: &str| row.split('|').skip(1).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    table.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-")).map(cells).collect()
}

#[test]
fn the_table_has_the_figures_of_both_sizes_and_all_arms() {
    let mut full = stage(5000);
    full.terminations.without_observer.beside_deletions = latency(0.015);
    full.replay = latency(0.015);
    let rows = rows(&report(vec![stage(2500), full]));
    assert!(rows.iter().skip(1).all(|row| !row[1].is_empty() && !row[2].is_empty()), "{rows:?}");
    for expected in [
        ["", "half", "full"],
        ["Deployments", "2500", "5000"],
        ["leader's CPU time until all are evaluated, median", "0.70 s", "0.70 s"],
        ["CPU time in each replay of a policy change", "0.50 s", "0.50 s"],
        ["admission during a replay, p50 / p99", "4.0 ms / 12.0 ms", "4.0 ms / 15.0 ms"],
        ["admission p99 during a replay, relative to rest", "1.20", "1.50"],
        ["admission p99 during a policy change, relative to that during a replay", "1.25", "1.00"],
        ["admission while pods end, p50 / p99", "4.0 ms / 15.0 ms", "4.0 ms / 15.0 ms"],
        ["without the observer: admission while pods end, p50 / p99", "4.0 ms / 12.0 ms", "4.0 ms / 15.0 ms"],
        ["admission p99 while pods end, relative to that without the observer", "1.25", "1.00"],
    ] {
        assert!(rows.iter().any(|row| row[..3] == expected), "{expected:?}: {rows:?}");
    }
}

#[test]
fn the_table_has_a_column_for_each_measured_size() {
    for (deployments, name) in [(2500, "half"), (5000, "full")] {
        let rows = rows(&report(vec![stage(deployments)]));
        assert_eq!(rows[0][..4], ["", name, "limit", "result"]);
        assert_eq!(rows[1][..2], ["Deployments".to_owned(), deployments.to_string()]);
    }
}

#[test]
fn a_report_is_complete_once_the_full_size_is_measured() {
    let mut report = Report::new(&[2500, 5000]);
    let is = |report: &Report, complete: bool, stages: usize| {
        let json = report.json();
        json["complete"] == complete && json["stages"].as_array().unwrap().len() == stages
    };
    assert!(is(&report, false, 0) && report.json()["ratio_admission_change"].is_null());
    report.stages.push(stage(2500));
    assert!(is(&report, false, 1));
    report.stages.push(stage(5000));
    assert!(is(&report, true, 2));
    let mut only_full = Report::new(&[5000]);
    only_full.stages.push(stage(5000));
    assert!(is(&only_full, true, 1));
}

const CHANGE: &str = "admission p99 during a policy change, relative to rest";
const PODS_END: &str = "admission p99 while a tenth of the pods end within a minute, relative to rest";

/// A stage in which the arms exceed the limit, with these multiples of their p99 for adieu.
fn busy(change: f64, pods_end: f64) -> Stage {
    let mut stage = stage(5000);
    stage.replay = latency(0.02);
    stage.admission.beside_change = latency(0.02 * change);
    stage.terminations.without_observer.beside_deletions = latency(0.05);
    stage.terminations.with_observer.beside_deletions = latency(0.05 * pods_end);
    stage
}

#[test]
fn a_limit_that_an_arm_misses_too_is_reported_and_does_not_fail() {
    let report = report(vec![stage(2500), busy(1.09, 1.09)]);
    assert!(report.verdict().is_ok());
    let stages = &report.json()["stages"];
    assert_eq!(stages[1]["missed"], json!([CHANGE, PODS_END]));
    assert_eq!(stages[1]["missedByArmToo"], json!([CHANGE, PODS_END]));
    assert_eq!(stages[0]["missedByArmToo"], json!([]));
    let rows = rows(&report);
    for (what, result) in
        [(CHANGE, "missed, by the replay too"), (PODS_END, "missed, by the arm without the observer too")]
    {
        assert!(rows.iter().any(|row| row[0] == what && row[4] == result), "{what}: {rows:?}");
    }
}

#[test]
fn an_arm_that_misses_a_limit_allows_adieu_a_tenth_more() {
    let said = verdict(vec![busy(1.11, 1.0)]);
    assert!(said.contains("to rest: 2.22, at most 1.5 is allowed, and the replay has 2.00"), "{said}");
    assert!(!said.contains(PODS_END), "{said}");
    let said = verdict(vec![busy(1.0, 1.11)]);
    assert!(
        said.contains("to rest: 5.55, at most 1.5 is allowed, and the arm without the observer"),
        "{said}"
    );
    assert!(!said.contains(CHANGE), "{said}");
    let slow = report(vec![busy(1.11, 1.0)]);
    assert_eq!(slow.json()["stages"][0]["missedByArmToo"], json!([PODS_END]));
    assert!(rows(&slow).iter().any(|row| row[0] == CHANGE && row[3] == "missed"));
}

#[test]
fn the_worst_outcome_of_all_sizes_is_shown() {
    let mut half = busy(2.0, 1.0);
    half.size = Size { deployments: 2500 };
    let rows = rows(&report(vec![half, busy(1.0, 1.0)]));
    assert!(rows.iter().any(|row| row[0] == CHANGE && row[4] == "missed"), "{rows:?}");
}

#[test]
fn the_p99s_of_the_arms_are_compared_and_not_their_multiples_of_the_minutes_at_rest() {
    let mut stage = busy(1.0, 2.0);
    // A disturbed minute at rest: its multiple is less than that of the arm without the observer.
    stage.terminations.with_observer.at_rest = latency(0.05);
    let Terminations { with_observer, without_observer, .. } = &stage.terminations;
    assert!(with_observer.ratio() < without_observer.ratio());
    assert!(verdict(vec![stage]).contains(PODS_END));
}

#[test]
fn the_report_has_the_figures_of_the_replay() {
    let mut slow = stage(2500);
    slow.replay = latency(0.03);
    let json = report(vec![slow, stage(5000)]).json();
    let is = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(is(&json["ratio_admission_change"], 1.5), "{json}");
    assert!(is(&json["ratio_admission_change_replay"], 3.0), "{json}");
    assert!(is(&json["ratio_admission_change_to_replay"], 1.25), "{json}");
    let of_full = &json["stages"][1];
    assert!(is(&of_full["replay"]["admissionRatioP99"], 1.2), "{of_full}");
    assert!(is(&of_full["replay"]["changeRatioP99"], 1.25), "{of_full}");
    assert!(is(&of_full["replay"]["cpuSeconds"], 0.5), "{of_full}");
    assert!(is(&of_full["evaluationCpuSeconds"], 0.7), "{of_full}");
}

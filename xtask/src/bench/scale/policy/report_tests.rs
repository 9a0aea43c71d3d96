use std::time::Duration;

use super::*;

fn stage(deployments: u32) -> Stage {
    let latency = |p99: f64| Percentiles { p50: 0.004, p90: 0.006, p99 };
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
            observed: f64::from(deployments),
            admission: latency(0.015),
            memory: 60.0 * MIB,
            took: Duration::from_mins(1),
            requests: [
                ("list terminationprofiles", 1),
                ("create terminationprofiles", 7),
                ("patch terminationprofiles", 9),
            ]
            .map(|(request, count)| (request.to_owned(), count))
            .into(),
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
            change(|stage| stage.terminations.admission.p99 = 0.016),
            "within a minute, relative to rest: 1.60, at most 1.5",
        ),
        (
            change(|stage| stage.terminations.observed = 4999.0),
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

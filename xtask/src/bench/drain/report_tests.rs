use serde_json::{Value, json};

use super::*;

fn phase(auto: u64, lost: &[u64]) -> Phase {
    let mut phase = Phase { auto, ..Phase::default() };
    for lost in lost {
        phase.add(Requests { sent: 1000, lost: *lost, not_sent: 0 });
    }
    phase
}

/// A way whose shortest drain is `shortest`, for which adieu chose `auto` after the calibration.
fn way(shortest: Option<u64>, auto: u64, before: &[u64], after: &[u64]) -> WayReport {
    WayReport {
        way: "traefik-ingress",
        shortest,
        is_confirmed: true,
        calibrated: auto,
        after: phase(auto, after),
        before: phase(10, before),
        findings: vec![],
    }
}

#[test]
fn the_chosen_drain_is_neither_too_short_nor_too_long() {
    for (shortest, auto, missed) in [
        (Some(2), 2, None),
        (Some(2), 3, None),
        (Some(2), 4, Some("more than 1.5 times the 2 s")),
        (Some(1), 2, Some("more than 1.5 times the 1 s")),
        (Some(20), 30, None),
        (Some(20), 31, Some("more than 1.5 times the 20 s")),
        (Some(3), 2, Some("less than the 3 s")),
        (Some(0), 0, None),
        (None, 60, None),
    ] {
        let found = way(shortest, auto, &[0], &[0; 10]).missed();
        match missed {
            Some(part) => {
                assert!(found.len() == 1 && found[0].contains(part), "{shortest:?} {auto}: {found:?}");
            }
            None => assert!(found.is_empty(), "{shortest:?} {auto}: {found:?}"),
        }
    }
}

#[test]
fn a_lost_request_before_or_after_the_calibration_is_missed() {
    for (before, after, [lost, when, rollouts]) in [
        ([0, 5], [0, 0], ["5", "before the calibration, with a drain of 10 s", "1"]),
        ([0, 0], [1, 2], ["3", "after the calibration, with a drain of 3 s", "2"]),
    ] {
        let ways = vec![way(Some(2), 3, &before, &after), way(Some(2), 3, &[0], &[0])];
        let error = Report { ways, failures: vec![] }.verdict().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("traefik-ingress: {lost} of 2000 requests were lost {when}, in {rollouts} of 2 rollouts")
        );
    }
}

#[test]
fn a_way_that_was_not_measured_is_an_error() {
    let failures = vec!["contour-envoy: no image".to_owned()];
    let report = Report { ways: vec![way(Some(2), 3, &[0], &[0])], failures };
    assert_eq!(report.verdict().unwrap_err().to_string(), "contour-envoy: no image");
    assert!(report.figures().markdown().contains("Missed: contour-envoy: no image."));
}

#[test]
fn the_report_has_the_keys_of_its_interface() {
    let report = Report { ways: vec![way(Some(2), 3, &[0], &[0, 1])], failures: vec![] };
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["ways"]);
    let way = &json["ways"][0];
    for (key, expected) in [
        ("way", json!("traefik-ingress")),
        ("shortest", json!(2)),
        ("calibrated", json!(3)),
        ("auto", json!(3)),
        ("lost", json!(1)),
        ("sent", json!(2000)),
        ("rollouts", json!(2)),
        ("lossless", json!(1)),
        ("before", json!({"auto": 10, "rollouts": 1, "lossless": 1, "sent": 1000, "lost": 0})),
    ] {
        assert_eq!(way[key], expected, "{key}: {way:#}");
    }
    assert_eq!(way["findings"], Value::Array(vec![]));
}

#[test]
fn a_row_has_the_drains_and_the_losses() {
    let mut unconfirmed = way(Some(4), 5, &[0], &[0]);
    unconfirmed.is_confirmed = false;
    let report = Report { ways: vec![way(Some(2), 3, &[0, 5], &[0]), unconfirmed], failures: vec![] };
    let markdown = report.figures().markdown();
    let lines = markdown.lines().filter(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split('|').map(str::trim).collect()).collect();
    let [.., first, second] = rows.as_slice() else { panic!("{markdown}") };
    let drains = ["traefik-ingress", "2 s", "3 s", "10 s", "3 s"];
    assert_eq!(first[1..6], drains);
    assert_eq!(first[6..9], ["5 of 2000", "0 of 1000", "1 of 1"]);
    assert_eq!(second[2], "at most 4 s");
}

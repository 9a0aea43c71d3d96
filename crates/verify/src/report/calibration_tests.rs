use std::time::Duration;

use super::*;
use crate::{
    calibration::{CalibrationReport, Observation, WayDescription, WayResult},
    verify::Requests,
};

fn way(exposure: &str, last_arrival_seconds: f64, lost: u64) -> WayResult {
    let seen = Observation {
        pod: "canary".to_owned(),
        last_arrival_seconds,
        is_cut: false,
        keeps_connections: false,
        lost,
    };
    let way = WayDescription {
        exposure: exposure.to_owned(),
        url: "http://10.0.0.1/".to_owned(),
        version: "Kubernetes v1.36.3".to_owned(),
    };
    let requests = Requests { sent: 5000, answered: 4999, lost: 1, not_sent: 0 };
    WayResult::of(way, requests, vec![seen; 20], Duration::from_mins(1))
}

fn example() -> CalibrationReport {
    CalibrationReport {
        namespace: "shop".to_owned(),
        kubernetes_version: "v1.36.3".to_owned(),
        time: "2026-01-31T12:00:00Z".to_owned(),
        rate: 50,
        quiet_seconds: 5.0,
        planned_terminations: 20,
        incomplete: None,
        ways: vec![way("cluster-ip", 0.8, 0), way("IngressClass/<b>", 1.5, 2)],
    }
}

#[test]
fn the_table_of_a_calibration_has_the_drain_of_each_way() {
    let mut report = example();
    let text = calibration_table(&report);
    for part in [
        "Kubernetes v1.36.3, 2026-01-31T12:00:00Z: 50 requests/s through each way",
        "│ cluster-ip       ┆ 20           ┆ 0.80 s ┆ 0.80 s ┆ 0.80 s ┆ 1 s   ┆ 5000     ┆ 0    │",
        "    drain 2 s: 1.50 s × 1.16, rounded up\n    95 % sure that at most 14 % of terminations",
        "40 requests were lost in 20 of 20 terminations, although every canary served",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(report.is_complete());
    report.incomplete = Some("the limit of 60 s was reached".to_owned());
    assert!(!report.is_complete());
    let text = calibration_table(&report);
    assert!(text.ends_with("The run is incomplete: the limit of 60 s was reached\n"), "{text}");
}

#[test]
fn the_page_of_a_calibration_is_self_contained_and_escapes_names() {
    let page = calibration_page(&example()).unwrap();
    assert_eq!(page.matches("<svg role=\"img\" aria-label=\"").count(), 1);
    assert!(page.contains("IngressClass/&lt;b&gt;") && !page.contains("<b>"), "{page}");
    assert!(page.contains("95 % sure that at most 14 %"), "{page}");
    for outside in ["src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let empty = CalibrationReport { ways: vec![], ..example() };
    calibration_page(&empty).unwrap();
}

//! Drain profiles of what was measured.

use adieu_core::api::{DrainMeasurement, DrainProfile, limits};

use super::{report::CalibrationReport, way_result::WayResult};

/// The longest version of a profile, in bytes.
const MAX_VERSION: usize = 64;

/// The drain profiles of the ways whose drain is known.
#[must_use]
pub fn profiles(report: &CalibrationReport) -> Vec<DrainProfile> {
    report.ways.iter().filter_map(|way| profile(way, &report.time)).collect()
}

fn profile(result: &WayResult, time: &str) -> Option<DrainProfile> {
    let WayResult { p50_seconds: p50, p99_seconds: p99, max_seconds: max, .. } = result;
    let version = printable(&result.way.version, MAX_VERSION);
    Some(DrainProfile {
        exposure: result.way.exposure.clone(),
        seconds: result.drain_seconds?.min(limits::DRAIN_SECONDS),
        source: Some(format!(
            "adieu calibrate: last arrival p50 {p50:.2} s, p99 {p99:.2} s, max {max:.2} s after SIGTERM"
        )),
        measured: Some(DrainMeasurement {
            time: time.to_owned(),
            terminations: i64::from(result.terminations),
            version: (!version.is_empty()).then_some(version),
        }),
    })
}

/// The printable ASCII characters of a text, at most `max` of them.
fn printable(text: &str, max: usize) -> String {
    let mut text: String = text.chars().filter(|character| matches!(character, ' '..='~')).collect();
    text.truncate(max);
    text
}

/// The profiles of a policy after those of `measured` have replaced those of the same exposures.
#[must_use]
pub fn merge_profiles(mut present: Vec<DrainProfile>, measured: Vec<DrainProfile>) -> Vec<DrainProfile> {
    for profile in measured {
        match present.iter_mut().find(|known| known.exposure == profile.exposure) {
            Some(known) => *known = profile,
            None => present.push(profile),
        }
    }
    present
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        calibration::{Observation, WayDescription},
        verify::Requests,
    };

    fn measured(exposure: &str, last_arrival_seconds: f64, is_cut: bool) -> WayResult {
        let seen = Observation {
            pod: "canary".to_owned(),
            last_arrival_seconds,
            is_cut,
            keeps_connections: false,
            lost: 0,
        };
        let way = WayDescription {
            exposure: exposure.to_owned(),
            url: "http://10.0.0.1/".to_owned(),
            version: "traefik:v3.6.0, Kubernetes v1.36.3\n".to_owned(),
        };
        WayResult::of(way, Requests::default(), vec![seen; 20], Duration::from_mins(1))
    }

    #[test]
    fn ways_with_a_known_drain_become_profiles() {
        let report = CalibrationReport {
            time: "2026-01-31T12:00:00Z".to_owned(),
            ways: vec![measured("IngressClass/traefik", 1.5, false), measured("node-port", 59.0, true)],
            ..CalibrationReport::default()
        };
        let expected = json!([{
            "exposure": "IngressClass/traefik",
            "seconds": 2,
            "source": "adieu calibrate: last arrival p50 1.50 s, p99 1.50 s, max 1.50 s after SIGTERM",
            "measured": {
                "time": "2026-01-31T12:00:00Z", "terminations": 20, "version": "traefik:v3.6.0, Kubernetes v1.36.3",
            },
        }]);
        assert_eq!(json!(profiles(&report)), expected);
    }

    #[test]
    fn a_profile_replaces_only_that_of_its_exposure() {
        let profile = |exposure: &str, seconds: i64| DrainProfile {
            exposure: exposure.to_owned(),
            seconds,
            source: None,
            measured: None,
        };
        let present = vec![profile("cluster-ip", 10), profile("IngressClass/nginx", 30)];
        let merged = merge_profiles(present, vec![profile("IngressClass/nginx", 3), profile("node-port", 2)]);
        let expected = [profile("cluster-ip", 10), profile("IngressClass/nginx", 3), profile("node-port", 2)];
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_version_is_printable_and_short() {
        assert_eq!(printable("v1.2\u{7f}é\n3", MAX_VERSION), "v1.23");
        assert_eq!(printable(&"v".repeat(99), MAX_VERSION).len(), MAX_VERSION);
    }
}

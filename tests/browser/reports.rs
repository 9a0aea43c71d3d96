//! Examples of what adieu writes for browsers.

use std::{process::Command, time::Duration};

use adieu_verify::{
    calibration::{CalibrationReport, Observation, WayDescription, WayResult},
    report::{calibration_page, page},
    verify::{Cause, Outcome, PodTimeline, Recording, Requests, RunDescription, Sample, VerificationReport},
};

/// All of them, each with the name of a file: pages of few and of many pods and ways, and a picture.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("verify-1-pod.html", verification(1)),
        ("verify-20-pods.html", verification(20)),
        ("calibrate-1-way.html", calibration(1)),
        ("calibrate-9-ways.html", calibration(9)),
        ("explain.svg", explanation()),
    ]
}

/// Half a minute with answers of some milliseconds, refused connections and requests that timed out.
fn verification(pods: u64) -> String {
    let timelines = (0..pods).map(timeline).collect();
    let disruption = Some((Duration::from_secs(3), Duration::from_secs(24)));
    let recording = Recording::new((0..600).map(sample).collect(), timelines, disruption);
    let run = RunDescription {
        workload: "Deployment/web".to_owned(),
        namespace: "shop".to_owned(),
        disruption: "restart".to_owned(),
        url: "http://web.shop.svc:8080/".to_owned(),
        rate: 20,
    };
    page(&VerificationReport::of(run, &recording), &recording).unwrap()
}

fn sample(number: u64) -> Sample {
    let (outcome, took) = match number {
        120..125 => (Outcome::Lost(Cause::Refused), 1),
        300..303 => (Outcome::Lost(Cause::TimedOut), 10_000),
        _ => (Outcome::Answered(200), 2 + number * 7 % 30),
    };
    Sample {
        due: Duration::from_millis(number * 50),
        took: Duration::from_millis(took),
        connecting: Duration::from_millis(1),
        outcome,
        pod: None,
        peer: None,
    }
}

/// Pods that terminate one after the other, and those that replace them.
fn timeline(number: u64) -> PodTimeline {
    let seconds = |seconds| Duration::from_secs(5 + number / 2 + seconds);
    let name = format!("web-6d5f7c9b8-{number}");
    if number % 2 == 1 {
        let first_seen = Duration::from_secs(3 + number / 2);
        return PodTimeline { name, first_seen, ready: Some(seconds(0)), ..PodTimeline::default() };
    }
    PodTimeline {
        name,
        is_preexisting: true,
        drain_seconds: Some(5),
        ready: Some(Duration::ZERO),
        terminating: Some(seconds(0)),
        withdrawn: Some(seconds(1)),
        gone: Some(seconds(7)),
        ..PodTimeline::default()
    }
}

fn calibration(ways: u32) -> String {
    calibration_page(&CalibrationReport {
        namespace: "shop".to_owned(),
        kubernetes_version: "v1.36.3".to_owned(),
        time: "2026-01-31T12:00:00Z".to_owned(),
        rate: 50,
        quiet_seconds: 5.0,
        planned_terminations: 20,
        incomplete: None,
        ways: (0..ways).map(way).collect(),
    })
    .unwrap()
}

fn way(number: u32) -> WayResult {
    let observations = (0..20).map(|termination: u32| Observation {
        pod: format!("canary-{termination}"),
        last_arrival_seconds: f64::from(number) + f64::from(termination) * 0.05,
        is_cut: false,
        keeps_connections: false,
        lost: u64::from(termination / 19),
    });
    let way = WayDescription {
        exposure: format!("IngressClass/nginx-{number}"),
        url: "http://10.0.0.1/".to_owned(),
        version: "Kubernetes v1.36.3".to_owned(),
    };
    WayResult::of(way, Requests::default(), observations.collect(), Duration::from_mins(1))
}

fn explanation() -> String {
    let mut adieu = Command::new(env!("CARGO_BIN_EXE_adieu"));
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/shop/storefront.yaml");
    adieu.args(["explain", "-f", manifests, "deployment/storefront", "-o", "svg"]);
    String::from_utf8(adieu.output().unwrap().stdout).unwrap()
}

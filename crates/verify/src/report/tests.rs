use std::time::Duration;

use super::*;
use crate::verify::{
    Cause, ConnectionInput, ConnectionKind, ConnectionReport, Ending, HeldConnection, IdleOutcome, IdleProbe,
    LoadBalancer, Observation, Outcome, PodTimeline, Recording, RunDescription, Sample, VerificationReport,
};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A pod that terminates after two seconds, and ten requests a second, of which those of half a second are lost.
fn example() -> (VerificationReport, Recording) {
    let samples = (0..50).map(|number| {
        let due = number * 100;
        let lost = (2100..2600).contains(&due);
        Sample {
            due: at(due),
            took: at(if lost { 1 } else { 4 }),
            connecting: at(1),
            outcome: if lost { Outcome::Lost(Cause::Refused) } else { Outcome::Answered(200) },
            pod: (!lost).then(|| if due < 2100 { "old".to_owned() } else { "<new>".to_owned() }),
            peer: None,
        }
    });
    let old = PodTimeline {
        name: "old".to_owned(),
        is_preexisting: true,
        drain_seconds: Some(0),
        ready: Some(at(0)),
        terminating: Some(at(2000)),
        withdrawn: Some(at(2300)),
        gone: Some(at(2500)),
        ..PodTimeline::default()
    };
    let new = PodTimeline {
        name: "<new>".to_owned(),
        first_seen: at(500),
        ready: Some(at(1500)),
        ..PodTimeline::default()
    };
    let recording = Recording::new(samples.collect(), vec![old, new], Some((at(500), at(3000))));
    let run = RunDescription {
        workload: "Deployment/web".to_owned(),
        namespace: "shop".to_owned(),
        disruption: "restart".to_owned(),
        url: "http://web/".to_owned(),
        rate: 10,
    };
    (VerificationReport::of(run, &recording), recording)
}

#[test]
fn the_table_lists_lost_requests_with_time_and_pod() {
    let text = table(&example().0);
    for part in [
        "Deployment/web in shop, restart at 0.5 s, complete after 2.5 s: 10 requests/s to http://web/ for 4.9 s",
        "requests  50 sent, 45 answered, 5 lost",
        "causes    5 connection refused",
        "p50 4.0 ms, p90 4.0 ms",
        "worst     at 2.10 s: 5 of 10 requests that were due within one second were lost, while old (for 0.1 s) was terminating",
        "│ old            ┆ 2.00 s ┆ +0.30 s            ┆ +0.00 s      ┆ +0.50 s ┆ 21       ┆ 0    ┆ 5 ",
        "   2.10 s  connection refused after 0.00 s; perhaps at old +0.10 s",
        "drain     1 s would have been enough, an upper bound for this run: 5 lost requests cannot be attributed to a single pod",
        "the pods have no drain: annotate the workload with adieu.dev/graceful=true",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn an_incomplete_run_is_reported() {
    let mut report = example().0;
    report.incomplete = Some("it took too long".to_owned());
    assert!(table(&report).ends_with("The run is incomplete: it took too long\n"));
}

#[test]
fn the_page_is_self_contained_and_escapes_names() {
    let (report, recording) = example();
    let page = page(&report, &recording).unwrap();
    assert_eq!(page.matches("<svg role=\"img\" aria-label=\"").count(), 3);
    assert!(page.contains("<strong>5 of 50 requests were lost</strong>"), "{page}");
    assert!(page.contains("&lt;new&gt;") && !page.contains("<new>"));
    for outside in ["src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn connections_are_reported_with_findings_and_remedies() {
    let (mut report, recording) = example();
    let probe =
        IdleProbe { idle: at(8000), outcome: IdleOutcome::Closed(at(5000)), advertised_seconds: Some(5) };
    let held = HeldConnection {
        kind: ConnectionKind::WebSocket,
        opened: at(0),
        pod: Some("old".to_owned()),
        peer: None,
        has_several_pods: false,
        announced: None,
        ended: Some((at(2400), Ending::Cut)),
    };
    report.connections = Some(ConnectionReport::of(ConnectionInput {
        observations: &[Observation::Idle(probe), Observation::Held(held)],
        timelines: &recording.timelines,
        load_balancers: vec![LoadBalancer {
            name: "Ingress shop/<web>".to_owned(),
            idle_seconds: 60.0,
            source: "the default".to_owned(),
        }],
        ended: at(5000),
    }));
    let text = table(&report);
    for part in [
        "\n  idle      the server closes idle connections after 5.0 s, and announces 5 s\n",
        "\n            Ingress shop/<web> keeps them for 60 s (the default)\n",
        "\n  kept      WebSocket: 1 cut, 0.4 s after SIGTERM\n",
        "\n  problem   the server closes idle connections after 5.0 s, but Ingress shop/<web> keeps them",
        "\n            Node.js  server.keepAliveTimeout = 65000",
        "\n  problem   WebSocket: 1 connection cut, 0.4 s after SIGTERM: clients lose",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let page = page(&report, &recording).unwrap();
    for part in ["Connections that stay open", "Ingress shop/&lt;web&gt;", "<strong>problem: </strong>"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}

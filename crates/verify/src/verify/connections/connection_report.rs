//! The report about connections.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    findings::{ConnectionFinding, LoadBalancer, of_keep_alive, of_not_opened, of_proxied, of_termination},
    keep_alive::KeepAlive,
    observation::{ConnectionKind, HeldConnection, Observation},
    termination::{ConnectionsOfKind, by_kind, proxied},
};
use crate::verify::timelines::PodTimeline;

/// How the server treats connections that stay open.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionReport {
    /// The keep-alive timeout, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// The load balancers whose idle timeout is known.
    pub load_balancers: Vec<LoadBalancer>,
    /// The connections that ended while their pod terminated.
    pub terminations: Vec<ConnectionsOfKind>,
    /// The findings, problems first.
    pub findings: Vec<ConnectionFinding>,
}

/// What a report is made from, in times from one origin.
#[derive(Clone, Debug)]
pub struct ConnectionInput<'a> {
    /// The observations.
    pub observations: &'a [Observation],
    /// The workload's pods.
    pub timelines: &'a [PodTimeline],
    /// The load balancers whose idle timeout is known.
    pub load_balancers: Vec<LoadBalancer>,
    /// The end of the run.
    pub ended: Duration,
}

impl ConnectionReport {
    /// Evaluates observations.
    #[must_use]
    pub fn of(input: ConnectionInput<'_>) -> Self {
        let ConnectionInput { observations, timelines, load_balancers, ended } = input;
        let (mut probes, mut held) = (Vec::new(), Vec::<&HeldConnection>::new());
        let mut not_opened = BTreeMap::<ConnectionKind, &str>::new();
        for observation in observations {
            match observation {
                Observation::Idle(probe) => probes.push(probe),
                Observation::Held(connection) => held.push(connection),
                Observation::NotOpened { kind, reason } => {
                    not_opened.entry(*kind).or_insert(reason);
                }
            }
        }
        not_opened.retain(|kind, _| !held.iter().any(|connection| connection.kind == *kind));
        let keep_alive = KeepAlive::of(probes);
        let terminations = by_kind(&held, timelines);
        let mut findings = Vec::new();
        if let Some(keep_alive) = &keep_alive {
            findings.extend(of_keep_alive(keep_alive, &load_balancers));
        }
        findings.extend(terminations.iter().filter_map(of_termination));
        findings.extend(not_opened.into_iter().map(|(kind, reason)| of_not_opened(kind, reason)));
        findings.extend(of_proxied(proxied(&held, timelines, ended)));
        findings.sort_by_key(|finding| !finding.is_problem);
        Self { keep_alive, load_balancers, terminations, findings }
    }

    /// Whether a finding loses requests, streams or messages.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::connections::{Ending, IdleOutcome, IdleProbe, Rule};

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn problems_come_first_and_kinds_that_were_opened_later_are_no_finding() {
        let held = |kind, how| {
            Observation::Held(HeldConnection {
                kind,
                opened: at(0),
                pod: Some("web-1".to_owned()),
                peer: None,
                has_several_pods: false,
                announced: None,
                ended: Some((at(5000), how)),
            })
        };
        let not_opened = |kind| Observation::NotOpened { kind, reason: "status 404".to_owned() };
        let probe =
            IdleProbe { idle: at(8000), outcome: IdleOutcome::Closed(at(5000)), advertised_seconds: None };
        let observations = [
            Observation::Idle(probe),
            not_opened(ConnectionKind::Busy),
            not_opened(ConnectionKind::WebSocket),
            held(ConnectionKind::Busy, Ending::Closed),
            held(ConnectionKind::Grpc, Ending::Cut),
        ];
        let pod = PodTimeline {
            name: "web-1".to_owned(),
            is_preexisting: true,
            drain_seconds: Some(0),
            terminating: Some(at(4900)),
            gone: Some(at(5100)),
            ..PodTimeline::default()
        };
        let report = ConnectionReport::of(ConnectionInput {
            observations: &observations,
            timelines: &[pod],
            load_balancers: vec![],
            ended: at(6000),
        });
        let findings = report.findings.iter();
        let rules: Vec<_> = findings.map(|finding| (finding.rule, finding.is_problem)).collect();
        assert_eq!(
            rules,
            [
                (Rule::StreamsCut, true),
                (Rule::NotOpened, true),
                (Rule::KeepAliveNotCompared, false),
                (Rule::NotAnnounced, false)
            ]
        );
        assert!(report.has_problems());
        assert_eq!(report.terminations.len(), 2);
    }
}

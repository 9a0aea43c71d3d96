//! Findings about connections, each with its remedies.

use serde::Serialize;

use super::{
    keep_alive::{IdleEnd, KeepAlive},
    observation::ConnectionKind,
    remedies::{self, Remedy},
    termination::{Behavior, ConnectionsOfKind, TimeBase},
};

/// How much longer than a load balancer a server should keep idle connections, in seconds.
const RESERVE: f64 = 5.0;
/// The idle timeout of an AWS Application Load Balancer by default, in seconds.
const USUAL_LOAD_BALANCER: f64 = 60.0;

/// How long a load balancer or proxy keeps idle connections to the pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Its name, such as `Ingress shop/web`.
    pub name: String,
    /// Its idle timeout.
    pub idle_seconds: f64,
    /// Where that is from.
    pub source: String,
}

/// A finding about connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionFinding {
    /// The rule.
    pub rule: Rule,
    /// Whether requests, streams or messages are lost by it.
    pub is_problem: bool,
    /// What was found, in a sentence.
    pub message: String,
    /// What to change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The server ends idle connections before a load balancer does.
    KeepAliveTooShort,
    /// No load balancer is known to compare with.
    KeepAliveNotCompared,
    /// The tested idle times are shorter than a load balancer's.
    KeepAliveNotTested,
    /// Idle connections are dropped without notice.
    IdleConnectionsDropped,
    /// The server keeps no connections.
    ConnectionsNotKept,
    /// Connections end without an announcement, or while a request is in progress.
    NotAnnounced,
    /// Streams or `WebSocket` connections are cut.
    StreamsCut,
    /// A proxy holds the connections to the pods.
    Proxied,
    /// Connections of a requested kind could not be opened.
    NotOpened,
}

impl ConnectionFinding {
    fn new(rule: Rule, is_problem: bool, message: String, remedies: Vec<Remedy>) -> Self {
        Self { rule, is_problem, message, remedies }
    }
}

/// The findings about the keep-alive timeout.
pub(super) fn of_keep_alive(
    keep_alive: &KeepAlive,
    load_balancers: &[LoadBalancer],
) -> Vec<ConnectionFinding> {
    if keep_alive.failed == keep_alive.connections {
        return vec![];
    }
    if keep_alive.keeps_none() {
        let message =
            "the server ends each connection with its first response: each request needs a new connection";
        return vec![ConnectionFinding::new(Rule::ConnectionsNotKept, false, message.to_owned(), vec![])];
    }
    if keep_alive.ended_by == Some(IdleEnd::Dropped) {
        let message = format!(
            "{}: a firewall or a NAT between the client and the server forgets them, so use a shorter idle timeout at the \
             client, or TCP keep-alive",
            keep_alive.sentence()
        );
        return vec![ConnectionFinding::new(Rule::IdleConnectionsDropped, true, message, vec![])];
    }
    if load_balancers.is_empty() {
        return keep_alive.ends_after_seconds.map(not_compared).into_iter().collect();
    }
    load_balancers.iter().filter_map(|balancer| compared(keep_alive, balancer)).collect()
}

fn not_compared(after: f64) -> ConnectionFinding {
    let message = format!(
        "the server ends idle connections after {after:.1} s: a load balancer that keeps them longer (an AWS Application \
         Load Balancer {USUAL_LOAD_BALANCER:.0} s by default) loses requests that it sends in that moment; use --lb-idle \
         to compare"
    );
    let is_short = after <= USUAL_LOAD_BALANCER;
    let remedies = if is_short { remedies::keep_alive(longer_than(USUAL_LOAD_BALANCER)) } else { vec![] };
    ConnectionFinding::new(Rule::KeepAliveNotCompared, false, message, remedies)
}

fn compared(keep_alive: &KeepAlive, balancer: &LoadBalancer) -> Option<ConnectionFinding> {
    let LoadBalancer { name, idle_seconds, source } = balancer;
    match keep_alive.ends_after_seconds {
        Some(after) if after <= *idle_seconds => {
            let ends = if keep_alive.ended_by == Some(IdleEnd::Reset) { "resets" } else { "closes" };
            let message = format!(
                "the server {ends} idle connections after {after:.1} s, but {name} keeps them for {idle_seconds:.0} s \
                 ({source}): requests that it sends in the moment of the end are lost, as status 502, at any time"
            );
            let remedies = remedies::keep_alive(longer_than(*idle_seconds));
            Some(ConnectionFinding::new(Rule::KeepAliveTooShort, true, message, remedies))
        }
        None if keep_alive.limit_seconds <= *idle_seconds => {
            let message = format!(
                "{name} keeps idle connections for {idle_seconds:.0} s ({source}), but only {:.1} s were tested: use \
                 --idle-limit {}s",
                keep_alive.limit_seconds,
                longer_than(*idle_seconds)
            );
            Some(ConnectionFinding::new(Rule::KeepAliveNotTested, false, message, vec![]))
        }
        _ => None,
    }
}

/// A keep-alive timeout in whole seconds for a server behind a load balancer with this one.
fn longer_than(idle_seconds: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds, not negative")]
    let seconds = (idle_seconds + RESERVE).ceil() as u64;
    seconds
}

/// The findings about connections that ended while their pod terminated.
pub(super) fn of_termination(ended: &ConnectionsOfKind) -> Option<ConnectionFinding> {
    let ConnectionsOfKind { kind, behavior, connections, .. } = ended;
    let (consequence, is_problem) = consequence(*kind, *behavior)?;
    let noun = if *connections == 1 { "connection" } else { "connections" };
    let (ended_by, when) = (behavior.text(*kind), ended.when());
    let message = format!("{kind}: {connections} {noun} {ended_by}, {when}: {consequence}");
    let remedies = match kind {
        ConnectionKind::Busy | ConnectionKind::Idle => remedies::http1(),
        ConnectionKind::Http2 => remedies::http2(),
        ConnectionKind::Grpc => remedies::grpc(),
        ConnectionKind::WebSocket => remedies::web_socket(),
    };
    let rule = if kind.is_stream() { Rule::StreamsCut } else { Rule::NotAnnounced };
    Some(ConnectionFinding::new(rule, is_problem, message, remedies))
}

/// What a behavior causes, and whether something is lost by it; `None` if it is as it should be.
fn consequence(kind: ConnectionKind, behavior: Behavior) -> Option<(&'static str, bool)> {
    let found = match behavior {
        Behavior::Announced => return None,
        Behavior::Cut | Behavior::AnnouncedAndCut if kind.is_stream() => {
            ("clients lose what was in progress, whatever the drain is", true)
        }
        Behavior::Cut | Behavior::AnnouncedAndCut => ("the requests in progress were lost", true),
        Behavior::Reset => ("a request that is sent in that moment is lost", true),
        Behavior::ServedUntilExit if kind == ConnectionKind::Idle => {
            ("the server closes no idle connections at SIGTERM", false)
        }
        Behavior::ServedUntilExit => {
            ("clients send requests until the process exits, and those in progress then are lost", true)
        }
        // HTTP/1.1 has no other way to end an idle connection.
        Behavior::Closed if kind == ConnectionKind::Idle => return None,
        Behavior::Closed => ("a client must retry a request that it sends in that moment", false),
    };
    Some(found)
}

/// The finding about connections that a proxy holds.
pub(super) fn of_proxied(connections: usize) -> Option<ConnectionFinding> {
    let message = format!(
        "a proxy answers at the URL ({connections} connections reached several pods or outlived their pod), so these \
         figures are the proxy's: use a URL that leads to the pods, such as a NodePort, or that of a Service with \
         --in-cluster"
    );
    (connections > 0).then(|| ConnectionFinding::new(Rule::Proxied, false, message, vec![]))
}

/// The finding about a kind of connection that could not be opened.
pub(super) fn of_not_opened(kind: ConnectionKind, reason: &str) -> ConnectionFinding {
    let message = format!("{kind}: no connection was opened: {reason}");
    ConnectionFinding::new(Rule::NotOpened, kind.is_stream(), message, vec![])
}

impl ConnectionsOfKind {
    /// When they ended, in words.
    #[must_use]
    pub fn when(&self) -> String {
        let base = match self.since {
            TimeBase::Sigterm => "SIGTERM",
            TimeBase::Termination => "the start of the termination",
        };
        let [first, last] = [self.first_seconds, self.last_seconds].map(|seconds| format!("{seconds:.1}"));
        if first == last {
            format!("{first} s after {base}")
        } else {
            format!("{first} to {last} s after {base}")
        }
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;

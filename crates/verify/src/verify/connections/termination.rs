//! How connections end when their pod terminates.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::observation::{ConnectionKind, Ending, HeldConnection};
use crate::verify::timelines::PodTimeline;

/// How much later than the kubelet the watch may report a termination.
const WATCH_LATENCY: f64 = 0.5;
/// Connections that are closed within this time after SIGTERM are closed because of it.
const PROMPT: f64 = 2.5;
/// A connection that is open for so much longer than its pod exists isn't one to the pod.
const OUTLIVES: Duration = Duration::from_secs(5);

/// How connections of one kind ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsOfKind {
    /// Their kind.
    pub kind: ConnectionKind,
    /// How they ended.
    pub behavior: Behavior,
    /// Their number.
    pub connections: usize,
    /// Their pods.
    pub pods: Vec<String>,
    /// What the times count from.
    pub since: TimeBase,
    /// When the first one ended, or was announced to end, in seconds; negative if that was earlier.
    pub first_seconds: f64,
    /// When the last one did.
    pub last_seconds: f64,
}

/// What connections are grouped by.
type Key = (ConnectionKind, Behavior, TimeBase);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Behavior {
    /// The server announced the end, and no request or stream was lost.
    Announced,
    /// The server announced the end, and then ended it while a request or a stream was in progress.
    AnnouncedAndCut,
    /// The server closed it between requests at SIGTERM.
    Closed,
    /// The server served it without an announcement, until it closed it long after SIGTERM.
    ServedUntilExit,
    /// The server reset it between requests.
    Reset,
    /// It ended while a request or a stream was in progress.
    Cut,
}

/// What times count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TimeBase {
    /// SIGTERM: the start of the termination and the pod's drain.
    Sigterm,
    /// The start of the termination: the pod's drain is unknown.
    Termination,
}

impl Behavior {
    /// It in a few words.
    #[must_use]
    pub fn text(self, kind: ConnectionKind) -> &'static str {
        match (self, kind) {
            (Self::Announced, ConnectionKind::Busy | ConnectionKind::Idle) => "ended by Connection: close",
            (Self::Announced, ConnectionKind::Http2) => "ended by GOAWAY",
            (Self::Announced, ConnectionKind::Grpc) => "ended with GOAWAY or a status",
            (Self::Announced, ConnectionKind::WebSocket) => "ended with a close frame",
            (Self::AnnouncedAndCut, _) => "announced to end, and then cut",
            (Self::Closed, _) => "closed between requests",
            (Self::ServedUntilExit, _) => "served without an announcement until the process exited",
            (Self::Reset, _) => "reset",
            (Self::Cut, _) => "cut",
        }
    }
}

/// The connections that ended while their pod terminated, by kind and behavior.
pub(super) fn by_kind(held: &[&HeldConnection], timelines: &[PodTimeline]) -> Vec<ConnectionsOfKind> {
    let mut groups: BTreeMap<Key, (Vec<f64>, BTreeSet<&str>)> = BTreeMap::new();
    for connection in held {
        let Some((at, timeline)) = termination(connection, timelines) else { continue };
        let after = timeline.terminating_for(at).unwrap_or_default();
        let drain = timeline.drain_seconds.and_then(|drain| u32::try_from(drain).ok());
        let (since, after) = match drain {
            Some(drain) => (TimeBase::Sigterm, after - f64::from(drain)),
            None => (TimeBase::Termination, after),
        };
        if connection.kind == ConnectionKind::Idle && since == TimeBase::Sigterm && after < -WATCH_LATENCY {
            // It was closed because it was idle.
            continue;
        }
        let key = (connection.kind, behavior(connection, since, after), since);
        let (times, pods) = groups.entry(key).or_default();
        times.push(after);
        pods.insert(timeline.name.as_str());
    }
    groups.into_iter().map(|(key, (times, pods))| group(key, &times, &pods)).collect()
}

fn group((kind, behavior, since): Key, times: &[f64], pods: &BTreeSet<&str>) -> ConnectionsOfKind {
    ConnectionsOfKind {
        kind,
        behavior,
        connections: times.len(),
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        since,
        first_seconds: times.iter().copied().fold(f64::INFINITY, f64::min),
        last_seconds: times.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

/// How many connections are those of a proxy: they reached several pods, or outlived their pod. `until` is the end of the
/// run.
pub(super) fn proxied(held: &[&HeldConnection], timelines: &[PodTimeline], until: Duration) -> usize {
    let outlives = |connection: &HeldConnection| {
        let gone = known_pod(connection, timelines).and_then(|timeline| timeline.gone);
        let ended = connection.ended.map_or(until, |(at, _)| at);
        gone.is_some_and(|gone| connection.opened < gone && ended > gone + OUTLIVES)
    };
    held.iter().filter(|connection| connection.has_several_pods || outlives(connection)).count()
}

fn behavior(connection: &HeldConnection, since: TimeBase, after: f64) -> Behavior {
    let is_announced = connection.announced.is_some();
    match connection.ended {
        Some((_, Ending::Cut)) if is_announced => Behavior::AnnouncedAndCut,
        Some((_, Ending::Cut)) => Behavior::Cut,
        _ if is_announced => Behavior::Announced,
        Some((_, Ending::Reset)) => Behavior::Reset,
        // The server completed the stream.
        _ if connection.kind.is_stream() => Behavior::Announced,
        _ if since == TimeBase::Sigterm && after > PROMPT => Behavior::ServedUntilExit,
        _ => Behavior::Closed,
    }
}

/// When the connection was announced to end or ended, and its pod if that was terminating then.
fn termination<'a>(
    connection: &HeldConnection,
    timelines: &'a [PodTimeline],
) -> Option<(Duration, &'a PodTimeline)> {
    let at = connection.announced.or_else(|| Some(connection.ended?.0))?;
    let terminates = |timeline: &PodTimeline| {
        timeline.terminating_for(at).is_some_and(|after| after >= -WATCH_LATENCY)
            && timeline.gone.is_none_or(|gone| gone >= connection.opened)
    };
    if let Some(timeline) = known_pod(connection, timelines) {
        return terminates(timeline).then_some((at, timeline));
    }
    if connection.pod.is_some() {
        return None;
    }
    // Its pod is unknown: of those that are terminating, the one whose termination began first.
    let is_left = |timeline: &PodTimeline| timeline.gone.is_none_or(|gone| gone + OUTLIVES >= at);
    let terminating = timelines.iter().filter(|timeline| terminates(timeline) && is_left(timeline));
    terminating.min_by_key(|timeline| timeline.terminating).map(|timeline| (at, timeline))
}

/// The pod that its responses name, or whose address it has: the last one before it ended.
fn known_pod<'a>(connection: &HeldConnection, timelines: &'a [PodTimeline]) -> Option<&'a PodTimeline> {
    let ended = connection.ended.map_or(Duration::MAX, |(at, _)| at);
    let matches = |timeline: &&PodTimeline| match &connection.pod {
        Some(pod) => timeline.name == *pod,
        None => connection.peer.is_some() && timeline.ip == connection.peer,
    };
    let exists = |timeline: &&PodTimeline| timeline.is_preexisting || timeline.first_seen <= ended;
    timelines.iter().rev().filter(exists).find(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A pod that terminates from 10 s to 20 s, with a drain of 5 s.
    fn pod() -> PodTimeline {
        PodTimeline {
            name: "web-1".to_owned(),
            is_preexisting: true,
            drain_seconds: Some(5),
            terminating: Some(at(10_000)),
            gone: Some(at(20_000)),
            ..PodTimeline::default()
        }
    }

    fn held(kind: ConnectionKind, ended: Option<(u64, Ending)>) -> HeldConnection {
        HeldConnection {
            kind,
            opened: at(1000),
            pod: Some("web-1".to_owned()),
            peer: None,
            has_several_pods: false,
            announced: None,
            ended: ended.map(|(millis, how)| (at(millis), how)),
        }
    }

    fn only(connection: &HeldConnection, timelines: &[PodTimeline]) -> Option<(Behavior, TimeBase, f64)> {
        let found = by_kind(&[connection], timelines);
        found.first().map(|group| (group.behavior, group.since, group.first_seconds))
    }

    #[test]
    fn the_behavior_follows_from_the_end_and_its_time_after_sigterm() {
        use Behavior::{Announced, AnnouncedAndCut, Closed, Cut, Reset, ServedUntilExit};
        use ConnectionKind::{Busy, Grpc, Http2, Idle, WebSocket};
        for (kind, announced, ended, expected, after) in [
            (Busy, Some(15_200), (15_300, Ending::Closed), Announced, 0.2),
            (Busy, None, (15_200, Ending::Closed), Closed, 0.2),
            (Idle, None, (18_000, Ending::Closed), ServedUntilExit, 3.0),
            (Idle, None, (15_200, Ending::Reset), Reset, 0.2),
            (Busy, None, (18_000, Ending::Cut), Cut, 3.0),
            (Http2, Some(15_000), (15_100, Ending::Closed), Announced, 0.0),
            (Http2, None, (12_000, Ending::Closed), Closed, -3.0),
            (Grpc, None, (15_500, Ending::Closed), Announced, 0.5),
            (Grpc, Some(15_500), (19_000, Ending::Cut), AnnouncedAndCut, 0.5),
            (WebSocket, Some(15_100), (15_200, Ending::Closed), Announced, 0.1),
            (WebSocket, None, (19_000, Ending::Cut), Cut, 4.0),
        ] {
            let connection = HeldConnection { announced: announced.map(at), ..held(kind, Some(ended)) };
            let (behavior, since, first) = only(&connection, &[pod()]).unwrap();
            assert_eq!((behavior, since), (expected, TimeBase::Sigterm), "{connection:?}");
            assert!((first - after).abs() < 0.001, "{first} {connection:?}");
        }
    }

    #[test]
    fn without_a_known_drain_times_count_from_the_termination() {
        let unknown = PodTimeline { drain_seconds: None, ..pod() };
        let connection = held(ConnectionKind::Busy, Some((18_000, Ending::Closed)));
        assert_eq!(only(&connection, &[unknown]), Some((Behavior::Closed, TimeBase::Termination, 8.0)));
    }

    #[test]
    fn connections_that_end_without_a_termination_do_not_count() {
        let early = held(ConnectionKind::Busy, Some((5000, Ending::Closed)));
        let open = held(ConnectionKind::Busy, None);
        let later = HeldConnection {
            opened: at(21_000),
            pod: None,
            ..held(ConnectionKind::Busy, Some((30_000, Ending::Closed)))
        };
        for connection in [early, open, later] {
            assert_eq!(only(&connection, &[pod()]), None, "{connection:?}");
        }
    }

    #[test]
    fn an_unknown_pod_is_the_one_that_was_terminating_first() {
        let other = PodTimeline { name: "web-2".to_owned(), terminating: Some(at(14_000)), ..pod() };
        let connection =
            HeldConnection { pod: None, ..held(ConnectionKind::Idle, Some((15_000, Ending::Closed))) };
        let found = by_kind(&[&connection], &[other, pod()]);
        assert_eq!(found[0].pods, ["web-1"]);
    }

    #[test]
    fn connections_to_several_pods_or_beyond_their_pod_are_of_a_proxy() {
        let shared = HeldConnection { has_several_pods: true, ..held(ConnectionKind::Busy, None) };
        let outliving = held(ConnectionKind::Idle, Some((40_000, Ending::Closed)));
        let open = held(ConnectionKind::Idle, None);
        let direct = held(ConnectionKind::Busy, Some((15_000, Ending::Closed)));
        let all = [&shared, &outliving, &open, &direct];
        assert_eq!(proxied(&all, &[pod()], at(22_000)), 2);
        assert_eq!(proxied(&all, &[pod()], at(60_000)), 3);
    }
}

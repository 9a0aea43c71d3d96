//! The timelines of a workload's pods, from the watches of pods and EndpointSlices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::Pod,
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};
use kube::{ResourceExt as _, runtime::watcher::Event};

use adieu_core::plan;

/// A pod's timeline, in times from the origin: when each event was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTimeline {
    /// Its name. A `StatefulSet` reuses names.
    pub name: String,
    /// Its node.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The shortest drain of its preStop hooks, in seconds; `None` if none of them can be parsed.
    pub drain_seconds: Option<i64>,
    /// When it was first seen.
    pub first_seen: Duration,
    /// Whether it existed when the watch started.
    pub is_preexisting: bool,
    /// When it was first ready.
    pub ready: Option<Duration>,
    /// When it got a deletion timestamp.
    pub terminating: Option<Duration>,
    /// When, during its termination, no EndpointSlice listed it as ready any more.
    pub withdrawn: Option<Duration>,
    /// When it was deleted from the API.
    pub gone: Option<Duration>,
    /// Whether an EndpointSlice has listed it as ready.
    pub served: bool,
    /// Whether its phase is `Succeeded` or `Failed`; controllers don't delete such pods.
    pub finished: bool,
}

/// A workload's pods by uid, including deleted ones.
#[derive(Clone, Debug, Default)]
pub struct PodTimelines {
    pods: BTreeMap<String, PodTimeline>,
    /// The uids of ready endpoints, by slice.
    slices: BTreeMap<String, BTreeSet<String>>,
    /// The lists in progress: uids of pods, names of slices.
    listing: [BTreeSet<String>; 2],
    listed: [bool; 2],
}

impl PodTimelines {
    /// Applies an event of the pod watch.
    pub fn pod_event(&mut self, at: Duration, event: &Event<Pod>) {
        match event {
            Event::Init => self.listing[0].clear(),
            Event::InitApply(pod) => {
                self.listing[0].extend(pod.uid());
                self.apply(at, pod);
            }
            Event::InitDone => {
                // Pods that are missing were deleted while the watch was down.
                let listing = std::mem::take(&mut self.listing[0]);
                for (_, timeline) in self.pods.iter_mut().filter(|(uid, _)| !listing.contains(*uid)) {
                    timeline.end(at);
                }
                self.listed[0] = true;
            }
            Event::Apply(pod) => self.apply(at, pod),
            Event::Delete(pod) => {
                self.apply(at, pod);
                if let Some(timeline) = pod.uid().and_then(|uid| self.pods.get_mut(&uid)) {
                    timeline.end(at);
                }
            }
        }
        self.withdraw(at);
    }

    /// Applies an event of the EndpointSlice watch.
    pub fn slice_event(&mut self, at: Duration, event: &Event<EndpointSlice>) {
        match event {
            Event::Init => self.listing[1].clear(),
            Event::InitApply(slice) => {
                self.listing[1].insert(slice.name_any());
                self.slices.insert(slice.name_any(), ready_endpoints(slice));
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing[1]);
                self.slices.retain(|name, _| listing.contains(name));
                self.listed[1] = true;
            }
            Event::Apply(slice) => drop(self.slices.insert(slice.name_any(), ready_endpoints(slice))),
            Event::Delete(slice) => drop(self.slices.remove(&slice.name_any())),
        }
        self.withdraw(at);
    }

    /// Whether both watches have delivered their initial lists.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed == [true; 2]
    }

    /// Every pod, ordered by when it was first seen.
    #[must_use]
    pub fn all(&self) -> Vec<PodTimeline> {
        let mut all: Vec<_> = self.pods.values().cloned().collect();
        all.sort_by(|a, b| (a.first_seen, &a.name).cmp(&(b.first_seen, &b.name)));
        all
    }

    /// The uids and timelines of the pods that are neither terminating nor finished.
    pub fn alive(&self) -> impl Iterator<Item = (&String, &PodTimeline)> {
        self.pods.iter().filter(|(_, timeline)| timeline.terminating.is_none() && !timeline.finished)
    }

    /// Whether all of these are deleted, or finished and not terminating.
    #[must_use]
    pub fn are_gone<'a>(&self, uids: impl IntoIterator<Item = &'a String>) -> bool {
        let is_left = |timeline: &PodTimeline| timeline.finished && timeline.terminating.is_none();
        let is_gone =
            |uid| self.pods.get(uid).is_none_or(|timeline| timeline.gone.is_some() || is_left(timeline));
        uids.into_iter().all(is_gone)
    }

    fn apply(&mut self, at: Duration, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        let is_preexisting = !self.listed[0];
        let timeline = self.pods.entry(uid).or_insert_with(|| PodTimeline {
            name: pod.name_any(),
            first_seen: at,
            is_preexisting,
            drain_seconds: drain(pod),
            ..PodTimeline::default()
        });
        let status = pod.status.as_ref();
        timeline.node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        timeline.ip = status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()).or(timeline.ip);
        if is_ready(pod) {
            timeline.ready.get_or_insert(at);
        }
        timeline.finished = status.and_then(|status| status.phase.as_deref()).is_some_and(is_final);
        if pod.metadata.deletion_timestamp.is_some() {
            timeline.terminating.get_or_insert(at);
        }
    }

    /// Records which terminating pods are no longer ready in any slice. Until the list is complete, a slice that lists
    /// them may be missing.
    fn withdraw(&mut self, at: Duration) {
        if !self.listed[1] {
            return;
        }
        for (uid, timeline) in &mut self.pods {
            let is_ready = self.slices.values().any(|ready| ready.contains(uid));
            timeline.served |= is_ready;
            if timeline.served && !is_ready && timeline.terminating.is_some() {
                timeline.withdrawn.get_or_insert(at);
            }
        }
    }
}

impl PodTimeline {
    /// Seconds from the start of its termination to `at`; negative if it began later.
    #[must_use]
    pub fn terminating_for(&self, at: Duration) -> Option<f64> {
        self.terminating.map(|began| match at.checked_sub(began) {
            Some(after) => after.as_secs_f64(),
            None => -began.saturating_sub(at).as_secs_f64(),
        })
    }

    /// Whether it was terminating, and not deleted, at some time between these.
    pub(super) fn terminates_between(&self, from: Duration, to: Duration) -> bool {
        self.terminating.is_some_and(|began| began <= to) && self.gone.is_none_or(|gone| gone >= from)
    }

    /// With a grace period of 0 a pod is deleted without a deletion timestamp.
    fn end(&mut self, at: Duration) {
        self.terminating.get_or_insert(at);
        self.gone.get_or_insert(at);
    }
}

/// Whether the pod's condition `Ready` is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a pod's phase is terminal.
fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The uids of the pods that a slice lists as ready. An absent condition counts as ready (discovery/v1). With
/// `publishNotReadyAddresses` a terminating endpoint is `ready` as well, so it is excluded here.
fn ready_endpoints(slice: &EndpointSlice) -> BTreeSet<String> {
    let ready = |endpoint: &&Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let holds = |condition: fn(&EndpointConditions) -> Option<bool>| conditions.and_then(condition);
        holds(|is| is.ready).unwrap_or(true) && !holds(|is| is.terminating).unwrap_or(false)
    };
    let endpoints = slice.endpoints.iter().filter(ready);
    endpoints.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone()).collect()
}

/// The shortest drain, in seconds, of the containers with a preStop hook: 0 if there is no hook, `None` if none can be
/// parsed.
fn drain(pod: &Pod) -> Option<i64> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let hooks = containers.filter_map(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
    let drains: Vec<_> =
        hooks.map(|hook| plan::pre_stop_seconds(&serde_json::to_value(hook).ok()?)).collect();
    if drains.is_empty() { Some(0) } else { drains.into_iter().flatten().min() }
}

#[cfg(test)]
#[path = "timelines_tests.rs"]
mod tests;

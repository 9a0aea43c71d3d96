//! The lives of a workload's pods, put together from what the watches of pods and EndpointSlices bring.

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

/// A pod, in times from the origin; each is when we were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Its name, which a `StatefulSet` gives to one pod after another.
    pub name: String,
    /// The node that it is on.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The shortest drain that its preStop hooks give it, in seconds; `None` where none of them can be read.
    pub drain_seconds: Option<i64>,
    /// When it was first seen.
    pub seen: Duration,
    /// Whether it was there before anything else was seen.
    pub before: bool,
    /// When it was first ready.
    pub ready: Option<Duration>,
    /// When its termination began: it got a deletion timestamp.
    pub terminating: Option<Duration>,
    /// When, while it was terminating, no EndpointSlice named it ready any more.
    pub withdrawn: Option<Duration>,
    /// When it was gone from the API.
    pub gone: Option<Duration>,
    /// Whether an EndpointSlice named it ready at some time.
    pub served: bool,
    /// Whether it has succeeded or failed: its containers have ended for good, and its controller leaves it
    /// where it is.
    pub finished: bool,
}

/// The pods of a workload by their uids, those that are gone included.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    pods: BTreeMap<String, Life>,
    /// The uids of ready endpoints, by the slice that names them.
    slices: BTreeMap<String, BTreeSet<String>>,
    /// What lists that are being received have brought so far: uids of pods, names of slices.
    listing: [BTreeSet<String>; 2],
    listed: [bool; 2],
}

impl Lives {
    /// Takes in what the watch of pods brings.
    pub fn pod_event(&mut self, at: Duration, event: &Event<Pod>) {
        match event {
            Event::Init => self.listing[0].clear(),
            Event::InitApply(pod) => {
                self.listing[0].extend(pod.uid());
                self.pod(at, pod);
            }
            Event::InitDone => {
                // What vanished while nobody watched is gone by now.
                let listing = std::mem::take(&mut self.listing[0]);
                for (_, life) in self.pods.iter_mut().filter(|(uid, _)| !listing.contains(*uid)) {
                    life.end(at);
                }
                self.listed[0] = true;
            }
            Event::Apply(pod) => self.pod(at, pod),
            Event::Delete(pod) => {
                self.pod(at, pod);
                if let Some(life) = pod.uid().and_then(|uid| self.pods.get_mut(&uid)) {
                    life.end(at);
                }
            }
        }
        self.withdraw(at);
    }

    /// Takes in what the watch of EndpointSlices brings.
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

    /// Whether both watches have brought what there was.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed == [true; 2]
    }

    /// Every pod, in the order in which they were seen.
    #[must_use]
    pub fn all(&self) -> Vec<Life> {
        let mut all: Vec<_> = self.pods.values().cloned().collect();
        all.sort_by(|a, b| (a.seen, &a.name).cmp(&(b.seen, &b.name)));
        all
    }

    /// The uids and lives of the pods that are there and neither terminating nor finished.
    pub fn alive(&self) -> impl Iterator<Item = (&String, &Life)> {
        self.pods.iter().filter(|(_, life)| life.terminating.is_none() && !life.finished)
    }

    /// Whether all of these are gone, or finished and not on their way out.
    #[must_use]
    pub fn are_gone<'a>(&self, uids: impl IntoIterator<Item = &'a String>) -> bool {
        let is_left = |life: &Life| life.finished && life.terminating.is_none();
        let is_gone = |uid| self.pods.get(uid).is_none_or(|life| life.gone.is_some() || is_left(life));
        uids.into_iter().all(is_gone)
    }

    fn pod(&mut self, at: Duration, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        let before = !self.listed[0];
        let life = self.pods.entry(uid).or_insert_with(|| Life {
            name: pod.name_any(),
            seen: at,
            before,
            drain_seconds: drain(pod),
            ..Life::default()
        });
        let status = pod.status.as_ref();
        life.node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        life.ip = status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()).or(life.ip);
        if is_ready(pod) {
            life.ready.get_or_insert(at);
        }
        life.finished = status.and_then(|status| status.phase.as_deref()).is_some_and(is_final);
        if pod.metadata.deletion_timestamp.is_some() {
            life.terminating.get_or_insert(at);
        }
    }

    /// Notes of terminating pods that they are no longer named ready. Before a list is whole, a slice may be
    /// missing that still names them.
    fn withdraw(&mut self, at: Duration) {
        if !self.listed[1] {
            return;
        }
        for (uid, life) in &mut self.pods {
            let named = self.slices.values().any(|ready| ready.contains(uid));
            life.served |= named;
            if life.served && !named && life.terminating.is_some() {
                life.withdrawn.get_or_insert(at);
            }
        }
    }
}

impl Life {
    /// How long before `at` its termination began, in seconds; negative where it began later.
    #[must_use]
    pub fn terminating_for(&self, at: Duration) -> Option<f64> {
        self.terminating.map(|began| match at.checked_sub(began) {
            Some(after) => after.as_secs_f64(),
            None => -began.saturating_sub(at).as_secs_f64(),
        })
    }

    /// Whether it was terminating, and not gone, at some time between these.
    #[must_use]
    pub fn terminates_between(&self, from: Duration, to: Duration) -> bool {
        self.terminating.is_some_and(|began| began <= to) && self.gone.is_none_or(|gone| gone >= from)
    }

    /// It may go without a word before, at a grace period of 0.
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

/// Whether a pod's phase is one that it doesn't leave again.
fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The uids of the pods that a slice names ready. A condition that says nothing counts as ready (discovery/v1);
/// of a Service that publishes addresses that aren't ready, terminating endpoints count as ready as well, and
/// are left out.
fn ready_endpoints(slice: &EndpointSlice) -> BTreeSet<String> {
    let ready = |endpoint: &&Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let holds = |condition: fn(&EndpointConditions) -> Option<bool>| conditions.and_then(condition);
        holds(|is| is.ready).unwrap_or(true) && !holds(|is| is.terminating).unwrap_or(false)
    };
    let endpoints = slice.endpoints.iter().filter(ready);
    endpoints.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone()).collect()
}

/// The shortest drain, in seconds, of those containers of the pod that have a hook: 0 where none has, `None`
/// where none of the hooks can be read.
fn drain(pod: &Pod) -> Option<i64> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let hooks = containers.filter_map(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
    let drains: Vec<_> =
        hooks.map(|hook| plan::pre_stop_seconds(&serde_json::to_value(hook).ok()?)).collect();
    if drains.is_empty() { Some(0) } else { drains.into_iter().flatten().min() }
}

#[cfg(test)]
#[path = "lives_tests.rs"]
mod tests;

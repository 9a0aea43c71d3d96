//! The terminating pods, until they are gone.

use std::collections::{HashMap, HashSet, VecDeque};

use k8s_openapi::jiff::Timestamp;

use crate::{
    cause::CauseEvidence,
    endpoints::{Endpoints, Slice, TerminatingEndpoints},
    outcome::FailedHooks,
    pod::TerminatingPod,
    termination::Termination,
};

/// How many pods are followed at a time, in all and of one namespace, whose pods may have finalizers and never go. With
/// their containers they take some 10 MiB.
pub(crate) const MAX_PODS: usize = 10_000;
/// The maximum of one namespace.
pub(crate) const MAX_PODS_OF_NAMESPACE: usize = 2000;
/// How many containers they may have, in all and in one namespace.
const MAX_CONTAINERS: usize = 40_000;
const MAX_CONTAINERS_OF_NAMESPACE: usize = 8000;
/// How many endpoints of pods that aren't known to terminate yet are kept: the watches of pods and of EndpointSlices are
/// independent.
const MAX_EARLY: usize = 2000;
/// A uid has 36 characters; other clients may write any text into EndpointSlices and Events.
const UID_LENGTH: usize = 64;

/// The terminating pods. A pod counts when it is gone and the evidence of its cause is known, so each counts once,
/// whatever replica observes it.
#[derive(Debug, Default)]
pub struct Observer {
    pods: HashMap<String, Observed>,
    /// The pods of the list that is being read.
    listed: Option<HashSet<String>>,
    /// What is followed of each namespace.
    of_namespaces: HashMap<String, Followed>,
    containers: usize,
    /// The followed pods that each EndpointSlice has as ready.
    ready: HashMap<Slice, HashSet<String>>,
    /// What was heard of pods that aren't followed, the oldest first.
    early: VecDeque<(String, Early)>,
    /// Pods that weren't followed because there were too many.
    ignored: u64,
}

/// Numbers of pods and of their containers.
#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    pods: usize,
    containers: usize,
}

/// What was heard of a pod.
#[derive(Clone, Debug)]
enum Early {
    Ready(Slice),
    NotReady(Slice, Option<Timestamp>),
    Gone(Slice, Option<Timestamp>),
    FailedHook(String, Timestamp),
}

#[derive(Debug)]
struct Observed {
    pod: TerminatingPod,
    evidence: Option<CauseEvidence>,
    failed: FailedHooks,
    endpoints: Endpoints,
    is_gone: bool,
}

impl Observer {
    /// Observes a terminating pod. Whether it is new: then the caller finds the evidence of its cause.
    pub fn observe(&mut self, pod: TerminatingPod) -> bool {
        if let Some(listed) = &mut self.listed {
            listed.insert(pod.uid.clone());
        }
        if let Some(known) = self.pods.get_mut(&pod.uid) {
            known.update(pod);
            return false;
        }
        // It has no containers that could end, for example because it was never scheduled.
        if !pod.was_running() {
            return false;
        }
        let before = self.of_namespaces.get(&pod.namespace).copied().unwrap_or_default();
        let added = pod.containers.len();
        let of_namespace = Followed { pods: before.pods + 1, containers: before.containers + added };
        if self.pods.len() >= MAX_PODS
            || self.containers + added > MAX_CONTAINERS
            || of_namespace.pods > MAX_PODS_OF_NAMESPACE
            || of_namespace.containers > MAX_CONTAINERS_OF_NAMESPACE
        {
            self.ignored += 1;
            return false;
        }
        self.containers += added;
        self.of_namespaces.insert(pod.namespace.clone(), of_namespace);
        let (uid, mut heard) = (pod.uid.clone(), vec![]);
        self.early.retain(|(of, early)| {
            let is_of_this = *of == uid;
            if is_of_this {
                heard.push(early.clone());
            }
            !is_of_this
        });
        let (failed, endpoints) = (FailedHooks::default(), Endpoints::default());
        self.pods.insert(uid.clone(), Observed { pod, evidence: None, failed, endpoints, is_gone: false });
        for early in heard {
            self.hear(&uid, early);
        }
        true
    }

    /// Learns the evidence of a pod's cause.
    pub fn learn(&mut self, uid: &str, evidence: CauseEvidence) -> Option<Termination> {
        self.pods.get_mut(uid)?.evidence = Some(evidence);
        self.complete(uid)
    }

    /// The pod is gone, since this time if it is known.
    pub fn deleted(&mut self, uid: &str, at: Option<Timestamp>) -> Option<Termination> {
        let observed = self.pods.get_mut(uid)?;
        observed.is_gone = true;
        // No EndpointSlice keeps it, but their watch may be late.
        observed.endpoints.set_all_gone(at);
        self.complete(uid)
    }

    /// The preStop hook of a container failed.
    pub fn pre_stop_failed(&mut self, uid: &str, container: &str, at: Timestamp) {
        self.hear(uid, Early::FailedHook(container.to_owned(), at));
    }

    /// The terminating pods of an EndpointSlice, since this time if it is known. A pod is withdrawn once the slice has it as
    /// not ready, or no longer has it.
    pub fn endpoints(&mut self, endpoints: &TerminatingEndpoints, at: Option<Timestamp>) {
        let slice = endpoints.slice();
        for uid in self.ready.remove(&slice).unwrap_or_default() {
            if !endpoints.ready.contains(&uid)
                && let Some(observed) = self.pods.get_mut(&uid)
            {
                observed.endpoints.set_gone(slice, at);
            }
        }
        for (uid, early) in &mut self.early {
            if matches!(early, Early::Ready(of) if *of == slice) && !endpoints.ready.contains(uid.as_str()) {
                *early = Early::Gone(slice, at);
            }
        }
        for uid in &endpoints.ready {
            self.hear(uid, Early::Ready(slice));
        }
        for uid in &endpoints.not_ready {
            self.hear(uid, Early::NotReady(slice, at));
        }
    }

    /// All EndpointSlices are listed again: when those that are missing withdrew their pods isn't known.
    pub fn endpoints_list_begins(&mut self) {
        self.ready.clear();
        for observed in self.pods.values_mut() {
            observed.endpoints.set_all_gone(None);
        }
        for (_, early) in &mut self.early {
            if let Early::Ready(slice) = early {
                *early = Early::Gone(*slice, None);
            }
        }
    }

    /// The watches of pods, of EndpointSlices and of Events are independent.
    fn hear(&mut self, uid: &str, heard: Early) {
        if let Some(observed) = self.pods.get_mut(uid) {
            if let Some(slice) = observed.hear(heard) {
                self.ready.entry(slice).or_default().insert(uid.to_owned());
            }
        } else if uid.len() <= UID_LENGTH {
            if self.early.len() >= MAX_EARLY {
                self.early.pop_front();
            }
            self.early.push_back((uid.to_owned(), heard));
        }
    }

    /// All pods are listed again.
    pub fn list_begins(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// All pods are listed: those that are missing are gone.
    pub fn list_ends(&mut self) -> Vec<Termination> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<_> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        gone.iter().filter_map(|uid| self.deleted(uid, None)).collect()
    }

    /// Whether a pod is followed.
    #[must_use]
    pub fn follows(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// The number of pods that are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no pod terminates.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// The number of pods that weren't followed since the last call.
    pub fn take_ignored(&mut self) -> u64 {
        std::mem::take(&mut self.ignored)
    }

    fn complete(&mut self, uid: &str) -> Option<Termination> {
        let observed = self.pods.get(uid)?;
        observed.evidence.filter(|_| observed.is_gone)?;
        let Observed { pod, evidence, failed, endpoints, .. } = self.pods.remove(uid)?;
        for slice in endpoints.slices() {
            if let Some(ready) = self.ready.get_mut(&slice) {
                ready.remove(uid);
                if ready.is_empty() {
                    self.ready.remove(&slice);
                }
            }
        }
        self.containers -= pod.containers.len();
        match self.of_namespaces.get_mut(&pod.namespace) {
            Some(followed) if followed.pods > 1 => {
                followed.pods -= 1;
                followed.containers -= pod.containers.len();
            }
            _ => drop(self.of_namespaces.remove(&pod.namespace)),
        }
        Termination::of(pod, evidence?, &failed, endpoints.withdrawn())
    }
}

impl Observed {
    /// Returns the EndpointSlice if it has the pod as ready.
    fn hear(&mut self, heard: Early) -> Option<Slice> {
        match heard {
            Early::Ready(slice) => return self.endpoints.set_ready(slice).then_some(slice),
            Early::NotReady(slice, at) => self.endpoints.set_not_ready(slice, at),
            Early::Gone(slice, at) => self.endpoints.set_gone(slice, at),
            // An earlier one is of a container that was restarted. Times are whole seconds.
            Early::FailedHook(container, at) if at.as_second() >= self.pod.start.as_second() => {
                let is_of_pod = self.pod.containers.iter().any(|known| known.name == container);
                if is_of_pod {
                    self.failed.insert(container);
                }
            }
            Early::FailedHook(..) => {}
        }
        None
    }

    /// Takes the ends of containers from a later version of the pod, and a shorter grace period. Everything else stays as
    /// it was at the start.
    fn update(&mut self, now: TerminatingPod) {
        let known = &mut self.pod;
        for container in &mut known.containers {
            container.has_run |= container.is_running;
            let later = now.containers.iter().find(|later| later.name == container.name);
            let (is_running, end) =
                later.map_or((false, None), |later| (later.is_running, later.end.clone()));
            container.is_running = is_running;
            container.end = end.or(container.end.take());
        }
        if 0 < now.granted_seconds && now.granted_seconds < known.granted_seconds {
            known.granted_seconds = now.granted_seconds;
        }
        if known.disruption.is_none() {
            known.disruption = now.disruption;
        }
        if known.status_reason.is_none() {
            known.status_reason = now.status_reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{current, decode, ended};

    #[test]
    fn the_containers_of_one_namespace_leave_room_to_others() {
        let mut observer = Observer::default();
        let mut add = |namespace: &str, number: usize| {
            let mut pod = decode(&ended(0, 4));
            (pod.namespace, pod.uid) = (namespace.to_owned(), format!("{namespace}-{number}"));
            pod.containers = vec![pod.containers[0].clone(); 500];
            let is_new = observer.observe(pod);
            (is_new, observer.containers)
        };
        let followed = (0..100).filter(|number| add("tenant", *number).0).count();
        assert_eq!(followed, MAX_CONTAINERS_OF_NAMESPACE / 500);
        assert_eq!(add("shop", 0), (true, MAX_CONTAINERS_OF_NAMESPACE + 500));
        observer.learn("tenant-0", current());
        observer.deleted("tenant-0", None);
        assert_eq!(observer.containers, MAX_CONTAINERS_OF_NAMESPACE);
        assert_eq!(observer.of_namespaces["tenant"].containers, MAX_CONTAINERS_OF_NAMESPACE - 500);
    }
}

//! The terminating pods, until they are gone.

use std::collections::{HashMap, HashSet, VecDeque};

use k8s_openapi::jiff::Timestamp;

use crate::{cause::Facts, pod::TerminatingPod, termination::Termination};

/// How many pods are followed at a time. With their containers they take some 10 MiB.
pub const MAX_PODS: usize = 10_000;
/// How many withdrawals of pods that aren't known to terminate yet are kept: the watches of pods and of EndpointSlices are
/// independent.
const MAX_EARLY: usize = 2000;
/// How many EndpointSlices of a pod count.
const MAX_SLICES: usize = 64;

/// The namespace and name of an EndpointSlice.
type Slice = (String, String);

/// The terminating pods. A pod counts when it is gone and the facts about it are known, so each counts once, whatever
/// replica observes it.
#[derive(Debug, Default)]
pub struct Observer {
    pods: HashMap<String, Observed>,
    /// The pods of the list that is being read.
    listed: Option<HashSet<String>>,
    /// Withdrawals of pods that aren't followed, the oldest first.
    early: VecDeque<(String, Slice, Option<Timestamp>)>,
    /// Pods that weren't followed because there were too many.
    ignored: u64,
}

#[derive(Debug)]
struct Observed {
    pod: TerminatingPod,
    facts: Option<Facts>,
    pre_stop_failed: bool,
    /// When each EndpointSlice first had the pod as not ready; `None` if that isn't known.
    withdrawn: HashMap<Slice, Option<Timestamp>>,
    is_gone: bool,
}

impl Observer {
    /// Observes a terminating pod. Whether it is new: then the caller finds out the facts.
    pub fn observe(&mut self, pod: TerminatingPod) -> bool {
        if let Some(listed) = &mut self.listed {
            listed.insert(pod.uid.clone());
        }
        if let Some(known) = self.pods.get_mut(&pod.uid) {
            known.update(pod);
            return false;
        }
        if self.pods.len() >= MAX_PODS {
            self.ignored += 1;
            return false;
        }
        let withdrawn = HashMap::new();
        let mut observed = Observed { facts: None, pre_stop_failed: false, withdrawn, is_gone: false, pod };
        self.early.retain(|(uid, slice, at)| {
            let is_of_this = *uid == observed.pod.uid;
            if is_of_this {
                observed.withdraw(slice, *at);
            }
            !is_of_this
        });
        self.pods.insert(observed.pod.uid.clone(), observed);
        true
    }

    /// Learns the facts about a pod.
    pub fn learn(&mut self, uid: &str, facts: Facts) -> Option<Termination> {
        self.pods.get_mut(uid)?.facts = Some(facts);
        self.complete(uid)
    }

    /// The pod is gone.
    pub fn deleted(&mut self, uid: &str) -> Option<Termination> {
        self.pods.get_mut(uid)?.is_gone = true;
        self.complete(uid)
    }

    /// The preStop hook of a pod failed.
    pub fn pre_stop_failed(&mut self, uid: &str) {
        if let Some(observed) = self.pods.get_mut(uid) {
            observed.pre_stop_failed = true;
        }
    }

    /// An EndpointSlice has the pod as terminating and not ready. Its first time counts.
    pub fn withdrawn(&mut self, uid: &str, slice: &(String, String), at: Option<Timestamp>) {
        if let Some(observed) = self.pods.get_mut(uid) {
            observed.withdraw(slice, at);
            return;
        }
        if self.early.len() >= MAX_EARLY {
            self.early.pop_front();
        }
        self.early.push_back((uid.to_owned(), slice.clone(), at));
    }

    /// All pods are listed again.
    pub fn list_begins(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// All pods are listed: those that are missing are gone.
    pub fn list_ends(&mut self) -> Vec<Termination> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<_> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        gone.iter().filter_map(|uid| self.deleted(uid)).collect()
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
        observed.facts.filter(|_| observed.is_gone)?;
        let Observed { pod, facts, pre_stop_failed, withdrawn, .. } = self.pods.remove(uid)?;
        // Until the last EndpointSlice withdrew it.
        let times = withdrawn.into_values().collect::<Option<Vec<_>>>();
        let withdrawn = times.and_then(|times| times.into_iter().max());
        Termination::of(pod, facts?, pre_stop_failed, withdrawn)
    }
}

impl Observed {
    fn withdraw(&mut self, slice: &Slice, at: Option<Timestamp>) {
        if self.withdrawn.len() < MAX_SLICES {
            self.withdrawn.entry(slice.clone()).or_insert(at);
        }
    }

    /// Takes the containers of a later version of the pod. Its start and times stay those of the first.
    fn update(&mut self, now: TerminatingPod) {
        let (first, later) = (self.pod.requested.grace_period_seconds, now.requested.grace_period_seconds);
        let (start, requested) = (self.pod.start, self.pod.requested);
        let is_shortened = self.pod.is_shortened || (0 < later && later < first);
        let disruption = self.pod.disruption.take();
        self.pod = TerminatingPod { start, requested, is_shortened, ..now };
        // The first cause of the disruption counts.
        self.pod.disruption = disruption.or_else(|| self.pod.disruption.take());
    }
}

//! When EndpointSlices withdrew a terminating pod.

use std::collections::{HashMap, HashSet};

use adieu_core::hash::hash_of;
use k8s_openapi::jiff::Timestamp;

/// How many EndpointSlices of a pod count.
const MAX_SLICES: usize = 16;

/// The hash of the namespace and name of an EndpointSlice.
pub(crate) type Slice = u64;

/// The terminating pods of an EndpointSlice, by uid. A slice that is deleted has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TerminatingEndpoints {
    /// The namespace and name of the EndpointSlice.
    pub slice: (String, String),
    /// Those that it has as ready, as it does until they are gone if the Service has `publishNotReadyAddresses`.
    pub ready: HashSet<String>,
    /// Those that it has as not ready.
    pub not_ready: Vec<String>,
}

impl TerminatingEndpoints {
    pub(crate) fn slice(&self) -> Slice {
        hash_of(&self.slice)
    }
}

/// The endpoints of a terminating pod, by EndpointSlice.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(HashMap<Slice, Endpoint>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Ready,
    /// Not ready, or no longer in the slice; `None` if the time isn't known.
    Withdrawn(Option<Timestamp>),
}

impl Endpoints {
    /// A slice has the pod as ready. Returns `false` if it has withdrawn it before, or if too many slices have the pod.
    pub(crate) fn set_ready(&mut self, slice: Slice) -> bool {
        // The time is unknown while the slices are listed again.
        if matches!(self.0.get(&slice), None | Some(Endpoint::Withdrawn(None))) && self.has_room(slice) {
            self.0.insert(slice, Endpoint::Ready);
        }
        self.0.get(&slice) == Some(&Endpoint::Ready)
    }

    /// A slice has the pod as not ready, or no longer has it. Its first time counts.
    pub(crate) fn withdraw(&mut self, slice: Slice, at: Option<Timestamp>) {
        if !matches!(self.0.get(&slice), Some(Endpoint::Withdrawn(_))) && self.has_room(slice) {
            self.0.insert(slice, Endpoint::Withdrawn(at));
        }
    }

    /// No slice has the pod any more.
    pub(crate) fn withdraw_all(&mut self, at: Option<Timestamp>) {
        for endpoint in self.0.values_mut().filter(|endpoint| **endpoint == Endpoint::Ready) {
            *endpoint = Endpoint::Withdrawn(at);
        }
    }

    /// When the last slice withdrew the pod; `None` if that isn't known, or no slice had it.
    pub(crate) fn withdrawn(&self) -> Option<Timestamp> {
        let times = self.0.values().map(|endpoint| match endpoint {
            Endpoint::Withdrawn(at) => *at,
            Endpoint::Ready => None,
        });
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The slices that have or had the pod.
    pub(crate) fn slices(&self) -> impl Iterator<Item = Slice> {
        self.0.keys().copied()
    }

    fn has_room(&self, slice: Slice) -> bool {
        self.0.len() < MAX_SLICES || self.0.contains_key(&slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_withdrawal_of_each_of_some_slices_counts() {
        let at = |second: i64| Timestamp::from_second(second).ok();
        let mut endpoints = Endpoints::default();
        assert_eq!(endpoints.withdrawn(), None, "no slice has it");
        assert!(endpoints.set_ready(1));
        assert!(endpoints.set_ready(1), "again");
        assert_eq!(endpoints.withdrawn(), None, "it is ready");
        endpoints.withdraw(1, at(5));
        assert!(!endpoints.set_ready(1), "it was withdrawn");
        endpoints.withdraw(1, at(9));
        endpoints.withdraw_all(at(20));
        assert_eq!(endpoints.withdrawn(), at(5));
        endpoints.set_ready(2);
        endpoints.withdraw_all(at(20));
        assert_eq!(endpoints.withdrawn(), at(20), "the last slice");
        endpoints.withdraw(3, None);
        assert_eq!(endpoints.withdrawn(), None, "at an unknown time");
        assert!(endpoints.set_ready(3), "it was only listed again");
        for slice in 0..100 {
            endpoints.withdraw(slice, at(1));
            endpoints.set_ready(100 + slice);
        }
        assert_eq!(endpoints.slices().count(), MAX_SLICES);
    }
}

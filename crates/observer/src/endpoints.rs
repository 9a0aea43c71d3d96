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
    /// The slice has it as not ready, since this time if it is known.
    NotReady(Option<Timestamp>),
    /// The slice had it as ready, and no longer has it.
    Gone(Option<Timestamp>),
}

impl Endpoints {
    /// A slice has the pod as ready. Returns `false` if it has withdrawn it before, or if too many slices have the pod.
    pub(crate) fn set_ready(&mut self, slice: Slice) -> bool {
        // The time is unknown while the slices are listed again.
        let is_unknown =
            matches!(self.0.get(&slice), None | Some(Endpoint::NotReady(None) | Endpoint::Gone(None)));
        if is_unknown && self.has_room(slice) {
            self.0.insert(slice, Endpoint::Ready);
        }
        self.0.get(&slice) == Some(&Endpoint::Ready)
    }

    /// A slice has the pod as not ready. The first time that it withdrew it counts.
    pub(crate) fn set_not_ready(&mut self, slice: Slice, at: Option<Timestamp>) {
        self.withdraw(slice, Endpoint::NotReady(at));
    }

    /// A slice no longer has the pod. The first time that it withdrew it counts.
    pub(crate) fn set_gone(&mut self, slice: Slice, at: Option<Timestamp>) {
        self.withdraw(slice, Endpoint::Gone(at));
    }

    fn withdraw(&mut self, slice: Slice, withdrawn: Endpoint) {
        if matches!(self.0.get(&slice), None | Some(Endpoint::Ready)) && self.has_room(slice) {
            self.0.insert(slice, withdrawn);
        }
    }

    /// No slice has the pod any more.
    pub(crate) fn set_all_gone(&mut self, at: Option<Timestamp>) {
        for endpoint in self.0.values_mut().filter(|endpoint| **endpoint == Endpoint::Ready) {
            *endpoint = Endpoint::Gone(at);
        }
    }

    /// When the last slice withdrew the pod; `None` if that isn't known, or no slice had it. A slice that had it as ready
    /// until it was gone, as that of a Service with `publishNotReadyAddresses` does, counts only if all did.
    pub(crate) fn withdrawn(&self) -> Option<Timestamp> {
        let is_not_ready = |endpoint: &&Endpoint| matches!(endpoint, Endpoint::NotReady(_));
        let not_ready: Vec<_> = self.0.values().filter(is_not_ready).collect();
        let deciding = if not_ready.is_empty() { self.0.values().collect() } else { not_ready };
        let times = deciding.into_iter().map(|endpoint| endpoint.withdrawn());
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

impl Endpoint {
    /// When it was withdrawn; `None` if it wasn't, or if that isn't known.
    fn withdrawn(self) -> Option<Timestamp> {
        match self {
            Self::Ready => None,
            Self::NotReady(at) | Self::Gone(at) => at,
        }
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
        endpoints.set_not_ready(1, at(5));
        assert!(!endpoints.set_ready(1), "it was withdrawn");
        endpoints.set_not_ready(1, at(9));
        endpoints.set_gone(1, at(9));
        endpoints.set_all_gone(at(20));
        assert_eq!(endpoints.withdrawn(), at(5));
        endpoints.set_ready(2);
        endpoints.set_all_gone(at(20));
        assert_eq!(endpoints.withdrawn(), at(5), "the other one publishes addresses that are not ready");
        endpoints.set_not_ready(3, at(7));
        assert_eq!(endpoints.withdrawn(), at(7), "the last slice");
        endpoints.set_not_ready(4, None);
        assert_eq!(endpoints.withdrawn(), None, "at an unknown time");
        assert!(endpoints.set_ready(4), "it was only listed again");
        for slice in 0..100 {
            endpoints.set_gone(slice, at(1));
            endpoints.set_ready(100 + slice);
        }
        assert_eq!(endpoints.slices().count(), MAX_SLICES);
    }
}

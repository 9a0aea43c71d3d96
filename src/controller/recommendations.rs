//! The recommendations for workloads, from their `TerminationProfile`s to the reconcilers, which apply them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{api::Recommendation, keys::WorkloadKey as Key};

/// The recommendation for each workload that has one, with the uid of the workload. Empty on a replica that doesn't lead.
#[derive(Default)]
pub(super) struct Recommendations(Mutex<HashMap<Key, (String, Recommendation)>>);

impl Recommendations {
    /// Replaces the recommendation for a workload.
    pub(super) fn set(&self, key: &Key, uid: &str, recommendation: Option<Recommendation>) {
        match recommendation {
            Some(new) => drop(self.lock().insert(key.clone(), (uid.to_owned(), new))),
            None => drop(self.lock().remove(key)),
        }
    }

    /// The recommendation for the workload with this uid.
    pub(super) fn get(&self, key: &Key, uid: Option<&str>) -> Option<Recommendation> {
        let all = self.lock();
        let (of, recommendation) = all.get(key)?;
        (Some(of.as_str()) == uid).then(|| recommendation.clone())
    }

    /// Drops those for workloads that were deleted.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        self.lock().retain(|key, _| exists(key));
    }

    /// Drops all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (String, Recommendation)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

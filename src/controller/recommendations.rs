//! The recommendations for workloads, from their `TerminationProfile`s to the reconcilers, which apply them.

use std::{collections::HashMap, sync::Mutex};

use crate::{api::Recommendation, keys::WorkloadKey as Key, runtime::lock::lock};

/// The recommendation for each workload that has one, with the uid of the workload. Empty on a replica that doesn't lead.
#[derive(Default)]
pub(super) struct Recommendations(Mutex<HashMap<Key, (String, Recommendation)>>);

impl Recommendations {
    /// Replaces the recommendation for a workload.
    pub(super) fn set(&self, key: &Key, uid: &str, recommendation: Option<Recommendation>) {
        match recommendation {
            Some(new) => drop(lock(&self.0).insert(key.clone(), (uid.to_owned(), new))),
            None => drop(lock(&self.0).remove(key)),
        }
    }

    /// The recommendation for the workload with this uid.
    pub(super) fn get(&self, key: &Key, uid: Option<&str>) -> Option<Recommendation> {
        let all = lock(&self.0);
        let (of, recommendation) = all.get(key)?;
        (Some(of.as_str()) == uid).then(|| recommendation.clone())
    }

    /// Drops those for workloads that were deleted.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        lock(&self.0).retain(|key, _| exists(key));
    }

    /// Drops all.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

//! Reads how the pods of workloads terminated.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Error};
use serde::de::DeserializeOwned;

use crate::{index::termination_profiles::for_each_profile, keys::WorkloadKey, plan::Kind};

/// What is used of the status of each `TerminationProfile`, with the uid of the workload.
#[derive(Debug, Default)]
pub(super) struct TerminationProfiles<T>(HashMap<WorkloadKey, (String, T)>);

impl<T> TerminationProfiles<T> {
    /// Reads the profiles of a namespace, or of all. `used` is what is kept of a status.
    ///
    /// # Errors
    /// If they can't be listed.
    pub(super) async fn read<S: DeserializeOwned>(
        client: &Client,
        namespace: Option<&str>,
        used: impl Fn(S) -> T,
    ) -> Result<Self, Error> {
        let mut found = HashMap::new();
        for_each_profile(client, namespace, |key, uid, status| {
            found.insert(key, (uid, used(status)));
        })
        .await?;
        Ok(Self(found))
    }

    /// That of a workload, not of an earlier one of the same name.
    pub(super) fn of(&self, kind: Kind, workload: &ObjectMeta) -> Option<&T> {
        let (uid, used) = self.0.get(&WorkloadKey::new(kind, workload))?;
        (workload.uid.as_ref() == Some(uid)).then_some(used)
    }
}

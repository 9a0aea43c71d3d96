//! Reads how the pods of workloads terminated.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Error, Resource as _};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    api::{TerminationProfile, TerminationProfileSpec},
    index::list::{Selectors, for_each},
    keys::WorkloadKey,
    plan::Kind,
};

/// What is used of the status of each `TerminationProfile`, with the uid of the workload.
#[derive(Debug, Default)]
pub(super) struct TerminationProfiles<T>(HashMap<WorkloadKey, (String, T)>);

/// The used fields of a `TerminationProfile`.
#[derive(Deserialize)]
struct Stored<S> {
    metadata: ObjectMeta,
    spec: TerminationProfileSpec,
    status: S,
}

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
        let path = TerminationProfile::url_path(&(), namespace);
        let mut found = HashMap::new();
        for_each(client, &path, Selectors::default(), |text| {
            // One without a status has no termination.
            let Ok(Stored { metadata, spec, status }) = serde_json::from_slice(text) else { return };
            let Some(owner) = metadata.owner_references.into_iter().flatten().next() else { return };
            let namespace = metadata.namespace.unwrap_or_default();
            let key = WorkloadKey { namespace, kind: spec.kind, name: spec.name };
            found.insert(key, (owner.uid, used(status)));
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

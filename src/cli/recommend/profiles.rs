//! Reads how the pods of workloads terminated.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Error, Resource as _};
use serde::Deserialize;

use crate::{
    api::{Histograms, TerminationProfile, TerminationProfileSpec, TerminationProfileStatus},
    cli::manifests::warn,
    index::list::{Selectors, for_each},
    keys::WorkloadKey,
    runtime::api_errors::describe,
};

/// The status of profiles, with the uid of the workload.
#[derive(Debug, Default)]
pub(super) struct Profiles(HashMap<WorkloadKey, (String, TerminationProfileStatus)>);

/// The used fields of a `TerminationProfile`.
#[derive(Deserialize)]
struct Stored {
    metadata: ObjectMeta,
    spec: TerminationProfileSpec,
    status: TerminationProfileStatus,
}

impl Profiles {
    /// Reads the profiles of a namespace, or of all, with a warning if they can't be listed. There are none if the CRD isn't
    /// installed.
    pub(super) async fn read(client: &Client, namespace: Option<&str>) -> Self {
        let path = TerminationProfile::url_path(&(), namespace);
        let mut found = HashMap::new();
        let listed = for_each(client, &path, Selectors::default(), |text| {
            // One without a status has no termination.
            let Ok(Stored { metadata, spec, status }) = serde_json::from_slice(text) else { return };
            let Some(owner) = metadata.owner_references.into_iter().flatten().next() else { return };
            let namespace = metadata.namespace.unwrap_or_default();
            let key = WorkloadKey { namespace, kind: spec.kind, name: spec.name };
            // They are the largest part, and not needed.
            let status =
                TerminationProfileStatus { histograms: Histograms::default(), recent: vec![], ..status };
            found.insert(key, (owner.uid, status));
        });
        match listed.await {
            Ok(()) => {}
            Err(Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                warn(&format!(
                    "TerminationProfiles cannot be listed, so shutdown timeouts are kept: {}",
                    describe(&error)
                ));
            }
        }
        Self(found)
    }

    /// The profile of a workload, not that of an earlier one of the same name.
    pub(super) fn of(&self, key: &WorkloadKey, workload: &ObjectMeta) -> Option<&TerminationProfileStatus> {
        let (uid, status) = self.0.get(key)?;
        (workload.uid.as_ref() == Some(uid)).then_some(status)
    }
}

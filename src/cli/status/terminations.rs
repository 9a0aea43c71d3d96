//! Reads how the last terminations of workloads went.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Error, Resource as _};
use serde::{Deserialize, Serialize};

use crate::{
    api::{TerminationOutcome, TerminationProfile, TerminationProfileSpec},
    index::list::{Selectors, for_each},
    keys::WorkloadKey,
    plan::Kind,
    runtime::api_errors::describe,
};

/// The last termination of a workload's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LastTermination {
    /// How it went.
    pub(super) outcome: TerminationOutcome,
    /// When it ended.
    pub(super) time: String,
}

/// The last terminations, with the uid of the workload.
#[derive(Debug)]
pub(super) struct LastTerminations(HashMap<WorkloadKey, (String, LastTermination)>);

/// The used fields of a `TerminationProfile`.
#[derive(Deserialize)]
struct Stored {
    metadata: ObjectMeta,
    spec: TerminationProfileSpec,
    status: StoredStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredStatus {
    last_outcome: TerminationOutcome,
    last_termination_time: String,
}

impl LastTerminations {
    /// Reads the `TerminationProfile`s of a namespace, or of all. `None` if they can't be listed: without a warning if
    /// the CRD isn't installed or the right is missing.
    pub(super) async fn read(
        client: &Client,
        namespace: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Option<Self> {
        let path = TerminationProfile::url_path(&(), namespace);
        let mut found = HashMap::new();
        let listed = for_each(client, &path, Selectors::default(), |text| {
            // One without a status has no termination, and neither has one of an older version.
            let Ok(Stored { metadata, spec, status }) = serde_json::from_slice(text) else { return };
            let Some(owner) = metadata.owner_references.into_iter().flatten().next() else { return };
            let namespace = metadata.namespace.unwrap_or_default();
            let key = WorkloadKey { namespace, kind: spec.kind, name: spec.name };
            let last = LastTermination { outcome: status.last_outcome, time: status.last_termination_time };
            found.insert(key, (owner.uid, last));
        });
        match listed.await {
            Ok(()) => Some(Self(found)),
            Err(Error::Api(status)) if matches!(status.code, 403 | 404) => None,
            Err(error) => {
                warnings.push(format!("TerminationProfiles cannot be listed: {}", describe(&error)));
                None
            }
        }
    }

    /// The last termination of a workload, not that of an earlier one of the same name.
    pub(super) fn of(&self, kind: Kind, workload: &ObjectMeta) -> Option<LastTermination> {
        let (uid, last) = self.0.get(&WorkloadKey::new(kind, workload))?;
        (workload.uid.as_ref() == Some(uid)).then(|| last.clone())
    }
}

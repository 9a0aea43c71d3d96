//! Reads `TerminationProfile`s.

use kube::{Client, Error, Resource as _};
use serde::{Deserialize, de::DeserializeOwned};

use super::list::{Selectors, for_each};
use crate::{
    api::{TerminationProfile, TerminationProfileSpec},
    keys::WorkloadKey,
};

/// The used fields of a profile.
#[derive(Deserialize)]
struct Stored<S> {
    metadata: Metadata,
    spec: TerminationProfileSpec,
    status: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    owner_references: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    uid: String,
}

/// Calls `each` with the workload, its uid and the status of every profile of a namespace, or of all. Profiles without a
/// termination, and those that another client made unreadable, are skipped.
///
/// # Errors
/// If they can't be listed.
pub async fn for_each_profile<S: DeserializeOwned>(
    client: &Client,
    namespace: Option<&str>,
    mut each: impl FnMut(WorkloadKey, String, S),
) -> Result<(), Error> {
    let path = TerminationProfile::url_path(&(), namespace);
    for_each(client, &path, Selectors::default(), |text| {
        let Ok(Stored { metadata, spec, status }) = serde_json::from_slice(text) else { return };
        let Some(owner) = metadata.owner_references.into_iter().next() else { return };
        let key = WorkloadKey { namespace: metadata.namespace, kind: spec.kind, name: spec.name };
        each(key, owner.uid, status);
    })
    .await
}

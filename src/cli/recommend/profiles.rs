//! Reads how the pods of workloads terminated.

use kube::{Client, Error};

use crate::{
    api::{Histograms, TerminationProfileStatus},
    cli::{manifests::warn, termination_profiles::TerminationProfiles},
    runtime::api_errors::describe,
};

/// The profiles of a namespace, or of all, with a warning if they can't be listed. There are none if the CRD isn't
/// installed.
pub(super) async fn read(
    client: &Client,
    namespace: Option<&str>,
) -> TerminationProfiles<TerminationProfileStatus> {
    // They are the largest part, and not needed.
    let without_measurements = |status: TerminationProfileStatus| TerminationProfileStatus {
        histograms: Histograms::default(),
        recent: vec![],
        ..status
    };
    match TerminationProfiles::read(client, namespace, without_measurements).await {
        Ok(profiles) => return profiles,
        Err(Error::Api(status)) if status.code == 404 => {}
        Err(error) => warn(&format!(
            "TerminationProfiles cannot be listed, so shutdown timeouts are kept: {}",
            describe(&error)
        )),
    }
    TerminationProfiles::default()
}

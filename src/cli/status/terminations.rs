//! Reads how the last terminations of workloads went.

use kube::{Client, Error};
use serde::{Deserialize, Serialize};

use crate::{
    api::TerminationOutcome, cli::termination_profiles::TerminationProfiles, runtime::api_errors::describe,
};

/// The last termination of a workload's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastTermination {
    /// How it went.
    #[serde(rename(deserialize = "lastOutcome"))]
    pub(super) outcome: TerminationOutcome,
    /// When it ended.
    #[serde(rename(deserialize = "lastTerminationTime"))]
    pub(super) time: String,
}

/// The last terminations of the workloads of a namespace, or of all. `None` if they can't be listed: without a warning if
/// the CRD isn't installed or the right is missing.
pub(super) async fn read(
    client: &Client,
    namespace: Option<&str>,
    warnings: &mut Vec<String>,
) -> Option<TerminationProfiles<LastTermination>> {
    match TerminationProfiles::read(client, namespace, |last| last).await {
        Ok(profiles) => Some(profiles),
        Err(Error::Api(status)) if matches!(status.code, 403 | 404) => None,
        Err(error) => {
            warnings.push(format!("TerminationProfiles cannot be listed: {}", describe(&error)));
            None
        }
    }
}

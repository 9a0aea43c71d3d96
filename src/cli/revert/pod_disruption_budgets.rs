//! Deletes the `PodDisruptionBudget`s that adieu created for a workload.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Preconditions},
    core::DynamicObject,
};

use crate::index::caches::{is_our_budget, our_labels};

/// Deletes those that `workload` owns. A running operator does the same.
///
/// # Errors
/// If the API server denies it or can't be reached.
pub(super) async fn remove(client: &Client, workload: &DynamicObject) -> Result<(), kube::Error> {
    let namespace = workload.namespace().unwrap_or_default();
    let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &namespace);
    let labels: Vec<_> = our_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let uid = workload.uid();
    let owned = |budget: &&PodDisruptionBudget| {
        let mut owners = budget.owner_references().iter();
        is_our_budget(budget) && owners.any(|owner| Some(&owner.uid) == uid.as_ref())
    };
    let found = api.list(&ListParams::default().labels(&labels.join(","))).await?;
    for budget in found.items.iter().filter(owned) {
        let preconditions = Preconditions { uid: budget.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&budget.name_any(), &parameters).await {
            // Deleted or replaced in the meantime.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            deleted => drop(deleted?),
        }
    }
    Ok(())
}

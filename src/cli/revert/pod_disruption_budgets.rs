//! Deletes the `PodDisruptionBudget`s that adieu created for a workload.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Preconditions},
    core::{ApiResource, DynamicObject},
};

use crate::{cli::live_object::LiveObject, plan::our_labels};

/// The page size: each may take a megabyte.
const PAGE: u32 = 20;

/// Deletes those that `workload` owns. A running operator does the same.
///
/// # Errors
/// If the API server denies it or can't be reached.
pub(super) async fn remove(client: &Client, workload: &DynamicObject) -> Result<(), kube::Error> {
    let namespace = workload.namespace().unwrap_or_default();
    let resource = ApiResource::erase::<PodDisruptionBudget>(&());
    let api: Api<LiveObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let labels: Vec<_> = our_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let uid = workload.uid();
    let owned =
        |budget: &LiveObject| budget.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref());
    let mut parameters = ListParams::default().labels(&labels.join(",")).limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        for budget in page.items.iter().filter(|budget| owned(budget)) {
            let preconditions = Preconditions { uid: budget.uid(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&budget.name_any(), &parameters).await {
                // Deleted or replaced in the meantime.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                deleted => drop(deleted?),
            }
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(());
        }
    }
}

//! Deletes the `PodDisruptionBudget`s that adieu created for a workload.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    core::{ApiResource, DynamicObject},
};

use crate::{
    cli::live_object::LiveObject,
    index::list::{Selectors, for_each},
    plan::our_labels,
};

/// Deletes those that `workload` owns. A running operator does the same.
///
/// # Errors
/// If the API server denies it or can't be reached.
pub(super) async fn remove(client: &Client, workload: &DynamicObject) -> Result<(), kube::Error> {
    let namespace = workload.namespace().unwrap_or_default();
    let resource = ApiResource::erase::<PodDisruptionBudget>(&());
    let api: Api<LiveObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let labels: Vec<_> = our_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = labels.join(",");
    let uid = workload.uid();
    let mut owned = Vec::new();
    let add = |text: &[u8]| {
        let Ok(budget) = serde_json::from_slice::<LiveObject>(text) else { return };
        if budget.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref()) {
            owned.push((budget.name_any(), budget.uid()));
        }
    };
    let path = PodDisruptionBudget::url_path(&(), Some(&namespace));
    let selectors = Selectors { labels: Some(&labels), ..Selectors::default() };
    for_each(client, &path, selectors, add).await?;
    for (name, uid) in owned {
        let preconditions = Preconditions { uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&name, &parameters).await {
            // Deleted or replaced in the meantime.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            deleted => drop(deleted?),
        }
    }
    Ok(())
}

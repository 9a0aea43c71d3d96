//! Writes the `PodDisruptionBudget`s of workloads. Which one a workload gets is decided in
//! `crates/core/src/plan/disruption_budget.rs`.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{
    Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions, Request},
    core::DynamicObject,
};

use crate::{
    api::FIELD_MANAGER,
    index::caches::Caches,
    plan::{BudgetChange, Evaluation, Kind, budget_change, pod_labels},
    runtime::client,
};

/// Creates, changes or deletes the budget of `object`.
///
/// # Errors
/// If the API server rejects the write, or can't be reached.
pub(super) async fn reconcile(
    client: &Client,
    caches: &Caches,
    kind: Kind,
    object: &DynamicObject,
    evaluation: &Evaluation,
) -> Result<(), kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    if caches.unusable().has_budget_in(&namespace) {
        // It may select these pods, and two budgets let none of them be evicted.
        return Ok(());
    }
    let budgets = caches.budgets(&namespace);
    let pods = |budget: &PodDisruptionBudget| pods_of(caches, &namespace, budget);
    let request = Request::new(PodDisruptionBudget::url_path(&(), Some(&namespace)));
    match budget_change(kind, object, evaluation, &budgets, pods) {
        Some(BudgetChange::Apply(desired)) => {
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let patch = Patch::Apply(&desired);
            client::send(client, request.patch(&desired.name_any(), &parameters, &patch)).await?;
            tracing::info!(%kind, namespace, name = object.name_any(), "wrote PodDisruptionBudget");
        }
        Some(BudgetChange::Delete(current)) => {
            let preconditions = Preconditions { uid: current.uid(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match client::send(client, request.delete(&current.name_any(), &parameters)).await {
                // It was deleted, or created again, meanwhile.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                deleted => deleted?,
            }
            tracing::info!(%kind, namespace, name = object.name_any(), "deleted PodDisruptionBudget");
        }
        None => {}
    }
    Ok(())
}

/// The labels of the pods of the workload that a budget of adieu's belongs to.
fn pods_of(
    caches: &Caches,
    namespace: &str,
    budget: &PodDisruptionBudget,
) -> Option<BTreeMap<String, String>> {
    let owner = budget.owner_references().first()?;
    let kind = Kind::from_gvk("apps", "v1", &owner.kind)?;
    caches.workloads().get(kind, namespace, &owner.name).map(|workload| pod_labels(&workload))
}

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
    plan::{Evaluation, Kind, desired_budget, is_our_budget, is_selected_by_another_budget, pod_labels},
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
    let uid = object.uid();
    let owned = |budget: &PodDisruptionBudget| {
        budget.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref())
    };
    let (mine, others): (Vec<_>, Vec<_>) =
        budgets.iter().map(AsRef::as_ref).partition(|budget| is_our_budget(budget) && owned(budget));
    let current = mine.into_iter().next();
    let desired_budget = desired_budget(kind, object, evaluation);
    let covered = desired_budget.as_ref().is_some_and(|desired_budget| {
        is_selected_by_another_budget(object, current.unwrap_or(desired_budget), &others, |other| {
            pods_of(caches, &namespace, other)
        })
    });
    let desired_budget = desired_budget.filter(|_| !covered);

    let request = Request::new(PodDisruptionBudget::url_path(&(), Some(&namespace)));
    match (desired_budget, current) {
        (Some(desired_budget), current)
            if current.is_none_or(|current| current.spec != desired_budget.spec) =>
        {
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let patch = Patch::Apply(&desired_budget);
            client::send(client, request.patch(&desired_budget.name_any(), &parameters, &patch)).await?;
            tracing::info!(%kind, namespace, name = object.name_any(), "wrote PodDisruptionBudget");
        }
        (None, Some(current)) => {
            let preconditions = Preconditions { uid: current.uid(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match client::send(client, request.delete(&current.name_any(), &parameters)).await {
                // It was deleted, or created again, meanwhile.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                deleted => deleted?,
            }
            tracing::info!(%kind, namespace, name = object.name_any(), covered, "deleted PodDisruptionBudget");
        }
        _ => {}
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

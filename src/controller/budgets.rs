//! A `PodDisruptionBudget` for each workload that shall have one, for as long as no other covers its pods.
//! Two of them make every eviction of a pod fail.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions},
    core::DynamicObject,
};

use crate::{
    api::Mode,
    plan::{self, Convergence, Kind, Standing},
    runtime::{
        FIELD_MANAGER,
        caches::{Caches, is_our_budget, our_labels},
        workloads::resource,
    },
};

/// The longest name of an object.
const NAME_LIMIT: usize = 253;

/// Makes, changes or removes the budget of `object`.
///
/// # Errors
/// Where the API server refuses, or can't be reached.
pub(super) async fn keep(
    client: &Client,
    caches: &Caches,
    kind: Kind,
    object: &DynamicObject,
    convergence: &Convergence,
) -> Result<(), kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let budgets = caches.budgets(&namespace);
    let (ours, others): (Vec<_>, Vec<_>) = budgets.iter().partition(|budget| is_our_budget(budget));
    let uid = object.uid();
    let owned = |budget: &PodDisruptionBudget| {
        budget.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref())
    };
    let current = ours.into_iter().find(|budget| owned(budget));
    let covered = others.iter().any(|budget| covers(budget, object));
    let wanted = wanted(kind, object, convergence).filter(|_| !covered);

    let api = Api::<PodDisruptionBudget>::namespaced(client.clone(), &namespace);
    match (wanted, current) {
        (Some(wanted), current) if current.is_none_or(|current| current.spec != wanted.spec) => {
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            api.patch(&wanted.name_any(), &parameters, &Patch::Apply(&wanted)).await?;
            tracing::info!(%kind, namespace, name = object.name_any(), "PodDisruptionBudget written");
        }
        (None, Some(current)) => {
            let preconditions = Preconditions { uid: current.uid(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&current.name_any(), &parameters).await {
                // Gone, or made anew, in the meantime.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                deleted => drop(deleted?),
            }
            tracing::info!(%kind, namespace, name = object.name_any(), covered, "PodDisruptionBudget removed");
        }
        _ => {}
    }
    Ok(())
}

/// The budget that the settings ask for. Not for a DaemonSet: evictions are counted by the scale of a
/// workload, which it doesn't have, and drains leave its pods alone.
fn wanted(kind: Kind, object: &DynamicObject, convergence: &Convergence) -> Option<PodDisruptionBudget> {
    let settings = &convergence.resolution.settings;
    let managed = convergence.standing != Standing::Unmanaged && settings.mode.value == Mode::Enforce;
    let budget = settings.disruption_budget.value.as_ref().filter(|_| managed && kind != Kind::DaemonSet)?;
    let selector: LabelSelector = serde_json::from_value(object.data["spec"]["selector"].clone()).ok()?;
    let owner = OwnerReference {
        // The workload's deletion isn't to wait for the budget's.
        block_owner_deletion: None,
        controller: None,
        ..object.controller_owner_ref(&resource(kind))?
    };
    Some(PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(name(kind, &object.name_any())),
            namespace: object.namespace(),
            labels: Some(our_labels()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(budget.max_unavailable.clone()),
            selector: Some(selector),
            // A pod that isn't ready serves nobody; keeping it would block the drain of its node.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

/// Names of different kinds may be the same.
fn name(kind: Kind, workload: &str) -> String {
    let suffix = format!("-{}-adieu", kind.as_str().to_lowercase());
    let mut name = workload.to_owned();
    name.truncate(name.floor_char_boundary(NAME_LIMIT - suffix.len()));
    name + &suffix
}

/// Whether a budget is for the pods of a workload. One without a selector is for none (policy/v1).
fn covers(budget: &PodDisruptionBudget, object: &DynamicObject) -> bool {
    let labels = object.data["spec"]["template"]["metadata"]["labels"].clone();
    let labels = serde_json::from_value(labels).unwrap_or_default();
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| plan::matches(selector, &labels))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::GracefulPolicy,
        plan::{Surroundings, Workload},
    };

    fn object(annotations: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": {"containers": [{"name": "web"}]}},
            },
        }))
        .unwrap()
    }

    fn under(policy: Value, kind: Kind, annotations: Value) -> Option<Value> {
        let policy: GracefulPolicy = serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop"}, "spec": policy,
        }))
        .unwrap();
        let around = Surroundings { policies: vec![Arc::new(policy)], ..Surroundings::default() };
        let object = object(annotations);
        let convergence = plan::converge(&Workload::of(kind, &object), &around);
        wanted(kind, &object, &convergence).map(|budget| serde_json::to_value(budget).unwrap())
    }

    #[test]
    fn who_is_managed_and_has_the_setting_gets_a_budget() {
        let all = json!({"selector": {}, "kinds": ["Deployment", "StatefulSet", "DaemonSet"], "disruptionBudget": {"maxUnavailable": "25%"}});
        let budget = under(all.clone(), Kind::Deployment, json!({})).unwrap();
        assert_eq!(
            budget["spec"],
            json!({"maxUnavailable": "25%", "selector": {"matchLabels": {"app": "web"}}, "unhealthyPodEvictionPolicy": "AlwaysAllow"})
        );
        assert_eq!(budget["metadata"]["name"], "web-deployment-adieu");
        assert_eq!(
            budget["metadata"]["ownerReferences"],
            json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u1"}])
        );
        assert!(under(all.clone(), Kind::StatefulSet, json!({})).is_some());
        assert!(under(all.clone(), Kind::DaemonSet, json!({})).is_none());
        assert!(under(all.clone(), Kind::Deployment, json!({"adieu.dev/graceful": "false"})).is_none());
        let mut observing = all;
        observing["mode"] = json!("Observe");
        assert!(under(observing, Kind::Deployment, json!({})).is_none());
        assert!(under(json!({"selector": {}}), Kind::Deployment, json!({})).is_none());
    }

    #[test]
    fn a_budget_covers_the_pods_that_it_selects() {
        let covers = |selector: Value| {
            let budget = json!({"metadata": {"name": "b"}, "spec": {"selector": selector}});
            covers(&serde_json::from_value(budget).unwrap(), &object(json!({})))
        };
        assert!(covers(json!({"matchLabels": {"tier": "front"}})) && covers(json!({})));
        assert!(!covers(json!({"matchLabels": {"tier": "back"}})) && !covers(Value::Null));
    }

    #[test]
    fn a_long_name_is_cut() {
        let long = name(Kind::StatefulSet, &"a".repeat(253));
        assert!(long.len() == NAME_LIMIT && long.ends_with("-statefulset-adieu"), "{long}");
    }
}

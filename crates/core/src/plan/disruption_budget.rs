//! Which `PodDisruptionBudget` a workload gets: that of its settings, unless another one selects its pods. With two, every
//! eviction of a pod fails.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time},
};
use kube::{ResourceExt as _, core::DynamicObject};

use super::{
    evaluate::{Evaluation, InjectionState},
    matching::matches,
    workload::{Kind, string_map},
};
use crate::api::{FIELD_MANAGER, Mode};

/// The maximum number of other budgets of adieu's whose workloads are compared. A workload covered by more gets none.
const MAX_COMPARED: usize = 8;
/// The longest name of an object.
const NAME_LIMIT: usize = 253;
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The labels of objects that adieu creates.
#[must_use]
pub fn our_labels() -> BTreeMap<String, String> {
    [(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())].into()
}

/// Whether adieu created the budget.
#[must_use]
pub fn is_our_budget(budget: &PodDisruptionBudget) -> bool {
    budget.labels().get(MANAGED_BY).is_some_and(|manager| manager == FIELD_MANAGER)
}

/// A write to the budget of a workload.
#[derive(Clone, Debug, PartialEq)]
pub enum BudgetChange<'a> {
    /// It is created or changed.
    Apply(Box<PodDisruptionBudget>),
    /// It is deleted.
    Delete(&'a PodDisruptionBudget),
}

/// What to write, with the `budgets` of the namespace. `pods` are the labels of the pods of the workload that a budget of
/// adieu's belongs to. `None` if nothing changes.
#[must_use]
pub fn budget_change<'a>(
    kind: Kind,
    object: &DynamicObject,
    evaluation: &Evaluation,
    budgets: &'a [Arc<PodDisruptionBudget>],
    pods: impl Fn(&PodDisruptionBudget) -> Option<BTreeMap<String, String>>,
) -> Option<BudgetChange<'a>> {
    let uid = object.uid();
    let is_owned = |budget: &PodDisruptionBudget| {
        budget.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref())
    };
    let (mine, others): (Vec<_>, Vec<_>) =
        budgets.iter().map(AsRef::as_ref).partition(|budget| is_our_budget(budget) && is_owned(budget));
    let current = mine.into_iter().next();
    let desired = desired_budget(kind, object, evaluation)
        .filter(|desired| !is_selected_by_another_budget(object, current.unwrap_or(desired), &others, pods));
    match (desired, current) {
        (Some(desired), current) if current.is_none_or(|current| current.spec != desired.spec) => {
            Some(BudgetChange::Apply(desired.into()))
        }
        (None, Some(current)) => Some(BudgetChange::Delete(current)),
        _ => None,
    }
}

/// The budget of the settings. `None` for a DaemonSet: the disruption controller needs the scale subresource, which it
/// doesn't have, and drains skip its pods.
fn desired_budget(
    kind: Kind,
    object: &DynamicObject,
    evaluation: &Evaluation,
) -> Option<PodDisruptionBudget> {
    let settings = &evaluation.resolution.settings;
    let managed = !matches!(evaluation.state, InjectionState::Unmanaged | InjectionState::Reverted)
        && settings.mode.value == Mode::Enforce;
    let budget = settings.disruption_budget.value.as_ref().filter(|_| managed && kind != Kind::DaemonSet)?;
    let selector: LabelSelector = serde_json::from_value(object.data["spec"]["selector"].clone()).ok()?;
    // The deletion of the workload must not wait for the budget, and it isn't its controller.
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: kind.as_str().to_owned(),
        name: object.metadata.name.clone()?,
        uid: object.metadata.uid.clone()?,
        ..OwnerReference::default()
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
            max_unavailable: Some(budget.max_unavailable.clone().into()),
            selector: Some(selector),
            // A pod that isn't ready serves no requests; keeping it would block the drain of its node.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

/// The name of a budget: workloads of different kinds may have the same name.
fn name(kind: Kind, workload: &str) -> String {
    let suffix = format!("-{}-adieu", kind.as_str().to_lowercase());
    let mut name = workload.to_owned();
    name.truncate(name.floor_char_boundary(NAME_LIMIT - suffix.len()));
    name + &suffix
}

type Labels = BTreeMap<String, String>;

/// Whether another budget covers the pods of a workload, so that `own` must not exist: every budget of another client
/// does, and one of adieu's that precedes `own`, or that is for a workload whose `pods` are not selected by `own`. Of many
/// that look like adieu's only some are compared: each takes parsing its workload, and any client can create them.
fn is_selected_by_another_budget(
    object: &DynamicObject,
    own: &PodDisruptionBudget,
    others: &[&PodDisruptionBudget],
    pods: impl Fn(&PodDisruptionBudget) -> Option<BTreeMap<String, String>>,
) -> bool {
    let covers = |budget: &PodDisruptionBudget, labels: &Labels| {
        selector(budget).is_some_and(|selector| matches(selector, labels))
    };
    let labels = pod_labels(object);
    let mut compared = 0;
    others.iter().filter(|other| covers(other, &labels)).any(|other| {
        if !is_our_budget(other) {
            return true;
        }
        // An earlier workload left one of the same name: it is adopted.
        if other.metadata.name == own.metadata.name {
            return false;
        }
        compared += 1;
        precedence(other) < precedence(own)
            || compared > MAX_COMPARED
            || pods(other).is_some_and(|pods| !covers(own, &pods))
    })
}

/// The labels of a workload's pods.
#[must_use]
pub fn pod_labels(workload: &DynamicObject) -> BTreeMap<String, String> {
    string_map(&workload.data["spec"]["template"]["metadata"]["labels"])
}

/// The selector. A budget without one selects no pods (policy/v1).
fn selector(budget: &PodDisruptionBudget) -> Option<&LabelSelector> {
    budget.spec.as_ref()?.selector.as_ref()
}

/// The order of two budgets of adieu's that select each other's pods, of which the first stays: the one with the broader
/// selector, then the older. One that doesn't exist yet comes last. So no two yield to each other.
fn precedence(budget: &PodDisruptionBudget) -> (usize, bool, Option<&Time>, Option<&str>) {
    let requirements = selector(budget).map_or(0, |selector| {
        let expressions = selector.match_expressions.as_ref().map_or(0, Vec::len);
        selector.match_labels.as_ref().map_or(0, BTreeMap::len) + expressions
    });
    let created = budget.metadata.creation_timestamp.as_ref();
    (requirements, created.is_none(), created, budget.metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::GracefulPolicy,
        plan::{NamespaceContext, Workload, evaluate},
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
        let context = NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() };
        let object = object(annotations);
        let evaluation = evaluate(&Workload::of(kind, &object), &context);
        desired_budget(kind, &object, &evaluation).map(|budget| serde_json::to_value(budget).unwrap())
    }

    #[test]
    fn a_managed_workload_with_the_setting_gets_a_budget() {
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
        let mut auditing = all;
        auditing["mode"] = json!("Audit");
        assert!(under(auditing, Kind::Deployment, json!({})).is_none());
        assert!(under(json!({"selector": {}}), Kind::Deployment, json!({})).is_none());
    }

    fn budget(name: &str, manager: &str, created: Option<&str>, selector: Value) -> PodDisruptionBudget {
        let labels = json!({"app.kubernetes.io/managed-by": manager});
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels, "creationTimestamp": created},
            "spec": {"selector": selector},
        }))
        .unwrap()
    }

    #[test]
    fn a_budget_covers_the_pods_that_it_selects() {
        let own = budget("web-deployment-adieu", "adieu", None, json!({"matchLabels": {"app": "web"}}));
        let covers = |selector: Value| {
            is_selected_by_another_budget(
                &object(json!({})),
                &own,
                &[&budget("b", "Helm", Some("2026-01-01T00:00:00Z"), selector)],
                |_| None,
            )
        };
        assert!(covers(json!({"matchLabels": {"tier": "front"}})) && covers(json!({})));
        assert!(!covers(json!({"matchLabels": {"tier": "back"}})) && !covers(Value::Null));
    }

    #[test]
    fn one_of_two_budgets_for_the_same_pods_is_kept() {
        let web = object(json!({}));
        let same = |_: &PodDisruptionBudget| Some(pod_labels(&web));
        let ours = |name: &str, day: Option<u8>, labels: Value| {
            let created = day.map(|day| format!("2026-01-0{day}T00:00:00Z"));
            budget(name, "adieu", created.as_deref(), json!({"matchLabels": labels}))
        };
        let [app, tier, both] =
            [json!({"app": "web"}), json!({"tier": "front"}), json!({"app": "web", "tier": "front"})];
        // The pods of each are selected by the other.
        for (one, other, why) in [
            (ours("b", Some(2), app.clone()), ours("a", Some(1), both.clone()), "the broader one stays"),
            (ours("b", None, app.clone()), ours("a", Some(1), both.clone()), "and comes although it is new"),
            (ours("b", Some(1), app.clone()), ours("a", Some(2), tier.clone()), "then the older one stays"),
            (ours("b", Some(1), app.clone()), ours("a", None, tier.clone()), "and no new one comes"),
            (ours("a", Some(1), app.clone()), ours("b", Some(1), tier), "then the name decides"),
        ] {
            assert!(
                is_selected_by_another_budget(&web, &other, &[&one], same)
                    && !is_selected_by_another_budget(&web, &one, &[&other], same),
                "{why}"
            );
        }
        let of_others = ours("a", Some(1), json!({"app": "shop"}));
        assert!(!is_selected_by_another_budget(&web, &ours("b", Some(2), both), &[&of_others], same));
        // One that an earlier workload of the same name left is adopted.
        assert!(!is_selected_by_another_budget(
            &web,
            &ours("b", None, app.clone()),
            &[&ours("b", Some(1), app)],
            same
        ));
    }

    #[test]
    fn the_budget_that_covers_both_workloads_is_kept() {
        let web = object(json!({}));
        let labelled = |name: &str, labels: Value| {
            budget(name, "adieu", Some("2026-01-01T00:00:00Z"), json!({"matchLabels": labels}))
        };
        // Its own selector has fewer requirements, but is for none of the other's pods.
        let own = labelled("a", json!({"tier": "front"}));
        let other = labelled("b", json!({"app": "web", "tier": "front"}));
        let pods = |app: &str| Some([("app".to_owned(), app.to_owned())].into());
        assert!(is_selected_by_another_budget(&web, &own, &[&other], |_| pods("web")));
        assert!(!is_selected_by_another_budget(&web, &own, &[&other], |_| None), "its workload is unknown");
    }

    #[test]
    fn only_some_of_many_budgets_that_look_like_ours_are_compared() {
        let web = object(json!({}));
        let of_both = json!({"matchLabels": {"app": "web", "tier": "front"}});
        let own = budget("a", "adieu", Some("2026-01-01T00:00:00Z"), json!({"matchLabels": {"app": "web"}}));
        for (number, expected) in [(MAX_COMPARED, false), (MAX_COMPARED + 1, true)] {
            let others: Vec<_> =
                (0..number).map(|name| budget(&name.to_string(), "adieu", None, of_both.clone())).collect();
            let others: Vec<_> = others.iter().collect();
            assert_eq!(is_selected_by_another_budget(&web, &own, &others, |_| None), expected, "{number}");
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        let long = name(Kind::StatefulSet, &"a".repeat(253));
        assert!(long.len() == NAME_LIMIT && long.ends_with("-statefulset-adieu"), "{long}");
    }
}

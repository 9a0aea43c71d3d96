//! Which changes of watched objects can affect a decision.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{Resource, runtime::watcher};

use crate::{hash::hash_of, index::by_namespace::Namespaced, plan::is_our_budget};

/// Which events of a kind can affect a decision.
pub(super) struct Relevance<K> {
    /// A hash of the fields that decisions depend on; `None` if there are none.
    fields: fn(&K) -> Option<u64>,
    /// Whether another hash affects a decision. Not asked about lists: comparing every object with the others of its
    /// namespace would take too long.
    affects_decision: Box<dyn Fn(&K) -> bool + Send>,
}

impl<K> Relevance<K> {
    /// Every change of these fields.
    pub(super) fn of(fields: fn(&K) -> Option<u64>) -> Self {
        Self { fields, affects_decision: Box::new(|_| true) }
    }
}

/// Filters events: changes of the status, for example, are frequent and affect no decision. It keeps a hash of the
/// relevant fields of every object, by the hash of its uid.
#[derive(Default)]
pub(super) struct ChangeFilter(HashMap<u64, u64>);

impl ChangeFilter {
    /// Whether the event can affect a decision.
    pub(super) fn passes<K: Resource>(
        &mut self,
        event: &watcher::Event<K>,
        relevance: &Relevance<K>,
    ) -> bool {
        let Relevance { fields, affects_decision } = relevance;
        let uid = |object: &K| hash_of(&object.meta().uid);
        match event {
            watcher::Event::Apply(object) => {
                fields(object).is_some_and(|now| self.0.insert(uid(object), now) != Some(now))
                    && affects_decision(object)
            }
            watcher::Event::Delete(object) => {
                self.0.remove(&uid(object));
                true
            }
            watcher::Event::Init => {
                self.0.clear();
                false
            }
            watcher::Event::InitApply(object) => {
                fields(object).map(|now| self.0.insert(uid(object), now));
                false
            }
            watcher::Event::InitDone => true,
        }
    }
}

/// A hash of the generation, which the API server increments with every change of the spec.
pub(super) fn generation<K: Resource>(object: &K) -> Option<u64> {
    object.meta().generation.map(|generation| hash_of(&generation))
}

/// A hash of the spec and of the annotations of load balancers: a Service has no generation.
pub(super) fn service_fields(service: &Service) -> Option<u64> {
    let fields = (&service.metadata.annotations, &service.spec);
    serde_json::to_string(&fields).ok().map(|fields| hash_of(&fields))
}

/// The generation of a `PodDisruptionBudget` that isn't adieu's, or that may select pods of another one, which may have
/// been created while adieu's was being written. adieu's other budgets affect no decision.
pub(super) fn relevant_budgets(budgets: Namespaced<PodDisruptionBudget>) -> Relevance<PodDisruptionBudget> {
    let affects_decision = move |budget: &PodDisruptionBudget| {
        let overlaps = |other: &Arc<PodDisruptionBudget>| {
            other.metadata.name != budget.metadata.name && may_overlap(budget, other)
        };
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        !is_our_budget(budget) || budgets.in_namespace(namespace).iter().any(overlaps)
    };
    Relevance { fields: generation, affects_decision: Box::new(affects_decision) }
}

/// Whether two budgets may select the same pods: no label would need two values.
fn may_overlap(one: &PodDisruptionBudget, other: &PodDisruptionBudget) -> bool {
    let (Some(one), Some(other)) = (match_labels(one), match_labels(other)) else { return true };
    one.iter().all(|(key, value)| other.get(key).is_none_or(|other| other == value))
}

fn match_labels(budget: &PodDisruptionBudget) -> Option<&BTreeMap<String, String>> {
    budget.spec.as_ref()?.selector.as_ref()?.match_labels.as_ref()
}

/// A hash of a namespace's labels; it always has some.
pub(super) fn labels(namespace: &Namespace) -> Option<u64> {
    namespace.metadata.labels.as_ref().map(hash_of)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::index::{by_namespace::fixed, watched::Watched as _};

    fn budget(name: &str, manager: &str, labels: &Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": name, "generation": 1,
                "labels": {"app.kubernetes.io/managed-by": manager},
            },
            "spec": {"selector": {"matchLabels": labels}},
        }))
        .unwrap()
    }

    #[test]
    fn a_budget_that_adieu_writes_requeues_workloads_if_it_may_select_pods_of_another() {
        let [web, canary, shop] =
            [json!({"app": "web"}), json!({"app": "web", "track": "canary"}), json!({"app": "shop"})];
        let passes = |new: PodDisruptionBudget, present: PodDisruptionBudget| {
            let relevant = relevant_budgets(fixed(vec![present, new.clone()]));
            ChangeFilter::default().passes(&watcher::Event::Apply(new), &relevant)
        };
        assert!(passes(budget("a", "adieu", &web), budget("b", "adieu", &canary)));
        assert!(passes(budget("a", "adieu", &canary), budget("b", "adieu", &web)));
        assert!(
            !passes(budget("a", "adieu", &shop), budget("b", "adieu", &web)),
            "thousands may be written together"
        );
        assert!(
            passes(budget("a", "adieu", &canary), budget("b", "Helm", &web)),
            "the user's may have been created while adieu's was being written"
        );
        assert!(!passes(budget("a", "adieu", &shop), budget("b", "Helm", &web)));
        assert!(passes(budget("a", "Helm", &shop), budget("b", "adieu", &web)));
    }

    #[test]
    fn of_the_spec_of_services_the_fields_on_which_decisions_depend_are_kept() {
        let decode = |spec: &Value| {
            let service = json!({"metadata": {"name": "web"}, "spec": spec});
            serde_json::to_value(Service::decode(service.to_string().as_bytes()).unwrap().spec).unwrap()
        };
        let port = json!({
            "name": "web", "appProtocol": "kubernetes.io/h2c", "protocol": "UDP", "port": 80, "targetPort": "http",
        });
        let used = json!({
            "type": "LoadBalancer", "loadBalancerClass": "example.com/lb", "externalTrafficPolicy": "Local",
            "clusterIP": "None", "publishNotReadyAddresses": true, "selector": {"app": "web"}, "ports": [port],
        });
        assert_eq!(decode(&used), used);
        let usual = json!({
            "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "sessionAffinity": "None",
            "selector": {"app": "web"}, "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30080}],
        });
        assert_eq!(decode(&usual), json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    }
}

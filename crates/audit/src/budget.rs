//! PodDisruptionBudgets: which pods they select, and how many disruptions they allow.

use std::collections::BTreeMap;

use adieu_core::plan::matches;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize as _;
use serde_json::Value;

/// What a budget limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// The number of pods that must be available.
    MinAvailable(Amount),
    /// The number of pods that may be unavailable.
    MaxUnavailable(Amount),
    /// It gives neither, or in a form that can't be read.
    Unknown,
}

/// A number of pods, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Pods(i64),
    Percent(i64),
}

impl Amount {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.strip_suffix('%')?.parse().ok().map(Self::Percent),
            value => value.as_i64().map(Self::Pods),
        }
    }

    /// The number of pods out of `replicas`. The disruption controller rounds shares up.
    fn of(self, replicas: i64) -> i64 {
        match self {
            Self::Pods(pods) => pods,
            Self::Percent(percent) => percent.saturating_mul(replicas).saturating_add(99) / 100,
        }
    }
}

impl Count {
    pub(crate) fn of(budget: &Value) -> Self {
        let amount = |field: &str| Amount::read(&budget["spec"][field]);
        let min = amount("minAvailable").map(Self::MinAvailable);
        min.or_else(|| amount("maxUnavailable").map(Self::MaxUnavailable)).unwrap_or(Self::Unknown)
    }

    /// Whether no pod out of `replicas` may be evicted while all are ready.
    pub(crate) fn blocks(&self, replicas: i64) -> bool {
        match self {
            Self::MinAvailable(amount) => amount.of(replicas) >= replicas,
            Self::MaxUnavailable(amount) => amount.of(replicas) <= 0,
            Self::Unknown => false,
        }
    }

    /// The field that gives it.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::MinAvailable(_) => "minAvailable",
            Self::MaxUnavailable(_) => "maxUnavailable",
            Self::Unknown => "",
        }
    }
}

/// Whether a budget selects pods with these labels. An empty selector selects all pods of the namespace, an absent one
/// none (policy/v1).
pub(crate) fn selects(budget: &Value, labels: &BTreeMap<String, String>) -> bool {
    let selector = &budget["spec"]["selector"];
    let decoded = LabelSelector::deserialize(selector).ok().filter(|_| selector.is_object());
    decoded.is_some_and(|selector| matches(&selector, labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_budget_blocks_if_it_allows_no_disruption() {
        for (spec, replicas, expected) in [
            (json!({"minAvailable": 1}), 1, true),
            (json!({"minAvailable": 1}), 2, false),
            (json!({"minAvailable": "100%"}), 5, true),
            (json!({"minAvailable": "50%"}), 1, true),
            (json!({"minAvailable": "50%"}), 2, false),
            (json!({"minAvailable": "90%"}), 3, true),
            (json!({"maxUnavailable": 0}), 3, true),
            (json!({"maxUnavailable": "0%"}), 3, true),
            (json!({"maxUnavailable": "1%"}), 3, false),
            (json!({"maxUnavailable": 1}), 1, false),
            (json!({}), 1, false),
            (json!({"minAvailable": "all"}), 1, false),
        ] {
            let count = Count::of(&json!({"spec": spec.clone()}));
            assert_eq!(count.blocks(replicas), expected, "{spec} with {replicas}");
        }
    }

    #[test]
    fn an_empty_selector_selects_all_and_an_absent_one_none() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        for (selector, expected) in [
            (json!({}), true),
            (json!(null), false),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "other"}}), false),
            (json!({"matchLabels": 5}), false),
        ] {
            let budget = json!({"spec": {"selector": selector.clone()}});
            assert_eq!(selects(&budget, &labels), expected, "{selector}");
        }
    }
}

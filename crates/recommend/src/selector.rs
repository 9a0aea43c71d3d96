//! Selectors that match some workloads and no others.

use std::collections::{BTreeMap, BTreeSet};

use adieu_core::{
    api::{annotations::is_own, limits},
    plan::matches,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The labels of a pod template.
pub(crate) type Labels = BTreeMap<String, String>;

/// Keys that name an application, the preferred one first.
const PREFERRED: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "app.kubernetes.io/instance"];
/// A key whose value may change with a release.
const VERSION: &str = "version";
/// Keys whose values change with each release.
const VOLATILE: [&str; 6] = [
    "pod-template-hash",
    "controller-revision-hash",
    "rollouts-pod-template-hash",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "chart",
];
/// How many of the last selectors are tried for another workload.
const TRIES: usize = 4;

/// A selector, and the positions of the workloads that it matches.
pub(crate) type Part = (LabelSelector, Vec<usize>);

/// Few selectors that match these workloads, each only one of them, and no others; and the positions of workloads that no
/// selector tells from the others.
pub(crate) fn selectors(members: &[&Labels], others: &[&Labels]) -> (Vec<Part>, Vec<usize>) {
    // The result doesn't depend on the order of the workloads.
    let others: Vec<&Labels> = others.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut positions: BTreeMap<&Labels, Vec<usize>> = BTreeMap::new();
    for (position, labels) in members.iter().enumerate() {
        positions.entry(labels).or_default().push(position);
    }
    let distinct: Vec<&Labels> = positions.keys().copied().collect();
    let all = |labels: &[&Labels]| -> Vec<usize> {
        let all = labels.iter().filter_map(|labels| positions.get(labels)).flatten();
        let mut all: Vec<usize> = all.copied().collect();
        all.sort_unstable();
        all
    };
    if let Some(selector) = selector(&distinct, &others) {
        return (vec![(selector, all(&distinct))], vec![]);
    }
    let mut parts: Vec<(LabelSelector, Vec<&Labels>)> = Vec::new();
    let mut left = Vec::new();
    let of = |part: &[&Labels]| {
        let rest = distinct.iter().filter(|labels| !part.contains(labels));
        let others: Vec<&Labels> = others.iter().chain(rest).copied().collect();
        selector(part, &others)
    };
    for &labels in &distinct {
        let joined = parts.iter_mut().rev().take(TRIES).find_map(|part| {
            let joined = [part.1.as_slice(), &[labels]].concat();
            let selector = of(&joined)?;
            *part = (selector, joined);
            Some(())
        });
        if joined.is_none() {
            match of(&[labels]) {
                Some(selector) => parts.push((selector, vec![labels])),
                None => left.push(labels),
            }
        }
    }
    let parts = parts.into_iter().map(|(selector, labels)| (selector, all(&labels)));
    (parts.collect(), all(&left))
}

/// A short selector that matches all members and none of the others; `None` if there is none within the limits of a
/// policy.
fn selector(members: &[&Labels], others: &[&Labels]) -> Option<LabelSelector> {
    let keys = shared_keys(members);
    let mut draft = Draft::default();
    let mut remaining: Vec<&Labels> = others.to_vec();
    for &key in &keys {
        let Some(value) = common_value(members, key) else { continue };
        let has_value = |labels: &&Labels| labels.get(key) == Some(value);
        if draft.labels.is_empty() || !remaining.iter().all(has_value) {
            remaining.retain(has_value);
            draft.labels.insert(key.clone(), value.clone());
        }
    }
    if !remaining.is_empty() || draft.labels.is_empty() {
        draft.add_values(members, &keys, &mut remaining);
    }
    while let Some(&other) = remaining.first() {
        let is_absent = |key: &&String| members.iter().all(|labels| !labels.contains_key(*key));
        let key = other.keys().filter(|key| is_stable(key)).find(is_absent)?;
        remaining.retain(|labels| !labels.contains_key(key));
        draft.expressions.push(requirement(key, "DoesNotExist", None));
    }
    draft.without_needless_labels(others).selector()
}

/// The stable keys that all of the labels have, the preferred ones first.
fn shared_keys<'a>(members: &[&'a Labels]) -> Vec<&'a String> {
    let Some(first) = members.first() else { return vec![] };
    let is_shared = |key: &&String| members.iter().all(|labels| labels.contains_key(*key));
    let mut keys: Vec<_> = first.keys().filter(|key| is_stable(key)).filter(is_shared).collect();
    keys.sort_by_key(|key| (rank(key), *key));
    keys
}

/// The value of a key, if all of the labels have the same.
fn common_value<'a>(members: &[&'a Labels], key: &str) -> Option<&'a String> {
    let value = members.first()?.get(key)?;
    members.iter().all(|labels| labels.get(key) == Some(value)).then_some(value)
}

/// The values that the labels have for a key.
fn values_of<'a>(members: &[&'a Labels], key: &str) -> BTreeSet<&'a String> {
    members.iter().filter_map(|labels| labels.get(key)).collect()
}

fn has_one_of(labels: &Labels, key: &str, values: &BTreeSet<&String>) -> bool {
    labels.get(key).is_some_and(|value| values.contains(value))
}

fn is_within(count: usize, limit: i64) -> bool {
    i64::try_from(count).is_ok_and(|count| count <= limit)
}

fn is_stable(key: &str) -> bool {
    !is_own(key) && !VOLATILE.contains(&key)
}

fn rank(key: &str) -> usize {
    let last = PREFERRED.len() + usize::from(key == VERSION);
    PREFERRED.iter().position(|preferred| *preferred == key).unwrap_or(last)
}

fn requirement(key: &str, operator: &str, values: Option<Vec<String>>) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values }
}

/// A selector under construction.
#[derive(Debug, Default)]
struct Draft {
    labels: BTreeMap<String, String>,
    expressions: Vec<LabelSelectorRequirement>,
}

impl Draft {
    /// Adds the values of the key that leaves the fewest of the others, if that helps.
    fn add_values(&mut self, members: &[&Labels], keys: &[&String], remaining: &mut Vec<&Labels>) {
        let choices = keys.iter().map(|key| (*key, values_of(members, key)));
        let choices = choices.filter(|(_, values)| is_within(values.len(), limits::MATCH_VALUES));
        let left = |(key, values): &(&String, BTreeSet<&String>)| {
            remaining.iter().filter(|labels| has_one_of(labels, key, values)).count()
        };
        let Some((key, values)) = choices.min_by_key(left) else { return };
        let before = remaining.len();
        remaining.retain(|labels| has_one_of(labels, key, &values));
        if remaining.len() < before || self.labels.is_empty() {
            let values = values.into_iter().cloned().collect();
            self.expressions.push(requirement(key, "In", Some(values)));
        }
    }

    /// Whether it requires a label, so that it doesn't match workloads that are created later without one.
    fn requires_label(&self) -> bool {
        !self.labels.is_empty() || self.expressions.iter().any(|expression| expression.operator == "In")
    }

    fn without_needless_labels(mut self, others: &[&Labels]) -> Self {
        for key in self.labels.keys().cloned().collect::<Vec<_>>() {
            let Some(value) = self.labels.remove(&key) else { continue };
            let selector = self.to_selector();
            if !self.requires_label() || others.iter().any(|labels| matches(&selector, labels)) {
                self.labels.insert(key, value);
            }
        }
        self
    }

    fn to_selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.labels.clone()).filter(|labels| !labels.is_empty()),
            match_expressions: Some(self.expressions.clone()).filter(|expressions| !expressions.is_empty()),
        }
    }

    /// The selector; `None` if a policy can't have it.
    fn selector(&self) -> Option<LabelSelector> {
        let fits = is_within(self.labels.len(), limits::MATCH_LABELS)
            && is_within(self.expressions.len(), limits::MATCH_EXPRESSIONS);
        (fits && self.requires_label()).then(|| self.to_selector())
    }
}

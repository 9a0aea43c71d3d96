//! Finds keys under `adieu.dev/` that have no effect: on unsupported kinds, as labels, or in the wrong place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::objects::Object;
use adieu_core::{
    api::{
        WorkloadKind,
        annotations::{self, INJECTED},
        labels,
    },
    plan::string_map,
};

/// Keys without effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ineffective {
    /// The field path of the first of the keys.
    pub(super) path: Vec<String>,
    /// The warning.
    pub(super) message: String,
}

/// The paths from which adieu reads annotations of a workload.
const READ: [&str; 2] = ["metadata.annotations", "spec.template.metadata.annotations"];

/// The paths of pod metadata of other kinds.
const POD_TEMPLATES: [&str; 2] = ["spec.template.metadata", "spec.jobTemplate.spec.template.metadata"];

/// The path of a `CronJob`'s Job metadata, which is easily confused with that of the pods.
const JOB_TEMPLATE: &str = "spec.jobTemplate.metadata";

const KINDS: &str = "apps/v1 Deployment, StatefulSet and DaemonSet";

/// The keys of a workload that are neither annotations of its metadata nor of its pod template.
pub(super) fn misplaced(workload: &Object<'_>) -> Option<Ineffective> {
    let mut found = Vec::new();
    collect(workload.value, &mut Vec::new(), &mut found);
    found.retain(|path: &Vec<String>| {
        path.split_last().is_some_and(|(key, holder)| {
            // A label with the annotation's name may be there for selectors.
            let is_annotation = READ.iter().any(|read| at(workload.value, read).get(key).is_some());
            !is_annotation && !READ.contains(&holder.join(".").as_str())
        })
    });
    let places: Vec<_> = found.iter().map(|path| field_path(path)).collect();
    let (have, them) = number(places.len());
    let message = format!(
        "{} {have} no effect: adieu reads only {}: move {them} there",
        places.join(", "),
        READ.join(" and ")
    );
    Some(Ineffective { path: found.into_iter().next()?, message })
}

/// The paths of all keys that adieu knows.
fn collect(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        path.push(key.clone());
        if is_known(key) {
            found.push(path.clone());
        }
        collect(value, path, found);
        path.pop();
    }
}

/// The annotations and labels of an object that isn't injected, because it is not a workload of `apps/v1`.
pub(super) fn unsupported(object: &Object<'_>) -> Option<Ineffective> {
    if object.is_policy() || object.is_controlled() {
        return None;
    }
    let mut found: Vec<Vec<String>> = Vec::new();
    let (mut keys, mut invalid) = (BTreeSet::new(), Vec::new());
    let (mut of_pods, mut labelled) = (false, false);
    for path in metadata_of(object) {
        let of_template = POD_TEMPLATES.contains(&path);
        labelled |= (of_template || object.kind() == "Pod")
            && labels::is_enabled(&string_map(&at(object.value, path)["labels"]));
        for map in ["annotations", "labels"] {
            let entries = at(object.value, path)[map].as_object().into_iter().flatten();
            for (key, value) in entries.filter(|(key, _)| is_known(key)) {
                found.push(path.split('.').chain([map, key]).map(str::to_owned).collect());
                keys.insert(key.as_str());
                if map == "annotations" {
                    of_pods |= of_template;
                    invalid.extend(invalid_annotation(path, key, value));
                }
            }
        }
    }
    if found.is_empty() {
        return injection_label(object);
    }
    let (have, them) = number(keys.len());
    let keys: Vec<_> = keys.into_iter().collect();
    let is_label = found.iter().all(|path| path.iter().any(|step| step == "labels"));
    let remedy = if is_label && object.kind() == "Pod" {
        format!("move {them} to metadata.annotations, and {}", add_label("metadata"))
    } else {
        remedy(object, of_pods, labelled, them)
    };
    let mut message = format!("{} {have} no effect here: {remedy}", keys.join(", "));
    for invalid in invalid {
        message += "; also ";
        message += &invalid;
    }
    Some(Ineffective { path: found.into_iter().next()?, message })
}

/// The injection label as an annotation, or with a value that has no effect.
fn injection_label(object: &Object<'_>) -> Option<Ineffective> {
    const KEY: &str = labels::INJECTION;
    metadata_of(object).into_iter().find_map(|path| {
        let (annotation, label) =
            (&at(object.value, path)["annotations"][KEY], &at(object.value, path)["labels"][KEY]);
        let (map, message) = if !annotation.is_null() {
            ("annotations", format!(" has no effect: it is a label: move it to {path}.labels"))
        } else if !label.is_null() && label != labels::ENABLED && label != "disabled" {
            ("labels", format!(": Invalid value: {label}: has no effect: must be {:?}", labels::ENABLED))
        } else {
            return None;
        };
        let message = format!("{path}.{map}[{KEY}]{message}");
        Some(Ineffective { path: path.split('.').chain([map, KEY]).map(str::to_owned).collect(), message })
    })
}

/// The remedy for a kind that isn't injected. `of_pods`: its pods have annotations already; `labelled`: they have the
/// injection label.
fn remedy(object: &Object<'_>, of_pods: bool, labelled: bool, them: &str) -> String {
    let (api_version, kind) = (object.api_version(), object.kind());
    let group = api_version.split('/').next();
    let workload = WorkloadKind::ALL.iter().any(|known| known.as_str() == kind);
    // Metadata may be missing from a template.
    let template = POD_TEMPLATES.iter().find(|path| {
        path.rsplit_once('.').is_some_and(|(template, _)| at(object.value, template).is_object())
    });
    match (template, kind) {
        _ if workload && matches!(group, Some("apps" | "extensions")) => {
            format!("Kubernetes no longer serves {api_version}: use apps/v1")
        }
        _ if workload && !group.unwrap_or_default().contains('.') => {
            format!("no matches for kind {kind:?} in version {api_version:?}: use apps/v1")
        }
        (Some(path), _) => {
            let moved = format!("move {them} to {path}.annotations");
            let steps: Vec<_> = [(!of_pods).then_some(moved), (!labelled).then(|| add_label(path))]
                .into_iter()
                .flatten()
                .collect();
            by_pod(&steps, &format!("the pods of this {kind} when they are created"))
        }
        (None, "Pod") => {
            let steps: Vec<_> = (!labelled).then(|| add_label("metadata")).into_iter().collect();
            by_pod(&steps, "an annotated Pod when it is created")
        }
        (None, "Namespace") => "annotate workloads, or write a GracefulPolicy that selects them".into(),
        (None, _) => format!(
            "adieu inject supports {KINDS}, and finds no pod template in this {kind}: annotate the workload instead"
        ),
    }
}

/// The webhook selects pods by this label.
fn add_label(path: &str) -> String {
    format!("add the label {}: {} to {path}.labels", labels::INJECTION, labels::ENABLED)
}

/// How pods are injected after these steps.
fn by_pod(steps: &[String], pods: &str) -> String {
    let cluster = match steps {
        [] => "A".to_owned(),
        steps => {
            let mut steps = steps.join(" and ");
            steps[..1].make_ascii_uppercase();
            format!("{steps}: then a")
        }
    };
    format!("adieu inject supports {KINDS}. {cluster} cluster that runs adieu injects {pods}")
}

/// The verb and the pronoun for this number of keys.
fn number(count: usize) -> (&'static str, &'static str) {
    if count == 1 { ("has", "it") } else { ("have", "them") }
}

/// The record of an object that `adieu revert` doesn't change.
pub(super) fn unreverted(object: &Object<'_>) -> Option<Ineffective> {
    if object.workload().is_some() || object.is_controlled() {
        return None;
    }
    let path = metadata_of(object)
        .into_iter()
        .find(|path| !at(object.value, path)["annotations"][INJECTED].is_null())?;
    let message = format!(
        "{path}.annotations[{INJECTED}]: not reverted: adieu revert supports {KINDS}. Manually remove this \
         annotation, and the fields that it lists as injected"
    );
    let path = path.split('.').chain(["annotations", INJECTED]).map(str::to_owned).collect();
    Some(Ineffective { path, message })
}

/// The paths of metadata of the object and of its pods.
fn metadata_of(object: &Object<'_>) -> Vec<&'static str> {
    let others = [JOB_TEMPLATE].into_iter().chain(POD_TEMPLATES);
    ["metadata"].into_iter().chain(others.filter(|path| at(object.value, path).is_object())).collect()
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, step| &value[step])
}

/// Why the webhook would deny an annotation.
fn invalid_annotation(path: &str, key: &str, value: &Value) -> Option<String> {
    let Some(text) = value.as_str() else {
        return Some(format!(
            "{path}.annotations[{key}]: Invalid value: {value}: must be a string: put it in quotes"
        ));
    };
    let parsed = annotations::parse(&BTreeMap::from([(key.to_owned(), text.to_owned())]), "annotations");
    let invalid = parsed.invalid.first()?;
    Some(format!("{path}.{invalid}"))
}

/// Whether the key is a setting of adieu.
fn is_known(key: &str) -> bool {
    if !annotations::is_own(key) {
        return false;
    }
    let map = string_map(&Value::from_iter([(key, "")]));
    annotations::instructions(&map).next().is_some()
        && annotations::parse(&map, "annotations").unknown.is_empty()
}

/// The field path of a key.
fn field_path(path: &[String]) -> String {
    match path.split_last() {
        Some((key, holder)) if !holder.is_empty() => format!("{}[{key}]", holder.join(".")),
        _ => path.concat(),
    }
}

#[cfg(test)]
#[path = "ineffective_settings_tests.rs"]
mod tests;

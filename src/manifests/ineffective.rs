//! Keys under `adieu.dev/` where they have no effect: on kinds that the command line doesn't change, as labels, or
//! in another place than adieu reads.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::objects::Object;
use crate::{
    api::{
        WorkloadKind,
        annotations::{self, INJECTED},
        labels,
    },
    plan::string_map,
};

/// Something that has no effect.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Ignored {
    /// The field path of the first of the keys.
    pub(in crate::cli) path: Vec<String>,
    /// What a person should know.
    pub(in crate::cli) message: String,
}

/// Where adieu reads the annotations of a workload.
const READ: [&str; 2] = ["metadata.annotations", "spec.template.metadata.annotations"];

/// Where other kinds have the metadata of their pods.
const POD_TEMPLATES: [&str; 2] = ["spec.template.metadata", "spec.jobTemplate.spec.template.metadata"];

/// Where a `CronJob` has the metadata of its Jobs, which people take for that of the pods.
const JOB_TEMPLATE: &str = "spec.jobTemplate.metadata";

const KINDS: &str = "apps/v1 Deployment, StatefulSet and DaemonSet";

/// The keys of a workload that are neither annotations of its metadata nor of its pod template.
pub(super) fn misplaced(workload: &Object<'_>) -> Option<Ignored> {
    let mut found = Vec::new();
    collect(workload.value, &mut Vec::new(), &mut found);
    found.retain(|path: &Vec<String>| {
        path.split_last().is_some_and(|(key, holder)| {
            // A label beside the annotation may be there to select by.
            let is_annotation = READ.iter().any(|read| at(workload.value, read).get(key).is_some());
            !is_annotation && !READ.contains(&holder.join(".").as_str())
        })
    });
    let places: Vec<_> = found.iter().map(|path| shown(path)).collect();
    let (have, them) = number(places.len());
    let message = format!(
        "{} {have} no effect: adieu reads only {}: move {them} there",
        places.join(", "),
        READ.join(" and ")
    );
    Some(Ignored { path: found.into_iter().next()?, message })
}

/// The paths of all keys that tell adieu something.
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

/// The annotations of an object that is no workload of `apps/v1`, and so isn't injected; labels likewise.
pub(super) fn unsupported(object: &Object<'_>) -> Option<Ignored> {
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
                    invalid.extend(malformed(path, key, value));
                }
            }
        }
    }
    if found.is_empty() {
        return injection_label(object);
    }
    let (have, them) = number(keys.len());
    let keys: Vec<_> = keys.into_iter().collect();
    let mut message =
        format!("{} {have} no effect here: {}", keys.join(", "), remedy(object, of_pods, labelled, them));
    for invalid in invalid {
        message += "; also ";
        message += &invalid;
    }
    Some(Ignored { path: found.into_iter().next()?, message })
}

/// The label that leads pods to the webhook, as an annotation or with a value that has no effect.
fn injection_label(object: &Object<'_>) -> Option<Ignored> {
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
        Some(Ignored { path: path.split('.').chain([map, KEY]).map(str::to_owned).collect(), message })
    })
}

/// What to do for a kind that isn't injected. `of_pods` says that its pods have annotations already, `labelled` that they
/// have the label that leads them to the webhook.
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
            format!("Kubernetes has no {kind} in apiVersion {api_version:?}: use apps/v1")
        }
        (Some(path), _) => {
            let moved = format!("move {them} to {path}.annotations");
            let steps: Vec<_> = [(!of_pods).then_some(moved), (!labelled).then(|| labelled_too(path))]
                .into_iter()
                .flatten()
                .collect();
            by_pod(&steps, &format!("the pods of this {kind} when they are created"))
        }
        (None, "Pod") => {
            let steps: Vec<_> = (!labelled).then(|| labelled_too("metadata")).into_iter().collect();
            by_pod(&steps, "an annotated Pod when it is created")
        }
        (None, "Namespace") => "annotate workloads, or write a GracefulPolicy that selects them".into(),
        (None, _) => format!(
            "adieu inject supports {KINDS}, and finds no pod template in this {kind}: annotate the workload instead"
        ),
    }
}

/// An annotation alone doesn't bring pods to the webhook.
fn labelled_too(path: &str) -> String {
    format!("add the label {}: {} to {path}.labels", labels::INJECTION, labels::ENABLED)
}

/// How the pods of another kind are injected, after these steps.
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
pub(super) fn unreverted(object: &Object<'_>) -> Option<Ignored> {
    if object.workload().is_some() || object.is_controlled() {
        return None;
    }
    let path = metadata_of(object)
        .into_iter()
        .find(|path| !at(object.value, path)["annotations"][INJECTED].is_null())?;
    let message = format!(
        "{path}.annotations[{INJECTED}]: not reverted: adieu revert supports {KINDS}. Remove this annotation, and what it lists as injected, by hand"
    );
    let path = path.split('.').chain(["annotations", INJECTED]).map(str::to_owned).collect();
    Some(Ignored { path, message })
}

/// Where the object has metadata of its own and of its pods.
fn metadata_of(object: &Object<'_>) -> Vec<&'static str> {
    let others = [JOB_TEMPLATE].into_iter().chain(POD_TEMPLATES);
    ["metadata"].into_iter().chain(others.filter(|path| at(object.value, path).is_object())).collect()
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, step| &value[step])
}

/// Why the API server's webhook would refuse an annotation.
fn malformed(path: &str, key: &str, value: &Value) -> Option<String> {
    let Some(text) = value.as_str() else {
        return Some(format!(
            "{path}.annotations[{key}]: Invalid value: {value}: must be a string: put it in quotes"
        ));
    };
    let parsed = annotations::parse(&BTreeMap::from([(key.to_owned(), text.to_owned())]), "annotations");
    let invalid = parsed.invalid.first()?;
    Some(format!("{path}.{invalid}"))
}

/// Whether the key is one by which people tell adieu something.
fn is_known(key: &str) -> bool {
    if !annotations::is_own(key) {
        return false;
    }
    let map = string_map(&Value::from_iter([(key, "")]));
    annotations::instructions(&map).next().is_some()
        && annotations::parse(&map, "annotations").unknown.is_empty()
}

/// The field path of a key.
fn shown(path: &[String]) -> String {
    match path.split_last() {
        Some((key, holder)) if !holder.is_empty() => format!("{}[{key}]", holder.join(".")),
        _ => path.concat(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::objects::objects, *};

    fn message(of: fn(&Object<'_>) -> Option<Ignored>, object: Value) -> Option<String> {
        objects(&object).first().and_then(of).map(|ignored| ignored.message)
    }

    #[test]
    fn each_kind_that_is_not_injected_is_told_what_to_do() {
        let annotated = json!({"annotations": {"adieu.dev/graceful": "true"}});
        let template = json!({"template": {"spec": {"containers": [{"name": "a"}]}}});
        for (api_version, kind, spec, says) in [
            ("apps/v1beta2", "Deployment", &template, "no longer serves apps/v1beta2: use apps/v1"),
            ("extensions/v1beta1", "DaemonSet", &template, "use apps/v1"),
            (
                "argoproj.io/v1alpha1",
                "Rollout",
                &template,
                "Move it to spec.template.metadata.annotations and add the label adieu.dev/injection: enabled to spec.template.metadata.labels: then a cluster that runs adieu injects the pods of this Rollout when they are created",
            ),
            ("apps.kruise.io/v1alpha1", "CloneSet", &template, "to spec.template.metadata.annotations"),
            ("apps/v1", "ReplicaSet", &template, "to spec.template.metadata.annotations"),
            ("batch/v1", "Job", &template, "to spec.template.metadata.annotations"),
            (
                "batch/v1",
                "CronJob",
                &json!({"jobTemplate": {"spec": template.clone()}}),
                "to spec.jobTemplate.spec.template.metadata.annotations",
            ),
            (
                "batch/v1",
                "CronJob",
                &json!({"jobTemplate": {"metadata": annotated, "spec": template.clone()}}),
                "to spec.jobTemplate.spec.template.metadata.annotations",
            ),
            (
                "v1",
                "Pod",
                &json!({"containers": []}),
                "Add the label adieu.dev/injection: enabled to metadata.labels: then a cluster that runs adieu injects an annotated Pod when it is created",
            ),
            ("v1", "Deployment", &template, "Kubernetes has no Deployment in apiVersion \"v1\": use apps/v1"),
            ("v1", "Namespace", &json!({}), "a GracefulPolicy that selects them"),
            ("v1", "Service", &json!({}), "finds no pod template in this Service: annotate the workload"),
        ] {
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": annotated, "spec": spec});
            let found = message(unsupported, object.clone()).unwrap();
            assert!(found.starts_with("adieu.dev/graceful has no effect here: "), "{found}");
            assert!(found.contains(says), "{found}");
            let mut labelled = object.clone();
            labelled["metadata"] = json!({"labels": annotated["annotations"]});
            assert!(message(unsupported, labelled).is_some());
            // Its owner has the same annotations.
            let mut owned = object;
            owned["metadata"]["ownerReferences"] = json!([{"controller": true}]);
            assert_eq!(message(unsupported, owned), None);
        }
    }

    #[test]
    fn the_injection_label_as_an_annotation_or_with_another_value_is_told() {
        let namespace =
            |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        for (map, value, says) in [
            (
                "annotations",
                json!("enabled"),
                "metadata.annotations[adieu.dev/injection] has no effect: it is a label: move it to metadata.labels",
            ),
            (
                "labels",
                json!("true"),
                "metadata.labels[adieu.dev/injection]: Invalid value: \"true\": has no effect: must be \"enabled\"",
            ),
            (
                "labels",
                json!(true),
                "metadata.labels[adieu.dev/injection]: Invalid value: true: has no effect: must be \"enabled\"",
            ),
        ] {
            assert_eq!(
                message(unsupported, namespace(json!({map: {"adieu.dev/injection": value}}))).unwrap(),
                says
            );
        }
        let disabled = json!({"labels": {"adieu.dev/injection": "disabled"}});
        assert_eq!(message(unsupported, namespace(disabled)), None);
    }

    #[test]
    fn malformed_annotations_of_other_kinds_are_named() {
        let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": {"annotations": {"adieu.dev/graceful": true}},
            "spec": {"template": {"metadata": {"annotations": {"adieu.dev/drain-seconds": "ten"}}}}});
        let found = message(unsupported, rollout).unwrap();
        assert!(found.contains("when they are created; also metadata.annotations[adieu.dev/graceful]: Invalid value: true: must be a string"), "{found}");
        assert!(
            found.contains(
                "also spec.template.metadata.annotations[adieu.dev/drain-seconds]: Invalid value: \"ten\""
            ),
            "{found}"
        );
    }

    #[test]
    fn what_is_adieus_own_or_nobodys_is_passed_over() {
        for metadata in [
            json!({"labels": {"adieu.dev/injection": "enabled"}}),
            json!({"annotations": {"adieu.dev/injected": "{}", "adieu.dev/pending": "x"}}),
            json!({"annotations": {"other.dev/graceful": "true"}}),
            json!(null),
        ] {
            for kind in ["Namespace", "Pod", "Rollout"] {
                assert_eq!(
                    message(unsupported, json!({"apiVersion": "v1", "kind": kind, "metadata": metadata})),
                    None
                );
            }
        }
    }

    #[test]
    fn keys_in_another_place_of_a_workload_are_found() {
        let deployment = |metadata: Value, spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
        let graceful = json!({"adieu.dev/graceful": "true"});
        let labels = json!({"labels": graceful});
        let annotations = json!({"annotations": graceful});
        let found = message(misplaced, deployment(labels.clone(), json!({"template": {"metadata": labels}})))
            .unwrap();
        assert_eq!(
            found,
            "metadata.labels[adieu.dev/graceful], spec.template.metadata.labels[adieu.dev/graceful] have no effect: adieu reads only metadata.annotations and spec.template.metadata.annotations: move them there"
        );
        for (metadata, spec, place) in [
            (json!(null), annotations.clone(), "spec.annotations[adieu.dev/graceful] has no effect"),
            (
                json!(null),
                json!({"template": annotations}),
                "spec.template.annotations[adieu.dev/graceful] has",
            ),
            (graceful.clone(), json!({}), "metadata[adieu.dev/graceful] has no effect"),
            (
                json!(null),
                json!({"template": {"spec": annotations}}),
                "spec.template.spec.annotations[adieu.dev",
            ),
        ] {
            let found = message(misplaced, deployment(metadata, spec)).unwrap();
            assert!(found.starts_with(place), "{found}");
        }
        // Where they belong, and as a label beside.
        assert_eq!(
            message(misplaced, deployment(annotations.clone(), json!({"template": {"metadata": labels}}))),
            None
        );
        assert_eq!(
            message(misplaced, deployment(json!(null), json!({"template": {"metadata": annotations}}))),
            None
        );
    }

    #[test]
    fn a_record_that_can_not_be_reverted_is_named() {
        let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "spec": {"template": {"metadata": {"annotations": {"adieu.dev/injected": "{}"}}}}});
        let found = message(unreverted, rollout).unwrap();
        assert!(
            found.starts_with("spec.template.metadata.annotations[adieu.dev/injected]: not reverted"),
            "{found}"
        );
    }
}

//! Compares the API server's answers to an object and to its injected form.

use adieu::{
    api::annotations::INJECTED,
    plan::{self, NamespaceContext},
};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use crate::generate;

/// An object after a decision.
pub struct Admitted {
    pub object: Value,
    pub injected: bool,
}

/// The object as the webhook would admit it.
pub fn admitted(object: &Value, around: &NamespaceContext) -> Admitted {
    let typed = generate::object(object);
    let workload = generate::workload(&typed);
    let admission = plan::admit(&workload, None, around);
    assert!(admission.denials.is_empty(), "{:?}", admission.denials);
    let mut object = object.clone();
    let injected = admission.template.is_some();
    if let Some(template) = admission.template {
        object["spec"]["template"] = template;
    }
    Admitted { object, injected }
}

/// Checks that both are accepted, or denied for the same reasons, except for a sleep longer than the grace period,
/// which injection fixes.
pub fn same_verdict(plain: &Answer, injected: &Answer) -> Result<(), String> {
    let fixed = |cause: &&String| cause.contains(".sleep");
    match (plain, injected) {
        (Answer::Accepted(_), Answer::Accepted(_)) => Ok(()),
        (Answer::Accepted(_), Answer::Denied { message, .. }) => {
            Err(format!("no longer accepted: {message}"))
        }
        (Answer::Denied { causes, .. }, Answer::Accepted(_))
            if !causes.is_empty() && causes.iter().all(|cause| fixed(&cause)) =>
        {
            Ok(())
        }
        (Answer::Denied { message, .. }, Answer::Accepted(_)) => Err(format!("no longer denied: {message}")),
        (
            Answer::Denied { message, causes },
            Answer::Denied { message: injected_message, causes: injected_causes },
        ) => {
            // An injected topology spread has the workload's selector, which is denied already.
            let selector = causes.iter().any(|cause| cause.starts_with("spec.selector"));
            let copied = |cause: &String| selector && cause.contains("topologySpreadConstraints");
            let same = injected_causes.difference(causes).all(copied)
                && causes.difference(injected_causes).all(|cause| fixed(&cause))
                && (!causes.is_empty() || message == injected_message);
            same.then_some(()).ok_or_else(|| format!("denied before: {message}\nand now: {injected_message}"))
        }
    }
}

pub fn equal(what: &str, one: &Value, other: &Value) -> Result<(), String> {
    let patch = || serde_json::to_string_pretty(&json_patch::diff(one, other)).unwrap_or_default();
    (one == other).then_some(()).ok_or_else(|| format!("{what}: not equal; the difference is\n{}", patch()))
}

pub fn template_of(workload: &Value) -> &Value {
    &workload["spec"]["template"]
}

/// The object before it was opted in.
pub fn reverted(injected: &Value) -> Value {
    let mut object = injected.clone();
    object["spec"]["template"] = plan::original(&plan::PodTemplate::new(template_of(injected)), None);
    // The webhook removes it with the record.
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(INJECTED);
        if labels.is_empty() {
            object["metadata"].as_object_mut().unwrap().remove("labels");
        }
    }
    comparable(&without_instructions(&object))
}

/// An object from the API server, without annotations that it omits if they are empty.
pub fn comparable(object: &Value) -> Value {
    let mut object = without_what_the_server_sets(object);
    if let Some(metadata) = object["spec"]["template"]["metadata"].as_object_mut()
        && metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        metadata.remove("annotations");
    }
    object
}

/// Without stop signals: that feature is disabled in 1.36, and they are dropped only after admission, so that the
/// rest of a lifecycle depends on the injection.
pub fn without_stop_signals(workload: &Value) -> Value {
    let mut workload = workload.clone();
    let template = &mut workload["spec"]["template"];
    for list in ["containers", "initContainers"] {
        for container in generate::list_mut(template, list).into_iter().flatten() {
            container
                .pointer_mut("/lifecycle")
                .and_then(Value::as_object_mut)
                .map(|l| l.remove("stopSignal"));
        }
    }
    workload
}

/// Without the hooks that injection replaced because of a policy, since their errors don't matter any more.
pub fn without_replaced_hooks(plain: &Value, injected: &Value) -> Value {
    let mut kept = plain.clone();
    let template = kept.pointer_mut("/spec/template");
    let containers = template.and_then(|template| generate::list_mut(template, "containers"));
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let now = &template_of(injected)["spec"]["containers"][index]["lifecycle"]["preStop"];
        if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut)
            && lifecycle.get("preStop").is_some_and(|before| !before.is_null() && before != now)
        {
            lifecycle.remove("preStop");
        }
    }
    kept
}

/// Without fields that differ between creations.
fn without_what_the_server_sets(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "managedFields"] {
            metadata.remove(field);
        }
    }
    object
}

/// Without adieu's annotations, so that the webhook isn't called. Empty annotations are removed.
pub fn without_instructions(workload: &Value) -> Value {
    let mut workload = without_what_the_server_sets(workload);
    for metadata in ["/metadata", "/spec/template/metadata"] {
        let Some(metadata) = workload.pointer_mut(metadata).and_then(Value::as_object_mut) else { continue };
        let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
            continue;
        };
        let count = annotations.len();
        annotations.retain(|key, _| !key.starts_with(PREFIX));
        if annotations.is_empty() && count > 0 {
            metadata.remove("annotations");
        }
    }
    workload
}

pub fn opted_in(workload: &Value) -> Value {
    let mut workload = workload.clone();
    workload["metadata"]["annotations"]["adieu.dev/graceful"] = json!("true");
    workload
}

/// `object` with adieu's annotations of `other`.
pub fn annotated_as(object: &Value, other: &Value) -> Value {
    let mut object = object.clone();
    for path in ["/metadata", "/spec/template/metadata"] {
        let theirs = other.pointer(path).and_then(|metadata| metadata["annotations"].as_object());
        let Some(metadata) = object.pointer_mut(path) else { continue };
        for (key, value) in theirs.into_iter().flatten().filter(|(key, _)| key.starts_with(PREFIX)) {
            metadata["annotations"][key] = value.clone();
        }
    }
    object
}

pub fn without_namespace(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    object
}

/// The prefix of adieu's annotations, including the record.
const PREFIX: &str = "adieu.dev/";

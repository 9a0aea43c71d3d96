//! What changed, as JSON patches.

use std::collections::BTreeMap;

use json_patch::{
    AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf,
};
use serde_json::{Value, json};

use super::{Workload, opt_out, record};
use crate::api::{
    annotations::{ACCEPTED, GRACEFUL, PENDING},
    labels::INJECTED,
};

/// The JSON patch that makes the workload's template `new`.
#[must_use]
pub fn template_patch(old: &Value, new: &Value) -> Patch {
    let prefix = PointerBuf::from_tokens(["spec", "template"]);
    let mut patch = json_patch::diff(old, new);
    for operation in &mut patch.0 {
        let path = match operation {
            PatchOperation::Add(operation) => &mut operation.path,
            PatchOperation::Remove(operation) => &mut operation.path,
            PatchOperation::Replace(operation) => &mut operation.path,
            PatchOperation::Test(operation) => &mut operation.path,
            PatchOperation::Move(operation) => {
                operation.from = prefix.concat(&operation.from);
                &mut operation.path
            }
            PatchOperation::Copy(operation) => {
                operation.from = prefix.concat(&operation.from);
                &mut operation.path
            }
        };
        *path = prefix.concat(path);
    }
    patch
}

/// The longest text of an object's spec, in bytes, whose template an answer replaces as a whole.
const WHOLE: usize = 4608;

/// The same as the answer to a review. For every level that a path goes through, the API server decodes what is below
/// and encodes it again (`evanphx/json-patch`): a template of ordinary size is replaced sooner than its containers are
/// changed. `length` is that of the spec's text, in bytes.
#[must_use]
pub fn answer_patch(old: &Value, new: Value, length: usize) -> Patch {
    if length > WHOLE || old.is_null() || *old == new {
        return template_patch(old, &new);
    }
    let path = PointerBuf::from_tokens(["spec", "template"]);
    Patch(vec![PatchOperation::Replace(ReplaceOperation { path, value: new })])
}

/// The JSON patch that makes an object's annotations `new`.
#[must_use]
pub fn annotations_patch(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Patch {
    let wrapped = |annotations| json!({"metadata": {"annotations": annotations}});
    let mut patch = json_patch::diff(&wrapped(old), &wrapped(new));
    // There may be none yet to add to.
    if old.is_empty() {
        let path = PointerBuf::from_tokens(["metadata", "annotations"]);
        patch.0 = vec![PatchOperation::Add(AddOperation { path, value: json!(new) })];
    }
    patch
}

/// The operation that takes the mark of who waits for its next update away, where it is among the annotations.
#[must_use]
pub fn clear_pending(annotations: &BTreeMap<String, String>) -> Option<PatchOperation> {
    let path = PointerBuf::from_tokens(["metadata", "annotations", PENDING]);
    annotations.contains_key(PENDING).then_some(PatchOperation::Remove(RemoveOperation { path }))
}

/// The operation that puts [`ACCEPTED`] back where a request drops it, as `kubectl replace` does, and keeps the
/// injection that it is about: `template` is the one that the workload is given.
#[must_use]
pub fn keep_accepted(
    sent: &Workload<'_>,
    old: Option<&Workload<'_>>,
    template: &Value,
) -> Option<PatchOperation> {
    let old = old?;
    let accepted = old.annotations.get(ACCEPTED).filter(|_| !sent.annotations.contains_key(ACCEPTED))?;
    let record = record::text(template)?;
    (record::text(old.template) == Some(record)).then(|| {
        let path = PointerBuf::from_tokens(["metadata", "annotations"]);
        // There may be none yet to add to.
        let (path, value) = if sent.annotations.is_empty() {
            (path, json!({ACCEPTED: accepted}))
        } else {
            (path.concat(&PointerBuf::from_tokens([ACCEPTED])), json!(accepted))
        };
        PatchOperation::Add(AddOperation { path, value })
    })
}

/// The operation that makes a workload's label [`INJECTED`] say whether `template`, which it has or is given, carries
/// a record. `None` where it says so already.
#[must_use]
pub fn show_injection(labels: &BTreeMap<String, String>, template: &Value) -> Option<PatchOperation> {
    const TRUE: &str = "true";
    let path = PointerBuf::from_tokens(["metadata", "labels", INJECTED]);
    match (labels.get(INJECTED), record::text(template).is_some()) {
        (Some(value), true) if value == TRUE => None,
        (None, false) => None,
        (Some(_), false) => Some(PatchOperation::Remove(RemoveOperation { path })),
        // There may be none yet to add to.
        (_, true) if labels.is_empty() => {
            let path = PointerBuf::from_tokens(["metadata", "labels"]);
            Some(PatchOperation::Add(AddOperation { path, value: json!({INJECTED: TRUE}) }))
        }
        (_, true) => Some(PatchOperation::Add(AddOperation { path, value: json!(TRUE) })),
    }
}

/// The JSON patch that opts a workload out and restores its template. It changes the workload's own metadata, which
/// counts before the template's, so that nothing but what was injected is taken out of the template.
#[must_use]
pub fn opt_out_patch(workload: &Workload<'_>) -> Patch {
    let mut annotations = workload.annotations.clone();
    for mark in [ACCEPTED, PENDING] {
        annotations.remove(mark);
    }
    annotations.insert(GRACEFUL.to_owned(), "false".to_owned());
    let mut patch = annotations_patch(workload.annotations, &annotations);
    let template = opt_out(workload.template, None);
    patch.0.extend(template_patch(workload.template, &template).0);
    patch.0.extend(show_injection(workload.labels, &template));
    patch
}

/// The JSON patch that makes a pod, its metadata and spec, `new`.
#[must_use]
pub fn pod_patch(old: &Value, new: &Value) -> Patch {
    json_patch::diff(old, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;

    #[test]
    fn what_was_accepted_stays_where_a_replaced_object_keeps_its_injection() {
        let accepted = || [(ACCEPTED.to_owned(), "{}".to_owned())].into();
        let injected = |record: &str| json!({"metadata": {"annotations": {"adieu.dev/injected": record}}});
        let (none, team) = (BTreeMap::new(), [("team".to_owned(), "shop".to_owned())].into());
        let (same, other, plain, before) = (injected("1"), injected("2"), json!({}), accepted());
        let workload = |annotations, template| Workload::new(Kind::Deployment, annotations, template);
        let old = workload(&before, &same);
        for (sent, template, kept) in [
            (&none, &same, true),
            (&team, &same, true),
            (&none, &other, false),
            (&none, &plain, false),
            (&before, &same, false),
        ] {
            let operation = keep_accepted(&workload(sent, template), Some(&old), template);
            assert_eq!(operation.is_some(), kept, "{sent:?} {template}");
            let mut object = json!({"metadata": {}});
            if !sent.is_empty() {
                object["metadata"]["annotations"] = json!(sent);
            }
            json_patch::patch(&mut object, &operation.into_iter().collect::<Vec<_>>()).unwrap();
            let is_there = object["metadata"]["annotations"].get(ACCEPTED).is_some();
            assert_eq!(is_there, kept || sent.contains_key(ACCEPTED));
        }
        assert_eq!(keep_accepted(&workload(&none, &same), None, &same), None);
    }

    #[test]
    fn a_workloads_label_says_whether_its_template_carries_a_record() {
        let (plain, injected) =
            (json!({}), json!({"metadata": {"annotations": {"adieu.dev/injected": "{}"}}}));
        let ours = json!({"adieu.dev/injected": "true"});
        for (labels, template, becomes) in [
            (Value::Null, &injected, ours.clone()),
            (json!({}), &injected, ours.clone()),
            (json!({"app": "web"}), &injected, json!({"app": "web", "adieu.dev/injected": "true"})),
            (json!({"adieu.dev/injected": "no"}), &injected, ours.clone()),
            (ours.clone(), &injected, ours.clone()),
            (ours.clone(), &plain, json!({})),
            (json!({"app": "web"}), &plain, json!({"app": "web"})),
            (Value::Null, &plain, Value::Null),
        ] {
            let mut object = json!({"metadata": {"labels": labels}});
            let operation = show_injection(&crate::plan::string_map(&labels), template);
            assert_eq!(operation.is_some(), labels != becomes, "{labels}");
            json_patch::patch(&mut object, &operation.into_iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(object["metadata"]["labels"], becomes);
        }
    }
}

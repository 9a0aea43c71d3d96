//! JSON patches for changed templates, annotations and labels.

use std::collections::BTreeMap;

use json_patch::{
    AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf,
};
use serde_json::{Value, json};

use super::{inject::opt_out, record, workload::Workload};
use crate::api::{
    annotations::{ACCEPTED, APPLIED_RECOMMENDATION, GRACEFUL, PENDING, ROLLOUT},
    labels::INJECTED,
};

/// The JSON patch that changes the workload's template from `old` to `new`.
#[must_use]
pub fn template_patch(old: &Value, new: &Value) -> Patch {
    if path_bytes(old, 0) + path_bytes(new, 0) > PATH_BYTES {
        return replacement(new.clone());
    }
    changes(old, new)
}

/// The bytes of the paths of all values in templates that are compared, however short they are. Each operation of a patch
/// has a path, so that a template with many values under a long key would have a patch of many times its size.
const PATH_BYTES: usize = 1 << 20;

/// The bytes of the paths of all values in a value that has a path of this many bytes.
fn path_bytes(value: &Value, path: usize) -> usize {
    /// Of an item of a list.
    const INDEX: usize = 6;
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| below(value, path + escaped_length(key) + 1)).sum()
        }
        Value::Array(items) => items.iter().map(|value| below(value, path + INDEX)).sum(),
        _ => 0,
    }
}

/// The bytes of a key in a path, in JSON.
fn escaped_length(key: &str) -> usize {
    let length = |byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' | b'/' | b'~' => 2,
        _ => 1,
    };
    key.bytes().map(length).sum()
}

fn below(value: &Value, path: usize) -> usize {
    path + path_bytes(value, path)
}

/// The JSON patch that replaces the template.
fn replacement(new: Value) -> Patch {
    let path = PointerBuf::from_tokens(["spec", "template"]);
    Patch(vec![PatchOperation::Replace(ReplaceOperation { path, value: new })])
}

/// The JSON patch that changes only what differs.
fn changes(old: &Value, new: &Value) -> Patch {
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

/// The longest text of an object's spec, in bytes, for which a response replaces the whole template.
const WHOLE_TEMPLATE_LIMIT: usize = 4608;

/// The [`template_patch`] for the response to a review. The API server decodes and encodes the value below every level of
/// a path (`evanphx/json-patch`), so replacing a template of ordinary size is faster than changing its containers.
/// `length` is that of the spec's text, in bytes.
#[must_use]
pub fn response_patch(old: &Value, new: Value, length: usize) -> Patch {
    let is_whole = length <= WHOLE_TEMPLATE_LIMIT && !old.is_null() && *old != new;
    if is_whole || path_bytes(old, 0) + path_bytes(&new, 0) > PATH_BYTES.max(length) {
        return replacement(new);
    }
    changes(old, &new)
}

/// The JSON patch that changes an object's annotations from `old` to `new`.
#[must_use]
pub fn annotations_patch(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Patch {
    let wrapped = |annotations| json!({"metadata": {"annotations": annotations}});
    let mut patch = json_patch::diff(&wrapped(old), &wrapped(new));
    // The map may be absent.
    if old.is_empty() {
        let path = PointerBuf::from_tokens(["metadata", "annotations"]);
        patch.0 = vec![PatchOperation::Add(AddOperation { path, value: json!(new) })];
    }
    patch
}

/// The operation that removes [`PENDING`], if it is among the annotations.
#[must_use]
pub fn clear_pending(annotations: &BTreeMap<String, String>) -> Option<PatchOperation> {
    annotations.contains_key(PENDING).then(|| {
        let path = PointerBuf::from_tokens(["metadata", "annotations", PENDING]);
        PatchOperation::Remove(RemoveOperation { path })
    })
}

/// The operation that sets [`ROLLOUT`], or removes it from a workload whose new `template` has no injection. `annotations`
/// are those that are cached, which may be none of many; `None` if the workload has no map of them.
#[must_use]
pub fn mark_rollout(
    annotations: Option<&BTreeMap<String, String>>,
    template: &Value,
    mark: Option<String>,
) -> Option<PatchOperation> {
    let path = PointerBuf::from_tokens(["metadata", "annotations", ROLLOUT]);
    match mark {
        Some(mark) if annotations.is_none() => {
            let path = PointerBuf::from_tokens(["metadata", "annotations"]);
            Some(PatchOperation::Add(AddOperation { path, value: json!({ROLLOUT: mark}) }))
        }
        Some(mark) => Some(PatchOperation::Add(AddOperation { path, value: json!(mark) })),
        None => (annotations.is_some_and(|annotations| annotations.contains_key(ROLLOUT))
            && record::text(template).is_none())
        .then_some(PatchOperation::Remove(RemoveOperation { path })),
    }
}

/// The operation that restores [`ACCEPTED`] if a request drops it, as `kubectl replace` does, and `template`, the result
/// of the request, has the injection that it belongs to, or is the same without an injection.
#[must_use]
pub fn keep_accepted(
    sent: &Workload<'_>,
    old: Option<&Workload<'_>>,
    template: &Value,
) -> Option<PatchOperation> {
    let old = old?;
    let accepted = old.annotations.get(ACCEPTED).filter(|_| !sent.annotations.contains_key(ACCEPTED))?;
    let is_same = match old.template.record_text() {
        Some(record) => record::text(template) == Some(record),
        None => *old.template == *template,
    };
    is_same.then(|| {
        let path = PointerBuf::from_tokens(["metadata", "annotations"]);
        // The map may be absent.
        let (path, value) = if sent.annotations.is_empty() {
            (path, json!({ACCEPTED: accepted}))
        } else {
            (path.concat(&PointerBuf::from_tokens([ACCEPTED])), json!(accepted))
        };
        PatchOperation::Add(AddOperation { path, value })
    })
}

/// The operation that sets a workload's label [`INJECTED`] if `template`, the result of the change, has a record, and
/// removes it if not. `None` if the label is up to date.
#[must_use]
pub fn label_injected(labels: &BTreeMap<String, String>, template: &Value) -> Option<PatchOperation> {
    const TRUE: &str = "true";
    let path = PointerBuf::from_tokens(["metadata", "labels", INJECTED]);
    match (labels.get(INJECTED), record::text(template).is_some()) {
        (Some(value), true) if value == TRUE => None,
        (None, false) => None,
        (Some(_), false) => Some(PatchOperation::Remove(RemoveOperation { path })),
        // The map may be absent.
        (_, true) if labels.is_empty() => {
            let path = PointerBuf::from_tokens(["metadata", "labels"]);
            Some(PatchOperation::Add(AddOperation { path, value: json!({INJECTED: TRUE}) }))
        }
        (_, true) => Some(PatchOperation::Add(AddOperation { path, value: json!(TRUE) })),
    }
}

/// The JSON patch that opts a workload out and restores its template. The opt-out is an annotation of the workload, which
/// wins over the template's, so the template loses only the injection.
#[must_use]
pub fn opt_out_patch(workload: &Workload<'_>) -> Patch {
    let mut annotations = workload.annotations.clone();
    for key in [ACCEPTED, APPLIED_RECOMMENDATION, PENDING, ROLLOUT] {
        annotations.remove(key);
    }
    annotations.insert(GRACEFUL.to_owned(), "false".to_owned());
    let mut patch = annotations_patch(workload.annotations, &annotations);
    let template = opt_out(&workload.template, None);
    patch.0.extend(template_patch(&workload.template, &template).0);
    patch.0.extend(label_injected(workload.labels, &template));
    patch
}

/// The JSON patch that changes a pod, its metadata and spec, from `old` to `new`.
#[must_use]
pub fn pod_patch(old: &Value, new: &Value) -> Patch {
    json_patch::diff(old, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Kind, NamespaceContext};

    #[test]
    fn replaced_object_with_its_injection_keeps_the_accepted_settings() {
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
    fn label_of_a_workload_shows_whether_its_template_has_a_record() {
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
            let operation = label_injected(&crate::plan::string_map(&labels), template);
            assert_eq!(operation.is_some(), labels != becomes, "{labels}");
            json_patch::patch(&mut object, &operation.into_iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(object["metadata"]["labels"], becomes);
        }
    }

    #[test]
    fn response_replaces_small_templates_as_a_whole() {
        let (old, new) = (json!({"spec": {"a": 1, "b": 1}}), json!({"spec": {"a": 1, "b": 2}}));
        let path = |patch: Patch| patch.0.iter().map(|op| op.path().to_string()).collect::<Vec<_>>();
        assert_eq!(path(response_patch(&old, new.clone(), WHOLE_TEMPLATE_LIMIT)), ["/spec/template"]);
        assert_eq!(
            path(response_patch(&old, new.clone(), WHOLE_TEMPLATE_LIMIT + 1)),
            ["/spec/template/spec/b"]
        );
        assert_eq!(path(response_patch(&old, old.clone(), 0)), Vec::<String>::new());
        assert_eq!(response_patch(&Value::Null, new.clone(), 0), template_patch(&Value::Null, &new));
    }

    #[test]
    fn opt_out_patch_restores_the_template_and_removes_adieus_annotations() {
        let plain =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}});
        let none = BTreeMap::new();
        let rendered = crate::plan::render(
            &Workload::new(Kind::Deployment, &none, &plain),
            &NamespaceContext::default(),
            true,
        );
        let injected = rendered.template.unwrap();
        let annotations = [
            (PENDING, "NextUpdate"),
            (ACCEPTED, "{}"),
            (ROLLOUT, "0"),
            (APPLIED_RECOMMENDATION, "{}"),
            ("team", "shop"),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let labels = [(INJECTED.to_owned(), "true".to_owned())].into();
        let workload =
            Workload { labels: &labels, ..Workload::new(Kind::Deployment, &annotations, &injected) };
        let mut object = json!({
            "metadata": {"annotations": annotations, "labels": labels}, "spec": {"template": injected},
        });
        json_patch::patch(&mut object, &opt_out_patch(&workload)).unwrap();
        assert_eq!(
            object,
            json!({
                "metadata": {"annotations": {"team": "shop", GRACEFUL: "false"}, "labels": {}},
                "spec": {"template": plain},
            })
        );
    }

    #[test]
    fn the_mark_of_a_rollout_is_removed_with_the_injection() {
        let marked = |before: &Value, cached: &Value, template: &Value, mark: Option<&str>| {
            let annotations: Option<BTreeMap<_, _>> = serde_json::from_value(cached.clone()).unwrap();
            let mut object = json!({"metadata": {}});
            if !before.is_null() {
                object["metadata"]["annotations"] = before.clone();
            }
            let operation = mark_rollout(annotations.as_ref(), template, mark.map(str::to_owned));
            json_patch::patch(&mut object, &Vec::from_iter(operation)).unwrap();
            object["metadata"]["annotations"].take()
        };
        let (none, other, earlier) = (json!({}), json!({"team": "shop"}), json!({ROLLOUT: "1"}));
        let injected = json!({"metadata": {"annotations": {"adieu.dev/injected": "{}"}}});
        assert_eq!(marked(&Value::Null, &Value::Null, &injected, Some("2")), json!({ROLLOUT: "2"}));
        assert_eq!(marked(&other, &other, &injected, Some("2")), json!({"team": "shop", ROLLOUT: "2"}));
        assert_eq!(
            marked(&other, &none, &injected, Some("2")),
            json!({"team": "shop", ROLLOUT: "2"}),
            "annotations that are not cached stay"
        );
        assert_eq!(marked(&earlier, &earlier, &injected, Some("2")), json!({ROLLOUT: "2"}));
        assert_eq!(marked(&earlier, &earlier, &injected, None), earlier);
        assert_eq!(marked(&earlier, &earlier, &none, None), none);
        assert_eq!(marked(&other, &other, &none, None), other);
    }

    #[test]
    fn clear_pending_removes_only_a_present_annotation() {
        let pending = [(PENDING.to_owned(), "NextUpdate".to_owned())].into();
        let operation = clear_pending(&pending).unwrap();
        let mut object = json!({"metadata": {"annotations": pending}});
        json_patch::patch(&mut object, &[operation]).unwrap();
        assert_eq!(object, json!({"metadata": {"annotations": {}}}));
        assert_eq!(clear_pending(&BTreeMap::new()), None);
    }
}

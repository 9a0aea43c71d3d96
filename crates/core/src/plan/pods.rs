//! What becomes of a pod that is being created: the way in for workloads whose template must stay as it is,
//! and for owners that are no workloads of `apps/v1`.

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::{
    Admission, InjectionContext, Kind, NamespaceContext, OptIn, Resolution, Workload,
    advice::refuse_exec_on_windows,
    grace,
    hooks::{Hooks, sidecars},
    inject::{Injected, inject_pod, original},
    record::{self, Field, GRACE_PERIOD, named_containers, put},
    resolve, string_map,
};
use crate::api::{Mode, annotations::INJECTED, labels};

/// The `apps/v1` workload that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// Read off the pod. A Deployment's pods belong to a ReplicaSet whose name is the Deployment's with the
    /// hash that labels the pods; a ReplicaSet that is not named so stands for itself, or for another kind
    /// of owner. `None` where nothing or something else owns the pod.
    #[must_use]
    pub fn of(pod: &Value) -> Option<Self> {
        let owner = controller(pod).filter(|owner| owner["apiVersion"] == "apps/v1")?;
        let name = owner["name"].as_str()?;
        let (kind, name) = match owner["kind"].as_str()? {
            "ReplicaSet" => {
                let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str()?;
                (Kind::Deployment, name.strip_suffix(hash)?.strip_suffix('-')?)
            }
            kind => (Kind::from_gvk("apps", "v1", kind)?, name),
        };
        Some(Self { kind, name: name.to_owned() })
    }
}

/// What a person should know of a workload whose pods shall get what its template doesn't: that they don't.
pub(super) fn webhook_bypass_warning(
    workload: &Workload<'_>,
    resolution: &Resolution,
    context: &NamespaceContext,
) -> Option<&'static str> {
    let Resolution { settings, opt_in, reverts, .. } = resolution;
    let by_pod = matches!(opt_in, OptIn::In(_)) && !reverts && workload.is_injected_by_pod(settings);
    let by_pod = by_pod && !workload.is_injected_copy();
    let wanted = by_pod && settings.mode.value == Mode::Enforce;
    // The label that an injection brought goes with it.
    let labelled = || {
        let template = original(workload.template, None);
        labels::is_enabled(&string_map(&template["metadata"]["labels"]))
    };
    (wanted && !context.all_pods && !labelled()).then_some(
        "its pods bypass the webhook, so nothing is injected: put the label adieu.dev/injection=enabled on the \
         namespace or on the pod template (an annotation alone doesn't bring pods to the webhook)",
    )
}

/// Decides on `pod`, its metadata and spec, which is being created for `workload`. Its own annotations are
/// the template's; where there is no workload, they are all that counts.
///
/// What carries a record came from an injected template: only what other webhooks added to the pod is
/// completed. Of the others, those get everything that no template can get it for: by policy
/// (`injectionTarget: Pod`), because another controller would undo a change of the template, or because no
/// workload of `apps/v1` owns them. The rest is left to their workload.
#[must_use]
pub fn admit_pod(
    pod: &Value,
    workload: Option<(Kind, &DynamicObject)>,
    context: &NamespaceContext,
) -> Admission {
    let view = match workload {
        Some((kind, object)) => Workload { template: pod, ..Workload::of(kind, object) },
        None => Workload::of_pod(pod),
    };
    let resolution = resolve(&view, context);
    let mut admission = Admission { template: None, refusals: vec![], warnings: resolution.warnings };
    if controller(pod).is_some() {
        // Its controller would try again for ever: who wrote the template is told when it changes.
        let ignored = resolution.invalid.iter().map(|invalid| format!("annotation ignored: {invalid}"));
        admission.warnings.extend(ignored);
    } else {
        admission.refusals = resolution.invalid;
    }
    // What comes from a file of the kubelet runs already: nothing that is changed here reaches it.
    let mirror = !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null();
    if mirror || resolution.opt_in == OptIn::Out || !admission.refusals.is_empty() {
        return admission;
    }
    let by_template = workload.is_some() && !view.is_injected_by_pod(&resolution.settings);
    let is_wanted = !resolution.reverts && resolution.settings.mode.value == Mode::Enforce;
    let injected = match &resolution.opt_in {
        _ if record::text(pod).is_some() => {
            let known = match workload {
                Some((_, object)) => object.data["spec"]["template"]["spec"].as_object().map_or(0, count),
                // Its template is yet to be seen, and may have any number.
                None if Owner::of(pod).is_some() => usize::MAX,
                None => 0,
            };
            complete(pod, known, context.native_sleep)
        }
        OptIn::In(by) if !by_template && is_wanted => {
            let injection = InjectionContext::of(&view, context, false, by);
            Some(inject_pod(pod, &resolution.settings, &injection))
        }
        _ => None,
    };
    if let Some(injected) = injected {
        admission.warnings.extend(injected.warnings);
        admission.template = Some(injected.template).filter(|injected| injected != pod);
    }
    admission
}

/// The reference to whoever controls the pod.
fn controller(pod: &Value) -> Option<&Value> {
    let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.find(|owner| owner["controller"] == true)
}

/// How many native sidecars there are.
fn count(spec: &Map<String, Value>) -> usize {
    sidecars(spec).count()
}

/// Gives what other webhooks added to the pod what the rest has: a hook for containers that the record
/// doesn't know, time for native sidecars. Values that are there stay. `None` where nothing was added;
/// `known` is how many native sidecars the pod has of its template.
fn complete(pod: &Value, known: usize, native_sleep: bool) -> Option<Injected> {
    let mut record = record::read(pod)?;
    let settings = record.settings.clone();
    let hooks = Hooks { settings: &settings, native_sleep };
    let mut completed = pod.clone();
    let spec = completed.get_mut("spec")?.as_object_mut()?;
    let mut grown = count(spec) > known;
    let possible = refuse_exec_on_windows(hooks, spec);
    for (name, container) in named_containers(spec) {
        let given = record.containers.entry(name).or_default();
        grown |= given.pre_stop.is_none() && hooks.inject(container, given);
    }
    if !grown {
        return None;
    }
    record.forget_untouched();
    let needed = match possible.and_then(|()| grace::needed(hooks, spec, &mut Vec::new())) {
        Ok(needed) => needed,
        Err(why) => return Some(Injected { template: pod.clone(), warnings: vec![why], prevented: true }),
    };
    if let Some(seconds) = needed.raised() {
        let raised = put(spec, GRACE_PERIOD, json!(seconds));
        let before = record.grace_period.map_or(raised.before, |earlier| earlier.before);
        record.grace_period = Some(Field { before, ..raised });
    }
    completed["metadata"]["annotations"][INJECTED] = json!(record.to_text()?);
    Some(Injected { template: completed, warnings: vec![], prevented: false })
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;

//! Injects into pods that are being created, for workloads whose template must not change, and for owners that are not
//! workloads of `apps/v1`.

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::{
    admit::Admission,
    context::{InjectionContext, NamespaceContext},
    grace_period,
    hooks::{Hooks, sidecars},
    inject::{Injected, check_size, inject_pod},
    pod_template::PodTemplate,
    record::{self, GRACE_PERIOD, InjectedField, named_containers, replace_field},
    resolve::{OptIn, resolve},
    warnings::Warnings,
    windows::reject_sleep_command,
    workload::{Kind, Workload},
};
use crate::{
    api::{Mode, annotations::INJECTED},
    owners::controller_of_value,
};

/// The `apps/v1` workload that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// The owner by the pod's owner reference. A Deployment's pods belong to a ReplicaSet with the name of the Deployment
    /// and the hash in the pods' label; any other ReplicaSet has another kind of owner, or none. `None` if no such
    /// workload owns the pod.
    #[must_use]
    pub fn of(pod: &Value) -> Option<Self> {
        let owner = controller_of_value(&pod["metadata"]).filter(|owner| owner["apiVersion"] == "apps/v1")?;
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

/// Decides on `pod`, its metadata and spec, which is being created for `workload`. Its annotations are those of the
/// template; without a workload, only they count.
///
/// A pod with a record comes from an injected template: only containers that other webhooks added are injected. Any other
/// pod is injected if its template can't be: by policy (`injectionTarget: Pod`), because another controller would revert
/// a change of the template, or because no workload of `apps/v1` owns the pod.
#[must_use]
pub fn admit_pod(
    pod: &Value,
    workload: Option<(Kind, &DynamicObject)>,
    context: &NamespaceContext,
) -> Admission {
    let view = match workload {
        Some((kind, object)) => Workload::of(kind, object).with_template(pod),
        None => Workload::of_pod(pod),
    };
    let resolution = resolve(&view, context);
    let mut admission = Admission { template: None, denials: vec![], warnings: resolution.warnings };
    if controller_of_value(&pod["metadata"]).is_some() {
        // Its controller would retry forever. The change of the template reports the error.
        let ignored = resolution.invalid.iter().map(|invalid| format!("annotation ignored: {invalid}"));
        admission.warnings.extend(ignored);
    } else {
        admission.denials = resolution.invalid;
    }
    // A mirror pod of a static pod is running already, and a change has no effect on it.
    let mirror = !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null();
    if mirror || resolution.opt_in == OptIn::Out || !admission.denials.is_empty() {
        return admission;
    }
    let by_template = workload.is_some() && !view.is_injected_by_pod(&resolution.settings);
    let is_wanted = !resolution.reverts && resolution.settings.mode.value == Mode::Enforce;
    let injected = match &resolution.opt_in {
        _ if view.template.record_text().is_some() => {
            let known = match workload {
                Some((_, object)) => object.data["spec"]["template"]["spec"].as_object().map_or(0, count),
                // Its template is not cached yet, and may have any number.
                None if Owner::of(pod).is_some() => usize::MAX,
                None => 0,
            };
            complete(&view.template, known, context.native_sleep)
        }
        OptIn::In(by) if !by_template && is_wanted => {
            let injection = InjectionContext::of(&view, context, false, by);
            Some(inject_pod(&view.template, &resolution.settings, &injection))
        }
        _ => None,
    };
    if let Some(injected) = injected {
        admission.warnings.extend(injected.warnings);
        admission.template = Some(injected.template).filter(|injected| injected != pod);
    }
    admission
}

/// How many native sidecars there are.
fn count(spec: &Map<String, Value>) -> usize {
    sidecars(spec).count()
}

/// Injects into containers that other webhooks added to the pod: a hook if the record doesn't have the container, and
/// time for native sidecars. Present values are kept. `None` if no container was added, or the pod is too large; `known` is
/// the number of native sidecars in the template.
fn complete(pod: &PodTemplate<'_>, known: usize, native_sleep: bool) -> Option<Injected> {
    let mut record = pod.record().filter(|_| check_size(pod).is_ok())?.clone();
    let settings = record.settings.clone();
    let hooks = Hooks { settings: &settings, native_sleep };
    let mut completed = Value::clone(pod);
    let spec = completed.get_mut("spec")?.as_object_mut()?;
    let mut grown = count(spec) > known;
    let possible = reject_sleep_command(hooks, spec);
    for (name, container) in named_containers(spec) {
        let given = record.containers.entry(name).or_default();
        grown |= given.pre_stop.is_none() && hooks.inject(container, given);
    }
    if !grown {
        return None;
    }
    record.retain_injected();
    let unsatisfiable =
        |why| Some(Injected { template: Value::clone(pod), warnings: vec![why], unsatisfiable: true });
    let needed = match possible.and_then(|()| grace_period::needed(hooks, spec, &mut Warnings::default())) {
        Ok(needed) => needed,
        Err(why) => return unsatisfiable(why),
    };
    if let Some(seconds) = needed.raised() {
        let raised = replace_field(spec, GRACE_PERIOD, json!(seconds));
        let before = record.grace_period.map_or(raised.before, |earlier| earlier.before);
        record.grace_period = Some(InjectedField { before, ..raised });
    }
    let text = record.into_text()?;
    if !record::is_readable(&text) {
        return unsatisfiable(record::TOO_LARGE.to_owned());
    }
    completed["metadata"]["annotations"][INJECTED] = json!(text);
    Some(Injected { template: completed, warnings: vec![], unsatisfiable: false })
}

#[cfg(test)]
#[path = "pod_injection_tests.rs"]
mod tests;

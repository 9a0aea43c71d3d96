//! What a person should know of a workload beside what is injected into it: what is asked for and has no effect,
//! and what may go wrong with it. The API server cuts a warning at 256 characters.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Injected, OptIn, Resolution, Settings, Source, Workload,
    grace::own_hook,
    hooks::{Hook, Hooks, containers, name, sidecars},
    record::{self, ContainerRecord},
};
use crate::api::{
    PreStopMethod,
    annotations::{self, GRACEFUL, POLICY},
};

/// What is said on the workload and has no effect: settings without an opt-in, and policies that another overrides.
pub(super) fn on_workload(workload: &Workload<'_>, resolution: &Resolution) -> Vec<String> {
    match &resolution.opt_in {
        OptIn::In(_) => resolution.conflicted.iter().map(overridden).collect(),
        OptIn::Unmentioned => without_opt_in(workload).into_iter().collect(),
        OptIn::Out => vec![],
    }
}

fn overridden(policy: &Source) -> String {
    format!(
        "{policy} also applies to this workload, but another policy overrides it (by priority, then age, then name): \
         set spec.priority to decide, or narrow a selector"
    )
}

/// Labels in the place of annotations.
pub(super) fn labels_for_annotations(workload: &Workload<'_>) -> Vec<String> {
    let template = &workload.template["metadata"]["labels"];
    let of_template = annotations::KEYS.iter().filter(|key| template.get(**key).is_some());
    let of_workload = annotations::KEYS.iter().filter(|key| workload.labels.contains_key(**key));
    let of_template = of_template.map(|key| ("spec.template.metadata", key));
    let found = of_workload.map(|key| ("metadata", key)).chain(of_template);
    found
        .map(|(metadata, key)| {
            format!("{metadata}.labels[{key}] has no effect: move it to {metadata}.annotations")
        })
        .collect()
}

/// Settings that count only where the workload is opted in.
fn without_opt_in(workload: &Workload<'_>) -> Option<String> {
    let keys = |map: &BTreeMap<String, String>| -> Vec<String> {
        map.keys().filter(|key| annotations::KEYS.contains(&key.as_str())).cloned().collect()
    };
    let mut keys = [keys(workload.annotations), keys(&workload.template_annotations())].concat();
    keys.sort();
    keys.dedup();
    // One of these with a malformed value is named elsewhere.
    let tried = keys.iter().any(|key| [GRACEFUL, POLICY].contains(&key.as_str()));
    (!keys.is_empty() && !tried).then(|| {
        format!(
            "{} {} no effect, because nothing opts this workload in: add the annotation {GRACEFUL}: \"true\"",
            keys.join(", "),
            if keys.len() == 1 { "has" } else { "have" }
        )
    })
}

/// What a policy that only observes keeps from happening: `injected` says what would.
pub(super) fn while_observing(settings: &Settings, injected: Injected) -> Vec<String> {
    let Injected { template, mut warnings, prevented } = injected;
    if let (false, Some(record)) = (prevented, record::read(&template)) {
        let given = |has: fn(&ContainerRecord) -> bool| record.containers.values().filter(|c| has(c)).count();
        let (hooks, probes) = (given(|c| c.pre_stop.is_some()), given(|c| c.readiness_probe.is_some()));
        let counted =
            |count: usize, what: &str| (count > 0).then(|| format!("{what} in {}", containers_of(count)));
        let grace_period =
            record.grace_period.as_ref().map(|f| format!("a grace period of {} s", f.injected));
        let parts = [counted(hooks, "a preStop"), counted(probes, "a readiness probe"), grace_period];
        warnings.push(format!(
            "nothing is changed, because {} has the mode Observe. With Enforce, adieu would set {}",
            settings.mode.from,
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        ));
    }
    warnings
}

fn containers_of(count: usize) -> String {
    format!("{count} container{}", if count == 1 { "" } else { "s" })
}

/// Why a manifest stays as it is whose pods are injected as they are created.
pub(super) fn injected_by_pod(workload: &Workload<'_>, settings: &Settings) -> String {
    let how = "in a cluster with adieu its pods are injected if the namespace has the label \
               adieu.dev/injection=enabled or the pod template has an adieu.dev/ annotation";
    if workload.controlled {
        format!(
            "the manifest is not changed, because another controller owns this workload and would undo a change; {how}"
        )
    } else {
        format!("the manifest is not changed, because {} says injection: Pod; {how}", settings.injection.from)
    }
}

/// What may go wrong with the hooks of a template.
pub(super) fn on_template(hooks: Hooks<'_>, spec: &Map<String, Value>, warnings: &mut Vec<String>) {
    let settings = hooks.settings;
    let method = &settings.pre_stop_method;
    if method.value == PreStopMethod::HttpGet && settings.http_get.value.is_none() {
        warnings.push(format!(
            "the preStop method is HTTPGet ({}), but no policy says which path and port: the drain is a sleep",
            method.from
        ));
    }
    let mut due = containers(spec).filter(|container| hooks.is_due(container)).peekable();
    if method.value == PreStopMethod::Sleep && !hooks.native_sleep && due.peek().is_some() {
        warnings.push(format!(
            "the preStop method is Sleep ({}), which not all of the cluster knows (Kubernetes 1.30 and \
             later): it may be refused or dropped; use Auto or Exec",
            method.from
        ));
    }
    // Who asks for Exec knows, and for Windows it is refused.
    let falls_back = !hooks.native_sleep && method.value != PreStopMethod::Exec && !is_windows(spec);
    if falls_back && due.any(|container| is_exec(&hooks.handler(container))) {
        warnings.push(
            "the drain is an exec of sleep, because Kubernetes before 1.30 has no native one: in an image without the \
             program sleep it fails and nothing drains; check the images"
                .into(),
        );
    }
    if !hooks.native_sleep {
        warnings.extend(native_sleeps_on_old_kubelets(hooks, spec));
    }
    warnings.extend(containers(spec).filter(|c| hooks.is_due(c)).flat_map(|c| cut_short(hooks, c)));
    warnings.extend(unknown_exclusions(hooks, spec));
}

/// Windows has no program `sleep`. The native action works there.
pub(super) fn refuse_exec_on_windows(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Result<(), String> {
    let mut due = containers(spec).filter(|container| hooks.is_due(container));
    if !is_windows(spec) || !due.any(|container| is_exec(&hooks.handler(container))) {
        return Ok(());
    }
    let method = &hooks.settings.pre_stop_method;
    Err(format!(
        "the pod is for Windows, which has no program sleep, and the preStop would be an exec of it (method {}, {}): \
         nothing is injected; use Auto or Sleep with Kubernetes 1.30 or later, or write a preStop with Start-Sleep",
        json!(method.value),
        method.from
    ))
}

fn is_windows(spec: &Map<String, Value>) -> bool {
    let os = spec.get("os").map(|os| &os["name"]);
    let selector = spec.get("nodeSelector");
    let selected = ["kubernetes.io/os", "beta.kubernetes.io/os"]
        .iter()
        .any(|key| selector.is_some_and(|selector| selector[*key] == "windows"));
    os.is_some_and(|name| name == "windows") || selected
}

fn is_exec(handler: &Value) -> bool {
    handler.get("exec").is_some()
}

/// The user's own native sleeps, which kubelets before 1.30 don't know.
fn native_sleeps_on_old_kubelets(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Vec<String> {
    let regular = containers(spec).filter(|c| matches!(hooks.decide(c), Hook::Own(_)));
    let all = regular.chain(sidecars(spec).filter_map(Value::as_object));
    let is_sleep = |container: &&Map<String, Value>| {
        own_hook(container).is_some_and(|hook| hook.get("sleep").is_some_and(|sleep| !sleep.is_null()))
    };
    all.filter(is_sleep)
        .map(|container| {
            format!(
                "container {:?}: its own preStop is the native sleep, which not all of the cluster knows (Kubernetes \
                 1.30 and later): it may be refused or dropped; use an exec of sleep until then",
                name(container)
            )
        })
        .collect()
}

/// A probe's own grace period holds where that probe restarts the container, and the preStop counts against it too.
fn cut_short(hooks: Hooks<'_>, container: &Map<String, Value>) -> Vec<String> {
    const FIELD: &str = "terminationGracePeriodSeconds";
    let drain = hooks.settings.drain_seconds.value;
    let short = ["livenessProbe", "startupProbe"].into_iter().filter_map(|probe| {
        let seconds = container.get(probe)?.get(FIELD)?.as_i64().filter(|seconds| *seconds <= drain)?;
        Some(format!(
            "container {:?}: {probe}.{FIELD} is {seconds} s, and the preStop takes {drain} s: where this probe restarts \
             the container, it is killed before its SIGTERM; raise it above {drain}, or remove it",
            name(container)
        ))
    });
    short.collect()
}

/// A policy's names are for many workloads; an annotation's are for this one.
fn unknown_exclusions(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Vec<String> {
    let exclude = &hooks.settings.exclude;
    let known = |excluded: &String| {
        ["containers", "initContainers"].iter().any(|list| {
            let containers = spec.get(*list).and_then(Value::as_array).into_iter().flatten();
            containers.filter_map(|container| container["name"].as_str()).any(|name| name == excluded)
        })
    };
    let unknown = exclude.value.iter().filter(|excluded| exclude.from.is_annotation() && !known(excluded));
    unknown
        .map(|excluded| {
            format!(
                "no container here is named {excluded:?}, which is to be left alone: unless it is added to the pods, \
                 check its spelling"
            )
        })
        .collect()
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;

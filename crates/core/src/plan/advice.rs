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

/// What a policy in mode `Audit` keeps from happening: `injected` says what would.
pub(super) fn while_auditing(settings: &Settings, injected: Injected) -> Vec<String> {
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
            "nothing is changed, because {} has the mode Audit. With Enforce, adieu would set {}",
            settings.mode.from,
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        ));
    }
    warnings
}

/// Why a manifest gets nothing that a policy opts in.
pub(super) fn while_reverting(settings: &Settings) -> String {
    format!(
        "nothing is injected, because {} has the rollout mode Revert: choose another mode, or add the annotation \
         {GRACEFUL}: \"true\"",
        settings.rollout_mode.from
    )
}

fn containers_of(count: usize) -> String {
    format!("{count} container{}", if count == 1 { "" } else { "s" })
}

/// Why a manifest stays as it is whose pods are injected as they are created.
pub(super) fn injected_by_pod(workload: &Workload<'_>, settings: &Settings) -> String {
    let how = "in a cluster with adieu its pods are injected if the namespace or the pod template has the label \
               adieu.dev/injection=enabled";
    if workload.controlled {
        format!(
            "the manifest is not changed, because another controller owns this workload and would undo a change; {how}"
        )
    } else {
        format!(
            "the manifest is not changed, because {} says injectionTarget: Pod; {how}",
            settings.injection.from
        )
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
    warnings.extend(port_of_nobody(hooks, spec));
    let mut due = containers(spec).filter(|container| hooks.is_due(container)).peekable();
    if method.value == PreStopMethod::Sleep && !hooks.native_sleep && due.peek().is_some() {
        warnings.push(format!(
            "the preStop method is Sleep ({}), which not all of the cluster knows (Kubernetes 1.30 and \
             later): it may be refused or dropped; use Auto or Exec",
            method.from
        ));
    }
    // For Windows it is refused.
    if !is_windows(spec) && due.any(|container| is_exec(&hooks.handler(container))) {
        let (why, remedy) = match (method.value, hooks.native_sleep) {
            (PreStopMethod::Exec, true) => (format!("the method is Exec ({})", method.from), ", or use Auto"),
            (PreStopMethod::Exec, false) => (format!("the method is Exec ({})", method.from), ""),
            _ => ("Kubernetes before 1.30 has no native one".to_owned(), ""),
        };
        warnings.push(format!(
            "the drain is an exec of sleep, because {why}: in an image without the program sleep it fails and nothing \
             drains; check the images{remedy}"
        ));
    }
    if is_windows(spec) {
        warnings.extend(own_sleeps_on_windows(hooks, spec));
    }
    if !hooks.native_sleep {
        warnings.extend(native_sleeps_on_old_kubelets(hooks, spec));
    }
    warnings.extend(containers(spec).filter(|c| hooks.is_due(c)).flat_map(|c| cut_short(hooks, c)));
    warnings.extend(unknown_exclusions(hooks, spec));
}

/// A request that no container gets, because none declares its port.
fn port_of_nobody(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Option<String> {
    let method = &hooks.settings.pre_stop_method;
    let request =
        hooks.settings.http_get.value.as_ref().filter(|_| method.value == PreStopMethod::HttpGet)?;
    let mut due = containers(spec).filter(|container| hooks.is_due(container)).peekable();
    due.peek()?;
    due.all(|container| hooks.handler(container).get("httpGet").is_none()).then(|| {
        format!(
            "the preStop method is HTTPGet ({}), but no container declares the TCP port {}: the drain is a sleep; declare \
             the port in the container that serves {}",
            method.from,
            json!(request.port),
            request.path
        )
    })
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

/// Whether the pod runs on Windows nodes: by its OS, its node selector, or a required node affinity.
fn is_windows(spec: &Map<String, Value>) -> bool {
    const LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
    let os = spec.get("os").map(|os| &os["name"]);
    let selector = spec.get("nodeSelector");
    let selected = LABELS.iter().any(|key| selector.is_some_and(|selector| selector[*key] == "windows"));
    let required = spec.get("affinity").map(|affinity| {
        &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    });
    let expects = |expression: &Value| {
        LABELS.iter().any(|key| expression["key"] == *key)
            && expression["operator"] == "In"
            && expression["values"] == json!(["windows"])
    };
    let expressions =
        |term: &Value| term["matchExpressions"].as_array().is_some_and(|all| all.iter().any(expects));
    let terms = required.and_then(Value::as_array).filter(|terms| !terms.is_empty());
    os.is_some_and(|name| name == "windows")
        || selected
        || terms.is_some_and(|terms| terms.iter().all(expressions))
}

/// The user's own hooks that run a program of Linux, which Windows containers don't have.
fn own_sleeps_on_windows(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Vec<String> {
    let own = containers(spec).filter_map(|container| match hooks.decide(container) {
        Hook::Own(handler) => Some((name(container), handler["exec"]["command"][0].as_str()?)),
        Hook::Injected | Hook::None => None,
    });
    let of_linux = own.filter(|(_, program)| {
        let base = program.rsplit('/').next().unwrap_or_default();
        ["sleep", "sh", "bash"].contains(&base)
    });
    of_linux
        .map(|(name, program)| {
            format!(
                "container {name:?}: its own preStop runs {program:?}, which Windows doesn't have: unless the image has it, it \
                 fails and nothing drains; remove it to get the drain, or use Start-Sleep"
            )
        })
        .collect()
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

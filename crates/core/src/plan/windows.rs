//! Pods on Windows. The native sleep action works there, but images have no program `sleep`, so nothing is injected if the
//! preStop hook would run it.

use serde_json::{Map, Value, json};

use super::{
    hooks::{Hook, Hooks, containers, name},
    ports::printable,
};

/// An error if the preStop hook would run the command `sleep`: then nothing is injected.
pub(super) fn reject_sleep_command(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Result<(), String> {
    let mut due = containers(spec).filter(|container| hooks.needs_hook(container));
    if !is_windows(spec) || !due.any(|container| hooks.is_exec(container)) {
        return Ok(());
    }
    let method = &hooks.settings.pre_stop_method;
    Err(format!(
        "the pod runs on Windows, which has no sleep command, and the preStop would run it (method {}, {}): nothing \
         is injected; use Auto or Sleep with Kubernetes 1.30 or later, or write a preStop with Start-Sleep",
        json!(method.value),
        method.from
    ))
}

/// Whether the pod runs on Windows nodes: by its OS, its node selector, or a required node affinity.
#[must_use]
pub fn is_windows(spec: &Map<String, Value>) -> bool {
    const LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
    /// Only Windows nodes have this label.
    const BUILD: &str = "node.kubernetes.io/windows-build";
    let os = spec.get("os").map(|os| &os["name"]);
    let selector = spec.get("nodeSelector");
    let selected = selector.is_some_and(|selector| {
        LABELS.iter().any(|key| selector[*key] == "windows") || selector.get(BUILD).is_some()
    });
    let required = spec.get("affinity").map(|affinity| {
        &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    });
    let expects = |expression: &Value| {
        let is = |operator: &str| expression["operator"] == operator;
        expression["key"] == BUILD && (is("In") || is("Exists"))
            || LABELS.iter().any(|key| expression["key"] == *key)
                && is("In")
                && expression["values"] == json!(["windows"])
    };
    let expressions =
        |term: &Value| term["matchExpressions"].as_array().is_some_and(|all| all.iter().any(expects));
    let terms = required.and_then(Value::as_array).filter(|terms| !terms.is_empty());
    os.is_some_and(|name| name == "windows")
        || selected
        || terms.is_some_and(|terms| terms.iter().all(expressions))
}

/// Warnings for users' hooks that run a program of Linux, which Windows containers don't have.
pub(super) fn linux_hook_warnings(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Vec<String> {
    let own = containers(spec).filter_map(|container| match hooks.decide(container) {
        Hook::User(handler) => Some((name(container), handler["exec"]["command"][0].as_str()?)),
        Hook::Injected | Hook::None => None,
    });
    let of_linux = own.filter(|(_, program)| {
        let base = program.rsplit('/').next().unwrap_or_default();
        ["sleep", "sh", "bash"].contains(&base)
    });
    of_linux
        .map(|(name, program)| {
            let program = printable(program);
            format!(
                "container {name:?}: its own preStop runs {program:?}, which Windows does not have: unless the image \
                 has it, the hook fails and the container does not drain; remove the hook to get the drain, or use \
                 Start-Sleep"
            )
        })
        .collect()
}

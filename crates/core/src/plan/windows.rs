//! Pods on Windows. The native sleep action works there, but images have no program `sleep`, so nothing is injected if the
//! preStop hook would run it.

use serde_json::{Map, Value, json};

use super::{
    hooks::{Hook, Hooks, containers, name},
    ports::printable,
};

/// Labels with the operating system of a node; the second is the deprecated one.
const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
/// A label that only Windows nodes have.
const BUILD_LABEL: &str = "node.kubernetes.io/windows-build";

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

/// Whether the pod runs only on Windows nodes: by its OS, or without one by its node selector, a required node affinity,
/// or a `HostProcess` container. Other Windows options don't decide it: kubelets on Linux ignore them.
#[must_use]
pub fn is_windows(spec: &Map<String, Value>) -> bool {
    match spec.get("os").and_then(|os| os["name"].as_str()) {
        // A kubelet rejects a pod with another OS.
        Some(os) => os == "windows",
        None => selects_windows(spec) || requires_windows(spec) || has_host_process(spec),
    }
}

fn selects_windows(spec: &Map<String, Value>) -> bool {
    spec.get("nodeSelector").is_some_and(|selector| {
        OS_LABELS.iter().any(|label| selector[*label] == "windows") || selector.get(BUILD_LABEL).is_some()
    })
}

/// Whether each term of the required node affinity matches only Windows nodes: a pod runs on nodes that match any term. An
/// empty term matches none, and names of nodes (`matchFields`) don't tell their OS.
fn requires_windows(spec: &Map<String, Value>) -> bool {
    fn list<'a>(term: &'a Value, name: &str) -> &'a [Value] {
        term[name].as_array().map(Vec::as_slice).unwrap_or_default()
    }
    let terms = spec.get("affinity").map(|affinity| {
        list(&affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"], "nodeSelectorTerms")
    });
    let is_empty =
        |term: &&Value| ["matchExpressions", "matchFields"].iter().all(|name| list(term, name).is_empty());
    let mut terms = terms.into_iter().flatten().filter(|term| !is_empty(term)).peekable();
    terms.peek().is_some()
        && terms.all(|term| list(term, "matchExpressions").iter().any(matches_only_windows))
}

/// Whether only Windows nodes match an expression about labels.
fn matches_only_windows(expression: &Value) -> bool {
    let has = |os: &str| {
        expression["values"].as_array().is_some_and(|values| values.iter().any(|value| value == os))
    };
    let is_os = OS_LABELS.iter().any(|label| expression["key"] == *label);
    match expression["operator"].as_str() {
        Some("In" | "Exists") if expression["key"] == BUILD_LABEL => true,
        Some("In") => is_os && has("windows") && !has("linux"),
        Some("NotIn") => is_os && has("linux") && !has("windows"),
        _ => false,
    }
}

/// Whether it has a `HostProcess` container, which only Windows has. A pod has only such containers, or none.
fn has_host_process(spec: &Map<String, Value>) -> bool {
    let is_host_process =
        |context: &Value| context["windowsOptions"]["hostProcess"].as_bool().unwrap_or_default();
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| spec.get(list)?.as_array());
    spec.get("securityContext").is_some_and(is_host_process)
        || lists.flatten().any(|container| is_host_process(&container["securityContext"]))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod with these terms of a required node affinity.
    fn affine(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}})
    }

    /// A term with one expression.
    fn term(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    fn check(rows: impl IntoIterator<Item = (Value, bool)>) {
        for (spec, expected) in rows {
            assert_eq!(is_windows(spec.as_object().unwrap()), expected, "{spec}");
        }
    }

    #[test]
    fn the_os_of_a_pod_is_read_from_its_own_fields() {
        let host_process = json!({"windowsOptions": {"hostProcess": true}});
        let not_host_process =
            json!({"windowsOptions": {"hostProcess": false, "runAsUserName": "ContainerUser"}});
        check([
            (json!({}), false),
            (json!({"os": {"name": "windows"}}), true),
            (json!({"os": {"name": "linux"}}), false),
            (json!({"os": null, "nodeSelector": {"kubernetes.io/os": "windows"}}), true),
            (json!({"os": {}, "nodeSelector": {"kubernetes.io/os": "windows"}}), true),
            (json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "windows"}}), false),
            (json!({"os": {"name": "linux"}, "securityContext": host_process}), false),
            (json!({"os": {"name": "windows"}, "nodeSelector": {"kubernetes.io/os": "linux"}}), true),
            (json!({"nodeSelector": {"kubernetes.io/os": "linux"}}), false),
            (json!({"nodeSelector": {"beta.kubernetes.io/os": "windows"}}), true),
            (json!({"nodeSelector": {"node.kubernetes.io/windows-build": "10.0.20348"}}), true),
            (json!({"nodeSelector": {"os": "windows"}}), false),
            (json!({"nodeSelector": null, "affinity": null, "securityContext": null}), false),
            (json!({"securityContext": host_process}), true),
            (json!({"containers": [{"name": "a"}, {"securityContext": host_process}]}), true),
            (json!({"initContainers": [{"securityContext": host_process}]}), true),
            (
                json!({"securityContext": not_host_process, "containers": [{"securityContext": not_host_process}]}),
                false,
            ),
            (json!({"securityContext": {"windowsOptions": {"hostProcess": "true"}}}), false),
            (
                json!({"tolerations": [{"key": "os", "value": "windows"}], "runtimeClassName": "windows"}),
                false,
            ),
        ]);
    }

    #[test]
    fn the_os_of_a_pod_is_read_from_its_required_node_affinity() {
        let os = |operator: &str, values: &[&str]| term("kubernetes.io/os", operator, values);
        let build =
            |operator: &str, values: &[&str]| term("node.kubernetes.io/windows-build", operator, values);
        let fields =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["windows"]}]});
        let and = |mut term: Value, more: &Value| {
            for (key, value) in more.as_object().unwrap() {
                let list = term[key].as_array().into_iter().chain(value.as_array()).flatten().cloned();
                term[key] = list.collect();
            }
            term
        };
        let arch = term("kubernetes.io/arch", "In", &["amd64"]);
        check([
            (affine(json!([os("In", &["windows"])])), true),
            (affine(json!([os("In", &["windows", "windows"])])), true),
            (affine(json!([os("In", &["linux", "windows"])])), false),
            (affine(json!([os("In", &["linux"])])), false),
            (affine(json!([os("In", &[])])), false),
            (affine(json!([os("NotIn", &["linux"])])), true),
            (affine(json!([os("NotIn", &["linux", "darwin"])])), true),
            (affine(json!([os("NotIn", &["windows"])])), false),
            (affine(json!([os("NotIn", &["linux", "windows"])])), false),
            (affine(json!([os("Exists", &[])])), false),
            (affine(json!([os("DoesNotExist", &[])])), false),
            (affine(json!([term("beta.kubernetes.io/os", "NotIn", &["linux"])])), true),
            (affine(json!([term("example.com/os", "In", &["windows"])])), false),
            (affine(json!([build("Exists", &[])])), true),
            (affine(json!([build("In", &["10.0.17763"])])), true),
            (affine(json!([build("NotIn", &["10.0.17763"])])), false),
            (affine(json!([build("DoesNotExist", &[])])), false),
            // All expressions of a term apply, and any term.
            (affine(json!([and(arch.clone(), &os("NotIn", &["linux"]))])), true),
            (affine(json!([and(os("In", &["linux", "windows"]), &os("NotIn", &["linux"]))])), true),
            (affine(json!([os("In", &["windows"]), os("NotIn", &["linux"])])), true),
            (affine(json!([os("In", &["windows"]), arch])), false),
            (affine(json!([os("In", &["windows"]), os("In", &["linux"])])), false),
            (affine(json!([fields])), false),
            (affine(json!([os("In", &["windows"]), fields])), false),
            (affine(json!([and(fields, &os("NotIn", &["linux"]))])), true),
            // An empty term matches no node.
            (
                affine(json!([{}, os("In", &["windows"]), {"matchExpressions": [], "matchFields": null}])),
                true,
            ),
            (affine(json!([{}])), false),
            (affine(json!([])), false),
            (affine(json!(null)), false),
        ]);
    }

    #[test]
    fn a_preferred_node_affinity_does_not_decide_the_os() {
        let preferred = json!([{"weight": 1, "preference": term("kubernetes.io/os", "In", &["windows"])}]);
        let affinity =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
        check([(json!({ "affinity": affinity }), false)]);
    }
}

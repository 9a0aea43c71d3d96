//! Renders the chart for other environments: with the values in ci/ for each of them, and as a part of another
//! chart.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::chart::{objects, parse};
use super::objects::{Field, each_text, has, part, rules};
use crate::command;
use crate::progress::Step;
use crate::workspace::Workspace;

/// The end of the names of files in ci/ with the values for one environment.
const EXAMPLE: &str = "-values.yaml";
/// The kinds with a pod: the operator's, that of `helm test`, and that before an uninstall.
const PODS: [&str; 3] = ["Deployment", "Pod", "Job"];
const REVERT: &str = "--set=revertOnUninstall.enabled=true";

/// A chart that depends on adieu, with a condition.
const PARENT: &str = "apiVersion: v2
name: platform
version: 1.0.0
dependencies:
  - {name: adieu, version: '*', condition: adieu.enabled}
";
/// Its values. They also have a global one of another chart.
const PARENT_VALUES: &str = "global:
  imageRegistry: mirror.example/team
  imagePullSecrets: [mirror]
  other: x
adieu:
  imagePullSecrets: [{name: mirror}, {name: own}]
  podSecurityContext: {runAsUser: null, runAsGroup: null}
";

/// The environments, by the names of their files in ci/, and the fields that their values set.
fn environments() -> [(&'static str, Vec<Field>); 4] {
    let image = concat!("mirror.example/adieu-dev/adieu:", env!("CARGO_PKG_VERSION"));
    let disabled = "/metadata/annotations/admissions.enforcer~1disabled";
    [
        ("aks", vec![("MutatingWebhookConfiguration", disabled, json!("true"))]),
        ("gke-private", vec![("Deployment/container", "/ports/0/containerPort", json!(10250))]),
        (
            "mirror",
            vec![
                ("Deployment/container", "/image", json!(image)),
                ("Pod/container", "/image", json!(image)),
                ("Deployment/pod", "/imagePullSecrets", json!([{"name": "mirror"}])),
            ],
        ),
        ("openshift", vec![("Deployment/pod", "/securityContext/runAsNonRoot", json!(true))]),
    ]
}

/// Checks the objects for each environment.
pub fn check(workspace: &Workspace) -> Result<()> {
    let step = Step::start("rendering the chart for other environments");
    let folder = workspace.root().join("charts/adieu/ci");
    for (name, fields) in environments() {
        let file = folder.join(format!("{name}{EXAMPLE}"));
        let values = format!("--values={}", file.display());
        let objects = objects(workspace, &[&values, REVERT])?;
        fields.iter().try_for_each(|field| has(&objects, field)).context(values)?;
        if name == "openshift" {
            leaves_users_to_the_cluster(&objects)?;
        }
    }
    let examples = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = examples.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = names.filter(|name| name.ends_with(EXAMPLE)).count();
    ensure!(found == environments().len(), "{found} files in charts/adieu/ci end with {EXAMPLE}");
    part_of_another_chart(workspace)?;
    selected_namespaces(workspace)?;
    readers(&objects(workspace, &[])?)?;
    step.done();
    Ok(())
}

/// OpenShift's restricted-v2 assigns users and groups, and rejects pods that choose their own.
fn leaves_users_to_the_cluster(objects: &[Value]) -> Result<()> {
    for kind in PODS {
        let [pod, container] = ["pod", "container"].map(|of| part(objects, &format!("{kind}/{of}")));
        ensure!(container.is_object(), "there is no {kind} with a container");
        for context in [&pod["securityContext"], &container["securityContext"]] {
            for field in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions"] {
                ensure!(context[field].is_null(), "the pod of the {kind} has {field}: {}", context[field]);
            }
        }
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        });
        let context = &container["securityContext"];
        ensure!(*context == expected, "the container of the {kind} has the securityContext {context}");
    }
    Ok(())
}

/// A chart that depends on this one passes global values, and installs it only if its condition holds.
fn part_of_another_chart(workspace: &Workspace) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let charts = folder.path().join("charts");
    fs::create_dir(&charts).context("cannot create a folder")?;
    let mut copy = Command::new("cp");
    command::output(copy.arg("-r").arg(workspace.root().join("charts/adieu")).arg(&charts))?;
    for (name, text) in [("Chart.yaml", PARENT), ("values.yaml", PARENT_VALUES)] {
        fs::write(folder.path().join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let render = |more: &str| -> Result<Vec<Value>> {
        let mut helm = Command::new(workspace.bin().join("helm"));
        helm.args(["template", "release", "--namespace", "somewhere", "--kube-version", "1.36.0", more]);
        parse(&command::output(helm.arg(folder.path()))?)
    };
    let objects = render("--set=adieu.revertOnUninstall.enabled=true")?;
    let image = concat!("mirror.example/team/adieu-dev/adieu:", env!("CARGO_PKG_VERSION"));
    for field in [
        ("Deployment", "/metadata/name", json!("release-adieu")),
        ("Deployment/container", "/image", json!(image)),
        ("Deployment/pod", "/imagePullSecrets", json!([{"name": "mirror"}, {"name": "own"}])),
    ] {
        has(&objects, &field).context("as a part of another chart")?;
    }
    leaves_users_to_the_cluster(&objects).context("as a part of another chart")?;
    let none = render("--set=adieu.enabled=false")?;
    ensure!(none.is_empty(), "adieu.enabled=false of another chart installs {none:?}");
    Ok(())
}

/// `webhook.namespaceSelector` adds to the selectors of every webhook, and replaces none.
fn selected_namespaces(workspace: &Workspace) -> Result<()> {
    let expression = json!({"key": "team", "operator": "Exists"});
    let selector = json!({"matchLabels": {"stage": "production"}, "matchExpressions": [expression]});
    let set = format!("--set-json=webhook.namespaceSelector={selector}");
    let (before, after) = (objects(workspace, &[])?, objects(workspace, &[&set])?);
    for (old, new) in webhooks(&before)?.iter().zip(webhooks(&after)?) {
        let (old, new) = (&old["namespaceSelector"], &new["namespaceSelector"]);
        let mut expressions = old["matchExpressions"].as_array().cloned().unwrap_or_default();
        expressions.insert(0, expression.clone());
        ensure!(new["matchExpressions"] == json!(expressions), "{set} results in {new}");
        ensure!(new["matchLabels"] == selector["matchLabels"], "{set} results in {new}");
    }
    Ok(())
}

fn webhooks(objects: &[Value]) -> Result<&Vec<Value>> {
    part(objects, "MutatingWebhookConfiguration")["webhooks"].as_array().context("there are no webhooks")
}

/// The built-in roles may read the policies of the cluster, and none may change them.
fn readers(objects: &[Value]) -> Result<()> {
    let mut readers = 0;
    for rule in rules(objects, "clustergracefulpolicies") {
        let verbs: Vec<_> = each_text(&rule["verbs"]).collect();
        ensure!(
            verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb)),
            "a role has the verbs {verbs:?} for clustergracefulpolicies"
        );
        readers += usize::from(verbs.contains(&"get"));
    }
    // Those for edit and view.
    ensure!(readers == 2, "{readers} roles may read clustergracefulpolicies");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_chooses_its_user_is_an_error_on_openshift() {
        let pod = |user: Value| {
            let context = json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
            });
            json!({"securityContext": {"runAsUser": user}, "containers": [{"securityContext": context}]})
        };
        let objects = |user: Value| {
            [
                json!({"kind": "Deployment", "spec": {"template": {"spec": pod(Value::Null)}}}),
                json!({"kind": "Pod", "spec": pod(Value::Null)}),
                json!({"kind": "Job", "spec": {"template": {"spec": pod(user)}}}),
            ]
        };
        leaves_users_to_the_cluster(&objects(Value::Null)).unwrap();
        let error = leaves_users_to_the_cluster(&objects(json!(1))).unwrap_err().to_string();
        assert_eq!(error, "the pod of the Job has runAsUser: 1");
        assert!(leaves_users_to_the_cluster(&objects(Value::Null)[..2]).is_err());
    }

    #[test]
    fn a_role_that_may_change_the_policies_of_the_cluster_is_an_error() {
        let role = |verbs: &[&str]| {
            json!({"kind": "ClusterRole", "rules": [
                {"resources": ["clustergracefulpolicies"], "verbs": verbs},
            ]})
        };
        let reader = role(&["get", "list", "watch"]);
        readers(&[reader.clone(), reader.clone()]).unwrap();
        assert!(readers(std::slice::from_ref(&reader)).is_err());
        assert!(readers(&[reader.clone(), reader, role(&["patch"])]).is_err());
    }
}

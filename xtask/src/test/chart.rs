//! Lints the chart, and renders it with every one of its values.

use std::collections::btree_map::{BTreeMap, Entry};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::command;
use crate::interrupt;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Values that the chart rejects, with a part of the message.
const REJECTED: [(&str, &str); 15] = [
    ("replica=2", "replica"),
    ("replicaCount=\"two\"", "/replicaCount"),
    ("webhook.failurePolicy=\"Never\"", "/webhook/failurePolicy"),
    ("webhook.timeoutSeconds=31", "/webhook/timeoutSeconds"),
    ("image.digest=\"latest\"", "/image/digest"),
    ("webhook={\"port\":443,\"hostNetwork\":true}", "webhook.port is 443"),
    ("admin.port=80", "/admin/port"),
    ("drain.exposures=[\"example.com\"]", "/drain/exposures"),
    ("revertOnUninstall.timeout=\"10\"", "/revertOnUninstall/timeout"),
    ("webhook.port=8080", "webhook.port and admin.port are both 8080"),
    ("webhook={\"port\":10250,\"hostNetwork\":true}", "webhook.port is 10250"),
    ("tolerations=[{\"keys\":\"dedicated\"}]", "/tolerations/0"),
    ("affinity={\"nodeAffinity\":{\"required\":[]}}", "/affinity/nodeAffinity"),
    ("extraEnv=[{\"name\":\"A\",\"values\":\"b\"}]", "/extraEnv/0"),
    ("global.imageRegistry=\"mirror.example/\"", "/global/imageRegistry"),
];

/// The condition of charts that depend on this one. It has no effect on a release of this chart itself; see
/// environments.rs.
const CONDITION: &str = "enabled";

/// Lints the chart. Every value must have an example in ci/every-value.yaml, be in values.schema.json, and change the
/// rendered manifests, except the condition; and invalid values must be rejected.
pub fn check(workspace: &Workspace) -> Result<()> {
    let step = Step::start("linting and rendering the chart");
    let chart = workspace.root().join("charts/adieu");
    let examples = chart.join("ci/every-value.yaml");
    let read = |file: &std::path::Path| -> Result<Map<String, Value>> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_saphyr::from_str(&text).with_context(|| format!("cannot parse {}", file.display()))
    };
    let defaults = read(&chart.join("values.yaml"))?;
    let all = read(&examples)?;
    let values = pair_up(&defaults, &all)?;

    helm(workspace, &["lint", "--strict", "--quiet"])?;
    let render = |more: &[&str]| render(workspace, more);
    render(&["--values", &examples.display().to_string()])?;
    for (set, complaint) in REJECTED {
        let complaints =
            render(&["--set-json", set]).err().map(|error| format!("{error:#}")).unwrap_or_default();
        if !complaints.contains(complaint) {
            bail!("the chart accepts {set}, or rejects it without mentioning {complaint}: {complaints}");
        }
    }
    // Two webhooks each for workloads and pods. If none exists that fails, none becomes failing.
    for more in [&[][..], &["--is-upgrade"]] {
        let rendered = render(&[&["--set", "webhook.failurePolicy=Fail"], more].concat())?;
        let ignoring = rendered.matches("\n    failurePolicy: Ignore").count();
        if ignoring != 4 {
            bail!("webhook.failurePolicy=Fail {more:?} sets {ignoring} webhooks to Ignore, not 4");
        }
    }
    // The manifests without the value, by the enabled option.
    let mut rendered_without = BTreeMap::new();
    for (path, value) in values.iter().filter(|(path, _)| path != CONDITION) {
        let set = format!("{path}={value}");
        // A value of an option has an effect only if the option is enabled.
        let enabled = option(path, &values).map(|option| format!("{option}=true"));
        let with = |more: &[&str]| {
            let sets = enabled.iter().map(String::as_str).chain(more.iter().copied());
            render(&sets.flat_map(|set| ["--set-json", set]).collect::<Vec<_>>())
        };
        let without = match rendered_without.entry(enabled.clone()) {
            Entry::Occupied(rendered) => rendered.into_mut(),
            Entry::Vacant(entry) => entry.insert(with(&[])?),
        };
        if with(&[&set])? == *without {
            bail!(
                "the value {path} of the chart has no effect: {set} renders the same manifests as without it"
            );
        }
    }
    step.done();
    Ok(())
}

/// The chart's manifests, rendered with further arguments of Helm.
pub fn render(workspace: &Workspace, more: &[&str]) -> Result<String> {
    let template = ["template", "release", "--namespace", "somewhere", "--kube-version", "1.36.0"];
    helm(workspace, &[&template, more].concat())
}

/// The objects of these manifests.
pub fn objects(workspace: &Workspace, more: &[&str]) -> Result<Vec<Value>> {
    parse(&render(workspace, more)?)
}

/// The objects in Helm's output.
pub fn parse(manifests: &str) -> Result<Vec<Value>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).context("cannot parse Helm's output")?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn helm(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    interrupt::check()?;
    let mut helm = Command::new(workspace.bin().join("helm"));
    command::output(helm.current_dir(workspace.root()).args(arguments).arg("charts/adieu"))
}

/// The value that enables the option of `path`.
fn option(path: &str, values: &[(String, Value)]) -> Option<String> {
    let dots = path.rmatch_indices('.');
    let mut options = dots.filter_map(|(dot, _)| Some(format!("{}.enabled", path.get(..dot)?)));
    options.find(|option| option != path && values.iter().any(|(path, _)| path == option))
}

/// The path of every value with its example.
fn pair_up(defaults: &Map<String, Value>, examples: &Map<String, Value>) -> Result<Vec<(String, Value)>> {
    if let Some(unknown) = examples.keys().find(|key| !defaults.contains_key(*key)) {
        bail!("{unknown} has an example, but is not a value of the chart");
    }
    let mut pairs = Vec::new();
    for (key, default) in defaults {
        let example =
            examples.get(key).with_context(|| format!("{key} has no example in ci/every-value.yaml"))?;
        match (default, example) {
            (Value::Object(default), Value::Object(example)) if !default.is_empty() => {
                let inner = pair_up(default, example).with_context(|| format!("within {key}"))?;
                pairs.extend(inner.into_iter().map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            (default, example) if default == example => {
                bail!("the example of {key} in ci/every-value.yaml is the default");
            }
            _ => pairs.push((key.clone(), example.clone())),
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(defaults: &Value, examples: &Value) -> Result<Vec<(String, Value)>> {
        pair_up(defaults.as_object().unwrap(), examples.as_object().unwrap())
    }

    #[test]
    fn a_value_of_an_option_is_found_by_its_path() {
        let values = ["a.enabled", "a.b.c", "d.e"].map(|path| (path.to_owned(), Value::Null));
        assert_eq!(option("a.b.c", &values).as_deref(), Some("a.enabled"));
        assert_eq!(option("a.enabled", &values), None);
        assert_eq!(option("d.e", &values), None);
    }

    #[test]
    fn every_value_needs_an_example() {
        let defaults = json!({"a": {"b": 1, "c": {}}, "d": []});
        let found = pairs(&defaults, &json!({"a": {"b": 2, "c": {"x": 1}}, "d": [1]})).unwrap();
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["a.b", "a.c", "d"]);
        for (examples, complaint) in [
            (json!({"a": {"b": 2, "c": {"x": 1}}}), "d has no example"),
            (json!({"a": {"b": 1, "c": {"x": 1}}, "d": [1]}), "the example of b"),
            (json!({"a": {"b": 2, "c": {"x": 1}}, "d": [1], "e": 1}), "e has an example"),
        ] {
            let error = format!("{:#}", pairs(&defaults, &examples).unwrap_err());
            assert!(error.contains(complaint), "{error}");
        }
    }
}

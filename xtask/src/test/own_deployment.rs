//! Checks that the operator's own Deployment in the chart is what `adieu inject` renders.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::chart;
use crate::command;
use crate::image::{self, Build};
use crate::progress::Step;
use crate::workspace::Workspace;

/// Injects the chart's Deployment, as it is and without its own fields. Both must result in the chart's Deployment.
pub fn check(workspace: &Workspace) -> Result<()> {
    // The installed one.
    let program = image::build_adieu(workspace, &Build::host()?)?;
    let step = Step::start("injecting the operator's own Deployment");
    let rendered = chart::render(workspace, &["--show-only", "templates/deployment.yaml"])?;
    let chart: Value = serde_saphyr::from_str(&rendered).context("cannot parse the Deployment")?;
    let mut bare = chart.clone();
    let pod = &mut bare["spec"]["template"]["spec"];
    for (object, field) in [("", "terminationGracePeriodSeconds"), ("/containers/0", "lifecycle")] {
        let object = pod.pointer_mut(object).and_then(Value::as_object_mut);
        object
            .and_then(|object| object.remove(field))
            .with_context(|| format!("the Deployment has no {field}"))?;
    }
    for deployment in [&chart, &bare] {
        let injected = inject(&program, deployment)?;
        if let Some(path) =
            difference(&chart["spec"]["template"]["spec"], &injected["spec"]["template"]["spec"], "")
        {
            bail!(
                "adieu inject and the chart differ in spec.template.spec{path} of the operator's Deployment"
            );
        }
    }
    step.done();
    Ok(())
}

fn inject(program: &Path, deployment: &Value) -> Result<Value> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let file = folder.path().join("deployment.json");
    fs::write(&file, deployment.to_string()).context("cannot write the Deployment")?;
    let mut adieu = Command::new(program);
    let injected = command::output(adieu.args(["inject", "--all", "--output", "json", "-f"]).arg(&file))?;
    serde_json::from_str(&injected).context("cannot parse the output of adieu inject")
}

/// The path of the first field that differs.
fn difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    if one == other {
        return None;
    }
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => one.keys().chain(other.keys()).find_map(|key| {
            let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or_default();
            difference(&value(one), &value(other), &format!("{path}.{key}"))
        }),
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
            .iter()
            .zip(other)
            .enumerate()
            .find_map(|(index, (one, other))| difference(one, other, &format!("{path}[{index}]"))),
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let pod = json!({"containers": [{"name": "adieu", "lifecycle": {"preStop": 1}}], "grace": 45});
        let mut other = pod.clone();
        assert_eq!(difference(&pod, &other, ""), None);
        other["containers"][0]["lifecycle"]["preStop"] = json!(2);
        assert_eq!(difference(&pod, &other, "").as_deref(), Some(".containers[0].lifecycle.preStop"));
        assert_eq!(
            difference(&pod, &json!({"containers": pod["containers"]}), "").as_deref(),
            Some(".grace")
        );
    }
}

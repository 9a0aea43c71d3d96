//! Checks alerts and dashboard with promtool. A unit test of adieu checks that their metrics exist.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, debian};

/// Values for Grafana's variables.
const VARIABLES: [(&str, &str); 3] =
    [("$__rate_interval", "5m"), ("$cluster", ""), ("$namespace", "adieu-system")];

/// Checks the alerts and their tests, and that every expression of the dashboard is valid.
pub fn check(workspace: &Workspace) -> Result<()> {
    debian::ensure_promtool(workspace)?;
    let step = Step::start("checking alerts and dashboard");
    let chart = workspace.root().join("charts/adieu");
    let promtool = |arguments: &[&str]| {
        let mut promtool = Command::new("promtool");
        command::output(promtool.current_dir(&chart).args(arguments))
    };
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "files/alerts.yaml"])?;
    promtool(&["test", "rules", "ci/alerts-test.yaml"])?;

    let file = chart.join("files/dashboard.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let dashboard = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    // This promtool has no command for a single expression. JSON is YAML.
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let rules = folder.path().join("dashboard.yaml");
    fs::write(&rules, rules_of(&dashboard)?.to_string())
        .context("cannot write the dashboard's expressions")?;
    promtool(&["check", "rules", &rules.display().to_string()]).context("the dashboard's expressions")?;
    step.done();
    Ok(())
}

/// A recording rule for each expression of each panel.
fn rules_of(dashboard: &Value) -> Result<Value> {
    let mut rules = Vec::new();
    let panels = dashboard["panels"].as_array().context("the dashboard has no panels")?;
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        let targets = panel["targets"].as_array().into_iter().flatten();
        let before = rules.len();
        for target in targets {
            let expression = target["expr"].as_str().with_context(|| format!("{title}: no expression"))?;
            let expression =
                VARIABLES.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
            if expression.contains('$') {
                bail!("{title}: an unknown variable: {expression}");
            }
            rules.push(json!({"record": format!("panel:{}", rules.len()), "expr": expression}));
        }
        if title.is_empty() || rules.len() == before {
            bail!("the panel {} ({title:?}) shows nothing, or has no title", panel["id"]);
        }
    }
    Ok(json!({"groups": [{"name": "dashboard", "rules": rules}]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_becomes_a_rule_with_its_variables_replaced() {
        let panel = |expression: &str| json!({"panels": [{"id": 1, "title": "t", "targets": [{"expr": expression}]}]});
        let rules = rules_of(&panel("rate(x{namespace=\"$namespace\"}[$__rate_interval])")).unwrap();
        assert_eq!(rules["groups"][0]["rules"][0]["expr"], "rate(x{namespace=\"adieu-system\"}[5m])");
        assert!(rules_of(&panel("x{pod=\"$pod\"}")).unwrap_err().to_string().contains("$pod"));
        assert!(rules_of(&json!({"panels": [{"id": 7, "title": "t"}]})).is_err());
    }
}

//! The bill of materials in `CycloneDX` format: every crate that the program is built from.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, tools};

/// The tool, and the version of it that is installed.
const TOOL: &str = "cargo-cyclonedx";
const TOOL_VERSION: &str = "0.5.9";
/// A target for which adieu needs all crates that it needs on any platform of a release.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The name of its files, which it writes next to the Cargo.toml of every crate.
const FILE: &str = "adieu-release.cdx";

/// The tool, built unless it exists.
pub fn tool(workspace: &Workspace) -> Result<PathBuf> {
    tools::install(workspace, TOOL, TOOL_VERSION)
}

/// The bill of materials of `adieu`, which is reproducible.
pub fn generate(workspace: &Workspace, version: &str) -> Result<String> {
    let tool = tool(workspace)?;
    let step = Step::start("listing the crates of adieu");
    let mut cyclonedx = Command::new(tool);
    // Without a time and a random number.
    cyclonedx.current_dir(workspace.root()).env("SOURCE_DATE_EPOCH", "0");
    cyclonedx.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--all"]);
    cyclonedx.args(["--no-build-deps", "--target", TARGET, "--override-filename", FILE]);
    let ran = command::run(&step, &mut cyclonedx, &workspace.log("release-sbom"));
    let file = |folder: PathBuf| folder.join(format!("{FILE}.json"));
    let written = fs::read_to_string(file(workspace.root().to_owned()));
    for folder in crates(workspace)? {
        let _ = fs::remove_file(file(folder));
    }
    ran?;
    let text = written.with_context(|| format!("{TOOL} wrote nothing"))?;
    let text = text.replace(&format!("file://{}", workspace.root().display()), "file:///src");
    let bill: Value = serde_json::from_str(&text).with_context(|| format!("{TOOL} wrote invalid JSON"))?;
    check(&bill, version)?;
    step.done();
    Ok(text)
}

/// The folders of the workspace's crates.
fn crates(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut folders = vec![workspace.root().to_owned(), workspace.root().join("xtask")];
    for entry in fs::read_dir(workspace.root().join("crates")).context("cannot list the crates")? {
        folders.push(entry?.path());
    }
    Ok(folders)
}

/// Checks that it is a bill of adieu, and contains crates that adieu can't do without.
fn check(bill: &Value, version: &str) -> Result<()> {
    let names = |component: &Value| component["name"].as_str().unwrap_or_default().to_owned();
    let components: Vec<_> = bill["components"].as_array().into_iter().flatten().map(names).collect();
    for name in ["kube", "k8s-openapi", "rustls", "serde_json"] {
        if !components.iter().any(|component| component == name) {
            bail!("the bill of materials lacks {name}; it names {} crates", components.len());
        }
    }
    let about = &bill["metadata"]["component"];
    if about["name"] != "adieu" || about["version"] != version {
        bail!("the bill of materials is about {} {}", about["name"], about["version"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bill_of_another_program_or_without_crates_is_rejected() {
        let bill = |name: &str, crates: &[&str]| {
            let components: Vec<_> = crates.iter().map(|name| json!({"name": name})).collect();
            json!({"metadata": {"component": {"name": name, "version": "1.2.3"}}, "components": components})
        };
        let all = ["kube", "k8s-openapi", "rustls", "serde_json"];
        assert!(check(&bill("adieu", &all), "1.2.3").is_ok());
        assert!(check(&bill("adieu", &all), "1.2.4").is_err());
        assert!(check(&bill("xtask", &all), "1.2.3").is_err());
        assert!(check(&bill("adieu", &all[1..]), "1.2.3").is_err());
    }
}

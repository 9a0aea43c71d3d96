//! The files that are generated from the code. A unit test of adieu checks that they are up to date.

use std::fs;

use anyhow::{Context, Result};

use crate::command;
use crate::progress::say;
use crate::workspace::Workspace;

/// Writes the CustomResourceDefinitions where people and the chart find them.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let mut adieu = command::cargo(&workspace);
    let crds = command::output(adieu.args(["run", "--quiet", "--bin", "adieu", "--", "crd"]))?;
    for crd in crds.split("\n---\n") {
        let name =
            crd.lines().find_map(|line| line.strip_prefix("  name: ")).context("a CRD without a name")?;
        let name = name.split('.').next().unwrap_or(name);
        for folder in ["crds", "charts/adieu/files/crds"] {
            let file = workspace.root().join(folder).join(format!("{name}.yaml"));
            fs::write(&file, format!("{}\n", crd.trim_end()))
                .with_context(|| format!("cannot write {}", file.display()))?;
            say(&format!("✓ {}", file.display()));
        }
    }
    Ok(())
}

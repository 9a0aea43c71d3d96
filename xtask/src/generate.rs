//! Generated files. Unit tests check that they are up to date.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::progress::print_line;
use crate::workspace::Workspace;
use crate::{command, values};

/// Writes the CustomResourceDefinitions to crds and to the chart, the schema and the tables of the chart's values, and the
/// pages about commands and policies.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    for (file, text) in values::files(&workspace)? {
        write(&file, &text)?;
    }
    let mut adieu = command::cargo(&workspace);
    let crds = command::output(adieu.args(["run", "--quiet", "--bin", "adieu", "--", "crd"]))?;
    for crd in crds.split("\n---\n") {
        let name =
            crd.lines().find_map(|line| line.strip_prefix("  name: ")).context("a CRD without a name")?;
        let name = name.split('.').next().unwrap_or(name);
        for folder in ["crds", "charts/adieu/files/crds"] {
            let file = workspace.root().join(folder).join(format!("{name}.yaml"));
            write(&file, &format!("{}\n", crd.trim_end()))?;
        }
    }
    let folder = workspace.root().join("docs/reference");
    let mut pages = command::cargo(&workspace);
    command::output(pages.args(["run", "--quiet", "--example", "reference", "--"]).arg(&folder))?;
    print_line(&format!("✓ {}", folder.display()));
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    print_line(&format!("✓ {}", file.display()));
    Ok(())
}

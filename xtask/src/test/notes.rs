//! Figures of tests, and their tables in docs/.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::figures::{Figures, OPERATIONS, SCENARIOS};
use crate::workspace::Workspace;

/// A file of rows, one per line: the table's name and its cells. The end-to-end tests write to it as well.
pub struct Notes(PathBuf);

impl Notes {
    /// An empty file.
    pub fn begin(workspace: &Workspace) -> Result<Self> {
        let file = workspace.cache().join("figures.jsonl");
        fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self(file))
    }

    pub fn file(&self) -> &Path {
        &self.0
    }

    /// A row of docs/operations.md.
    pub fn figure(&self, what: &str, found: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.0)?;
        writeln!(file, "{}", json!(["operations", [what, found]])).context("cannot write a figure")
    }

    /// Shows all rows, and writes them to docs/.
    pub fn show(&self, workspace: &Workspace, docs: bool) -> Result<()> {
        let Self(file) = self;
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
        let rows: Vec<(String, Vec<String>)> = rows.context("a test wrote an invalid figure")?;
        let docs = |file| docs.then_some(file);
        let operations = ["Action", "Result"];
        table(workspace, &rows, "operations", operations, docs(OPERATIONS))?;
        let tenant = [
            "Action of the tenant",
            "peak memory of a replica",
            "admissions in other namespaces",
            "failed or not injected",
            "p99",
            "slowest",
        ];
        table(workspace, &rows, "tenant", tenant, docs(OPERATIONS))?;
        let scenarios = ["Scenario", "Action", "adieu", "Requests", "Lost", "Result"];
        table(workspace, &rows, "scenarios", scenarios, docs(SCENARIOS))
    }
}

/// Shows the rows of one table, if there are any.
fn table<const N: usize>(
    workspace: &Workspace,
    rows: &[(String, Vec<String>)],
    name: &str,
    header: [&str; N],
    docs: Option<&str>,
) -> Result<()> {
    let mut figures = Figures::new(header).left();
    let mut ours = rows.iter().filter(|(table, _)| table == name).peekable();
    if ours.peek().is_none() {
        return Ok(());
    }
    for (_, cells) in ours {
        let cells: Result<[String; N], _> = cells.clone().try_into();
        figures.row(
            cells.map_err(|cells| {
                anyhow::anyhow!("a row of {name} has the wrong number of cells: {cells:?}")
            })?,
        );
    }
    figures.show(workspace, name, docs)
}

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
        table(workspace, &rows, "hostile", attack("Sent to the webhook's port"), docs(OPERATIONS))?;
        table(workspace, &rows, "tenant", attack("Action of the tenant"), docs(OPERATIONS))?;
        let shutdown = [
            "`shutdownGracePeriod`",
            "Drain of the pod",
            "Node is not ready after",
            "Kubelet releases its lock after",
            "Pod has ended after",
        ];
        table(workspace, &rows, "node-shutdown", shutdown, docs(OPERATIONS))?;
        table(workspace, &rows, "container-exit", ["preStop", "Pod is gone after"], docs(OPERATIONS))?;
        let scenarios = ["Scenario", "Action", "adieu", "Requests", "Lost", "Result"];
        table(workspace, &rows, "scenarios", scenarios, docs(SCENARIOS))
    }
}

/// The header of a table about phases of an attack.
fn attack(action: &str) -> [&str; 7] {
    [
        action,
        "Result",
        "Memory over time",
        "Peak memory",
        "Admissions meanwhile",
        "Failed or not injected",
        "p50 / p99 / slowest",
    ]
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

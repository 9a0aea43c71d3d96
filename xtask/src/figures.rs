//! Tables of figures, on the terminal and in docs/.

use std::fs;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

use crate::markdown;
use crate::progress::print_line;
use crate::workspace::Workspace;

/// The file with the figures of benchmarks, from the repository's root.
pub const BENCHMARKS: &str = "docs/benchmarks.md";
/// The file with the figures of end-to-end tests.
pub const OPERATIONS: &str = "docs/operations.md";
/// The file with the figures of scenarios.
pub const SCENARIOS: &str = "docs/scenarios.md";

/// The figures of one measurement.
#[derive(Debug)]
pub struct Figures {
    /// Remarks below the table, such as the environment and the results.
    pub remarks: Vec<String>,
    table: Table,
}

impl Figures {
    /// No rows yet. The first column names what the others count.
    pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Table::new();
        table.set_header(header);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { remarks: Vec::new(), table }
    }

    /// With the columns' texts where texts begin.
    pub fn left(mut self) -> Self {
        for column in self.table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Left);
        }
        self
    }

    /// A row; as many cells as the header has.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells);
    }

    /// Prints them, and writes them to `docs`, if given, under `name`.
    pub fn show(mut self, workspace: &Workspace, name: &str, docs: Option<&str>) -> Result<()> {
        self.print();
        docs.map_or(Ok(()), |docs| self.write(workspace, name, docs))
    }

    /// Prints them.
    pub fn print(&mut self) {
        self.table.load_style(presets::UTF8_FULL_CONDENSED);
        println!("\n{}", self.table);
        for remark in &self.remarks {
            println!("{remark}");
        }
    }

    /// Writes them to `docs`, under `name`.
    pub fn write(&mut self, workspace: &Workspace, name: &str, docs: &str) -> Result<()> {
        let file = workspace.root().join(docs);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = markdown::replaced(&text, &format!("figures: {name}"), &self.markdown())
            .with_context(|| format!("{docs} has no place for figures named {name}"))?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        print_line(&format!("✓ {}", file.display()));
        Ok(())
    }

    /// The table and the remarks as Markdown.
    pub fn markdown(&mut self) -> String {
        self.table.load_style(presets::ASCII_MARKDOWN);
        let remarks: Vec<_> = self.remarks.iter().map(|remark| format!("\n{remark}\n")).collect();
        format!("{}\n{}", self.table, remarks.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_have_a_place_for_all_figures() {
        let has =
            |docs: &str, name: &str| markdown::replaced(docs, &format!("figures: {name}"), "").is_some();
        let benchmarks = include_str!("../../docs/benchmarks.md");
        for name in ["admission", "scale", "scale-policy", "plan", "instructions", "drain"] {
            assert!(has(benchmarks, name), "{name}");
        }
        let operations = include_str!("../../docs/operations.md");
        for name in ["operations", "hostile", "tenant", "node-shutdown", "container-exit"] {
            assert!(has(operations, name), "{name}");
        }
        assert!(has(include_str!("../../docs/scenarios.md"), "scenarios"));
    }

    #[test]
    fn markdown_holds_the_rows_and_then_the_remarks() {
        let mut figures = Figures::new(["arm", "p50"]);
        figures.row(["none".into(), "1.00 ms".into()]);
        figures.remarks.push("Two cores.".into());
        let markdown = figures.markdown();
        let lines: Vec<_> = markdown.lines().collect();
        assert_eq!(lines.len(), 5, "{markdown}");
        assert!(lines[1].starts_with("|-"), "{markdown}");
        assert!(lines[2].contains("none") && lines[2].contains("1.00 ms"), "{markdown}");
        assert_eq!(lines[4], "Two cores.");
    }
}

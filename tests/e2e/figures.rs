//! Figures of the tests.

use std::{env, fs::OpenOptions, io::Write as _};

use serde_json::json;

/// Adds a row to the first table of docs/operations.md.
pub fn figure(what: &str, found: &str) {
    row("operations", &[what, found]);
}

/// Prints a row, and adds it to a table in docs/.
pub fn row(table: &str, cells: &[&str]) {
    print_line(&cells.join(" | "));
    keep(table, cells);
}

/// Adds a row to a table in docs/, by the file in `ADIEU_FIGURES`.
pub fn keep(table: &str, cells: &[&str]) {
    if let Some(file) = env::var_os("ADIEU_FIGURES") {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{}", json!([table, cells])).unwrap();
    }
}

/// Prints to standard error past the capture of a test's output, so that figures of passing tests are shown.
#[allow(clippy::explicit_write)]
pub fn print_line(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}

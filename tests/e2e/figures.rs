//! What tests found out, for people to read.

use std::{env, fs::OpenOptions, io::Write as _};

use serde_json::json;

/// A line for docs/operations.md.
pub fn figure(what: &str, found: &str) {
    say(&format!("{what}: {found}"));
    keep("operations", &[what, found]);
}

/// A row of a table in docs/, which is made of those in the file that `ADIEU_FIGURES` names.
pub fn keep(table: &str, cells: &[&str]) {
    if let Some(file) = env::var_os("ADIEU_FIGURES") {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{}", json!([table, cells])).unwrap();
    }
}

/// Past the capture of a test's output: figures of a test that passes are what one wants to see.
#[allow(clippy::explicit_write)]
pub fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}

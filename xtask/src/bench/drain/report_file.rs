//! The file with the figures.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::report::Report;

/// Writes the report to a file, if one is given.
pub fn write(file: Option<&Path>, report: &Report) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

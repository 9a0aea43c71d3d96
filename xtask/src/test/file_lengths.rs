//! Rust files are short. A long one usually holds two ideas.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// The maximum number of lines of a Rust file.
const MAXIMUM: usize = 400;

/// It is an error if a Rust file of the repository is longer.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut long = long_files(workspace.root())?;
    long.sort();
    ensure!(long.is_empty(), "split these files, which have more than {MAXIMUM} lines: {}", long.join(", "));
    Ok(())
}

/// The Rust files in `folder` that are too long, without those of builds and of hidden folders.
fn long_files(folder: &Path) -> Result<Vec<String>> {
    let mut long = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                long.extend(long_files(&path)?);
            }
        } else if path.extension() == Some(OsStr::new("rs")) {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let lines = text.lines().count();
            if lines > MAXIMUM {
                long.push(format!("{} ({lines})", path.display()));
            }
        }
    }
    Ok(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_files_over_the_maximum_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for (name, lines) in [
            ("src/short.rs", MAXIMUM),
            ("src/deep/long.rs", MAXIMUM + 1),
            ("src/data.yaml", MAXIMUM + 1),
            ("target/generated.rs", MAXIMUM + 1),
            (".cache/copy.rs", MAXIMUM + 1),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "\n".repeat(lines)).unwrap();
        }
        let long = folder.path().join("src/deep/long.rs");
        assert_eq!(long_files(folder.path()).unwrap(), [format!("{} (401)", long.display())]);
    }
}

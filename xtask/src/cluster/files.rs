//! Files written for the components, and by them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a file that only root can read, with its folder.
pub fn write(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    create_parent(file)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(file)
        .and_then(|mut open| open.write_all(content.as_ref()))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Writes JSON atomically.
pub fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    let fresh = file.with_extension("new");
    let content =
        serde_json::to_vec_pretty(value).with_context(|| format!("cannot encode {}", file.display()))?;
    write(&fresh, content)?;
    fs::rename(&fresh, file).with_context(|| format!("cannot put {} in place", file.display()))
}

/// Reads JSON.
pub fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&content).with_context(|| format!("cannot parse {}", file.display()))
}

/// Creates a folder and its parents.
pub fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Creates the folder of `file`.
pub fn create_parent(file: &Path) -> Result<()> {
    file.parent().map_or(Ok(()), create_folder)
}

//! The names of the files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::platform::Platform;

/// The version of all crates, of the chart and of the image.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The name that krew requires.
pub const KREW: &str = "adieu.yaml";

pub fn program(platform: &Platform) -> String {
    format!("adieu-{VERSION}-linux-{}.tar.gz", platform.arch)
}

pub fn image(platform: &Platform) -> String {
    format!("adieu-{VERSION}-image-linux-{}.tar", platform.arch)
}

/// For all platforms.
pub fn joined_image() -> String {
    format!("adieu-{VERSION}-image.tar")
}

/// The name that `helm package` gives it.
pub fn chart() -> String {
    format!("adieu-{VERSION}.tgz")
}

pub fn sbom() -> String {
    format!("adieu-{VERSION}.cdx.json")
}

/// The sorted names of a folder's entries.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect::<Result<_, _>>().context("cannot list a folder")?;
    names.sort();
    Ok(names)
}

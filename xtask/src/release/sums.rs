//! Checksums of the files, in the format of `sha256sum --check`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::names::files;
use crate::toolchain::hex;

/// The name of the file.
pub const FILE: &str = "SHA256SUMS";

/// Writes the checksums of all files in the folder.
pub fn write(folder: &Path) -> Result<()> {
    let mut lines = String::new();
    for name in files(folder)?.iter().filter(|name| *name != FILE) {
        let _ = writeln!(lines, "{}  {name}", of(&folder.join(name))?);
    }
    fs::write(folder.join(FILE), lines).with_context(|| format!("cannot write {FILE}"))
}

/// The checksum of one file.
pub fn of(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(hex(&Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "abc").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        write(folder.path()).unwrap();
        let sums = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(
            sums,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
             ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n"
        );
    }
}

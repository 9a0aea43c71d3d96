//! Where the manifests are.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// This folder, from any package of the workspace.
pub fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = package.ancestors().map(|folder| folder.join("tests/manifests"));
    folders.find(|folder| folder.is_dir()).unwrap()
}

/// Every file of this folder and those in it.
pub fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    find(&folder(), &mut found);
    found.sort();
    found
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            find(&path, found);
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
}

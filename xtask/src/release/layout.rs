//! Checks the archive of an image: an OCI image layout, as containerd loads it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::names::VERSION;
use super::sums;

/// Checks that the unpacked archive `folder` has one image, with this name and for this architecture, whose program
/// runs as a numeric user that isn't root, and with this version.
pub fn check(folder: &Path, reference: &str, arch: &str) -> Result<()> {
    check_image(folder, &named(folder, reference)?, arch)
}

/// Checks that the unpacked archive `folder` has such an image with this name for each of the architectures.
pub fn check_joined(folder: &Path, reference: &str, archs: &[&str]) -> Result<()> {
    let index = read(&blob(folder, &named(folder, reference)?)?)?;
    let images = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found: Vec<_> = images.iter().map(|image| image["platform"]["architecture"].as_str()).collect();
    let wanted: Vec<_> = archs.iter().copied().map(Some).collect();
    ensure!(found == wanted, "the image is for {found:?}, not for {wanted:?}");
    images.iter().zip(archs).try_for_each(|(image, arch)| check_image(folder, image, arch))
}

/// The descriptor with this name, the only one in the archive.
fn named(folder: &Path, reference: &str) -> Result<Value> {
    let index = read(&folder.join("index.json"))?;
    let [image] = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        bail!("the archive does not have one image: {index}");
    };
    let name = &image["annotations"]["org.opencontainers.image.ref.name"];
    ensure!(name == reference, "the image is called {name}, not {reference}");
    Ok(image.clone())
}

fn check_image(folder: &Path, image: &Value, arch: &str) -> Result<()> {
    let manifest = read(&blob(folder, image)?)?;
    for layer in manifest["layers"].as_array().context("the image has no layers")? {
        blob(folder, layer)?;
    }
    let config = read(&blob(folder, &manifest["config"])?)?;
    for (field, expected) in [
        ("/os", json!("linux")),
        ("/architecture", json!(arch)),
        // By number: a kubelet can't check that a name isn't root's.
        ("/config/User", json!("65532:65532")),
        ("/config/Entrypoint", json!(["/adieu"])),
        ("/config/Labels/org.opencontainers.image.version", json!(VERSION)),
    ] {
        let found = config.pointer(field).unwrap_or(&Value::Null);
        ensure!(*found == expected, "{field} of the image is {found}, not {expected}");
    }
    Ok(())
}

/// The file of a descriptor, which must have the descriptor's digest.
fn blob(folder: &Path, descriptor: &Value) -> Result<PathBuf> {
    let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let digest = digest.with_context(|| format!("no sha256 in {descriptor}"))?;
    let file = folder.join("blobs/sha256").join(digest);
    ensure!(sums::of(&file)? == digest, "{} has another content", file.display());
    Ok(file)
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn put(folder: &Path, content: &str) -> Value {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join("new"), content).unwrap();
        let sum = sums::of(&blobs.join("new")).unwrap();
        fs::rename(blobs.join("new"), blobs.join(&sum)).unwrap();
        json!({"digest": format!("sha256:{sum}")})
    }

    fn layout(config: &Value) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (config, layer) = (put(folder.path(), &config.to_string()), put(folder.path(), "program"));
        let mut image = put(folder.path(), &json!({"config": config, "layers": [layer]}).to_string());
        image["annotations"] = json!({"org.opencontainers.image.ref.name": "localhost/adieu:1"});
        fs::write(folder.path().join("index.json"), json!({"manifests": [image]}).to_string()).unwrap();
        folder
    }

    /// The configuration of an image that runs.
    fn good() -> Value {
        json!({
            "os": "linux", "architecture": "arm64",
            "config": {
                "User": "65532:65532",
                "Entrypoint": ["/adieu"],
                "Labels": {"org.opencontainers.image.version": VERSION},
            },
        })
    }

    #[test]
    fn an_image_that_would_not_run_is_rejected() {
        let good = good();
        let folder = layout(&good);
        check(folder.path(), "localhost/adieu:1", "arm64").unwrap();
        assert!(check(folder.path(), "localhost/adieu:2", "arm64").is_err());
        assert!(check(folder.path(), "localhost/adieu:1", "amd64").is_err());
        for (field, value) in [
            ("User", json!("root")),
            ("User", Value::Null),
            ("Entrypoint", json!(["/bin/sh"])),
            ("Labels", json!({"org.opencontainers.image.version": "0"})),
        ] {
            let mut config = good.clone();
            config["config"][field] = value;
            assert!(check(layout(&config).path(), "localhost/adieu:1", "arm64").is_err(), "{config}");
        }
    }

    #[test]
    fn an_image_without_an_architecture_is_rejected() {
        let folder = layout(&good());
        let mut image = named(folder.path(), "localhost/adieu:1").unwrap();
        image["platform"] = json!({"architecture": "arm64"});
        let mut index = put(folder.path(), &json!({"manifests": [image]}).to_string());
        index["annotations"] = image["annotations"].clone();
        fs::write(folder.path().join("index.json"), json!({"manifests": [index]}).to_string()).unwrap();
        let check = |archs: &[&str]| check_joined(folder.path(), "localhost/adieu:1", archs);
        check(&["arm64"]).unwrap();
        assert!(check(&["amd64"]).is_err() && check(&["amd64", "arm64"]).is_err() && check(&[]).is_err());
    }

    #[test]
    fn a_blob_with_another_digest_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let descriptor = put(folder.path(), "program");
        let file = blob(folder.path(), &descriptor).unwrap();
        fs::write(file, "programs").unwrap();
        assert!(blob(folder.path(), &descriptor).unwrap_err().to_string().contains("another content"));
    }
}

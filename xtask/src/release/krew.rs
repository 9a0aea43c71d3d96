//! The manifest with which krew installs the command line as `kubectl adieu`.

use anyhow::{Context, Result};
use serde_json::json;

use super::names;
use super::platform::Platform;

/// The manifest for archives that are downloaded from below `url`, each with its sum.
pub fn manifest(version: &str, url: &str, archives: &[(&Platform, String)]) -> Result<String> {
    let platforms: Vec<_> = archives
        .iter()
        .map(|(platform, sha256)| {
            json!({
                "selector": {"matchLabels": {"os": "linux", "arch": platform.arch}},
                "uri": format!("{}/{}", url.trim_end_matches('/'), names::program(platform)),
                "sha256": sha256,
                "bin": "adieu",
            })
        })
        .collect();
    let manifest = json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "adieu"},
        "spec": {
            "version": format!("v{version}"),
            "homepage": "https://github.com/adieu-dev/adieu",
            "shortDescription": "Make workloads terminate gracefully",
            "description": "Injects graceful termination into the workloads of manifests, so that no request is lost \
                when a pod terminates, reverts injections, and checks an installation of the operator.",
            "platforms": platforms,
        },
    });
    serde_saphyr::to_string(&manifest).context("cannot write YAML")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::platform::PLATFORMS;
    use super::*;

    #[test]
    fn each_platform_has_its_archive_with_its_sum() {
        let archives = [(&PLATFORMS[0], "a".repeat(64)), (&PLATFORMS[1], "b".repeat(64))];
        let text = manifest("1.2.3", "https://example.com/v1.2.3/", &archives).unwrap();
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(manifest["spec"]["version"], "v1.2.3");
        let arm = &manifest["spec"]["platforms"][1];
        assert_eq!(arm["selector"]["matchLabels"]["arch"], "arm64");
        assert_eq!(arm["sha256"], "b".repeat(64));
        let uri = arm["uri"].as_str().unwrap();
        assert!(uri.starts_with("https://example.com/v1.2.3/adieu-") && uri.ends_with("-linux-arm64.tar.gz"));
    }
}

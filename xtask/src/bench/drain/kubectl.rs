//! kubectl, in the namespaces of the measurements.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::command;
use crate::progress::Step;
use crate::target::Target;

/// The namespace of the application and of canaries.
pub const NAMESPACE: &str = "adieu-bench-drain";
/// The namespace of proxies.
pub const PROXIES: &str = "adieu-bench-proxies";

/// The folder of the manifests, from the repository's root.
const MANIFESTS: &str = "tests/data-planes";
/// The limit of a rollout, in seconds.
const LIMIT: u64 = 180;

/// kubectl in one namespace.
pub struct Kubectl<'a> {
    target: &'a Target,
    namespace: &'static str,
}

impl<'a> Kubectl<'a> {
    /// kubectl in `namespace`.
    pub fn new(target: &'a Target, namespace: &'static str) -> Self {
        Self { target, namespace }
    }

    /// Runs it.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        self.output(arguments).map(drop)
    }

    /// The objects that `kubectl get` prints.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.output(&[&["get", "--output=json"][..], arguments].concat())?;
        serde_json::from_str(&text).context("kubectl printed invalid JSON")
    }

    /// Applies a manifest of the data planes, in which `values` replace words.
    pub fn apply(&self, file: &str, values: &[(&str, &str)]) -> Result<()> {
        let source = self.target.workspace().root().join(MANIFESTS).join(file);
        let text =
            fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let text = values.iter().fold(text, |text, (word, value)| text.replace(word, value));
        let mut manifests = NamedTempFile::new().context("cannot create a temporary file")?;
        manifests.write_all(text.as_bytes()).context("cannot write a temporary file")?;
        self.run(&["apply", "-f", &manifests.path().to_string_lossy()])
    }

    /// Creates the CRDs in a file or folder, and waits until they are served. They are too large for the annotation of
    /// a client-side apply.
    pub fn create_crds(&self, path: &Path) -> Result<()> {
        let path = path.to_string_lossy();
        let applied = self.output(&["apply", "--server-side", "--output=name", "-f", &path])?;
        let is_crd = |name: &&str| name.starts_with("customresourcedefinition");
        let crds: Vec<_> = applied.lines().filter(is_crd).collect();
        self.run(&[&["wait", "--for=condition=Established", "--timeout=60s"][..], &crds[..]].concat())
    }

    /// Deletes the objects in a file or folder, if they exist.
    pub fn delete_file(&self, path: &Path) -> Result<()> {
        self.run(&["delete", "--ignore-not-found", "--wait", "-f", &path.to_string_lossy()])
    }

    /// Deletes the namespace, if it exists, with everything in it, also after Ctrl-C.
    pub fn delete_namespace(&self) -> Result<()> {
        let step = Step::start(format!("removing the namespace {}", self.namespace));
        self.run(&["delete", "namespace", self.namespace, "--ignore-not-found", "--wait"])?;
        step.done();
        Ok(())
    }

    /// Waits until a Deployment is rolled out.
    pub fn wait_for_rollout(&self, deployment: &str) -> Result<()> {
        let step = Step::start(format!("waiting for the rollout of {deployment}"));
        let mut kubectl = self.target.kubectl();
        kubectl.args(["rollout", "status", "deployment", deployment, "--namespace", self.namespace]);
        kubectl.arg(format!("--timeout={LIMIT}s"));
        command::run(&step, &mut kubectl, &self.target.workspace().log("kubectl-rollout"))?;
        step.done();
        Ok(())
    }

    fn output(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.target.kubectl();
        command::output(kubectl.args(["--namespace", self.namespace]).args(arguments))
    }
}

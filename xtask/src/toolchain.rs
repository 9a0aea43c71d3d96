//! The programs of a cluster, built once from their Go modules.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::command;
use crate::progress::Step;
use crate::workspace::Workspace;

/// The names by which the binary of all components is called; see tests/cluster/kubernetes/main.go.
const COMPONENTS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"];

/// Builds the missing and outdated programs of a cluster.
pub fn build_all(workspace: &Workspace) -> Result<()> {
    build_clients(workspace)?;
    etcd(workspace)?;
    kubernetes(workspace)
}

/// kubectl and Helm, the programs for an external cluster.
pub fn build_clients(workspace: &Workspace) -> Result<()> {
    kubectl(workspace)?;
    helm(workspace)
}

/// The program of pod sandboxes.
pub fn build_pause(workspace: &Workspace) -> Result<PathBuf> {
    Module { name: "pause", ..Module::default() }.build(workspace)
}

/// A sample application, tests/apps/NAME.
pub fn build_app(workspace: &Workspace, name: &'static str) -> Result<PathBuf> {
    Module { name, folder: "tests/apps", package: format!("./{name}"), ..Module::default() }.build(workspace)
}

/// A released load generator with a constant rate.
pub fn build_vegeta(workspace: &Workspace) -> Result<PathBuf> {
    let package = "github.com/tsenart/vegeta/v12".to_owned();
    Module { name: "vegeta", package, ..Module::default() }.build(workspace)
}

/// A released simulator of nodes.
pub fn build_kwok(workspace: &Workspace) -> Result<PathBuf> {
    Module { name: "kwok", package: "sigs.k8s.io/kwok/cmd/kwok".to_owned(), ..Module::default() }
        .build(workspace)
}

/// A released controller of Ingresses and Gateways that is also their proxy.
pub fn build_traefik(workspace: &Workspace) -> Result<PathBuf> {
    const PACKAGE: &str = "github.com/traefik/traefik/v3";
    let version = required_version(workspace, "traefik", PACKAGE)?;
    let module = Module {
        name: "traefik",
        package: format!("{PACKAGE}/cmd/traefik"),
        variables: vec![format!("{PACKAGE}/pkg/version.Version={version}")],
        first_time: "some 6 minutes the first time",
        ..Module::default()
    };
    module.build(workspace)
}

/// A released controller of Ingresses that configures Envoy.
pub fn build_contour(workspace: &Workspace) -> Result<PathBuf> {
    let module = Module {
        name: "contour",
        package: "github.com/projectcontour/contour/cmd/contour".to_owned(),
        first_time: "some 2 minutes the first time",
        ..Module::default()
    };
    module.build(workspace)
}

/// The folder of a Go module that the program tests/cluster/NAME is built from, once it is built.
pub fn module_folder(workspace: &Workspace, name: &str, module: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.current_dir(workspace.modules().join(name)).args(["list", "-m", "-f", "{{.Dir}}", module]);
    let folder = PathBuf::from(command::output(&mut go)?.trim());
    ensure!(folder.is_dir(), "the Go module {module} is not downloaded");
    Ok(folder)
}

/// The version of Kubernetes in go.mod.
pub fn kubernetes_version(workspace: &Workspace) -> Result<String> {
    required_version(workspace, "kubernetes", "k8s.io/kubernetes")
}

/// The hash of `parts`, for use in names and stamps.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // The length keeps parts apart that concatenate to the same bytes.
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A program and the Go module that it is built from.
struct Module {
    name: &'static str,
    /// The module's folder; tests/cluster/NAME if empty.
    folder: &'static str,
    package: String,
    /// For the linker's `-X`.
    variables: Vec<String>,
    /// The duration of a first build, for the progress line.
    first_time: &'static str,
}

impl Default for Module {
    fn default() -> Self {
        Self { name: "", folder: "", package: ".".into(), variables: Vec::new(), first_time: "" }
    }
}

/// For the linker. Without these the programs of Kubernetes report v0.0.0, which clients reject.
fn kubernetes_variables(workspace: &Workspace) -> Result<Vec<String>> {
    let version = kubernetes_version(workspace)?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("{version} is not a version of Kubernetes");
    };
    let variables = [
        ("gitVersion", version.as_str()),
        ("gitMajor", major),
        ("gitMinor", minor),
        ("gitTreeState", "archive"),
        ("gitCommit", "unknown"),
    ]
    .map(|(name, value)| format!("k8s.io/component-base/version.{name}={value}"));
    Ok(variables.to_vec())
}

fn kubectl(workspace: &Workspace) -> Result<()> {
    let module = Module {
        name: "kubectl",
        folder: "tests/cluster/kubernetes",
        package: "./kubectl".into(),
        variables: kubernetes_variables(workspace)?,
        first_time: "some 2 minutes the first time",
    };
    module.build(workspace).map(drop)
}

fn etcd(workspace: &Workspace) -> Result<()> {
    let module = Module { name: "etcd", first_time: "some 45 seconds the first time", ..Module::default() };
    module.build(workspace).map(drop)
}

fn kubernetes(workspace: &Workspace) -> Result<()> {
    let module = Module {
        name: "kubernetes",
        variables: kubernetes_variables(workspace)?,
        first_time: "some 6 minutes the first time",
        ..Module::default()
    };
    let binary = module.build(workspace)?;
    for component in COMPONENTS {
        let link = workspace.bin().join(component);
        if fs::read_link(&link).is_ok_and(|to| Some(to.as_os_str()) == binary.file_name()) {
            continue;
        }
        let _ = fs::remove_file(&link);
        symlink(module.name, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

fn helm(workspace: &Workspace) -> Result<()> {
    const PACKAGE: &str = "helm.sh/helm/v3";
    let version = required_version(workspace, "helm", PACKAGE)?;
    let kubernetes = kubernetes_version(workspace)?;
    let minor = kubernetes.split('.').nth(1).unwrap_or_default();
    // `helm template` and `helm lint` use the last two as the cluster's version.
    let variables = vec![
        format!("{PACKAGE}/internal/version.version={version}"),
        format!("{PACKAGE}/pkg/chartutil.k8sVersionMinor={minor}"),
        format!("{PACKAGE}/pkg/lint/rules.k8sVersionMinor={minor}"),
    ];
    let module = Module {
        name: "helm",
        package: "helm.sh/helm/v3/cmd/helm".into(),
        variables,
        first_time: "some 3 minutes the first time",
        ..Module::default()
    };
    module.build(workspace).map(drop)
}

impl Module {
    /// The program, built again if its inputs have changed.
    fn build(&self, workspace: &Workspace) -> Result<PathBuf> {
        let binary = workspace.bin().join(self.name);
        let stamp = workspace.cache().join("stamps").join(self.name);
        let inputs = self.inputs(workspace)?;
        if binary.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == inputs) {
            return Ok(binary);
        }
        let note = if self.first_time.is_empty() { String::new() } else { format!(" ({})", self.first_time) };
        let step = Step::start(format!("building {}{note}", self.name));
        for folder in [binary.parent(), stamp.parent()].into_iter().flatten() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        // A running binary can be replaced, but not written to.
        let fresh = binary.with_extension("new");
        // If Go is interrupted, its temporary files can remain.
        let temporary =
            tempfile::tempdir_in(workspace.cache()).context("cannot create a temporary folder")?;
        let mut go = Command::new("go");
        go.current_dir(self.folder(workspace));
        go.env("CGO_ENABLED", "0").env("GOTMPDIR", temporary.path());
        go.args(self.arguments()).arg("-o").arg(&fresh).arg(&self.package);
        command::run(&step, &mut go, &workspace.log(&format!("build-{}", self.name)))
            .with_context(|| format!("cannot build {}", self.name))?;
        fs::rename(&fresh, &binary).with_context(|| format!("cannot put {} in place", binary.display()))?;
        fs::write(&stamp, inputs).with_context(|| format!("cannot write {}", stamp.display()))?;
        step.done();
        Ok(binary)
    }

    fn folder(&self, workspace: &Workspace) -> PathBuf {
        match self.folder {
            "" => workspace.modules().join(self.name),
            folder => workspace.root().join(folder),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut linker = "-s -w".to_owned();
        for variable in &self.variables {
            let _ = write!(linker, " -X {variable}");
        }
        // The linker strips debug information, so no package needs it.
        let compiler = "-gcflags=all=-dwarf=false";
        ["build", "-trimpath", "-buildvcs=false", compiler, &format!("-ldflags={linker}")]
            .map(str::to_owned)
            .to_vec()
    }

    /// The inputs of the program: the module's files, the flags, the compiler.
    fn inputs(&self, workspace: &Workspace) -> Result<String> {
        let folder = self.folder(workspace);
        let mut files = list(&folder)?;
        if self.package.starts_with("./") {
            files.extend(list(&folder.join(&self.package))?);
        }
        files.retain(|path| {
            path.extension().is_some_and(|kind| kind == "go" || kind == "mod" || kind == "sum")
        });
        files.sort();
        let mut parts = Vec::new();
        for file in &files {
            parts.push(file.file_name().unwrap_or_default().as_encoded_bytes().to_vec());
            parts.push(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        parts.extend(self.arguments().into_iter().map(String::into_bytes));
        let mut go = Command::new("go");
        // In the module's folder, because its go.mod can select another compiler.
        go.current_dir(&folder).args(["env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOFLAGS"]);
        let compiler = command::output(&mut go)
            .context("install Go (https://go.dev/dl, or apt-get install golang-go)")?;
        parts.push(compiler.into_bytes());
        Ok(hash(parts.iter().map(Vec::as_slice)))
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|found| found.path())).collect())
        .with_context(|| format!("cannot list {}", folder.display()))
}

/// The version of `path` in the go.mod of `module`.
fn required_version(workspace: &Workspace, module: &str, path: &str) -> Result<String> {
    let file = workspace.modules().join(module).join("go.mod");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    version_in(&text, path).with_context(|| format!("{} does not require {path}", file.display()))
}

fn version_in(go_mod: &str, path: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(path)).then(|| words.next().map(str::to_owned)).flatten()
    })
}

/// The hash of a file's content.
pub fn hash_file(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(hash([content.as_slice()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_either_form_of_require() {
        let text = "module m\n\nrequire k8s.io/a v1.2.3\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n\tk8s.io/b v2.0.0 // indirect\n)\n";
        assert_eq!(version_in(text, "k8s.io/kubernetes").as_deref(), Some("v1.36.3"));
        assert_eq!(version_in(text, "k8s.io/a").as_deref(), Some("v1.2.3"));
        assert_eq!(version_in(text, "k8s.io/c"), None);
    }

    #[test]
    fn parts_do_not_run_together_in_a_hash() {
        assert_ne!(hash([b"ab".as_slice(), b"c"]), hash([b"a".as_slice(), b"bc"]));
    }
}

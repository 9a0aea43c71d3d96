//! Images, made by buildah from programs that are built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::json;

use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, toolchain};

/// The image of pod sandboxes.
pub const PAUSE: &str = "localhost/pause:adieu";

/// Held while buildah runs, because threads share its storage and its policy.
static BUILDAH: Mutex<()> = Mutex::new(());

/// An image in an archive.
pub struct Image {
    /// Such as `localhost/adieu`.
    pub repository: String,
    /// Changes with the content.
    pub tag: String,
    /// An OCI archive.
    pub archive: PathBuf,
}

impl Image {
    /// The name by which pods refer to it.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// The archive of the image [`PAUSE`], made if it is missing or outdated.
pub fn pause(workspace: &Workspace) -> Result<PathBuf> {
    let program = toolchain::build_pause(workspace)?;
    let module = workspace.modules().join("pause");
    let dockerfile = module.join("Dockerfile");
    let made_from = toolchain::hash([
        toolchain::hash_file(&program)?.as_bytes(),
        toolchain::hash_file(&dockerfile)?.as_bytes(),
    ]);
    let archive = archive(workspace, "pause", short(&made_from));
    if !archive.exists() {
        let context = tempfile::tempdir().context("cannot create a temporary folder")?;
        fs::copy(&program, context.path().join("pause")).context("cannot copy the program")?;
        let _alone = alone();
        let mut buildah = buildah(workspace)?;
        buildah.args(["--isolation", "chroot", "--file"]).arg(&dockerfile);
        finish(workspace, buildah, &archive, PAUSE, context.path())?;
    }
    Ok(archive)
}

/// adieu, built here.
pub struct Adieu {
    /// Its image, from the repository's Dockerfile.
    pub image: Image,
    /// The program that is in it.
    pub program: PathBuf,
}

/// adieu for this machine, with these cargo features.
pub fn adieu(workspace: &Workspace, features: &'static [&'static str]) -> Result<Adieu> {
    let program = build_adieu(workspace, &Build { features, ..Build::host()? })?;
    let image = staged(workspace, "adieu", &program, "adieu", &workspace.root().join("Dockerfile"))?;
    Ok(Adieu { image, program })
}

/// adieu's release image `reference`, in `archive`. It is reproducible.
pub fn release(
    workspace: &Workspace,
    program: &Path,
    arch: &str,
    reference: &str,
    archive: &Path,
) -> Result<()> {
    let dockerfile = workspace.root().join("Dockerfile");
    let version = concat!("org.opencontainers.image.version=", env!("CARGO_PKG_VERSION"));
    let arguments = &["--arch", arch, "--timestamp", "0", "--label", version];
    let recipe = Recipe { dockerfile: &dockerfile, reference, arguments };
    stage(workspace, &recipe, archive, |stage| copy(program, stage, "adieu"))
}

/// Joins the images in `archives`, one per architecture, to one multi-architecture image `reference` in `archive`.
pub fn join(
    workspace: &Workspace,
    archives: &[(&'static str, PathBuf)],
    reference: &str,
    archive: &Path,
) -> Result<()> {
    const LIST: &str = "adieu-release";
    let _alone = alone();
    let step = Step::start("joining the images");
    let run = |subcommand: &str, arguments: &[&str]| {
        let mut buildah = storage(workspace)?;
        buildah.args(["manifest", subcommand]).args(arguments);
        command::run(&step, &mut buildah, &workspace.log("image-join"))
    };
    // From an interrupted run.
    let _ = run("rm", &[LIST]);
    run("create", &[LIST])?;
    for (arch, part) in archives {
        run("add", &["--arch", arch, LIST, &format!("oci-archive:{}", part.display())])?;
    }
    let policy = policy(workspace)?.display().to_string();
    let destination = format!("oci-archive:{}:{reference}", archive.display());
    run("push", &["--signature-policy", &policy, "--all", LIST, &destination])?;
    run("rm", &[LIST])?;
    step.done();
    Ok(())
}

/// The target of a build of adieu, and its options.
pub struct Build {
    /// The Rust target.
    pub target: String,
    /// The C compiler and linker, if not the machine's own.
    pub compiler: Option<&'static str>,
    /// Cargo's features.
    pub features: &'static [&'static str],
}

impl Build {
    /// For this machine.
    pub fn host() -> Result<Self> {
        let version = command::output(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            target: host.context("rustc does not report its host")?.into(),
            compiler: None,
            features: &[],
        })
    }
}

/// The image of a sample application, tests/apps/NAME.
pub fn app(workspace: &Workspace, name: &'static str) -> Result<Image> {
    program(workspace, name, &toolchain::build_app(workspace, name)?)
}

/// The image of one static program.
pub fn program(workspace: &Workspace, name: &str, program: &Path) -> Result<Image> {
    staged(workspace, name, program, "app", &workspace.root().join("tests/apps/Dockerfile"))
}

/// The image of a sample application that is built by a script, tests/apps/NAME/build.sh. Packages of the
/// distribution don't count as its input: with newer ones it is the same application.
pub fn assembled(workspace: &Workspace, name: &'static str) -> Result<Image> {
    let folder = workspace.root().join("tests/apps").join(name);
    let mut files = Vec::new();
    list(&folder, &mut files)?;
    let hashes = files.iter().map(|file| toolchain::hash_file(file)).collect::<Result<Vec<_>>>()?;
    let made_from = toolchain::hash(hashes.iter().map(String::as_bytes));
    image(workspace, name, short(&made_from), &folder.join("Dockerfile"), |stage| {
        let step = Step::start(format!("building {name}"));
        let mut script = Command::new(folder.join("build.sh"));
        script.arg(stage.join(name));
        command::run(&step, &mut script, &workspace.log(&format!("build-{name}")))?;
        step.done();
        Ok(())
    })
}

/// An image whose Dockerfile builds `program` in a stage named `build`, from which it copies /FILE.
fn staged(workspace: &Workspace, name: &str, program: &Path, file: &str, dockerfile: &Path) -> Result<Image> {
    let made_from = toolchain::hash([
        toolchain::hash_file(program)?.as_bytes(),
        toolchain::hash_file(dockerfile)?.as_bytes(),
    ]);
    image(workspace, name, short(&made_from), dockerfile, |stage| copy(program, stage, file))
}

/// The image with this tag, which is made unless it exists.
fn image(
    workspace: &Workspace,
    name: &str,
    tag: &str,
    dockerfile: &Path,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<Image> {
    let repository = format!("localhost/{name}");
    let archive = archive(workspace, name, tag);
    if !archive.exists() {
        remove_old(&archive, &format!("{name}-"))?;
        let recipe = Recipe { dockerfile, reference: &format!("{repository}:{tag}"), arguments: &[] };
        stage(workspace, &recipe, &archive, fill)?;
    }
    Ok(Image { repository, tag: tag.to_owned(), archive })
}

/// An image to build from a Dockerfile.
struct Recipe<'a> {
    dockerfile: &'a Path,
    /// Such as `localhost/adieu:1`.
    reference: &'a str,
    /// Further arguments of buildah.
    arguments: &'a [&'a str],
}

/// Builds the last stage of a Dockerfile. A folder that `fill` fills replaces the stage named `build`, so that no
/// base image is pulled and no compiler runs in a container.
fn stage(
    workspace: &Workspace,
    recipe: &Recipe<'_>,
    archive: &Path,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let stage = tempfile::tempdir().context("cannot create a temporary folder")?;
    fill(stage.path())?;
    let context = tempfile::tempdir().context("cannot create a temporary folder")?;
    let _alone = alone();
    let mut buildah = buildah(workspace)?;
    buildah.args(["--isolation", "chroot"]).args(recipe.arguments).arg("--file").arg(recipe.dockerfile);
    buildah.arg("--build-context").arg(format!("build={}", stage.path().display()));
    finish(workspace, buildah, archive, recipe.reference, context.path())
}

fn copy(program: &Path, stage: &Path, name: &str) -> Result<()> {
    fs::copy(program, stage.join(name)).map(drop).context("cannot copy the program")
}

/// The files under `folder`, always in the same order.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.path().is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// A static release binary, the only file of the image.
pub fn build_adieu(workspace: &Workspace, build: &Build) -> Result<PathBuf> {
    let Build { target, compiler, features } = build;
    let step = Step::start(format!("building adieu for {target}"));
    let variable = target.replace(['-', '.'], "_");
    let mut cargo = command::cargo(workspace);
    // They would override the target's flags.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env(format!("CARGO_TARGET_{}_RUSTFLAGS", variable.to_uppercase()), "-C target-feature=+crt-static");
    if let Some(compiler) = compiler {
        cargo.env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), compiler);
        cargo.env(format!("CC_{variable}"), compiler);
    }
    cargo.args([
        "rustc",
        "--release",
        "--locked",
        "--package",
        "adieu",
        "--bin",
        "adieu",
        "--target",
        target,
    ]);
    cargo.arg(format!("--features={}", features.join(",")));
    if !features.is_empty() {
        // A build that only tests use may be larger and slower, and takes less time. For the linked crate and its link
        // only: with another profile all dependencies would be built again.
        cargo.args(["--", "-C", "lto=thin", "-C", "opt-level=1"]);
    }
    command::run(&step, &mut cargo, &workspace.log("build-adieu"))?;
    step.done();
    Ok(workspace.target().join(target).join("release/adieu"))
}

/// Waits until no other thread runs buildah.
fn alone() -> MutexGuard<'static, ()> {
    BUILDAH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// buildah, with its storage under the target folder.
fn storage(workspace: &Workspace) -> Result<Command> {
    let folder = workspace.cache().join("buildah");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut buildah = Command::new("buildah");
    buildah.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run"));
    buildah.args(["--storage-driver", "vfs"]);
    Ok(buildah)
}

/// buildah that makes an image.
fn buildah(workspace: &Workspace) -> Result<Command> {
    let mut buildah = storage(workspace)?;
    buildah.args(["bud", "--signature-policy"]).arg(policy(workspace)?);
    // buildah creates it even if no container runs, by default in /etc.
    buildah.arg("--cni-config-dir").arg(workspace.cache().join("buildah/cni"));
    Ok(buildah)
}

/// A signature policy that accepts everything: no image is pulled, and the machine may have no policy.
fn policy(workspace: &Workspace) -> Result<PathBuf> {
    let policy = workspace.cache().join("buildah/policy.json");
    fs::write(&policy, json!({"default": [{"type": "insecureAcceptAnything"}]}).to_string())
        .with_context(|| format!("cannot write {}", policy.display()))?;
    Ok(policy)
}

fn finish(
    workspace: &Workspace,
    mut buildah: Command,
    archive: &Path,
    reference: &str,
    context: &Path,
) -> Result<()> {
    let name = archive.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let step = Step::start(format!("making the image {reference}"));
    if let Some(folder) = archive.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let fresh = archive.with_extension("new");
    let _ = fs::remove_file(&fresh);
    buildah.arg("--tag").arg(format!("oci-archive:{}:{reference}", fresh.display())).arg(context);
    command::run(&step, &mut buildah, &workspace.log(&format!("image-{name}")))?;
    fs::rename(&fresh, archive).with_context(|| format!("cannot put {} in place", archive.display()))?;
    step.done();
    Ok(())
}

/// Removes the archives of earlier builds beside `archive`.
fn remove_old(archive: &Path, prefix: &str) -> Result<()> {
    let entries = archive.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn archive(workspace: &Workspace, name: &str, tag: &str) -> PathBuf {
    workspace.cache().join("images").join(format!("{name}-{tag}.tar"))
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

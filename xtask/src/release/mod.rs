//! Makes the files of a release in one folder: images, the chart, the command line, the manifest of the kubectl
//! plugin, the bill of materials, and checksums of all of them.

mod krew;
mod layout;
mod names;
mod platform;
pub mod sbom;
mod sums;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::progress::{Step, print_line};
use crate::workspace::Workspace;
use crate::{command, debian, image, interrupt, toolchain};

use names::{VERSION, files};
use platform::{PLATFORMS, Platform};

/// The name of the image, also in the chart's values.
const IMAGE: &str = "ghcr.io/adieu-dev/adieu";
/// The maximal size of the image, which contains only the program.
const IMAGE_LIMIT: u64 = 20 << 20;

/// `cargo xtask release`
#[derive(Args)]
pub struct Options {
    /// The folder for the files; it may contain nothing else [default: target/release-VERSION]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Only for these platforms, with the names of Go: amd64, arm64
    #[arg(long, value_name = "ARCH", value_parser = PLATFORMS.map(|platform| platform.arch))]
    arch: Vec<String>,

    /// The name of the image, in its archive and in the chart's values
    #[arg(long, value_name = "NAME", default_value = IMAGE)]
    image: String,

    /// The download URL of the files, for the manifest of the kubectl plugin
    #[arg(
        long,
        value_name = "URL",
        default_value = concat!("https://github.com/adieu-dev/adieu/releases/download/v", env!("CARGO_PKG_VERSION"))
    )]
    download_url: String,
}

impl Options {
    /// The image, by name and tag.
    fn reference(&self) -> String {
        format!("{}:{VERSION}", self.image)
    }
}

/// Makes the files, and lists them together with those that couldn't be made.
pub fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let out = options.out.clone().unwrap_or_else(|| workspace.target().join(format!("release-{VERSION}")));
    make(&workspace, options, &out)
}

/// Checks a release for this machine's platform: compares checksums, runs the program and unpacks the image.
pub fn prove(workspace: &Workspace) -> Result<()> {
    let out = tempfile::tempdir().context("cannot create a temporary folder")?;
    let host = Platform::host()?;
    let options = Options {
        out: None,
        arch: vec![host.arch.into()],
        image: "localhost/adieu".into(),
        download_url: "https://localhost".into(),
    };
    make(workspace, &options, out.path())?;
    let step = Step::start("checking the release");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command::output(command.current_dir(out.path()).args(arguments))
    };
    run("sha256sum", &["--check", "--strict", sums::FILE])?;
    run("tar", &["--extract", "--file", &names::program(host)])?;
    let version = run("./adieu", &["--version"])?;
    if version.trim() != format!("adieu {VERSION}") {
        bail!("the program of the release reports the version {version}");
    }
    for file in ["man/adieu.1", "man/adieu-audit.1", "kubectl_complete-adieu"] {
        run("test", &["-s", file]).with_context(|| format!("the archive has no {file}"))?;
    }
    let image = out.path().join("image");
    fs::create_dir(&image).context("cannot create a folder")?;
    run("tar", &["--extract", "--directory=image", "--file", &names::image(host)])?;
    layout::check(&image, &options.reference(), host.arch)?;
    let joined = out.path().join("joined");
    fs::create_dir(&joined).context("cannot create a folder")?;
    run("tar", &["--extract", "--directory=joined", "--file", &names::joined_image()])?;
    layout::check_joined(&joined, &options.reference(), &[host.arch])?;
    let chart = run(&workspace.bin().join("helm").display().to_string(), &["template", &names::chart()])?;
    if !chart.contains(&format!("image: {}\n", options.reference())) {
        bail!("the chart of the release does not use the release's image, {}", options.reference());
    }
    step.done();
    Ok(())
}

fn make(workspace: &Workspace, options: &Options, out: &Path) -> Result<()> {
    let wanted = |platform: &&Platform| {
        options.arch.is_empty() || options.arch.iter().any(|arch| arch == platform.arch)
    };
    let mut missing = Vec::new();
    let (mut plugins, mut images) = (Vec::new(), Vec::new());
    debian::ensure_buildah(workspace)?;
    toolchain::build_clients(workspace)?;
    let mut possible = Vec::new();
    for platform in PLATFORMS.iter().filter(wanted) {
        match platform.ensure(workspace) {
            Ok(()) => possible.push(platform),
            Err(error) => {
                missing.push((names::program(platform), format!("{error:#}")));
                missing.push((names::image(platform), format!("{error:#}")));
                missing.push((names::joined_image(), format!("has no image for {}", platform.arch)));
            }
        }
    }
    some(&possible, &missing)?;
    claim(out)?;
    let pages = man_pages(workspace)?;
    for platform in possible {
        let program = image::build_adieu(workspace, &platform.build()?)?;
        let archive = out.join(names::program(platform));
        pack(workspace, &program, pages.path(), &archive)?;
        plugins.push((platform, sums::of(&archive)?));
        let archive = out.join(names::image(platform));
        image::release(workspace, &program, platform.arch, &options.reference(), &archive)?;
        for file in [&program, &archive] {
            let size =
                fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?.len();
            if size > IMAGE_LIMIT {
                bail!("{} has {size} bytes, more than the limit of {IMAGE_LIMIT}", file.display());
            }
        }
        images.push((platform.arch, archive));
    }
    image::join(workspace, &images, &options.reference(), &out.join(names::joined_image()))?;
    package_chart(workspace, &options.image, out)?;
    let krew = krew::manifest(VERSION, &options.download_url, &plugins)?;
    fs::write(out.join(names::KREW), krew).context("cannot write the manifest of the kubectl plugin")?;
    let sbom = sbom::generate(workspace, VERSION)?;
    fs::write(out.join(names::sbom()), sbom).context("cannot write the bill of materials")?;
    sums::write(out)?;
    list(out, &missing)
}

/// It is an error if there is nothing to release.
fn some<T>(made: &[T], missing: &[(String, String)]) -> Result<()> {
    if made.is_empty() {
        let reasons: Vec<_> = missing.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        bail!("none of the requested platforms can be built here\n{}", reasons.join("\n"));
    }
    Ok(())
}

/// Creates the folder, and removes the files of an earlier run. Other files in it are an error.
fn claim(out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut ours = vec![names::KREW.to_owned(), names::chart(), names::sbom(), sums::FILE.to_owned()];
    ours.push(names::joined_image());
    ours.extend(PLATFORMS.iter().flat_map(|platform| [names::program(platform), names::image(platform)]));
    let found = files(out)?;
    if let Some(other) = found.iter().find(|name| !ours.contains(name)) {
        bail!(
            "{} contains {other}, which is not a file of the release {VERSION}: use another folder with --out",
            out.display()
        );
    }
    for name in found {
        fs::remove_file(out.join(&name)).with_context(|| format!("cannot remove {name}"))?;
    }
    Ok(())
}

/// Writes the man pages of the command line to the folder `man` in a temporary one.
fn man_pages(workspace: &Workspace) -> Result<TempDir> {
    let step = Step::start("writing the man pages");
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let mut cargo = command::locked_cargo(workspace, "run");
    cargo.args(["--example", "man", "--"]).arg(folder.path().join("man"));
    command::run(&step, &mut cargo, &workspace.log("release-man"))?;
    step.done();
    Ok(folder)
}

/// The program, its license, its man pages and the completions of kubectl in a reproducible archive.
fn pack(workspace: &Workspace, program: &Path, pages: &Path, archive: &Path) -> Result<()> {
    let step = Step::start(format!("packing {}", archive.display()));
    let folder = program.parent().context("the program's path has no folder")?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--mtime=@0", "--mode=u=rwX,go=rX"]);
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "--file"]).arg(archive);
    tar.arg("--directory").arg(folder).arg("adieu");
    tar.arg("--directory").arg(workspace.root()).arg("LICENSE");
    tar.arg("--directory").arg(workspace.root().join("completions")).arg("kubectl_complete-adieu");
    tar.arg("--directory").arg(pages).arg("man");
    command::run(&step, &mut tar, &workspace.log("release-tar"))?;
    step.done();
    Ok(())
}

/// Packs the chart, with this name of the image in its values.
fn package_chart(workspace: &Workspace, image: &str, out: &Path) -> Result<()> {
    let step = Step::start("packing the chart");
    let stage = tempfile::tempdir().context("cannot create a temporary folder")?;
    let chart = stage.path().join("adieu");
    let mut copy = Command::new("cp");
    command::output(copy.arg("-r").arg(workspace.root().join("charts/adieu")).arg(&chart))?;
    let file = chart.join("values.yaml");
    let values = fs::read_to_string(&file).context("cannot read the chart's values")?;
    let (repository, named) = (format!("repository: {IMAGE}\n"), format!("repository: {image}\n"));
    ensure!(values.contains(&repository), "the chart's values do not contain {repository}");
    fs::write(&file, values.replacen(&repository, &named, 1)).context("cannot write the chart's values")?;
    let mut helm = Command::new(workspace.bin().join("helm"));
    helm.arg("package").arg(chart).arg("--destination").arg(out);
    helm.args(["--version", VERSION, "--app-version", VERSION]);
    command::run(&step, &mut helm, &workspace.log("release-chart"))?;
    step.done();
    Ok(())
}

/// Lists the files, and the missing ones.
fn list(out: &Path, missing: &[(String, String)]) -> Result<()> {
    for name in files(out)? {
        let size = fs::metadata(out.join(&name)).with_context(|| format!("cannot look at {name}"))?.len();
        println!("{:>9.1} KiB  {name}", kib(size));
    }
    for (name, why) in missing {
        println!("    missing    {name}: {why}");
    }
    print_line(&format!("adieu {VERSION} is in {}", out.display()));
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_stays_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        for name in [sums::FILE, "adieu.yaml", "thesis.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let error = claim(folder.path()).unwrap_err().to_string();
        assert!(error.contains("thesis.txt") && error.contains("--out"), "{error}");
        assert_eq!(files(folder.path()).unwrap(), ["SHA256SUMS", "adieu.yaml", "thesis.txt"]);
        fs::remove_file(folder.path().join("thesis.txt")).unwrap();
        claim(folder.path()).unwrap();
        assert!(files(folder.path()).unwrap().is_empty(), "files of an earlier release are removed");
    }

    #[test]
    fn an_empty_release_is_an_error_that_names_the_missing_files() {
        let missing = [("adieu-linux-arm64.tar.gz".to_owned(), "needs a C compiler".to_owned())];
        let error = some::<()>(&[], &missing).unwrap_err().to_string();
        assert!(error.contains("adieu-linux-arm64.tar.gz: needs a C compiler"), "{error}");
        some(&["amd64"], &missing).unwrap();
    }

    #[test]
    fn the_chart_has_the_version_of_the_crates() {
        let workspace = Workspace::find().unwrap();
        let chart = fs::read_to_string(workspace.root().join("charts/adieu/Chart.yaml")).unwrap();
        for field in ["version", "appVersion"] {
            assert!(chart.contains(&format!("\n{field}: {VERSION}\n")), "{field} is not {VERSION}:\n{chart}");
        }
    }
}

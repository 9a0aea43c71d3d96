//! The documentation as a site, built by mdBook.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::progress::{Step, print_line};
use crate::workspace::Workspace;
use crate::{command, interrupt, tools};

const MDBOOK: &str = "0.5.4";
/// The page for missing pages. Its links are relative to the root of the server.
const NOT_FOUND: &str = "404.html";

/// Builds the site into the target folder. It is an error if mdBook warns, or a link leads to no page of the site.
pub fn run() -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let mdbook = tools::install(&workspace, "mdbook", MDBOOK)?;
    let site = workspace.target().join("site");
    let log = workspace.log("site");
    let step = Step::start("building the site");
    let mut build = Command::new(mdbook);
    build.env_remove("MDBOOK_LOG").arg("build").arg(workspace.root().join("docs"));
    command::run(&step, build.arg("--dest-dir").arg(&site), &log)?;
    let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let warnings = warnings(&text);
    ensure!(warnings.is_empty(), "mdBook warns:\n{}", warnings.join("\n"));
    let broken = Pages::read(&site)?.broken_links();
    ensure!(broken.is_empty(), "{} links of the site lead nowhere:\n{}", broken.len(), broken.join("\n"));
    step.done();
    print_line(&format!("✓ {}", site.join("index.html").display()));
    Ok(())
}

/// The lines of mdBook's log that report a problem.
fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.split_whitespace().any(|word| word == "WARN" || word == "ERROR")).collect()
}

/// The pages of a site by their paths in it, without `..`.
struct Pages(BTreeMap<PathBuf, Page>);

/// What a page links to, and what links can lead to in it.
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Pages {
    fn read(site: &Path) -> Result<Self> {
        let mut pages = Self(BTreeMap::new());
        pages.add_folder(site, Path::new(""))?;
        Ok(pages)
    }

    fn add_folder(&mut self, site: &Path, folder: &Path) -> Result<()> {
        let entries = fs::read_dir(site.join(folder))
            .with_context(|| format!("cannot list {}", site.join(folder).display()))?;
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.add_folder(site, &path)?;
            } else if path.extension().is_some_and(|extension| extension == "html") {
                let html = fs::read_to_string(entry.path())
                    .with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.0.insert(path, Page::new(&html));
            }
        }
        Ok(())
    }

    /// The links that lead to no page, or to no element of it.
    fn broken_links(&self) -> Vec<String> {
        let pages = self.0.iter().filter(|(path, _)| *path != Path::new(NOT_FOUND));
        let links = pages.flat_map(|(path, page)| page.links.iter().map(move |link| (path, link)));
        let broken = links.filter(|(path, link)| !self.has(path, link));
        broken.map(|(path, link)| format!("{}: {link}", path.display())).collect()
    }

    fn has(&self, from: &Path, link: &str) -> bool {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { from.to_owned() } else { resolved(from, path) };
        self.0.get(&target).is_some_and(|page| anchor.is_empty() || page.anchors.contains(anchor))
    }
}

impl Page {
    fn new(html: &str) -> Self {
        let links = attributes(html, "href").into_iter().filter(|link| is_of_site(link));
        let anchors = attributes(html, "id").into_iter().map(str::to_owned).collect();
        Self { links: links.map(str::to_owned).collect(), anchors }
    }
}

/// The values of an attribute. In text, quotes are escaped.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Whether a link is relative, and to a page: style sheets and icons are mdBook's.
fn is_of_site(link: &str) -> bool {
    let path = link.split('#').next().unwrap_or_default();
    let is_page = Path::new(path).extension().is_none_or(|extension| extension == "html");
    is_page && !link.starts_with('/') && !link.contains(':')
}

/// The path that a link leads to.
fn resolved(from: &Path, link: &str) -> PathBuf {
    let mut path = from.parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        let index = r##"<h1 id="top"><a href="#top">T</a></h1> <a href="rules/a.html#one">1</a> <a href="b.html">2</a>
            <a href="rules">3</a> <a href="https://kubernetes.io/nothing">4</a> <link href="css/general.css">"##;
        let rule = r#"<h2 id="one">1</h2> <a href="../index.html">1</a> <a href="../index.html#two">2</a>"#;
        for (name, html) in
            [("index.html", index), ("rules/a.html", rule), (NOT_FOUND, r#"<a href="c.html">"#)]
        {
            fs::write(folder.path().join(name), html).unwrap();
        }
        let broken = Pages::read(folder.path()).unwrap().broken_links();
        assert_eq!(broken, ["index.html: b.html", "index.html: rules", "rules/a.html: ../index.html#two"]);
    }

    #[test]
    fn warnings_of_mdbook_are_found() {
        let log = " INFO Book building has started\n WARN unexpected tag\n INFO HTML book written, WARNING\n";
        assert_eq!(warnings(log), [" WARN unexpected tag"]);
    }
}

//! Links to files of this repository, and to headings.

use std::{fs, path::Path};

use super::page::Page;

/// The files and folders of this repository on GitHub.
const REPOSITORY: [&str; 2] =
    ["https://github.com/adieu-dev/adieu/blob/main/", "https://github.com/adieu-dev/adieu/tree/main/"];

/// The links of a page that lead nowhere, with the reason. Other sites are not read.
pub fn broken(root: &Path, page: &Page) -> Vec<String> {
    let broken = |link: &String| Some(format!("{}: {link}: {}", page.path, check(root, page, link).err()?));
    page.links().iter().filter_map(broken).collect()
}

fn check(root: &Path, page: &Page, link: &str) -> Result<(), &'static str> {
    let on_github = REPOSITORY.iter().find_map(|start| link.strip_prefix(*start));
    if on_github.is_none() && link.contains(':') {
        return Ok(());
    }
    let target = on_github.unwrap_or(link);
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    if path.is_empty() {
        return check_anchor(page, anchor);
    }
    let folder = if on_github.is_some() { None } else { Path::new(&page.path).parent() };
    let file = root.join(folder.unwrap_or(Path::new(""))).join(path);
    let file = file.canonicalize().map_err(|_| "there is no such file")?;
    if on_github.is_none() && page.path.starts_with("docs/") {
        check_site(&root.join("docs"), page, &file)?;
    }
    if file.extension().is_none_or(|extension| extension != "md") {
        return Ok(());
    }
    let text = fs::read_to_string(&file).map_err(|_| "it can't be read")?;
    check_anchor(&Page::new(path, &text), anchor)
}

fn check_anchor(page: &Page, anchor: &str) -> Result<(), &'static str> {
    if anchor.is_empty() || page.anchors().contains(anchor) {
        Ok(())
    } else {
        Err("there is no such heading")
    }
}

/// Links of pages of the site also lead to something in the site, where folders have no page.
fn check_site(docs: &Path, page: &Page, file: &Path) -> Result<(), &'static str> {
    if !file.starts_with(docs) || file.is_dir() {
        return Err("the site has no such page: link to https://github.com/adieu-dev/adieu/blob/main/…");
    }
    // mdBook names its page index.html, and leaves links unchanged, but for those of the table of contents.
    if file == docs.join("README.md") && page.path != "docs/SUMMARY.md" {
        Err("link to another page: the site has no README.html")
    } else {
        Ok(())
    }
}

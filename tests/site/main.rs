//! The pages of the documentation: each is in the site, links and anchors lead to something, commands of adieu exist, and
//! the generated pages are up to date. `cargo xtask site` builds the site.

#![allow(clippy::panic, clippy::unwrap_used)]

mod links;
mod page;
mod reference;
mod shell;

use std::{
    fs,
    path::{Path, PathBuf},
};

use adieu::cli::Arguments;
use clap::{CommandFactory as _, error::ErrorKind};
use page::Page;

/// The pages outside of the folder docs.
const OTHERS: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "RELEASE.md",
    "SECURITY.md",
    "charts/adieu/README.md",
];

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap()
}

fn read(path: &str) -> Page {
    Page::new(path, &fs::read_to_string(root().join(path)).unwrap())
}

/// The paths of the pages in a folder of the repository, sorted.
fn pages_in(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(pages_in(&path));
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn all_pages() -> Vec<Page> {
    OTHERS.into_iter().map(str::to_owned).chain(pages_in("docs")).map(|path| read(&path)).collect()
}

/// An error unless clap accepts the command, whose first word is the program.
fn check(command: &[String]) -> Result<(), clap::Error> {
    match Arguments::command().try_get_matches_from(command) {
        Err(error) if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The commands of adieu on a page, and those that clap rejects, with the error.
fn commands(page: &Page) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    for command in page.shell_lines().iter().flat_map(|line| shell::simple_commands(line)) {
        let Some(words) = shell::of_adieu(&command) else { continue };
        count += 1;
        if let Err(error) = check(words) {
            wrong.push(format!("{}: {}: {error}", page.path, words.join(" ")));
        }
    }
    (count, wrong)
}

#[test]
fn every_page_is_in_the_site_once() {
    let mut listed: Vec<_> =
        read("docs/SUMMARY.md").links().iter().map(|link| format!("docs/{link}")).collect();
    listed.sort();
    let mut found = pages_in("docs");
    found.retain(|path| path != "docs/SUMMARY.md");
    assert!(found.len() > 30, "{found:?}");
    assert_eq!(listed, found, "docs/SUMMARY.md must list each page in docs once");
}

#[test]
fn every_rule_of_the_audit_is_listed() {
    let mut listed: Vec<_> =
        read("docs/audit-rules.md").links().iter().map(|link| format!("docs/{link}")).collect();
    listed.retain(|path| path.starts_with("docs/rules/"));
    listed.sort();
    assert_eq!(listed, pages_in("docs/rules"));
}

#[test]
fn links_and_anchors_lead_to_something() {
    let broken: Vec<_> = all_pages().iter().flat_map(|page| links::broken(&root(), page)).collect();
    assert!(broken.is_empty(), "{} broken links:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn commands_of_adieu_in_documents_are_valid() {
    let found: Vec<_> = all_pages().iter().map(commands).collect();
    let wrong: Vec<_> = found.iter().flat_map(|(_, wrong)| wrong.as_slice()).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let count: usize = found.iter().map(|(count, _)| count).sum();
    assert!(count > 50, "only {count} commands were found");
}

#[test]
fn the_generated_pages_are_up_to_date() {
    for (name, text) in reference::pages().unwrap() {
        let file = root().join("docs/reference").join(name);
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == text, "{} differs: run cargo xtask generate", file.display());
    }
}

#[test]
fn a_command_that_does_not_exist_is_reported() {
    let text = "```console\n$ adieu audit -A | head\nadieu nothing\n$ TOKEN=x kubectl adieu status --nothing # no\n```\n";
    let (count, wrong) = commands(&Page::new("docs/a.md", text));
    assert_eq!(count, 2);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].starts_with("docs/a.md: adieu status --nothing: "), "{wrong:?}");
    let text = "```yaml\nadieu nothing\n```\n```sh\nadieu \\\n  profiles -o xml\n```\n";
    let (count, wrong) = commands(&Page::new("docs/a.md", text));
    assert_eq!((count, wrong.len()), (1, 1));
}

#[test]
fn a_link_that_leads_nowhere_is_reported() {
    let text = "[a](nothing.md) [b](drains.md#nothing) [c](#title) [d](../README.md) [e](rules) [f](README.md)
[g](https://github.com/adieu-dev/adieu/blob/main/nothing.md) [`h`](drains.md#profiles) `[i](nothing.md)`
[j](https://github.com/adieu-dev/adieu/blob/main/README.md#adieu) [k](https://kubernetes.io/nothing) [l](#title-1)

# Title

```text
# Title
[m](nothing.md)
```
";
    let broken = links::broken(&root(), &Page::new("docs/a.md", text));
    let named: Vec<_> = broken.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
    let expected = [
        "nothing.md",
        "drains.md#nothing",
        "../README.md",
        "rules",
        "README.md",
        "https://github.com/adieu-dev/adieu/blob/main/nothing.md",
        "#title-1",
    ];
    assert_eq!(named, expected, "{broken:#?}");
}

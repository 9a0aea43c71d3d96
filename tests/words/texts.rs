//! The texts that are checked.

use std::{fs, path::Path};

use adieu::cli::Arguments;
use clap::CommandFactory as _;

use super::rust;

/// Files, and folders whose files are checked.
const SOURCES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "RELEASE.md",
    "SECURITY.md",
    "docs",
    "charts/adieu/Chart.yaml",
    "charts/adieu/README.md",
    "charts/adieu/files/alerts.yaml",
    "charts/adieu/files/dashboard.json",
    "charts/adieu/ci",
    "charts/adieu/templates",
    "charts/adieu/values.schema.json",
    "charts/adieu/values.yaml",
];
/// The list of words itself.
const WORDS: &str = "docs/words.toml";
/// Folders with Rust sources.
const CODE: &[&str] = &["benches", "crates", "src", "tests", "xtask/src"];
/// Folders and files whose sources still use words of the list. Remove a line once they don't.
const EXCEPTIONS: &[&str] = &[
    // Its tests need words of the list.
    "tests/words",
    // The keys of its report are an interface.
    "xtask/src/bench/admission/report.rs",
];

/// A text, line by line.
#[derive(Debug)]
pub struct Text {
    /// Its file, or the command that prints it.
    pub name: String,
    content: String,
}

impl Text {
    pub fn new(name: &str, content: &str) -> Self {
        Self { name: name.to_owned(), content: content.to_owned() }
    }

    /// The lines with their numbers, without tables of figures, whose rows come from tests and benchmarks.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_generated = false;
        (1..).zip(self.content.lines()).filter(move |(_, line)| {
            is_generated |= line.starts_with("<!-- figures:");
            let is_text = !is_generated;
            is_generated &= !line.starts_with("<!-- end -->");
            is_text
        })
    }
}

/// Every text that is checked.
pub fn all() -> Vec<Text> {
    let mut texts = Vec::new();
    for source in SOURCES {
        read(source, |path| path != WORDS, &mut texts);
    }
    let mut adieu = Arguments::command().term_width(120);
    adieu.build();
    help("adieu", &mut adieu, &mut texts);
    texts
}

/// The comments, string literals and function names of the Rust sources.
pub fn code() -> Vec<Text> {
    let mut sources = Vec::new();
    for folder in CODE {
        read(folder, |path| is_source(path) && !is_exception(path), &mut sources);
    }
    for source in &mut sources {
        source.content = rust::prose(&source.content);
    }
    sources
}

fn is_source(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn is_exception(path: &str) -> bool {
    EXCEPTIONS.iter().any(|exception| Path::new(path).starts_with(exception))
}

/// Reads a file, or those files of a folder that are checked.
fn read(path: &str, is_checked: fn(&str) -> bool, texts: &mut Vec<Text>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if file.is_dir() {
        for entry in fs::read_dir(file).unwrap() {
            let path = format!("{path}/{}", entry.unwrap().file_name().to_str().unwrap());
            read(&path, is_checked, texts);
        }
    } else if is_checked(path) {
        texts.push(Text::new(path, &fs::read_to_string(file).unwrap()));
    }
}

/// The help of a command and of its subcommands.
fn help(name: &str, command: &mut clap::Command, texts: &mut Vec<Text>) {
    texts.push(Text::new(&format!("{name} --help"), &command.render_long_help().to_string()));
    for command in command.get_subcommands_mut() {
        let name = format!("{name} {}", command.get_name());
        if command.get_name() != "help" {
            help(&name, command, texts);
        }
    }
}

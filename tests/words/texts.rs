//! The texts that are checked.

use std::{fs, path::Path};

use adieu::cli::Arguments;
use clap::CommandFactory as _;

/// Files, and folders whose files are checked. Source code is not among them yet.
const SOURCES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "docs",
    "charts/adieu/Chart.yaml",
    "charts/adieu/README.md",
    "charts/adieu/files/alerts.yaml",
    "charts/adieu/files/dashboard.json",
    "charts/adieu/templates/NOTES.txt",
    "charts/adieu/values.schema.json",
    "charts/adieu/values.yaml",
];
/// The list of words itself.
const WORDS: &str = "docs/words.toml";

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
        read(source, &mut texts);
    }
    let mut adieu = Arguments::command().term_width(120);
    adieu.build();
    help("adieu", &mut adieu, &mut texts);
    texts
}

fn read(path: &str, texts: &mut Vec<Text>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if !file.is_dir() {
        texts.push(Text::new(path, &fs::read_to_string(file).unwrap()));
        return;
    }
    for entry in fs::read_dir(file).unwrap() {
        let path = format!("{path}/{}", entry.unwrap().file_name().to_str().unwrap());
        if path != WORDS {
            read(&path, texts);
        }
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

//! The links, headings and commands of a page in Markdown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;

static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("`[^`]*`").unwrap());
static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\]\(([^()\s]+)\)").unwrap());
static LINKED_TEXT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap());

/// The languages of code blocks with commands.
const SHELLS: [&str; 3] = ["console", "sh", "bash"];

/// A page in Markdown.
pub struct Page {
    /// Its path in the repository.
    pub path: String,
    text: String,
}

impl Page {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The lines outside of code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_code = false;
        self.text.lines().filter(move |line| {
            let is_fence = is_fence(line);
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    /// The targets of the links.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for line in self.prose() {
            let line = CODE.replace_all(line, "");
            links.extend(LINK.captures_iter(&line).map(|link| link[1].to_owned()));
        }
        links
    }

    /// The anchors of the headings, which are the same on GitHub and in the site.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        for line in self.prose().filter(|line| line.starts_with('#')) {
            let Some(title) = line.trim_start_matches('#').strip_prefix(' ') else { continue };
            let anchor = anchor(title);
            let count = counts.entry(anchor.clone()).or_default();
            anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
            *count += 1;
        }
        anchors
    }

    /// The lines that a user types into a shell, each with its continuation.
    pub fn shell_lines(&self) -> Vec<String> {
        let mut typed = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else { continue };
            let block: Vec<_> = lines.by_ref().take_while(|line| !is_fence(line)).collect();
            if SHELLS.contains(&language) {
                typed.extend(without_output(&block));
            }
        }
        typed
    }
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

/// If lines of a block have a prompt, the others are output.
fn without_output(block: &[&str]) -> Vec<String> {
    let block = block.join("\n").replace("\\\n", " ");
    let has_prompt = block.lines().any(|line| line.starts_with("$ "));
    let typed = |line: &str| {
        let typed = if has_prompt { line.strip_prefix("$ ") } else { Some(line) };
        typed.map(str::to_owned)
    };
    block.lines().filter_map(typed).collect()
}

/// The anchor of a heading, without a number.
fn anchor(title: &str) -> String {
    let title = LINKED_TEXT.replace_all(title, "$1").trim().to_lowercase();
    let is_kept = |character: &char| character.is_alphanumeric() || "-_ ".contains(*character);
    title.chars().filter(is_kept).collect::<String>().replace(' ', "-")
}

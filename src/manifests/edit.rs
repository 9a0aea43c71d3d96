//! Changes a document where its value changes, and leaves the rest of its text as it is: comments, quotes
//! and order stay, and nothing that isn't touched can be misread.

use std::{borrow::Cow, ops::Range};

use serde_json::{Map, Value};

use super::{
    flow,
    node::{Content, Entry, Node, Style},
    whitespace,
    written::Written,
};

/// A document that can't be written with a value. There is no such value of Kubernetes objects.
#[derive(Debug, thiserror::Error)]
#[error("the changed document can't be written as {0}: {1}")]
pub(super) struct Unwritable(Syntax, String);

/// What a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Yaml,
    /// As all JSON is YAML, it is read alike. What is added to it has to be JSON.
    Json,
}

impl std::fmt::Display for Syntax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Yaml => "YAML",
            Self::Json => "JSON",
        })
    }
}

/// A document with another value.
#[derive(Debug, PartialEq)]
pub(super) struct Rewritten {
    pub(super) text: String,
    /// Whether only what changes was written. Otherwise the comments of the document are lost.
    pub(super) in_place: bool,
}

/// How often a document is edited. Changing what an anchor names also changes what its aliases stand for: that may be
/// right, so they are left to the second time. Then each that has to is given its own value.
const ROUNDS: usize = 4;

/// The text of the document `node` with the value `new`. If it can't be changed in place, the whole document is
/// written anew; either is read again to be sure.
pub(super) fn rewrite(text: &str, node: &Node, new: &Value, syntax: Syntax) -> Result<Rewritten, Unwritable> {
    if let Some(text) = edited(text, node, new, syntax) {
        return Ok(Rewritten { text, in_place: true });
    }
    let text = anew(text, node, new, syntax)?;
    if means(&text, new, syntax) {
        Ok(Rewritten { text, in_place: false })
    } else {
        Err(Unwritable(syntax, "it would be read as something else".into()))
    }
}

/// Any value as JSON.
pub(super) fn pretty(value: &impl serde::Serialize) -> Result<String, Unwritable> {
    serde_json::to_string_pretty(value).map_err(|error| Unwritable(Syntax::Json, error.to_string()))
}

/// Whether the text is read as this value.
fn means(text: &str, value: &Value, syntax: Syntax) -> bool {
    let json = text.strip_prefix("---").unwrap_or(text);
    let as_json = || serde_json::from_str::<Value>(json).is_ok();
    let as_yaml = || matches!(Node::read(text), Ok(Some(read)) if read.value() == *value);
    (syntax == Syntax::Yaml || as_json()) && as_yaml()
}

fn edited(text: &str, node: &Node, new: &Value, syntax: Syntax) -> Option<String> {
    let (mut text, mut node) = (Cow::Borrowed(text), Cow::Borrowed(node));
    for round in 0..ROUNDS {
        let edited = in_place(&text, &node, new, syntax, round == 0 && node.has_alias())?;
        if means(&edited, new, syntax) {
            return Some(edited);
        }
        if !node.has_alias() {
            return None;
        }
        node = Cow::Owned(Node::read(&edited).ok()??);
        text = Cow::Owned(edited);
    }
    None
}

/// The whole document, with what stands before and behind it.
fn anew(text: &str, node: &Node, new: &Value, syntax: Syntax) -> Result<String, Unwritable> {
    let written = Written { value: new, like: Some(node) };
    let mut anew = text[..node.span.start].to_owned();
    let behind = &text[node.span.end..];
    if syntax == Syntax::Json {
        anew.push_str(&pretty(&written)?);
        anew.push_str(behind);
        return Ok(anew);
    }
    anew.truncate(anew.trim_end_matches([' ', '\t']).len());
    if !anew.is_empty() && !anew.ends_with('\n') {
        anew.push('\n');
    }
    anew.push_str(&written.yaml().map_err(|error| Unwritable(syntax, error.to_string()))?);
    anew.push('\n');
    let behind = behind.strip_prefix("\r\n").or_else(|| behind.strip_prefix('\n')).unwrap_or(behind);
    // Indented comments would be part of a block of text before them.
    anew.extend(behind.split_inclusive('\n').map(|line| line.trim_start_matches([' ', '\t'])));
    Ok(with_line_ends(text.contains(CRLF), anew))
}

fn in_place(text: &str, node: &Node, new: &Value, syntax: Syntax, leave_aliases: bool) -> Option<String> {
    let writer = flow::Writer::new(text, node, syntax);
    let mut editor = Editor { text, writer, leave_aliases, changes: Vec::new() };
    editor.change(node, new)?;
    editor.changes.sort_by_key(|(range, _)| (range.start, range.end));
    // There may be any number of changes, so the text is searched once.
    let crlf = text.contains(CRLF);
    let mut edited = String::with_capacity(text.len() + 1024);
    let mut at = 0;
    for (range, replacement) in editor.changes {
        edited.push_str(text.get(at..range.start)?);
        edited.push_str(&with_line_ends(crlf, replacement));
        at = range.end;
    }
    edited.push_str(text.get(at..)?);
    // Where the last line was taken out, the one before it has no end either.
    if !text.ends_with('\n') {
        edited.truncate(edited.trim_end_matches(['\r', '\n']).len());
    }
    Some(edited)
}

/// How lines end in files of Windows.
const CRLF: &str = "\r\n";

fn with_line_ends(crlf: bool, new: String) -> String {
    if crlf { new.replace(CRLF, "\n").replace('\n', CRLF) } else { new }
}

pub(super) struct Editor<'a> {
    pub(super) text: &'a str,
    pub(super) writer: flow::Writer,
    /// Whether aliases stay as they are for now, and mappings with a merge key get nothing added.
    leave_aliases: bool,
    changes: Vec<(Range<usize>, String)>,
}

/// `None` says that the change can't be made in place.
impl Editor<'_> {
    pub(super) fn put(&mut self, range: Range<usize>, new: impl Into<String>) {
        self.changes.push((range, new.into()));
    }

    /// Tries a change, and leaves no trace of it where it can't be made.
    pub(super) fn attempt(&mut self, change: impl FnOnce(&mut Self) -> Option<()>) -> bool {
        let before = self.changes.len();
        let done = change(self).is_some();
        if !done {
            self.changes.truncate(before);
        }
        done
    }

    /// Changes a collection from inside.
    pub(super) fn change(&mut self, node: &Node, new: &Value) -> Option<()> {
        match (&node.content, new) {
            _ if node.alias => self.leave_aliases.then_some(()),
            (Content::Mapping(Style::Block, entries), Value::Object(new)) if !new.is_empty() => {
                self.change_mapping(node, entries, new)
            }
            (Content::Mapping(Style::Flow, entries), Value::Object(new)) => {
                self.change_flow_mapping(node, entries, new)
            }
            (Content::Sequence(style, items), Value::Array(new)) if items.len() == new.len() => {
                for (item, new) in items.iter().zip(new).filter(|(item, new)| item.value() != **new) {
                    if self.attempt(|editor| editor.change(item, new)) {
                        continue;
                    }
                    if *style == Style::Flow || item.alias {
                        self.put(item.span.clone(), self.writer.value(new));
                    } else {
                        let written = Written { value: new, like: Some(item) }.yaml().ok()?;
                        self.replace(item.span.clone(), &written, item.column);
                    }
                }
                Some(())
            }
            _ => None,
        }
    }

    fn change_mapping(&mut self, node: &Node, entries: &[Entry], new: &Map<String, Value>) -> Option<()> {
        let Value::Object(old) = node.value() else { return None };
        let mut kept_from = 0;
        for (index, entry) in entries.iter().enumerate() {
            match new.get(&entry.key) {
                _ if entry.merge => self.keep_of_merged(entry, new),
                None if index >= kept_from => kept_from = self.remove(entries, index, new)?,
                Some(new) if entry.value.value() != *new && counts(node, entry) => {
                    self.change_entry(node, entry, new)?;
                }
                _ => {}
            }
        }
        let mut added = String::new();
        for (key, value) in self.added(node, &old, new) {
            added.push('\n');
            added.push_str(&Written { value, like: None }.yaml_entry(key).ok()?);
        }
        if !added.is_empty() {
            self.append(node, &added)?;
        }
        Some(())
    }

    /// What has to be added to a mapping.
    pub(super) fn added<'n>(
        &self,
        mapping: &Node,
        old: &Map<String, Value>,
        new: &'n Map<String, Value>,
    ) -> Vec<(&'n String, &'n Value)> {
        let merges =
            || matches!(&mapping.content, Content::Mapping(_, entries) if entries.iter().any(|e| e.merge));
        if self.leave_aliases && merges() {
            return vec![];
        }
        let added =
            new.iter().filter(|(key, value)| mapping.entry(key).is_none() && old.get(*key) != Some(value));
        added.collect()
    }

    /// Where a merge key brings entries that shall not be there, the others take the place of its alias.
    pub(super) fn keep_of_merged(&mut self, entry: &Entry, new: &Map<String, Value>) {
        if self.leave_aliases {
            return;
        }
        let mut merged = entry.merged();
        let count = merged.len();
        merged.retain(|key, _| new.contains_key(key));
        if merged.len() < count {
            self.put(entry.value.span.clone(), self.writer.value(&Value::Object(merged)));
        }
    }

    /// Gives an entry of a block mapping another value.
    fn change_entry(&mut self, mapping: &Node, entry: &Entry, new: &Value) -> Option<()> {
        let value = &entry.value;
        if self.attempt(|editor| editor.change(value, new)) || self.attempt(|e| e.change_word(value, new)) {
            return Some(());
        }
        let span = value.span.clone();
        let head = self.behind_anchor(entry)?;
        let lines = self.own_lines(value);
        let written = Written { value: new, like: Some(value) }.yaml_entry("k").ok()?;
        let written = match &lines {
            Some(_) if new.is_null() => String::new(),
            _ => indented(written.strip_prefix("k:")?, mapping.column),
        };
        let mut line = head;
        if let Some(lines) = lines {
            self.put(lines, "");
        } else if self.text[span.clone()].contains('\n') {
            // A block scalar ends with its line.
            let line_end = if self.text[span.clone()].ends_with('\n') { "\n" } else { "" };
            self.put(head..span.end, written + line_end);
            return Some(());
        } else if !span.is_empty() {
            line = span.end;
            self.put(head..span.end, "");
        }
        // A comment stays behind the key.
        let line_end = self.line_end(line)?;
        let at = if written.starts_with('\n') { self.before_line_break(line_end) } else { head };
        self.put(at..at, written);
        Some(())
    }

    /// Puts a word in the place of a word. What was `null`, and not nothing, stays on its line, so that it can
    /// become `null` again.
    fn change_word(&mut self, value: &Node, new: &Value) -> Option<()> {
        let text = &self.text[value.span.clone()];
        let collection = matches!(new, Value::Object(_) | Value::Array(_));
        let written = match &value.content {
            _ if value.alias => return None,
            Content::Mapping(Style::Flow, _) if new.is_null() => "null".to_owned(),
            Content::Scalar(Value::Null) if collection && !text.is_empty() => self.writer.value(new),
            Content::Scalar(_) if !collection && !text.is_empty() && !text.contains('\n') => {
                Written { value: new, like: None }.yaml().ok()?
            }
            _ => return None,
        };
        (!written.contains('\n')).then(|| self.put(value.span.clone(), written))
    }

    /// Behind the colon of an entry and the anchor of its value.
    fn behind_anchor(&self, entry: &Entry) -> Option<usize> {
        let colon = entry.colon?;
        let between = self.text.get(colon..entry.value.span.start.max(entry.value.span.end))?;
        let Some(anchor) = whitespace::anchor(between).filter(|_| !entry.value.alias) else {
            return Some(colon);
        };
        Some(colon + between.find(anchor)? + anchor.len())
    }

    /// The lines of a block collection, if they are below its key.
    fn own_lines(&self, value: &Node) -> Option<Range<usize>> {
        let block =
            matches!(value.content, Content::Mapping(Style::Block, _) | Content::Sequence(Style::Block, _));
        let start = whitespace::line_start(self.text, value.span.start);
        let own = block && !value.alias && self.text[start..value.span.start].trim().is_empty();
        own.then(|| self.line_end(value.span.end)).flatten().map(|end| start..end)
    }

    /// Takes an entry out, with its line; the first of a sequence's item shares its line with the dash, so
    /// the next entry takes its place. Returns the index of the next entry that is not gone.
    fn remove(&mut self, entries: &[Entry], index: usize, new: &Map<String, Value>) -> Option<usize> {
        let entry = &entries[index];
        let line = whitespace::line_start(self.text, entry.at);
        if self.text[line..entry.at].trim().is_empty() {
            let end = self.line_end(entry.end())?;
            self.put(line..end, "");
            return Some(index + 1);
        }
        let stays = |entry: &Entry| entry.merge || new.contains_key(&entry.key);
        let next = index + entries[index..].iter().position(stays)?;
        self.put(entry.at..entries[next].at, "");
        Some(next)
    }

    fn replace(&mut self, range: Range<usize>, written: &str, column: usize) {
        // A block scalar ends with its line.
        let line_end = if self.text[range.clone()].ends_with('\n') { "\n" } else { "" };
        self.put(range, indented(written, column) + line_end);
    }

    /// Adds lines, each with a line break before it, behind a mapping.
    fn append(&mut self, mapping: &Node, lines: &str) -> Option<()> {
        let lines = indented(lines, mapping.column);
        let end = mapping.span.end;
        if self.text[..end].ends_with('\n') {
            self.put(end..end, format!("{}\n", &lines[1..]));
        } else {
            // A comment may follow on the line.
            let line_end = self.line_end(end)?;
            let at = self.before_line_break(line_end);
            self.put(at..at, lines);
        }
        Some(())
    }

    /// The end of the line of `at`, behind its line break, if nothing but a comment is left on it.
    fn line_end(&self, at: usize) -> Option<usize> {
        if self.text[..at].ends_with('\n') {
            return Some(at);
        }
        let rest = whitespace::first_line(&self.text[at..]);
        let left = rest.trim();
        (left.is_empty() || left.starts_with('#')).then_some(at + rest.len())
    }

    fn before_line_break(&self, line_end: usize) -> usize {
        let line = &self.text[..line_end];
        line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line)).len()
    }
}

/// Whether the entry is the one of its key that counts.
pub(super) fn counts(mapping: &Node, entry: &Entry) -> bool {
    mapping.entry(&entry.key).is_some_and(|counting| counting.at == entry.at)
}

/// All lines but the first moved to the right.
fn indented(text: &str, column: usize) -> String {
    let margin = " ".repeat(column);
    let mut lines = text.split('\n');
    let mut indented = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        indented.push('\n');
        if !line.is_empty() {
            indented.push_str(&margin);
            indented.push_str(line);
        }
    }
    indented
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;

//! Changes only those parts of a document's text whose value changes: comments, quotes and order stay.

use std::{borrow::Cow, ops::Range};

use serde_json::{Map, Value};

use super::{
    node::{Content, Entry, Node, Style},
    ordered::Ordered,
    whitespace,
    writer::Writer,
};

pub(super) use super::writer::Syntax;

/// A value that can't be written. No Kubernetes object has one.
#[derive(Debug, thiserror::Error)]
#[error("the changed document cannot be written as {0}: {1}")]
pub(super) struct Unwritable(Syntax, String);

/// A document with another value.
#[derive(Debug, PartialEq)]
pub(super) struct Rewritten {
    pub(super) text: String,
    /// Whether only changes were written. Otherwise the comments are lost.
    pub(super) in_place: bool,
}

/// The maximum number of edits. Changing an anchored value also changes its aliases, which may be correct, so they are
/// skipped in the first round. Later rounds replace those that differ.
const ROUNDS: usize = 4;

/// The text of the document `node` with the value `new`: changed in place, or else rewritten as a whole. Either is parsed
/// again as a check.
pub(super) fn rewrite(text: &str, node: &Node, new: &Value, syntax: Syntax) -> Result<Rewritten, Unwritable> {
    if let Some(text) = edited(text, node, new, syntax) {
        return Ok(Rewritten { text, in_place: true });
    }
    let text = rewrite_all(text, node, new, syntax)?;
    if reads_as(&text, new, syntax) {
        Ok(Rewritten { text, in_place: false })
    } else {
        Err(Unwritable(syntax, "it would be read as another value".into()))
    }
}

/// Any value as JSON.
pub(super) fn pretty(value: &impl serde::Serialize) -> Result<String, Unwritable> {
    serde_json::to_string_pretty(value).map_err(|error| Unwritable(Syntax::Json, error.to_string()))
}

/// Whether the text parses to this value.
fn reads_as(text: &str, value: &Value, syntax: Syntax) -> bool {
    let json = text.strip_prefix("---").unwrap_or(text);
    let as_json = || serde_json::from_str::<Value>(json).is_ok();
    let as_yaml = || matches!(Node::read(text), Ok(Some(read)) if read.value() == *value);
    (syntax == Syntax::Yaml || as_json()) && as_yaml()
}

fn edited(text: &str, node: &Node, new: &Value, syntax: Syntax) -> Option<String> {
    let (mut text, mut node) = (Cow::Borrowed(text), Cow::Borrowed(node));
    for round in 0..ROUNDS {
        let edited = in_place(&text, &node, new, syntax, round == 0 && node.has_alias())?;
        if reads_as(&edited, new, syntax) {
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

/// Writes the whole value, between the text before and after it.
fn rewrite_all(text: &str, node: &Node, new: &Value, syntax: Syntax) -> Result<String, Unwritable> {
    let written = Ordered { value: new, like: Some(node) };
    let mut rewritten = text[..node.span.start].to_owned();
    let after = &text[node.span.end..];
    if syntax == Syntax::Json {
        rewritten.push_str(&pretty(&written)?);
        rewritten.push_str(after);
        return Ok(rewritten);
    }
    rewritten.truncate(rewritten.trim_end_matches([' ', '\t']).len());
    if !rewritten.is_empty() && !rewritten.ends_with('\n') {
        rewritten.push('\n');
    }
    rewritten.push_str(&written.yaml().map_err(|error| Unwritable(syntax, error.to_string()))?);
    rewritten.push('\n');
    let after = after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n')).unwrap_or(after);
    // Indented comments would be part of a block of text before them.
    rewritten.extend(after.split_inclusive('\n').map(|line| line.trim_start_matches([' ', '\t'])));
    Ok(with_line_ends(text.contains(CRLF), rewritten))
}

fn in_place(text: &str, node: &Node, new: &Value, syntax: Syntax, leave_aliases: bool) -> Option<String> {
    let writer = Writer::new(text, node, syntax);
    let mut editor = Editor { text, writer, leave_aliases, changes: Vec::new() };
    editor.change(node, new)?;
    editor.changes.sort_by_key(|(range, _)| (range.start, range.end));
    // Searched once, because there may be many changes.
    let crlf = text.contains(CRLF);
    let mut edited = String::with_capacity(text.len() + 1024);
    let mut at = 0;
    for (range, replacement) in editor.changes {
        edited.push_str(text.get(at..range.start)?);
        edited.push_str(&with_line_ends(crlf, replacement));
        at = range.end;
    }
    edited.push_str(text.get(at..)?);
    // If the last line had no line break, the new last line has none.
    if !text.ends_with('\n') {
        edited.truncate(edited.trim_end_matches(['\r', '\n']).len());
    }
    Some(edited)
}

/// The line break of Windows.
const CRLF: &str = "\r\n";

fn with_line_ends(crlf: bool, new: String) -> String {
    if crlf { new.replace(CRLF, "\n").replace('\n', CRLF) } else { new }
}

pub(super) struct Editor<'a> {
    pub(super) text: &'a str,
    pub(super) writer: Writer,
    /// Whether aliases, and additions to mappings with a merge key, are skipped for now.
    leave_aliases: bool,
    changes: Vec<(Range<usize>, String)>,
}

/// Methods return `None` if the change can't be made in place.
impl Editor<'_> {
    pub(super) fn put(&mut self, range: Range<usize>, new: impl Into<String>) {
        self.changes.push((range, new.into()));
    }

    /// Tries a change, and discards it if it can't be made.
    pub(super) fn attempt(&mut self, change: impl FnOnce(&mut Self) -> Option<()>) -> bool {
        let before = self.changes.len();
        let done = change(self).is_some();
        if !done {
            self.changes.truncate(before);
        }
        done
    }

    /// Changes the parts of a collection.
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
                        let written = Ordered { value: new, like: Some(item) }.yaml().ok()?;
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
                Some(new) if entry.value.value() != *new && is_effective(node, entry) => {
                    self.change_entry(node, entry, new)?;
                }
                _ => {}
            }
        }
        let mut added = String::new();
        for (key, value) in self.added(node, &old, new) {
            added.push('\n');
            added.push_str(&Ordered { value, like: None }.yaml_entry(key).ok()?);
        }
        if !added.is_empty() {
            self.append(node, &added)?;
        }
        Some(())
    }

    /// The entries to add to a mapping.
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

    /// Replaces the alias of a merge key by its entries, if some of them have to be removed.
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

    /// Changes the value of an entry of a block mapping.
    fn change_entry(&mut self, mapping: &Node, entry: &Entry, new: &Value) -> Option<()> {
        let value = &entry.value;
        if self.attempt(|editor| editor.change(value, new)) || self.attempt(|e| e.change_word(value, new)) {
            return Some(());
        }
        let span = value.span.clone();
        let head = self.after_anchor(entry)?;
        let lines = self.own_lines(value);
        let written = Ordered { value: new, like: Some(value) }.yaml_entry("k").ok()?;
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
        // A comment stays after the key.
        let line_end = self.line_end(line)?;
        let at = if written.starts_with('\n') { self.before_line_break(line_end) } else { head };
        self.put(at..at, written);
        Some(())
    }

    /// Replaces a word by a word. The replacement of an explicit `null` stays on its line, so that it can become `null`
    /// again.
    fn change_word(&mut self, value: &Node, new: &Value) -> Option<()> {
        let text = &self.text[value.span.clone()];
        let collection = matches!(new, Value::Object(_) | Value::Array(_));
        let written = match &value.content {
            _ if value.alias => return None,
            Content::Mapping(Style::Flow, _) if new.is_null() => "null".to_owned(),
            Content::Scalar(Value::Null) if collection && !text.is_empty() => self.writer.value(new),
            Content::Scalar(_) if !collection && !text.is_empty() && !text.contains('\n') => {
                Ordered { value: new, like: None }.yaml().ok()?
            }
            _ => return None,
        };
        (!written.contains('\n')).then(|| self.put(value.span.clone(), written))
    }

    /// The position after the colon of an entry and the anchor of its value.
    fn after_anchor(&self, entry: &Entry) -> Option<usize> {
        let colon = entry.colon?;
        let between = self.text.get(colon..entry.value.span.start.max(entry.value.span.end))?;
        let Some(anchor) = whitespace::anchor(between).filter(|_| !entry.value.alias) else {
            return Some(colon);
        };
        Some(colon + between.find(anchor)? + anchor.len())
    }

    /// The lines of a block collection that starts below its key.
    fn own_lines(&self, value: &Node) -> Option<Range<usize>> {
        let block =
            matches!(value.content, Content::Mapping(Style::Block, _) | Content::Sequence(Style::Block, _));
        let start = whitespace::line_start(self.text, value.span.start);
        let own = block && !value.alias && self.text[start..value.span.start].trim().is_empty();
        own.then(|| self.line_end(value.span.end)).flatten().map(|end| start..end)
    }

    /// Removes an entry with its line. The first entry of a sequence item shares its line with the dash, so the next entry
    /// replaces it. Returns the index of the next entry that stays.
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

    /// Adds lines after a mapping, each preceded by a line break.
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

    /// The position after the line of `at`, if only a comment is left on it.
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

/// Whether the entry is the effective one of its key: of duplicate keys, the last.
pub(super) fn is_effective(mapping: &Node, entry: &Entry) -> bool {
    mapping.entry(&entry.key).is_some_and(|effective| effective.at == entry.at)
}

/// Indents all lines but the first.
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

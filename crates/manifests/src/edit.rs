//! Changes only those parts of a document's text whose value changes: comments, quotes and order stay.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use serde_json::{Map, Value};

use super::{
    json,
    node::{Content, Entry, Node, Style},
    ordered::Ordered,
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
    match syntax {
        Syntax::Json => json::read(text).is_ok_and(|read| read.value() == *value),
        Syntax::Yaml => matches!(Node::read(text), Ok(Some(read)) if read.value() == *value),
    }
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
    let mut edited = String::with_capacity(text.len() + 1024);
    let mut at = 0;
    for (range, replacement) in editor.changes {
        edited.push_str(text.get(at..range.start)?);
        edited.push_str(&with_line_ends(has_crlf_near(text, range.start), replacement));
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

/// Whether the line before a position, or else the first line, ends with [`CRLF`].
fn has_crlf_near(text: &str, at: usize) -> bool {
    let end = text[..at].rfind('\n').or_else(|| text.find('\n'));
    end.is_some_and(|end| text[..end].ends_with('\r'))
}

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
                    if (*style == Style::Flow && self.attempt(|editor| editor.unwrap_pair(item, new)))
                        || self.attempt(|editor| editor.change(item, new))
                    {
                        continue;
                    }
                    if *style == Style::Flow || item.alias {
                        self.put(item.span.clone(), self.writer.value(new));
                    } else {
                        let written = Ordered { value: new, like: Some(item) }.yaml().ok()?;
                        self.replace_item(item.span.clone(), &written, item.column);
                    }
                }
                Some(())
            }
            _ => None,
        }
    }

    /// The entries to add to a mapping.
    pub(super) fn added<'n>(
        &self,
        mapping: &Mapping<'_>,
        new: &'n Map<String, Value>,
    ) -> Vec<(&'n String, &'n Value)> {
        if self.leave_aliases && mapping.entries.iter().any(|entry| entry.merge) {
            return vec![];
        }
        let added =
            new.iter().filter(|(key, value)| !mapping.has_own(key) && mapping.value.get(*key) != Some(value));
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
}

/// A mapping, with an index of its entries: a mapping may have many.
pub(super) struct Mapping<'n> {
    pub(super) entries: &'n [Entry],
    /// Its present value.
    value: Map<String, Value>,
    /// The position of the effective entry of each key: of duplicate keys, the last. None if a merge key after it has the
    /// key, which wins for kubectl.
    effective: HashMap<&'n str, usize>,
}

impl<'n> Mapping<'n> {
    pub(super) fn new(node: &Node, entries: &'n [Entry]) -> Self {
        let mut effective = HashMap::new();
        for entry in entries {
            if entry.merge {
                let merged = entry.merged();
                effective.retain(|key: &&str, _| !merged.contains_key(*key));
            } else {
                effective.insert(entry.key.as_str(), entry.at);
            }
        }
        Self {
            entries,
            value: if let Value::Object(value) = node.value() { value } else { Map::new() },
            effective,
        }
    }

    fn has_own(&self, key: &str) -> bool {
        self.effective.contains_key(key)
    }

    pub(super) fn is_effective(&self, entry: &Entry) -> bool {
        self.effective.get(entry.key.as_str()) == Some(&entry.at)
    }

    /// Whether the entry at `index` is the last one, and a merge key has this value for its key, so that the entry isn't
    /// needed: it was probably added to change that value.
    pub(super) fn inherits_last(&self, index: usize, value: &Value) -> bool {
        let Some(entry) = self.entries.get(index).filter(|_| index + 1 == self.entries.len()) else {
            return false;
        };
        let mut merges = self.entries.iter().rev().filter(|entry| entry.merge);
        merges
            .find_map(|merge| merge.merged().remove(&entry.key))
            .is_some_and(|inherited| inherited == *value)
    }

    /// The number of entries at its end that are not kept.
    pub(super) fn removed_at_end(&self, new: &Map<String, Value>) -> usize {
        self.entries.iter().rev().take_while(|entry| !stays(entry, new)).count()
    }
}

/// Whether an entry is kept, possibly with another value.
pub(super) fn stays(entry: &Entry, new: &Map<String, Value>) -> bool {
    entry.merge || new.contains_key(&entry.key)
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "unchanged_text_tests.rs"]
mod unchanged_text_tests;

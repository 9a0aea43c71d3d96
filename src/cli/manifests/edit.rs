//! Changes a document where its value changes, and leaves the rest of its text as it is: comments, quotes
//! and order stay, and nothing that isn't touched can be misread.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{
    node::{Content, Entry, Node, Style},
    written::Written,
};

/// A document that can't be written with a value. There is no such value of Kubernetes objects.
#[derive(Debug, thiserror::Error)]
#[error("the changed document can't be written as YAML: {0}")]
pub(super) struct Unwritable(String);

/// The text of the document `node` with the value `new`. Where anchors or brackets are in the way of
/// changing it in place, the whole document is written anew; either is read again to be sure.
pub(super) fn rewrite(text: &str, node: &Node, new: &Value) -> Result<String, Unwritable> {
    let means_new = |text: &String| matches!(Node::read(text), Ok(Some(read)) if read.value() == *new);
    if let Some(edited) = in_place(text, node, new).filter(means_new) {
        return Ok(edited);
    }
    let anew = anew(text, node, new).map_err(|error| Unwritable(error.to_string()))?;
    if means_new(&anew) { Ok(anew) } else { Err(Unwritable("it would be read as something else".into())) }
}

/// The whole document, with what stands before and behind it.
fn anew(text: &str, node: &Node, new: &Value) -> Result<String, serde_saphyr::ser::Error> {
    let mut anew = text[..node.span.start].trim_end_matches([' ', '\t']).to_owned();
    if !anew.is_empty() && !anew.ends_with('\n') {
        anew.push('\n');
    }
    anew.push_str(&Written { value: new, like: Some(node) }.yaml()?);
    anew.push('\n');
    let behind = &text[node.span.end..];
    anew.push_str(behind.strip_prefix("\r\n").or_else(|| behind.strip_prefix('\n')).unwrap_or(behind));
    Ok(with_line_ends_of(text, &anew))
}

fn in_place(text: &str, node: &Node, new: &Value) -> Option<String> {
    let mut editor = Editor { text, changes: Vec::new() };
    editor.change(node, new)?;
    editor.changes.sort_by_key(|(range, _)| range.start);
    let mut edited = String::with_capacity(text.len() + 1024);
    let mut at = 0;
    for (range, replacement) in editor.changes {
        edited.push_str(text.get(at..range.start)?);
        edited.push_str(&with_line_ends_of(text, &replacement));
        at = range.end;
    }
    edited.push_str(&text[at..]);
    Some(edited)
}

fn with_line_ends_of(text: &str, new: &str) -> String {
    if text.contains("\r\n") { new.replace("\r\n", "\n").replace('\n', "\r\n") } else { new.to_owned() }
}

struct Editor<'a> {
    text: &'a str,
    changes: Vec<(Range<usize>, String)>,
}

/// `None` says that the change can't be made in place.
impl Editor<'_> {
    /// Changes a block collection from inside.
    fn change(&mut self, node: &Node, new: &Value) -> Option<()> {
        match (&node.content, new) {
            _ if node.alias => None,
            (Content::Mapping(Style::Block, entries), Value::Object(new)) if !new.is_empty() => {
                self.change_mapping(node, entries, new)
            }
            (Content::Sequence(Style::Block, items), Value::Array(new)) if items.len() == new.len() => {
                for (item, new) in items.iter().zip(new).filter(|(item, new)| item.value() != **new) {
                    let before = self.changes.len();
                    if self.change(item, new).is_none() {
                        self.changes.truncate(before);
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
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.merge) {
            match new.get(&entry.key) {
                None if index >= kept_from => kept_from = self.remove(entries, index, new)?,
                Some(new) if entry.value.value() != *new && counts(node, entry) => {
                    self.change_entry(node, entry, new)?;
                }
                _ => {}
            }
        }
        let mut added = String::new();
        for (key, value) in
            new.iter().filter(|(key, value)| node.entry(key).is_none() && old.get(*key) != Some(value))
        {
            added.push('\n');
            added.push_str(&Written { value, like: None }.yaml_entry(key).ok()?);
        }
        if !added.is_empty() {
            self.append(node, &added)?;
        }
        Some(())
    }

    fn change_entry(&mut self, mapping: &Node, entry: &Entry, new: &Value) -> Option<()> {
        let before = self.changes.len();
        if self.change(&entry.value, new).is_some() {
            return Some(());
        }
        self.changes.truncate(before);
        let written = Written { value: new, like: Some(&entry.value) }.yaml_entry(&entry.key).ok()?;
        self.replace(entry.at..entry.value.span.end.max(entry.colon?), &written, mapping.column);
        Some(())
    }

    /// Takes an entry out, with its line; the first of a sequence's item shares its line with the dash, so
    /// the next entry takes its place. Returns the index of the next entry that is not gone.
    fn remove(&mut self, entries: &[Entry], index: usize, new: &Map<String, Value>) -> Option<usize> {
        let entry = &entries[index];
        let line = self.text[..entry.at].rfind('\n').map_or(0, |at| at + 1);
        if self.text[line..entry.at].trim().is_empty() {
            let end = self.line_end(entry.value.span.end.max(entry.colon?))?;
            self.changes.push((line..end, String::new()));
            return Some(index + 1);
        }
        let stays = |entry: &Entry| entry.merge || new.contains_key(&entry.key);
        let next = index + entries[index..].iter().position(stays)?;
        self.changes.push((entry.at..entries[next].at, String::new()));
        Some(next)
    }

    fn replace(&mut self, range: Range<usize>, written: &str, column: usize) {
        // A block scalar ends with its line.
        let line_end = if self.text[range.clone()].ends_with('\n') { "\n" } else { "" };
        self.changes.push((range, indented(written, column) + line_end));
    }

    /// Adds lines, each with a line break before it, behind a mapping.
    fn append(&mut self, mapping: &Node, lines: &str) -> Option<()> {
        let lines = indented(lines, mapping.column);
        let end = mapping.span.end;
        if self.text[..end].ends_with('\n') {
            self.changes.push((end..end, format!("{}\n", &lines[1..])));
        } else {
            // A comment may follow on the line.
            let mut at = self.line_end(end)?;
            if self.text[..at].ends_with('\n') {
                at -= if self.text[..at].ends_with("\r\n") { 2 } else { 1 };
            }
            self.changes.push((at..at, lines));
        }
        Some(())
    }

    /// The end of the line of `at`, behind its line break, if nothing but a comment is left on it.
    fn line_end(&self, at: usize) -> Option<usize> {
        if self.text[..at].ends_with('\n') {
            return Some(at);
        }
        let rest = &self.text[at..];
        let length = rest.find('\n').map_or(rest.len(), |line_break| line_break + 1);
        let left = rest[..length].trim();
        (left.is_empty() || left.starts_with('#')).then_some(at + length)
    }
}

/// Whether the entry is the one of its key that counts.
fn counts(mapping: &Node, entry: &Entry) -> bool {
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

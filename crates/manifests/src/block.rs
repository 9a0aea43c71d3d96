//! Changes collections that are indented. Comments stay in place.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{
    edit::{Editor, Mapping, stays},
    node::{Content, Entry, Node, Style},
    ordered::Ordered,
    whitespace,
};

/// Methods return `None` if the change can't be made in place.
impl Editor<'_> {
    pub(super) fn change_mapping(
        &mut self,
        node: &Node,
        entries: &[Entry],
        new: &Map<String, Value>,
    ) -> Option<()> {
        let mapping = Mapping::new(node, entries);
        let mut added = String::new();
        for (key, value) in self.added(&mapping, new) {
            added.push('\n');
            added.push_str(&Ordered { value, like: None }.yaml_entry(key).ok()?);
        }
        // The entries that new ones replace.
        let replaced = if added.is_empty() { 0 } else { mapping.removed_at_end(new) };
        let (kept, replaced) = entries.split_at(entries.len() - replaced);
        let mut kept_from = 0;
        for (index, entry) in kept.iter().enumerate() {
            match new.get(&entry.key) {
                _ if entry.merge => self.keep_of_merged(entry, new),
                None if index >= kept_from => kept_from = self.remove(kept, index, new)?,
                Some(value) if entry.value.value() != *value && mapping.is_effective(entry) => {
                    if added.is_empty() && mapping.inherits_last(index, value) {
                        self.remove(entries, index, new)?;
                    } else {
                        self.change_entry(node, entry, value)?;
                    }
                }
                _ => {}
            }
        }
        match replaced.split_first() {
            _ if added.is_empty() => {}
            None => self.append(node, &added)?,
            Some((first, rest)) => {
                self.replace_entry(node, first, &added)?;
                for index in 0..rest.len() {
                    self.remove(rest, index, new)?;
                }
            }
        }
        Some(())
    }

    /// Writes lines, each preceded by a line break, in place of an entry.
    fn replace_entry(&mut self, mapping: &Node, entry: &Entry, lines: &str) -> Option<()> {
        let end = self.line_end(entry.end())?;
        // The first entry of a sequence item shares its line with the dash.
        let lines = indented(lines, mapping.column);
        let text = lines.trim_start_matches(['\n', ' ']);
        self.put(entry.at..end, format!("{text}\n"));
        Some(())
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
        let next = index + entries[index..].iter().position(|entry| stays(entry, new))?;
        self.put(entry.at..entries[next].at, "");
        Some(next)
    }

    pub(super) fn replace_item(&mut self, range: Range<usize>, written: &str, column: usize) {
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

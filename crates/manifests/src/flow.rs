//! Changes collections in brackets, as in JSON. Additions use the style of their neighbors.

use serde_json::{Map, Value};

use super::{
    edit::{Editor, Mapping, Syntax, stays},
    node::{Content, Entry, Node, Style},
    whitespace,
    writer::starts_line,
};

impl Editor<'_> {
    pub(super) fn change_flow_mapping(
        &mut self,
        node: &Node,
        entries: &[Entry],
        new: &Map<String, Value>,
    ) -> Option<()> {
        if !self.text[node.span.clone()].starts_with('{') {
            return self.wrap_pair(node, entries, new);
        }
        let mapping = Mapping::new(node, entries);
        let added = self.added(&mapping, new);
        let last = entries.iter().rev().find(|entry| stays(entry, new));
        if last.is_none() && !entries.is_empty() {
            if added.is_empty() {
                self.empty(node, entries);
            } else {
                self.replace_all(entries, &added);
            }
            return Some(());
        }
        let mut index = 0;
        while let Some(entry) = entries.get(index) {
            let gone = entries[index..].iter().take_while(|entry| !stays(entry, new)).count();
            if gone > 0 {
                self.remove_run(entries, index..index + gone)?;
                index += gone;
                continue;
            }
            if entry.merge {
                self.keep_of_merged(entry, new);
            } else if let Some(value) = new.get(&entry.key)
                && entry.value.value() != *value
                && mapping.is_effective(entry)
            {
                if added.is_empty() && mapping.inherits_last(index, value) {
                    self.remove_run(entries, index..index + 1)?;
                } else {
                    self.change_flow_entry(entry, value);
                }
            }
            index += 1;
        }
        match last {
            _ if added.is_empty() => {}
            Some(last) => self.add_after(last, &added),
            None => self.fill(node, &added),
        }
        Some(())
    }

    fn change_flow_entry(&mut self, entry: &Entry, new: &Value) {
        let span = entry.value.span.clone();
        if self.attempt(|editor| editor.change(&entry.value, new)) {
            return;
        }
        let written = self.writer.value(new);
        if !span.is_empty() {
            return self.put(span, written);
        }
        let written = if entry.colon.is_some() { format!(" {written}") } else { format!(": {written}") };
        self.put(entry.end()..entry.end(), written);
    }

    /// Puts a pair in a list, as in `[a: 1]`, in braces. The added entries come before it, so that [`Self::unwrap_pair`] can
    /// tell it from an item that had braces, to which entries are added at the end.
    fn wrap_pair(&mut self, node: &Node, entries: &[Entry], new: &Map<String, Value>) -> Option<()> {
        let [pair] = entries else { return None };
        let is_kept = !pair.merge && new.get(&pair.key) == Some(&pair.value.value());
        if !is_kept || pair.value.span.is_empty() {
            return None;
        }
        let mut before = String::from("{");
        for (key, value) in self.added(&Mapping::new(node, entries), new) {
            before.push_str(&self.writer.entry(key, value, None));
            before.push_str(self.writer.comma);
        }
        self.put(node.span.start..node.span.start, before);
        self.put(pair.end()..pair.end(), "}");
        Some(())
    }

    /// Removes the braces of an item, and all of its entries but one that isn't the first: it was a pair, as in `[a: 1]`.
    pub(super) fn unwrap_pair(&mut self, item: &Node, new: &Value) -> Option<()> {
        let (Content::Mapping(Style::Flow, entries), Value::Object(new)) = (&item.content, new) else {
            return None;
        };
        let mut kept = entries.iter().enumerate().filter(|(_, entry)| stays(entry, new));
        let ((index, pair), None) = (kept.next()?, kept.next()) else { return None };
        let before = entries.get(index.checked_sub(1)?)?.end();
        let comma = self.writer.comma;
        let is_pair = self.writer.syntax == Syntax::Yaml
            && !item.alias
            && !pair.merge
            && new.len() == 1
            && new.get(&pair.key) == Some(&pair.value.value())
            && self.text[before..].starts_with(comma);
        if !is_pair {
            return None;
        }
        self.put(item.span.start..before + comma.len(), "");
        self.put(pair.end()..item.span.end, "");
        Some(())
    }

    /// Takes all entries out, and the lines that [`Self::fill`] adds for them, unless there is a comment between the brackets.
    fn empty(&mut self, node: &Node, entries: &[Entry]) {
        let inside = node.span.start + 1..node.span.end - 1;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let mut removed = first.at..self.after_comma(last.end()).unwrap_or(last.end());
        let before = &self.text[inside.start..removed.start];
        let after = &self.text[removed.end..inside.end];
        let has_comment = before.contains('#') || after.contains('#');
        if let Some(line_break) = before.rfind('\n')
            && after.contains('\n')
            && !has_comment
        {
            let kept = before[..line_break].strip_suffix('\r').map_or(line_break, str::len);
            removed = inside.start + kept..inside.end;
        }
        self.put(removed, "");
    }

    /// Writes other entries in place of all entries.
    fn replace_all(&mut self, entries: &[Entry], added: &[(&String, &Value)]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let own_line = starts_line(self.text, first.at);
        let margin = own_line.then(|| whitespace::indentation(self.text, first.at));
        let separator = margin.map_or(self.writer.comma.to_owned(), |margin| format!(",\n{margin}"));
        let written: Vec<_> =
            added.iter().map(|(key, value)| self.writer.entry(key, value, margin)).collect();
        self.put(first.at..last.end(), written.join(&separator));
    }

    /// Removes entries with the comma before them, or after them if they are the first.
    fn remove_run(&mut self, entries: &[Entry], run: std::ops::Range<usize>) -> Option<()> {
        let first = entries.get(run.start)?;
        let Some(before) = run.start.checked_sub(1).and_then(|before| entries.get(before)) else {
            self.put(first.at..entries.get(run.end)?.at, "");
            return Some(());
        };
        let (before, last) = (before.end(), entries.get(run.end - 1)?.end());
        let comma = self.after_comma(before)?;
        let after = &self.text[comma..first.at];
        // Text between the comma and the line of the first stays, such as a comment.
        let start = after.rfind('\n').map_or(comma, |line_break| {
            comma + after[..line_break].strip_suffix('\r').map_or(line_break, str::len)
        });
        match self.after_comma(last) {
            Some(next) => self.put(start..next, ""),
            None if start == comma => self.put(before..last, ""),
            None => {
                self.put(comma - 1..comma, "");
                self.put(start..last, "");
            }
        }
        Some(())
    }

    /// The position after the next comma, if there is one.
    fn after_comma(&self, at: usize) -> Option<usize> {
        let rest = &self.text[at..];
        let trimmed = rest.trim_start();
        trimmed.starts_with(',').then(|| at + rest.len() - trimmed.len() + 1)
    }

    /// Adds entries after another, on separate lines if that one has its own line.
    fn add_after(&mut self, last: &Entry, added: &[(&String, &Value)]) {
        let mut at = last.end();
        let trailing = self.after_comma(at);
        let own_line = starts_line(self.text, last.at);
        let margin = own_line.then(|| whitespace::indentation(self.text, last.at));
        let entries: Vec<_> =
            added.iter().map(|(key, value)| self.writer.entry(key, value, margin)).collect();
        let Some(margin) = margin else {
            let comma = self.writer.comma;
            let entries = entries.join(comma);
            let space = comma.trim_start_matches(',');
            match trailing {
                Some(behind) => self.put(behind..behind, format!("{space}{entries},")),
                None => self.put(at..at, format!(",{space}{entries}")),
            }
            return;
        };
        match trailing {
            Some(behind) => at = behind,
            None => self.put(at..at, ","),
        }
        // A comment after the neighbor stays there.
        let line = whitespace::first_line(&self.text[at..]);
        let comment = line.trim();
        if comment.starts_with('#') || comment.is_empty() {
            at += line.trim_end_matches(['\r', '\n']).len();
        }
        let entries = entries.join(&format!(",\n{margin}"));
        self.put(at..at, format!("\n{margin}{entries}{}", if trailing.is_some() { "," } else { "" }));
    }

    /// Adds entries to empty brackets.
    fn fill(&mut self, node: &Node, added: &[(&String, &Value)]) {
        let outer = whitespace::indentation(self.text, node.span.start).to_owned();
        let inner = self.writer.unit.as_ref().map(|unit| outer.clone() + unit);
        let entries: Vec<_> =
            added.iter().map(|(key, value)| self.writer.entry(key, value, inner.as_deref())).collect();
        let written = match inner {
            Some(inner) => format!("\n{inner}{}\n{outer}", entries.join(&format!(",\n{inner}"))),
            None => entries.join(self.writer.comma),
        };
        self.put(node.span.end - 1..node.span.end - 1, written);
    }
}

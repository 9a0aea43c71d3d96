//! Changes collections in brackets, as in JSON, from inside: what is added is written as its neighbours are.

use serde_json::{Map, Value};

use super::{
    edit::{Editor, Syntax, counts},
    node::{Content, Entry, Node},
    scalar, whitespace,
};

/// Writes values in brackets.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    syntax: Syntax,
    /// Between a key and its value.
    colon: &'static str,
    /// Between two entries on one line.
    comma: &'static str,
    /// How much deeper each level is indented, in JSON of many lines.
    unit: Option<String>,
}

impl Writer {
    /// Writes as the document does.
    pub(super) fn new(text: &str, document: &Node, syntax: Syntax) -> Self {
        let first = match &document.content {
            Content::Mapping(_, entries) if syntax == Syntax::Json => entries.first(),
            _ => None,
        };
        let compact = first.is_some_and(|entry| entry.colon == Some(entry.value.span.start));
        let unit = first.filter(|entry| begins_its_line(text, entry.at)).map(|entry| {
            let outer = whitespace::indentation(text, document.span.start);
            let inner = whitespace::indentation(text, entry.at);
            inner.strip_prefix(outer).unwrap_or(inner).to_owned()
        });
        let (colon, comma) = if compact { (":", ",") } else { (": ", ", ") };
        Self { syntax, colon, comma, unit }
    }

    /// A value on one line.
    pub(super) fn value(&self, value: &Value) -> String {
        self.write(value, None)
    }

    /// A value whose lines, if it has several, are within `margin`.
    fn write(&self, value: &Value, margin: Option<&str>) -> String {
        let unit = self.unit.as_ref().filter(|_| margin.is_some());
        let inner = unit.map(|unit| margin.unwrap_or_default().to_owned() + unit);
        let inner = inner.as_deref();
        let (brackets, items): (_, Vec<String>) = match value {
            Value::Object(map) => {
                ("{}", map.iter().map(|(key, value)| self.entry(key, value, inner)).collect())
            }
            Value::Array(items) => ("[]", items.iter().map(|item| self.write(item, inner)).collect()),
            Value::String(text) => return self.string(text),
            scalar => return scalar.to_string(),
        };
        let (open, close) = brackets.split_at(1);
        match inner {
            Some(inner) if !items.is_empty() => {
                let items = items.join(&format!(",\n{inner}"));
                format!("{open}\n{inner}{items}\n{}{close}", margin.unwrap_or_default())
            }
            _ => format!("{open}{}{close}", items.join(self.comma)),
        }
    }

    fn entry(&self, key: &str, value: &Value, margin: Option<&str>) -> String {
        self.string(key) + self.colon + &self.write(value, margin)
    }

    /// A string that every reader takes for one.
    fn string(&self, text: &str) -> String {
        let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
            && scalar::resolve(text).is_ok_and(|value| value.is_string());
        if self.syntax == Syntax::Yaml && word {
            return text.to_owned();
        }
        if self.syntax == Syntax::Yaml && text.contains('"') && text.chars().all(is_printable) {
            return format!("'{}'", text.replace('\'', "''"));
        }
        let json = Value::from(text).to_string();
        let escaped = json.chars().map(|char| match char {
            char if is_printable(char) => char.to_string(),
            char => format!("\\u{:04x}", u32::from(char)),
        });
        escaped.collect()
    }
}

/// Whether YAML takes the character for itself, and for no line break.
fn is_printable(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn begins_its_line(text: &str, at: usize) -> bool {
    text[whitespace::line_start(text, at)..at].trim().is_empty()
}

impl Editor<'_> {
    pub(super) fn change_flow_mapping(
        &mut self,
        node: &Node,
        entries: &[Entry],
        new: &Map<String, Value>,
    ) -> Option<()> {
        // A pair in a list, as in `[a: 1]`, has no braces of its own.
        if !self.text[node.span.clone()].starts_with('{') {
            return None;
        }
        let Value::Object(old) = node.value() else { return None };
        let stays = |entry: &Entry| entry.merge || new.contains_key(&entry.key);
        let added = self.added(node, &old, new);
        let last = entries.iter().rev().find(|entry| stays(entry));
        if last.is_none() && !entries.is_empty() {
            return added.is_empty().then(|| self.empty(node, entries));
        }
        let mut index = 0;
        while let Some(entry) = entries.get(index) {
            let gone = entries[index..].iter().take_while(|entry| !stays(entry)).count();
            if gone > 0 {
                self.remove_run(entries, index..index + gone)?;
                index += gone;
                continue;
            }
            if entry.merge {
                self.keep_of_merged(entry, new);
            } else if let Some(new) = new.get(&entry.key)
                && entry.value.value() != *new
                && counts(node, entry)
            {
                self.change_flow_entry(entry, new);
            }
            index += 1;
        }
        match last {
            _ if added.is_empty() => {}
            Some(last) => self.add_behind(last, &added),
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

    /// Takes all entries out. Brackets around lines are closed.
    fn empty(&mut self, node: &Node, entries: &[Entry]) {
        let inside = node.span.start + 1..node.span.end - 1;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let several_lines = self.text[inside.clone()].contains('\n');
        self.put(if several_lines { inside } else { first.at..last.end() }, "");
    }

    /// Takes entries out with the comma before them, or behind them where they are the first.
    fn remove_run(&mut self, entries: &[Entry], run: std::ops::Range<usize>) -> Option<()> {
        let first = entries.get(run.start)?;
        let Some(before) = run.start.checked_sub(1).and_then(|before| entries.get(before)) else {
            self.put(first.at..entries.get(run.end)?.at, "");
            return Some(());
        };
        let (before, last) = (before.end(), entries.get(run.end - 1)?.end());
        let comma = self.comma_behind(before)?;
        let after = &self.text[comma..first.at];
        // What is between the comma and the line of the first stays, as a comment is.
        let start = after.rfind('\n').map_or(comma, |line_break| {
            comma + after[..line_break].strip_suffix('\r').map_or(line_break, str::len)
        });
        match self.comma_behind(last) {
            Some(next) => self.put(start..next, ""),
            None if start == comma => self.put(before..last, ""),
            None => {
                self.put(comma - 1..comma, "");
                self.put(start..last, "");
            }
        }
        Some(())
    }

    /// Behind the comma that follows, if there is one.
    fn comma_behind(&self, at: usize) -> Option<usize> {
        let rest = &self.text[at..];
        let trimmed = rest.trim_start();
        trimmed.starts_with(',').then(|| at + rest.len() - trimmed.len() + 1)
    }

    /// Adds entries behind another, on lines of their own if that has one.
    fn add_behind(&mut self, last: &Entry, added: &[(&String, &Value)]) {
        let mut at = last.end();
        let trailing = self.comma_behind(at);
        let own_line = begins_its_line(self.text, last.at);
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
        // A comment behind the neighbour stays there.
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

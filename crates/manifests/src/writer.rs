//! Writes values in brackets, in the style of their document.

use serde_json::Value;

use super::{
    node::{Content, Node},
    scalar, whitespace,
};

/// The syntax of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Yaml,
    /// JSON is read as YAML, but additions have to be JSON.
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

/// Writes values in brackets.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) syntax: Syntax,
    /// The separator between a key and its value.
    pub(super) colon: &'static str,
    /// The separator between two entries on one line.
    pub(super) comma: &'static str,
    /// The indentation of a level, in multi-line JSON.
    pub(super) unit: Option<String>,
}

impl Writer {
    /// A writer in the style of the document.
    pub(super) fn new(text: &str, document: &Node, syntax: Syntax) -> Self {
        let first = match &document.content {
            Content::Mapping(_, entries) if syntax == Syntax::Json => entries.first(),
            _ => None,
        };
        let compact = first.is_some_and(|entry| entry.colon == Some(entry.value.span.start));
        let unit = first.filter(|entry| starts_line(text, entry.at)).map(|entry| {
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

    /// A value whose lines, if it has several, are indented by `margin`.
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

    pub(super) fn entry(&self, key: &str, value: &Value, margin: Option<&str>) -> String {
        self.string(key) + self.colon + &self.write(value, margin)
    }

    /// A string that every parser reads as a string.
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

/// Whether YAML allows the character unescaped, and not as a line break.
fn is_printable(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

pub(super) fn starts_line(text: &str, at: usize) -> bool {
    text[whitespace::line_start(text, at)..at].trim().is_empty()
}

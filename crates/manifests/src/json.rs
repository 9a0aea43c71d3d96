//! Parses JSON into a tree with the position of each node in the text. YAML reads most of JSON in the same way, but not
//! numbers such as `1.0`, nor all characters.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::node::{Content, Entry, Node, Style};

/// How deep values may be nested, as for `serde_json`.
const DEPTH: usize = 127;

/// Text that can't be read as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It isn't JSON, or nested too deep.
    NotJson,
    OutOfRange(OutOfRange),
}

/// A number that is too large: the API server can't read it either.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: Invalid value: {number}: too large for a number: correct it, or put it in quotes")]
pub(super) struct OutOfRange {
    /// Its line, from 0.
    pub(super) line: usize,
    /// Its path, such as `spec.replicas`.
    path: String,
    number: String,
}

/// Parses one value, after a marker `---`, and space around it.
pub(super) fn read(text: &str) -> Result<Node, Unreadable> {
    let at = text.strip_prefix("---").map_or(0, |rest| text.len() - rest.len());
    let mut reader = Reader { text, at, line: 0, path: Vec::new() };
    let node = reader.value()?;
    reader.skip_space();
    if reader.at == text.len() { Ok(node) } else { Err(Unreadable::NotJson) }
}

/// Whether the document is JSON; it may be between documents of YAML.
pub(super) fn is_json(text: &str) -> bool {
    let text = text.strip_prefix("---").unwrap_or(text).trim_start();
    text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    path: Vec<String>,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Node, Unreadable> {
        self.skip_space();
        let (start, line) = (self.at, self.line);
        let content = match self.text.as_bytes().get(start) {
            Some(b'{') => Content::Mapping(Style::Flow, self.object()?),
            Some(b'[') => Content::Sequence(Style::Flow, self.array()?),
            Some(b'"') => Content::Scalar(Value::String(self.string()?)),
            _ => Content::Scalar(self.word()?),
        };
        Ok(Node { content, span: start..self.at, line, column: 0, alias: false })
    }

    fn object(&mut self) -> Result<Vec<Entry>, Unreadable> {
        self.enter()?;
        let mut entries = Vec::new();
        while !self.closes('}', entries.is_empty())? {
            self.skip_space();
            let (at, line) = (self.at, self.line);
            let key = self.string()?;
            self.skip_space();
            self.expect(':')?;
            let colon = Some(self.at);
            self.path.push(key);
            let value = self.value()?;
            let key = self.path.pop().unwrap_or_default();
            entries.push(Entry { key, at, colon, line, value, merge: false });
        }
        Ok(entries)
    }

    fn array(&mut self) -> Result<Vec<Node>, Unreadable> {
        self.enter()?;
        let mut items = Vec::new();
        while !self.closes(']', items.is_empty())? {
            self.path.push(items.len().to_string());
            items.push(self.value()?);
            self.path.pop();
        }
        Ok(items)
    }

    /// Skips an opening bracket.
    fn enter(&mut self) -> Result<(), Unreadable> {
        self.at += 1;
        if self.path.len() < DEPTH { Ok(()) } else { Err(Unreadable::NotJson) }
    }

    /// Skips the closing bracket, or the comma before another value.
    fn closes(&mut self, bracket: char, is_first: bool) -> Result<bool, Unreadable> {
        self.skip_space();
        if self.text[self.at..].starts_with(bracket) {
            self.at += 1;
            return Ok(true);
        }
        if !is_first {
            self.expect(',')?;
        }
        Ok(false)
    }

    fn expect(&mut self, char: char) -> Result<(), Unreadable> {
        if !self.text[self.at..].starts_with(char) {
            return Err(Unreadable::NotJson);
        }
        self.at += char.len_utf8();
        Ok(())
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        let rest = &self.text[self.at..];
        let mut is_escaped = false;
        let closing = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let closes = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            closes
        });
        let (end, _) = closing.ok_or(Unreadable::NotJson)?;
        self.at += end + 1;
        serde_json::from_str(&rest[..=end]).map_err(|_| Unreadable::NotJson)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value, Unreadable> {
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c);
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        self.at += word.len();
        serde_json::from_str(word).map_err(|_| {
            if word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                && serde_json::from_str::<IgnoredAny>(word).is_ok()
            {
                let (line, path, number) = (self.line, self.path.join("."), word.to_owned());
                Unreadable::OutOfRange(OutOfRange { line, path, number })
            } else {
                Unreadable::NotJson
            }
        })
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        let space = &rest[..rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len()];
        self.line += space.matches('\n').count();
        self.at += space.len();
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn json_is_read_with_its_own_numbers_and_characters() {
        for text in [
            r#"{"a": 1.0, "b": 1e3, "c": -0, "d": 3.14159265358979323846264338327950288, "e": 30}"#,
            "{\"del\": \"\u{7f}\", \"\\u0041\\\"\": [true, false, null, {}, []]}",
            "--- {\"a\": 1}\n",
            " \r\n\t[1, \"\\ud83d\\ude00\", -1.5E-7]",
            r#"{"a": 1, "a": 2}"#,
        ] {
            let value: Value = serde_json::from_str(text.trim_start_matches("---")).unwrap();
            assert_eq!(read(text).unwrap().value(), value, "{text}");
        }
        let node = read("{\n \"a\": {\n\"b\": [10, 200]}}").unwrap();
        assert_eq!(node.line_of(["a", "b"]), 2);
        assert_eq!(node.entry("a").unwrap().value.entry("b").unwrap().value.item(1).unwrap().span, 20..23);
    }

    #[test]
    fn other_text_is_not_json() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for text in [
            "",
            "{",
            "{\"a\"",
            "{\"a\" 1}",
            "{a: 1}",
            "[1 2]",
            "[1,]",
            "{\"a\": \"\\ud800\"}",
            "01",
            "1 2",
            &deep,
        ] {
            assert_eq!(read(text).unwrap_err(), Unreadable::NotJson, "{}", text.get(..20).unwrap_or(text));
        }
        let nested = "[".repeat(127) + &"]".repeat(127);
        assert_eq!(read(&nested).is_ok(), serde_json::from_str::<Value>(&nested).is_ok());
        let path = String::from("a.1");
        let out_of_range = Unreadable::OutOfRange(OutOfRange { line: 1, path, number: "-1E400".into() });
        assert_eq!(read("{\"a\": [1,\n-1E400]}").unwrap_err(), out_of_range);
        assert!(is_json("--- {\"a\": 1E400}") && !is_json("{a: 1}") && !is_json("[1]"));
    }
}

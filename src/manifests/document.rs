//! Files cut into documents, each with its text and what it means.

use std::fmt;

use serde_json::Value;

use super::{
    edit::{self, Rewritten, Syntax, Unwritable},
    node::{Malformed, Node},
    written::Written,
};

/// The message for this line of the text. Helm's templates are no YAML before they are rendered.
fn with_template_hint(text: &str, line: usize, message: String) -> String {
    // The parser may stop at the line behind.
    let mut around = text.lines().skip(line.saturating_sub(1)).take(2);
    if around.any(|line| line.contains("{{")) {
        return format!("{message}. Is this a template? Render it first, for example with helm template");
    }
    message
}

/// Where something stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Place {
    file: String,
    document: usize,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}, line {}", self.file, self.document, self.line)
    }
}

/// One document of a file.
#[derive(Debug)]
pub(in crate::cli) struct Document {
    /// What stands before its text and is no part of YAML or JSON: a byte order mark, with all that is before it;
    /// the space before JSON.
    head: String,
    /// Its text, with what stands before it since the last document: comments and the marker `---`.
    text: String,
    /// The first line of `text`, at no node.
    start: Place,
    syntax: Syntax,
    /// What stands in it; `None` where that is nothing but comments.
    read: Option<Read>,
}

#[derive(Debug)]
struct Read {
    /// `None` for JSON that is no YAML.
    node: Option<Node>,
    value: Value,
}

/// A document that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub(in crate::cli) struct Unreadable {
    place: Place,
    message: String,
}

impl Document {
    /// Reads a file: YAML, or JSON objects one after the other.
    pub(super) fn read_all(file: &str, text: &str) -> Result<Vec<Self>, Unreadable> {
        let json = text.trim_start_matches(MARK).trim_start().starts_with('{');
        if json && let Some(documents) = read_json(file, text) {
            return Ok(documents);
        }
        let mut documents = Vec::new();
        let (mut number, mut line) = (0, 1);
        for text in split(text) {
            let (head, text) = text.split_at(behind_mark(text));
            line += head.matches('\n').count();
            let place = |number, at: usize| Place { file: file.into(), document: number, line: line + at };
            let node = Node::read(text).map_err(|Malformed { line, message }| Unreadable {
                place: place(number + 1, line),
                message: with_template_hint(text, line, message),
            })?;
            // An explicit marker with nothing behind it is no document either.
            let node = node.filter(|node| !node.span.is_empty());
            number += usize::from(node.is_some());
            let start = place(number.max(1), 0);
            let read = node.map(|node| Read { value: node.value(), node: Some(node) });
            let syntax = if is_json(text) { Syntax::Json } else { Syntax::Yaml };
            documents.push(Self { head: head.to_owned(), text: text.to_owned(), start, syntax, read });
            line += text.matches('\n').count();
        }
        Ok(documents)
    }

    /// What the document means; `None` where it is empty.
    pub(in crate::cli) fn value(&self) -> Option<&Value> {
        self.read.as_ref().map(|read| &read.value)
    }

    /// Where the deepest part of `path` that there is stands.
    pub(in crate::cli) fn place<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Place {
        let node = self.read.as_ref().and_then(|read| read.node.as_ref());
        let below = node.map_or(0, |node| node.line_of(path));
        Place { line: self.start.line + below, ..self.start.clone() }
    }

    /// Gives the document another meaning; its text follows, as little of it as can be. Whether all of it had to be
    /// written anew, so that its comments are lost.
    pub(in crate::cli) fn set(&mut self, new: Value) -> Result<bool, Unreadable> {
        let Some(read) = &mut self.read else { return Ok(false) };
        let rewritten = match &read.node {
            Some(node) => edit::rewrite(&self.text, node, &new, self.syntax),
            None => edit::pretty(&new).map(|text| Rewritten { text: text + "\n", in_place: false }),
        };
        let unwritable =
            |error: Unwritable| Unreadable { place: self.start.clone(), message: error.to_string() };
        let Rewritten { text, in_place } = rewritten.map_err(unwritable)?;
        read.value = new;
        self.text = text;
        Ok(!in_place && self.syntax == Syntax::Yaml)
    }

    /// The document as it was read, but for what was changed.
    pub(super) fn text(&self) -> [&str; 2] {
        [&self.head, &self.text]
    }

    /// Whether it is JSON that needs no marker before the next document.
    pub(super) fn is_json(&self) -> bool {
        self.syntax == Syntax::Json
    }

    /// The document's value in its own order; `None` where it is empty.
    pub(super) fn written(&self) -> Option<Written<'_>> {
        self.read.as_ref().map(|read| Written { value: &read.value, like: read.node.as_ref() })
    }
}

/// The byte order mark, with which some editors begin a file.
const MARK: char = '\u{feff}';

/// JSON objects one after the other; `None` where it is something else.
fn read_json(file: &str, text: &str) -> Option<Vec<Document>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut at = text.len() - text.trim_start_matches(MARK).len();
    let (mark, values) = text.split_at(at);
    let mut head = mark.to_owned();
    // A file may have any number of objects, so no line is counted twice.
    let (mut line, mut counted) = (1, 0);
    let mut values = serde_json::Deserializer::from_str(values).into_iter::<Value>();
    while let Some(value) = values.next() {
        let value = value.ok()?;
        let end = mark.len() + values.byte_offset();
        let text_of = text[at..end].trim_start();
        let start = end - text_of.len();
        head.push_str(&text[at..start]);
        line += text[counted..start].matches('\n').count();
        counted = start;
        let node = Node::read(text_of).ok().flatten().filter(|node| node.value() == value);
        documents.push(Document {
            head: std::mem::take(&mut head),
            text: text_of.to_owned(),
            start: Place { file: file.into(), document: documents.len() + 1, line },
            syntax: Syntax::Json,
            read: Some(Read { node, value }),
        });
        at = end;
    }
    documents.last_mut()?.text.push_str(&text[at..]);
    Some(documents)
}

/// Whether the document is JSON, which it may be between documents of YAML.
fn is_json(text: &str) -> bool {
    let text = text.strip_prefix("---").unwrap_or(text).trim_start();
    text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Behind the byte order mark of a document, which may follow the marker `---`, as where files are put behind
/// each other: kubectl reads each document by itself.
fn behind_mark(text: &str) -> usize {
    let blank = |text: &str| text.trim().is_empty() || text.trim_start().starts_with('#');
    let before = |mark: &usize| {
        let before = &text[..*mark];
        let mut lines = before.lines().map(|line| if is_marker(line) { &line[3..] } else { line });
        (before.is_empty() || before.ends_with('\n')) && lines.all(blank)
    };
    text.find(MARK).filter(before).map_or(0, |mark| mark + MARK.len_utf8())
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The text of each document: a line that begins with `---` begins one. No text is lost between them.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        // Behind the marker of a file that was put there, its own byte order mark and marker may follow.
        let marked = line.starts_with(MARK) && at > start && behind_mark(&text[start..=at + 2]) > 0;
        let marker = is_marker(line) || marked && is_marker(&line[MARK.len_utf8()..]);
        if marker && at > start {
            documents.push(&text[start..at]);
            start = at;
        }
        at += line.len();
    }
    documents.push(&text[start..]);
    documents
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Vec<Document> {
        Document::read_all("-", text).unwrap()
    }

    #[test]
    fn no_text_is_lost_between_documents() {
        for text in [
            "",
            "# only a comment\n",
            "a: 1",
            "---\na: 1\n---\nb: 1\n",
            "# above\n---\n# Source: x.yaml\na: |\n  --- no marker\n  ---- \n--- # beside\nb: 1\n...\n---\n",
            "a: 1\r\n---\r\nb: 2\r\n",
            "\u{feff}a: 1\n---\n\u{feff}b: 1\n--- # c\n\n\u{feff}# d\n---\n\u{feff}---\nc: 1\n",
            "\u{feff}{\"a\": 1}\n\n{\"b\": 2} \n",
            "{\"a\": 1}\n---\nb: 1\n",
        ] {
            let documents = read(text);
            let texts: String = documents.iter().flat_map(Document::text).collect();
            assert_eq!(texts, text);
        }
    }

    #[test]
    fn documents_are_counted_and_their_lines_are_the_files() {
        let documents = read("---\n# Source: x\n---\na: 1\nb:\n  c: 2\n---\n---\nd: 1\n");
        let found: Vec<_> = documents.iter().filter(|document| document.value().is_some()).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].place(["b", "c"]).to_string(), "-, document 1, line 6");
        assert_eq!(found[0].place(["b", "x"]).to_string(), "-, document 1, line 5");
        assert_eq!(found[1].place([]).to_string(), "-, document 2, line 9");
        let error = Document::read_all("x.yaml", "a: 1\n---\nb: 1\nc: d: e\n").unwrap_err();
        assert!(error.to_string().starts_with("x.yaml, document 2, line 4: "), "{error}");
    }

    #[test]
    fn a_template_that_is_not_rendered_is_named() {
        for (text, line) in [
            ("kind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\n", 3),
            ("metadata:\n  labels:\n    {{- include \"labels\" . | nindent 4 }}\n", 3),
            ("{{- if .Values.enabled }}\na: 1\n{{- end }}\n", 1),
            ("a:\n  {{ toYaml .Values }}\nb: 2\n", 2),
        ] {
            let error = Document::read_all("x.yaml", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x.yaml, document 1, line {line}: ")), "{error}");
            assert!(error.ends_with("Render it first, for example with helm template"), "{error}");
        }
        let error = Document::read_all("x.yaml", "a: \"{{ .x }}\"\n\nc: d: e\n").unwrap_err().to_string();
        assert!(!error.contains("template"), "{error}");
    }

    #[test]
    fn json_objects_may_follow_each_other() {
        let documents = read("{\"b\": 1,\n \"a\": \"\\ud83d\\ude00\"}\n{\"c\": {\n\"d\": 2}}");
        let values: Vec<_> = documents.iter().filter_map(Document::value).collect();
        assert_eq!(values, [&json!({"a": "😀", "b": 1}), &json!({"c": {"d": 2}})]);
        assert_eq!(documents[1].place(["c", "d"]).to_string(), "-, document 2, line 4");
        assert!(documents[0].is_json());
        // A flow mapping of YAML is no JSON.
        assert!(!read("{a: yes}\n")[0].is_json());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_document() {
        let documents = read("\u{feff}a: 1\n---\n\u{feff}# c\nb: 1\n---\n\u{feff}---\nc:\n  d: 1\n");
        let found: Vec<_> = documents.iter().filter(|document| document.value().is_some()).collect();
        let values: Vec<_> = found.iter().filter_map(|document| document.value()).collect();
        assert_eq!(values, [&json!({"a": 1}), &json!({"b": 1}), &json!({"c": {"d": 1}})]);
        assert_eq!(found[1].place(["b"]).to_string(), "-, document 2, line 4");
        assert_eq!(found[2].place(["c", "d"]).to_string(), "-, document 3, line 8");
        assert_eq!(read("# \u{feff}\na: 1\n")[0].value(), Some(&json!({"a": 1})));
        let error = Document::read_all("x.yaml", "a: 1\n\u{feff}b: 2\n").unwrap_err();
        assert!(error.to_string().starts_with("x.yaml, document 1, line 2: "), "{error}");
    }

    #[test]
    fn json_that_changes_stays_json() {
        let mut documents = read("{\"b\": 1, \"a\": {}}\n{\n  \"c\": 1\n}\n");
        documents[0].set(json!({"b": 1, "a": {"yes": "n"}})).unwrap();
        documents[1].set(json!({"c": 1, "d": {"e": [1]}})).unwrap();
        let texts: String = documents.iter().flat_map(Document::text).collect();
        assert_eq!(
            texts,
            "{\"b\": 1, \"a\": {\"yes\": \"n\"}}\n{\n  \"c\": 1,\n  \"d\": {\n    \"e\": [\n      1\n    ]\n  }\n}\n"
        );
    }
}

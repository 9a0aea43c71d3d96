//! Splits files into documents, each with its text and its value.

use std::fmt;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    edit::{self, Rewritten, Syntax, Unwritable},
    json::{self, OutOfRange, Unreadable, is_json},
    malformed::Malformed,
    node::Node,
    ordered::Ordered,
};

/// Adds a hint to a message about a line with a template: unrendered Helm templates aren't YAML.
fn with_template_hint(text: &str, line: usize, message: String) -> String {
    // The parser may stop at the next line.
    let mut nearby = text.lines().skip(line.saturating_sub(1)).take(2);
    if nearby.any(|line| line.contains("{{")) {
        return format!("{message}. Is this a template? Render it first, for example with helm template");
    }
    message
}

/// A location in a file, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    file: String,
    document: usize,
    line: usize,
    /// The column, from 1, of an error of the parser.
    column: Option<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}, line {}", self.file, self.document, self.line)?;
        self.column.map_or(Ok(()), |column| write!(f, ", column {column}"))
    }
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// The text before it that is not part of YAML or JSON: a byte order mark and all that precedes it, or the space
    /// before JSON.
    head: String,
    /// Its text, including comments and the marker `---` before it.
    text: String,
    /// The first line of `text`.
    start: Location,
    syntax: Syntax,
    /// The parsed content; `None` if it has only comments.
    parsed: Option<ParsedDocument>,
}

#[derive(Debug)]
struct ParsedDocument {
    node: Node,
    value: Value,
}

/// A document that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {message}")]
pub struct DocumentError {
    location: Location,
    message: String,
}

impl DocumentError {
    fn new(location: Location, error: &OutOfRange) -> Self {
        Self { location, message: error.to_string() }
    }
}

impl Document {
    /// Reads a file: YAML, or a sequence of JSON objects.
    pub(super) fn read_all(file: &str, text: &str) -> Result<Vec<Self>, DocumentError> {
        let json = text.trim_start_matches(BYTE_ORDER_MARK).trim_start().starts_with('{');
        if json && let Some(documents) = read_json(file, text) {
            return documents;
        }
        let mut documents = Vec::new();
        let (mut number, mut line) = (0, 1);
        for text in split(text) {
            let (head, text) = text.split_at(after_mark(text));
            line += head.matches('\n').count();
            let location = |number, at: usize| Location {
                file: file.into(),
                document: number,
                line: line + at,
                column: None,
            };
            let syntax = if is_json(text) { Syntax::Json } else { Syntax::Yaml };
            let as_json = (syntax == Syntax::Json).then(|| json::read(text));
            let node = match as_json {
                Some(Ok(node)) => Some(node),
                Some(Err(Unreadable::OutOfRange(error))) => {
                    return Err(DocumentError::new(location(number + 1, error.line), &error));
                }
                _ => Node::read(text).map_err(|Malformed { line, column, message }| DocumentError {
                    location: Location {
                        column: column.map(|column| column + 1),
                        ..location(number + 1, line)
                    },
                    message: with_template_hint(text, line, message),
                })?,
            };
            // A marker without content is not a document.
            let node = node.filter(|node| !node.span.is_empty());
            number += usize::from(node.is_some());
            let start = location(number.max(1), 0);
            let parsed = node.map(|node| ParsedDocument { value: node.value(), node });
            documents.push(Self { head: head.to_owned(), text: text.to_owned(), start, syntax, parsed });
            line += text.matches('\n').count();
        }
        Ok(documents)
    }

    /// The value; `None` if the document is empty.
    pub(super) fn value(&self) -> Option<&Value> {
        self.parsed.as_ref().map(|parsed| &parsed.value)
    }

    /// The location of the deepest existing part of `path`.
    pub(super) fn location<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Location {
        let below = self.parsed.as_ref().map_or(0, |parsed| parsed.node.line_of(path));
        Location { line: self.start.line + below, ..self.start.clone() }
    }

    /// The file, and the line of the deepest existing part of `path`.
    pub(super) fn file_and_line<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> (&str, usize) {
        (&self.start.file, self.location(path).line)
    }

    /// Sets the value, and changes as little of the text as possible. Returns whether the whole document was rewritten,
    /// so that its layout and comments are lost.
    pub(super) fn set(&mut self, new: Value) -> Result<bool, DocumentError> {
        let Some(parsed) = &mut self.parsed else { return Ok(false) };
        let rewritten = edit::rewrite(&self.text, &parsed.node, &new, self.syntax);
        let unwritable =
            |error: Unwritable| DocumentError { location: self.start.clone(), message: error.to_string() };
        let Rewritten { text, in_place } = rewritten.map_err(unwritable)?;
        parsed.value = new;
        self.text = text;
        Ok(!in_place)
    }

    /// The text before the document, and its text, as they were read except for changes.
    pub(super) fn text(&self) -> [&str; 2] {
        [&self.head, &self.text]
    }

    /// Whether it is JSON, which needs no marker before the next document.
    pub(super) fn is_json(&self) -> bool {
        self.syntax == Syntax::Json
    }

    /// The value in the order of the document; `None` if it is empty.
    pub(super) fn ordered(&self) -> Option<Ordered<'_>> {
        self.parsed.as_ref().map(|parsed| Ordered { value: &parsed.value, like: Some(&parsed.node) })
    }
}

/// The byte order mark, which some editors write at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a sequence of JSON objects; `None` if the text is something else.
fn read_json(file: &str, text: &str) -> Option<Result<Vec<Document>, DocumentError>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut at = text.len() - text.trim_start_matches(BYTE_ORDER_MARK).len();
    let (mark, values) = text.split_at(at);
    let mut head = mark.to_owned();
    // Counts each line once, because a file may have many objects.
    let (mut line, mut counted) = (1, 0);
    let mut values = serde_json::Deserializer::from_str(values).into_iter::<IgnoredAny>();
    while let Some(value) = values.next() {
        value.ok()?;
        let end = mark.len() + values.byte_offset();
        let text_of = text[at..end].trim_start();
        let start = end - text_of.len();
        head.push_str(&text[at..start]);
        line += text[counted..start].matches('\n').count();
        counted = start;
        let start = Location { file: file.into(), document: documents.len() + 1, line, column: None };
        let node = match json::read(text_of) {
            Ok(node) => node,
            Err(Unreadable::NotJson) => return None,
            Err(Unreadable::OutOfRange(error)) => {
                let location = Location { line: start.line + error.line, ..start };
                return Some(Err(DocumentError::new(location, &error)));
            }
        };
        documents.push(Document {
            head: std::mem::take(&mut head),
            text: text_of.to_owned(),
            start,
            syntax: Syntax::Json,
            parsed: Some(ParsedDocument { value: node.value(), node }),
        });
        at = end;
    }
    documents.last_mut()?.text.push_str(&text[at..]);
    Some(Ok(documents))
}

/// The position after the byte order mark of a document, which may follow the marker `---` in concatenated files:
/// kubectl reads each document separately.
fn after_mark(text: &str) -> usize {
    let blank = |text: &str| text.trim().is_empty() || text.trim_start().starts_with('#');
    let before = |mark: &usize| {
        let before = &text[..*mark];
        let mut lines = before.lines().map(|line| if is_marker(line) { &line[3..] } else { line });
        (before.is_empty() || before.ends_with('\n')) && lines.all(blank)
    };
    text.find(BYTE_ORDER_MARK).filter(before).map_or(0, |mark| mark + BYTE_ORDER_MARK.len_utf8())
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Splits a text before each line with the marker `---`. No text is lost.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        // In concatenated files, a byte order mark and a marker may follow a marker.
        let marked = line.starts_with(BYTE_ORDER_MARK) && at > start && after_mark(&text[start..=at + 2]) > 0;
        let marker = is_marker(line) || marked && is_marker(&line[BYTE_ORDER_MARK.len_utf8()..]);
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
    fn locations_have_the_number_of_the_document_and_the_line_of_the_file() {
        let documents = read("---\n# Source: x\n---\na: 1\nb:\n  c: 2\n---\n---\nd: 1\n");
        let found: Vec<_> = documents.iter().filter(|document| document.value().is_some()).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].location(["b", "c"]).to_string(), "-, document 1, line 6");
        assert_eq!(found[0].location(["b", "x"]).to_string(), "-, document 1, line 5");
        assert_eq!(found[1].location([]).to_string(), "-, document 2, line 9");
        let error = Document::read_all("x.yaml", "a: 1\n---\nb: 1\nc: d: e\n").unwrap_err();
        assert!(error.to_string().starts_with("x.yaml, document 2, line 4, column 5: "), "{error}");
    }

    #[test]
    fn an_unrendered_template_gets_a_hint() {
        for (text, line) in [
            ("kind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\n", 3),
            ("metadata:\n  labels:\n    {{- include \"labels\" . | nindent 4 }}\n", 3),
            ("{{- if .Values.enabled }}\na: 1\n{{- end }}\n", 1),
            ("a:\n  {{ toYaml .Values }}\nb: 2\n", 2),
        ] {
            let error = Document::read_all("x.yaml", text).unwrap_err().to_string();
            let rest = error.strip_prefix(&format!("x.yaml, document 1, line {line}"));
            assert!(rest.is_some_and(|rest| rest.starts_with([':', ','])), "{error}");
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
        assert_eq!(documents[1].location(["c", "d"]).to_string(), "-, document 2, line 4");
        assert!(documents[0].is_json());
        // A flow mapping of YAML isn't JSON.
        assert!(!read("{a: yes}\n")[0].is_json());
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_a_document() {
        let documents = read("\u{feff}a: 1\n---\n\u{feff}# c\nb: 1\n---\n\u{feff}---\nc:\n  d: 1\n");
        let found: Vec<_> = documents.iter().filter(|document| document.value().is_some()).collect();
        let values: Vec<_> = found.iter().filter_map(|document| document.value()).collect();
        assert_eq!(values, [&json!({"a": 1}), &json!({"b": 1}), &json!({"c": {"d": 1}})]);
        assert_eq!(found[1].location(["b"]).to_string(), "-, document 2, line 4");
        assert_eq!(found[2].location(["c", "d"]).to_string(), "-, document 3, line 8");
        assert_eq!(read("# \u{feff}\na: 1\n")[0].value(), Some(&json!({"a": 1})));
        let error = Document::read_all("x.yaml", "a: 1\n\u{feff}b: 2\n").unwrap_err();
        assert!(error.to_string().starts_with("x.yaml, document 1, line 2, column 1: "), "{error}");
    }

    #[test]
    fn json_keeps_its_numbers_and_layout() {
        for text in [
            "{\"a\": 1.0, \"b\": 1e3, \"c\": -0, \"d\": 0.10000000000000000000000001, \"x\": {}}",
            "{\n   \"z\" : \"\u{7f}\" ,\n   \"x\" : {}\n}\n",
            "{\"x\": {}, \"b\": [1.50, 2.0e1],\"a\":18446744073709551616}\n{\"x\": {}}\n",
            "---\n{\"x\": {}, \"a\": 1.0}\n---\nb: 1.0\nx: {}\n",
        ] {
            let mut documents = read(text);
            for document in &mut documents {
                let mut new = document.value().unwrap().clone();
                new["x"]["y"] = json!(1);
                assert!(!document.set(new).unwrap(), "{text}");
            }
            let changed: String = documents.iter().flat_map(Document::text).collect();
            let restored = changed.replace("{\"y\": 1}", "{}").replace("{\n      \"y\" : 1\n   }", "{}");
            let restored = restored.replace("{\n      \"y\": 1\n   }", "{}").replace("{y: 1}", "{}");
            assert_eq!(restored, text);
            assert_ne!(changed, text);
        }
    }

    #[test]
    fn a_number_that_no_api_server_reads_is_an_error_with_its_path() {
        for text in ["{\"a\": 1}\n{\"b\": [\n1E400]}", "{\"a\": 1}\n---\n{\"b\": [1E400]}\n"] {
            let error = Document::read_all("x.json", text).unwrap_err().to_string();
            let expected = "x.json, document 2, line 3: b.0: Invalid value: 1E400: too large for a number";
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn changed_json_stays_json() {
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

//! Files cut into documents, each with its text and what it means.

use std::fmt;

use serde_json::Value;

use super::{
    edit::{self, Unwritable},
    node::{Malformed, Node},
    written::Written,
};

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
    /// Its text, with what stands before it since the last document: comments and the marker `---`.
    text: String,
    /// Its first line, at no node.
    start: Place,
    /// What stands in it; `None` where that is nothing but comments.
    read: Option<Read>,
}

#[derive(Debug)]
struct Read {
    /// `None` for JSON that is no YAML.
    node: Option<Node>,
    value: Value,
    json: bool,
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
        let json = text.trim_start().starts_with('{');
        if json && let Some(documents) = read_json(file, text) {
            return Ok(documents);
        }
        let mut documents = Vec::new();
        let (mut number, mut line) = (0, 1);
        for text in split(text) {
            let place = |number, at: usize| Place { file: file.into(), document: number, line: line + at };
            let node = Node::read(text).map_err(|Malformed { line, message }| Unreadable {
                place: place(number + 1, line),
                message,
            })?;
            // An explicit marker with nothing behind it is no document either.
            let node = node.filter(|node| !node.span.is_empty());
            number += usize::from(node.is_some());
            let start = place(number.max(1), 0);
            let read = node.map(|node| Read { value: node.value(), node: Some(node), json: false });
            documents.push(Self { text: text.to_owned(), start, read });
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

    /// Gives the document another meaning; its text follows, as little of it as can be.
    pub(in crate::cli) fn set(&mut self, new: Value) -> Result<(), Unreadable> {
        let unwritable =
            |error: Unwritable| Unreadable { place: self.start.clone(), message: error.to_string() };
        if let Some(read) = &mut self.read {
            if let (Some(node), false) = (&read.node, read.json) {
                self.text = edit::rewrite(&self.text, node, &new).map_err(unwritable)?;
            }
            read.value = new;
        }
        Ok(())
    }

    /// The document as YAML.
    pub(super) fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        match &self.read {
            Some(read) if read.json => {
                Ok(self.written().map(|written| written.yaml()).transpose()?.unwrap_or_default() + "\n")
            }
            _ => Ok(self.text.clone()),
        }
    }

    /// The document's value in its own order; `None` where it is empty.
    pub(super) fn written(&self) -> Option<Written<'_>> {
        self.read.as_ref().map(|read| Written { value: &read.value, like: read.node.as_ref() })
    }
}

/// JSON objects one after the other; `None` where it is something else.
fn read_json(file: &str, text: &str) -> Option<Vec<Document>> {
    let mut documents = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut at = 0;
    while let Some(value) = values.next() {
        let value = value.ok()?;
        let end = values.byte_offset();
        let text_of = text[at..end].trim_start();
        let start = end - text_of.len();
        let line = text[..start].matches('\n').count() + 1;
        let node = Node::read(text_of).ok().flatten().filter(|node| node.value() == value);
        documents.push(Document {
            text: text_of.to_owned(),
            start: Place { file: file.into(), document: documents.len() + 1, line },
            read: Some(Read { node, value, json: true }),
        });
        at = end;
    }
    Some(documents)
}

/// The text of each document: a line that begins with `---` begins one. No text is lost between them.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
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
        ] {
            let documents = read(text);
            let texts: String = documents.iter().map(|document| document.yaml().unwrap()).collect();
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
    fn json_objects_may_follow_each_other() {
        let documents = read("{\"b\": 1,\n \"a\": \"\\ud83d\\ude00\"}\n{\"c\": {\n\"d\": 2}}");
        let values: Vec<_> = documents.iter().filter_map(Document::value).collect();
        assert_eq!(values, [&json!({"a": "😀", "b": 1}), &json!({"c": {"d": 2}})]);
        assert_eq!(documents[0].yaml().unwrap(), "b: 1\na: 😀\n");
        assert_eq!(documents[1].place(["c", "d"]).to_string(), "-, document 2, line 4");
        // A flow mapping of YAML is no JSON.
        assert_eq!(read("{a: yes}\n")[0].yaml().unwrap(), "{a: yes}\n");
    }
}

//! A YAML document as a tree that knows where in the text each part stands.

use std::{collections::HashMap, ops::Range};

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{
    Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag,
};

use super::scalar::{self, NoJson};

/// Text that is no YAML, or YAML of which no Kubernetes object can be made.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{message}")]
pub(super) struct Malformed {
    /// The line, from 0.
    pub(super) line: usize,
    pub(super) message: String,
}

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    /// Its bytes in the text. Those of a block collection reach to the end of its last part; an alias has
    /// those of its name.
    pub(super) span: Range<usize>,
    /// The line it starts on, from 0.
    pub(super) line: usize,
    /// The column it starts at, from 0.
    pub(super) column: usize,
    /// Whether it is an alias, so that its parts stand elsewhere.
    pub(super) alias: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    Sequence(Style, Vec<Node>),
    Mapping(Style, Vec<Entry>),
}

/// How a collection is written: by indentation, or in brackets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    Block,
    Flow,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) at: usize,
    /// Behind the colon; `None` where it isn't found where it should be.
    pub(super) colon: Option<usize>,
    /// The line of the key, from 0.
    pub(super) line: usize,
    pub(super) value: Node,
    /// Whether the key is `<<`, which puts the entries of its value in its place.
    pub(super) merge: bool,
}

/// How many nodes aliases may stand for in one document. Each use of an anchor multiplies what it names.
const ALIAS_LIMIT: usize = 100_000;

impl Node {
    /// Reads one document; `None` where there is none in the text.
    pub(super) fn read(text: &str) -> Result<Option<Self>, Malformed> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        let events = Parser::new_from_str_with_options(text, options);
        Reader { text, events, anchors: HashMap::new(), aliased: 0, end: 0 }.document()
    }

    /// The value, with aliases and merge keys in their place. Of two entries with one key the last counts,
    /// as for kubectl.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Sequence(_, items) => items.iter().map(Self::value).collect(),
            Content::Mapping(_, entries) => {
                let mut map = Map::new();
                for entry in entries {
                    if entry.merge {
                        entry.value.merge_into(&mut map);
                    } else {
                        map.insert(entry.key.clone(), entry.value.value());
                    }
                }
                Value::Object(map)
            }
        }
    }

    fn merge_into(&self, map: &mut Map<String, Value>) {
        match &self.content {
            // Of several mappings the first wins.
            Content::Sequence(_, items) => items.iter().rev().for_each(|item| item.merge_into(map)),
            _ => {
                if let Value::Object(merged) = self.value() {
                    map.extend(merged);
                }
            }
        }
    }

    /// The entry that gives a key of this mapping its value.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(_, entries) => {
                entries.iter().rev().find(|entry| !entry.merge && entry.key == key)
            }
            _ => None,
        }
    }

    /// What stands at this position of a sequence.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        match &self.content {
            Content::Sequence(_, items) => items.get(index),
            _ => None,
        }
    }

    /// The line, from 0, of the deepest part of `path` that is written in the text.
    pub(super) fn line_of<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> usize {
        let (mut node, mut line) = (self, self.line);
        for step in path {
            if let Some(entry) = node.entry(step) {
                (node, line) = (&entry.value, entry.line);
            } else if let Some(item) = step.parse().ok().and_then(|index| node.item(index)) {
                (node, line) = (item, item.line);
            } else {
                break;
            }
        }
        line
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    /// How many nodes aliases stand for so far.
    aliased: usize,
    /// The end of what was read last.
    end: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, Malformed> {
        let mut found = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(found),
                Event::DocumentStart(..) if found.is_some() => {
                    let message =
                        "a second document behind `...`, which kubectl would not see: begin it with `---`";
                    return Err(Malformed { line: line(&span), message: message.into() });
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => found = Some(self.node(event, span)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(unreadable(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Malformed> {
        let range = span.byte_range().unwrap_or(self.end..self.end);
        let (line, column) = (line(&span), span.start.col());
        let mut alias = false;
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(&text, style, tag.as_deref())
                    .map_err(|message| Malformed { line, message })?;
                self.end = if range.is_empty() { self.behind_indicator() } else { range.end };
                (Content::Scalar(value), anchor)
            }
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                let target = target.ok_or_else(|| Malformed {
                    line,
                    message: "an alias within what it names has no end".into(),
                })?;
                self.aliased += size(&target);
                if self.aliased > ALIAS_LIMIT {
                    let message = format!("the aliases stand for more than {ALIAS_LIMIT} values");
                    return Err(Malformed { line, message });
                }
                alias = true;
                self.end = range.end;
                (target.content, 0)
            }
            Event::SequenceStart(style, anchor, _) => {
                self.end = range.end;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        self.close(style, &span);
                        break (Content::Sequence(style.into(), items), anchor);
                    }
                    items.push(self.node(event, span)?);
                }
            }
            Event::MappingStart(style, anchor, _) => {
                self.end = range.end;
                let mut entries = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::MappingEnd {
                        self.close(style, &span);
                        break (Content::Mapping(style.into(), entries), anchor);
                    }
                    entries.push(self.entry(event, span)?);
                }
            }
            _ => return Err(Malformed { line, message: "not a value".into() }),
        };
        let node = Node { content, span: range.start..self.end, line, column, alias };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entry(&mut self, event: Event<'a>, span: Span) -> Result<Entry, Malformed> {
        let plain_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
        let key = self.node(event, span)?;
        let name = key_text(&key)?;
        let colon = self.behind(':');
        let (event, span) = self.next()?;
        let value = self.node(event, span)?;
        let merges = |node: &Node| matches!(node.content, Content::Mapping(..));
        let mergeable = match &value.content {
            Content::Sequence(_, items) => items.iter().all(merges),
            _ => merges(&value),
        };
        if plain_merge && !mergeable {
            let message = "the merge key << needs a mapping or a list of mappings".into();
            return Err(Malformed { line: key.line, message });
        }
        Ok(Entry { key: name, at: key.span.start, colon, line: key.line, value, merge: plain_merge })
    }

    fn close(&mut self, style: StructureStyle, span: &Span) {
        if style == StructureStyle::Flow
            && let Some(range) = span.byte_range()
        {
            self.end = range.end;
        }
    }

    /// An empty value has no place of its own: it ends behind the indicator that announces it.
    fn behind_indicator(&self) -> usize {
        self.behind(':').or_else(|| self.behind('-')).unwrap_or(self.end)
    }

    /// Behind this indicator, if only space and comments are between it and what was read last.
    fn behind(&self, indicator: char) -> Option<usize> {
        let mut at = self.end;
        loop {
            let rest = &self.text[at..];
            let trimmed = rest.trim_start();
            at += rest.len() - trimmed.len();
            if trimmed.starts_with('#') {
                at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else {
                return trimmed.starts_with(indicator).then(|| at + indicator.len_utf8());
            }
        }
    }
}

impl From<StructureStyle> for Style {
    fn from(style: StructureStyle) -> Self {
        match style {
            StructureStyle::Block => Self::Block,
            StructureStyle::Flow => Self::Flow,
        }
    }
}

fn line(span: &Span) -> usize {
    span.start.line().saturating_sub(1)
}

fn unreadable(error: &ScanError) -> Malformed {
    Malformed { line: error.marker().line().saturating_sub(1), message: error.kind().to_string() }
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Scalar(_) => 0,
        Content::Sequence(_, items) => items.iter().map(size).sum(),
        Content::Mapping(_, entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    // The parser gives an empty value as `~`, which means the same.
    let resolved = || {
        scalar::resolve(text).map_err(|NoJson| {
            format!("{text} has no form in JSON, so the API server can't be told it: quote it")
        })
    };
    match tag {
        None if style == ScalarStyle::Plain => resolved(),
        None => Ok(Value::String(text.to_owned())),
        Some(tag) => match tag.core_suffix() {
            Some("str") => Ok(Value::String(text.to_owned())),
            Some("int" | "float" | "bool" | "null") => resolved(),
            _ if tag.original() == "!" => Ok(Value::String(text.to_owned())),
            _ => Err(format!("the tag {} means nothing to Kubernetes: take it away", tag.original())),
        },
    }
}

/// The key as it becomes one of JSON.
fn key_text(key: &Node) -> Result<String, Malformed> {
    match &key.content {
        Content::Scalar(Value::String(text)) => Ok(text.clone()),
        Content::Scalar(value) if !value.is_null() => Ok(value.to_string()),
        _ => Err(Malformed { line: key.line, message: "a key must be a string: quote it".into() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        Node::read(text).unwrap().unwrap().value()
    }

    #[test]
    fn documents_mean_what_kubectl_reads() {
        for (text, expected) in [
            ("a: 1\na: 2\n", json!({"a": 2})),
            ("yes: 1\n1: 2\n1.50: 3\n", json!({"true": 1, "1": 2, "1.5": 3})),
            ("a: &x {k: 1}\nb: {k: 2, <<: *x}\n", json!({"a": {"k": 1}, "b": {"k": 1}})),
            ("a: &x {k: 1}\nb: {<<: *x, k: 2}\n", json!({"a": {"k": 1}, "b": {"k": 2}})),
            (
                "- &x {k: 1}\n- &y {k: 2, l: 2}\n- <<: [*x, *y]\n",
                json!([{"k": 1}, {"k": 2, "l": 2}, {"k": 1, "l": 2}]),
            ),
            ("a: !!str yes\nb: ! yes\nc: !!int '3'\n", json!({"a": "yes", "b": "yes", "c": 3})),
            ("a: |+\n  x\n\nb: >-\n  y\n  z\n", json!({"a": "x\n\n", "b": "y z"})),
            ("a: \"yes\"\nb: 'on'\nc:\n", json!({"a": "yes", "b": "on", "c": null})),
            ("a: 1\r\nb:\r\n- x\r\n", json!({"a": 1, "b": ["x"]})),
            ("{\n\t\"a\": \"\\ud83d\\ude00\"\n}", json!({"a": "😀"})),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        for empty in ["", "# a comment\n", "\n\n"] {
            assert!(Node::read(empty).unwrap().is_none());
        }
    }

    #[test]
    fn what_no_object_can_be_made_of_is_refused_with_its_line() {
        let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let one = format!("*a{}", n - 1);
            text + &format!("a{n}: &a{n} [{}]\n", [one.as_str(); 9].join(","))
        });
        for (text, line, says) in [
            ("a:\n\tb: 1\n", 1, "tab"),
            ("a: 1\n...\nb: 2\n", 2, "behind `...`"),
            ("a: 1\n~: 2\n", 1, "key must be a string"),
            ("a: .inf\n", 0, "no form in JSON"),
            ("a: b\nc: !secret d\n", 1, "tag !secret"),
            ("a: *b\n", 0, "anchor"),
            ("a: 1\n<<: 2\n", 1, "merge key"),
            ("a: &x [*x]\n", 0, "no end"),
            ("a: b: c\n", 0, "mapping values are not allowed"),
            (&bomb, 5, "more than 100000"),
        ] {
            let error = Node::read(text).map(|node| node.map(|node| node.value())).unwrap_err();
            assert!(error.message.contains(says), "{text}: {error:?}");
            assert_eq!(error.line, line, "{text}: {error:?}");
        }
    }
}

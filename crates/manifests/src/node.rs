//! Parses a YAML document into a tree with the position of each node in the text.

use std::{collections::HashMap, ops::Range};

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle};

use super::{malformed::Malformed, tag, whitespace};

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    /// Its bytes in the text. A block collection ends with its last part; an alias has the bytes of its name.
    pub(super) span: Range<usize>,
    /// The line where it starts, from 0.
    pub(super) line: usize,
    /// The column where it starts, from 0.
    pub(super) column: usize,
    /// Whether it is an alias, whose parts are elsewhere in the text.
    pub(super) alias: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    Sequence(Style, Vec<Node>),
    Mapping(Style, Vec<Entry>),
}

/// The style of a collection: indentation or brackets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    Block,
    Flow,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The start of the key.
    pub(super) at: usize,
    /// The position after the colon; `None` if it isn't found after the key.
    pub(super) colon: Option<usize>,
    /// The line of the key, from 0.
    pub(super) line: usize,
    pub(super) value: Node,
    /// Whether the key is `<<`, which stands for the entries of its value.
    pub(super) merge: bool,
}

/// The bytes of a text that count as another node.
const TEXT: usize = 64;
/// The maximum number of nodes in aliases of one document: nested anchors multiply.
const ALIAS_LIMIT: usize = 100_000;
/// The maximum number of nodes in anchors of one document. A node counts, and is copied, for each anchor around it.
const ANCHOR_LIMIT: usize = 1_000_000;

impl Node {
    /// Parses one document; `None` if the text has none.
    pub(super) fn read(text: &str) -> Result<Option<Self>, Malformed> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        let events = Parser::new_from_str_with_options(text, options);
        Reader { text, events, anchors: HashMap::new(), anchored: 0, aliased: 0, end: 0 }.document()
    }

    /// The value, with aliases and merge keys resolved. Of duplicate keys the last is effective, as for kubectl.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Sequence(_, items) => items.iter().map(Self::value).collect(),
            Content::Mapping(_, entries) => {
                let mut map = Map::new();
                for entry in entries {
                    if entry.merge {
                        map.extend(entry.merged());
                    } else {
                        map.insert(entry.key.clone(), entry.value.value());
                    }
                }
                Value::Object(map)
            }
        }
    }

    /// The effective entry of a key of this mapping.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(_, entries) => {
                entries.iter().rev().find(|entry| !entry.merge && entry.key == key)
            }
            _ => None,
        }
    }

    /// The item of a sequence.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        match &self.content {
            Content::Sequence(_, items) => items.get(index),
            _ => None,
        }
    }

    /// Whether a part of it is an alias.
    pub(super) fn has_alias(&self) -> bool {
        self.alias
            || match &self.content {
                Content::Scalar(_) => false,
                Content::Sequence(_, items) => items.iter().any(Self::has_alias),
                Content::Mapping(_, entries) => entries.iter().any(|entry| entry.value.has_alias()),
            }
    }

    /// The line, from 0, of the deepest existing part of `path`.
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

impl Entry {
    /// The end of the entry.
    pub(super) fn end(&self) -> usize {
        self.value.span.end.max(self.colon.unwrap_or(0))
    }

    /// The entries for which a merge key stands. Of several mappings the first has precedence.
    pub(super) fn merged(&self) -> Map<String, Value> {
        let mappings = match &self.value.content {
            Content::Sequence(_, items) => items.as_slice(),
            _ => std::slice::from_ref(&self.value),
        };
        let values = mappings.iter().rev().map(Node::value);
        values
            .filter_map(|value| if let Value::Object(map) = value { Some(map) } else { None })
            .flatten()
            .collect()
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    /// The number of nodes in anchors so far.
    anchored: usize,
    /// The number of nodes in aliases so far.
    aliased: usize,
    /// The end of the last token.
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
                        "a second document after `...`, which kubectl would ignore: begin it with `---`";
                    return Err(Malformed::new(line(&span), message));
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => found = Some(self.node(event, span)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err((&error).into()),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Malformed> {
        let mut range = span.byte_range().unwrap_or(self.end..self.end);
        let (line, column) = (line(&span), span.start.col());
        let alias = matches!(event, Event::Alias(_));
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = tag::scalar(&text, style, tag.as_deref())
                    .map_err(|message| Malformed::new(line, message))?;
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    range = self.block_scalar(range);
                }
                let is_marked = anchor != 0 || tag.is_some();
                self.end_scalar(&range, style, is_marked);
                (Content::Scalar(value), anchor)
            }
            Event::Alias(id) => {
                let content = self.alias(id, line)?;
                self.end = range.end;
                (content, 0)
            }
            Event::SequenceStart(style, anchor, _) => {
                if style == StructureStyle::Block {
                    range.start = self.first_dash(range.start);
                }
                self.end = range.end;
                (Content::Sequence(style.into(), self.items(style)?), anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                self.end = range.end;
                (Content::Mapping(style.into(), self.entries(style)?), anchor)
            }
            _ => return Err(Malformed::new(line, "not a value")),
        };
        // An empty value starts where it ends.
        let empty = range.is_empty() && matches!(content, Content::Scalar(_)) && !alias;
        let start = if empty { self.end } else { range.start };
        let node = Node { content, span: start..self.end, line, column, alias };
        if anchor != 0 {
            self.anchored += size(&node);
            if self.anchored > ANCHOR_LIMIT {
                let message = format!("the anchors contain more than {ANCHOR_LIMIT} values");
                return Err(Malformed::new(line, message));
            }
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Moves the end to that of a scalar; `is_marked` means that it has an anchor or a tag.
    fn end_scalar(&mut self, range: &Range<usize>, style: ScalarStyle, is_marked: bool) {
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) || !range.is_empty() {
            self.end = range.end;
        } else if is_marked {
            self.end = self.end.max(range.end);
        } else {
            self.end = self.after_indicator();
        }
    }

    fn alias(&mut self, id: usize, line: usize) -> Result<Content, Malformed> {
        let Some(target) = self.anchors.get(&id).cloned() else {
            return Err(Malformed::new(line, "an alias refers to its own anchor"));
        };
        self.aliased += size(&target);
        if self.aliased > ALIAS_LIMIT {
            let message = format!("the aliases expand to more than {ALIAS_LIMIT} values");
            return Err(Malformed::new(line, message));
        }
        Ok(target.content)
    }

    fn items(&mut self, style: StructureStyle) -> Result<Vec<Node>, Malformed> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                self.close(style, &span);
                return Ok(items);
            }
            items.push(self.node(event, span)?);
        }
    }

    fn entries(&mut self, style: StructureStyle) -> Result<Vec<Entry>, Malformed> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                self.close(style, &span);
                return Ok(entries);
            }
            entries.push(self.entry(event, span)?);
        }
    }

    fn entry(&mut self, event: Event<'a>, span: Span) -> Result<Entry, Malformed> {
        let merge = matches!(&event, Event::Scalar(text, style, _, tag) if tag::is_merge_key(text, *style, tag.as_deref()));
        let key = self.node(event, span)?;
        let name = key_text(&key)?;
        let colon = self.after(':');
        let (event, span) = self.next()?;
        let value = self.node(event, span)?;
        let merges = |node: &Node| matches!(node.content, Content::Mapping(..));
        let mergeable = match &value.content {
            Content::Sequence(_, items) => items.iter().all(merges),
            _ => merges(&value),
        };
        if merge && !mergeable {
            let message = "the merge key << needs a mapping or a list of mappings";
            return Err(Malformed::new(key.line, message));
        }
        Ok(Entry { key: name, at: key.span.start, colon, line: key.line, value, merge })
    }

    fn close(&mut self, style: StructureStyle, span: &Span) {
        // A pair in a list, as in `[a: 1]`, ends with its value: it has no bracket of its own.
        if style == StructureStyle::Flow
            && let Some(range) = span.byte_range().filter(|range| !range.is_empty())
        {
            self.end = range.end;
        }
    }

    /// The end of an empty value: after its indicator.
    fn after_indicator(&self) -> usize {
        self.after(':').or_else(|| self.after('-')).unwrap_or(self.end)
    }

    /// The range of a block scalar, from its `|` or `>`. It ends with its last line, without empty lines after it, unless
    /// it keeps them (`|+`).
    fn block_scalar(&self, content: Range<usize>) -> Range<usize> {
        let header = whitespace::after_properties(self.text, self.after_indicator());
        if !self.text[header..].starts_with(['|', '>']) {
            return content;
        }
        let lines = header + whitespace::first_line(&self.text[header..]).len();
        let keep = self.text[header..lines].split(['#', ' ']).next().is_some_and(|h| h.contains('+'));
        let text = &self.text[lines..content.end.max(lines)];
        header..lines + whitespace::block_scalar_length(text, keep)
    }

    /// The first dash of a block sequence. If it isn't indented, the parser returns another position.
    fn first_dash(&self, start: usize) -> usize {
        if self.text[start..].starts_with('-') {
            return start;
        }
        let at = whitespace::after_properties(self.text, self.after(':').unwrap_or(self.end));
        if self.text[at..].starts_with('-') { at } else { start }
    }

    /// The position after this indicator, if only space and comments precede it.
    fn after(&self, indicator: char) -> Option<usize> {
        let at = whitespace::skip(self.text, self.end);
        self.text[at..].starts_with(indicator).then(|| at + indicator.len_utf8())
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

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Scalar(value) => value.as_str().map_or(0, str::len) / TEXT,
        Content::Sequence(_, items) => items.iter().map(size).sum(),
        Content::Mapping(_, entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
    }
}

/// The key as a key of JSON.
fn key_text(key: &Node) -> Result<String, Malformed> {
    match &key.content {
        Content::Scalar(Value::String(text)) => Ok(text.clone()),
        Content::Scalar(value) if !value.is_null() => Ok(value.to_string()),
        _ => Err(Malformed::new(key.line, "a key must be a string: quote it")),
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;

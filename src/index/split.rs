//! Splits a list, or the events of a watch, into the JSON texts of its objects while it is read, so that only one object
//! at a time is held as text.

use crate::json_position::JsonPosition as Position;

/// The maximum size of an object's text. etcd stores up to 1.5 MiB, and in JSON that can be six times as much if every
/// character has to be escaped.
pub const OBJECT_LIMIT: usize = 16 << 20;
/// The maximum size of a list without its items.
const REST_LIMIT: usize = 64 << 10;

/// The JSON text of an object.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    length: usize,
}

impl Text {
    /// The text; `None` if it is longer than [`OBJECT_LIMIT`].
    pub(super) fn complete(&self) -> Option<&[u8]> {
        (self.bytes.len() == self.length).then_some(&self.bytes)
    }

    /// The length of the whole text in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let room = OBJECT_LIMIT - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonLayout {
    /// The objects are in the array `items` of the outermost object.
    List,
    /// The objects follow each other.
    Events,
}

/// Splits a text that arrives in chunks.
#[derive(Debug)]
pub(super) struct Splitter {
    layout: JsonLayout,
    depth: usize,
    at: Position,
    /// Whether the last token of the outermost object is the key `items`.
    at_items: bool,
    in_items: bool,
    object: Option<Text>,
    rest: Vec<u8>,
}

impl Splitter {
    pub(super) fn new(layout: JsonLayout) -> Self {
        Self {
            layout,
            depth: 0,
            at: Position::Structure,
            at_items: false,
            in_items: false,
            object: None,
            rest: vec![],
        }
    }

    /// Reads until an object is complete or the chunk ends; returns the number of bytes that were read.
    pub(super) fn read(&mut self, chunk: &[u8]) -> (usize, Option<Text>) {
        let (mut at, mut kept) = (0, 0);
        while at < chunk.len() {
            if self.at != Position::Structure {
                at = self.at.read_string(chunk, at);
                if self.at == Position::Structure && self.depth == 1 && self.object.is_none() {
                    self.keep(&chunk[kept..at]);
                    kept = at;
                    self.at_items = self.layout == JsonLayout::List && self.rest.ends_with(b"\"items\"");
                }
                continue;
            }
            let byte = chunk[at];
            if byte == b'{' && self.is_between_objects() {
                self.keep(&chunk[kept..at]);
                kept = at;
                self.object = Some(Text::default());
            }
            at += 1;
            if self.opens_items(byte) {
                self.keep(&chunk[kept..at]);
                kept = at;
                self.in_items = true;
            }
            self.step(byte);
            if self.object.is_some() && matches!(byte, b'}' | b']') && self.is_between_objects() {
                self.keep(&chunk[kept..at]);
                return (at, self.object.take());
            }
        }
        self.keep(&chunk[kept..]);
        (at, None)
    }

    /// The text without the objects: of a list, the list without its items.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Whether the text isn't complete.
    pub(super) fn is_within(&self) -> bool {
        self.depth > 0
    }

    /// The size of the incomplete object's text.
    pub(super) fn held(&self) -> usize {
        self.object.as_ref().map_or(0, |object| object.bytes.len())
    }

    fn step(&mut self, byte: u8) {
        match byte {
            b'"' => self.at = Position::String,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_items &= self.depth > 1;
            }
            b',' if self.depth == 1 => self.at_items = false,
            _ => {}
        }
    }

    fn opens_items(&self, byte: u8) -> bool {
        byte == b'[' && self.depth == 1 && self.at_items
    }

    fn is_between_objects(&self) -> bool {
        match self.layout {
            JsonLayout::List => self.in_items && self.depth == 2,
            JsonLayout::Events => self.depth == 0,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(object) = &mut self.object {
            object.extend(bytes);
        } else if !self.is_between_objects() {
            // A longer text fails to parse.
            let room = REST_LIMIT - self.rest.len();
            self.rest.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects and the rest of a text in chunks of that length.
    fn split(layout: JsonLayout, text: &str, length: usize) -> (Vec<String>, String) {
        let mut splitter = Splitter::new(layout);
        let mut objects = vec![];
        for mut chunk in text.as_bytes().chunks(length) {
            while !chunk.is_empty() {
                let (read, object) = splitter.read(chunk);
                chunk = &chunk[read..];
                objects.extend(object.map(|object| String::from_utf8(object.bytes).unwrap()));
            }
        }
        (objects, String::from_utf8(splitter.rest().to_vec()).unwrap())
    }

    #[test]
    fn a_list_is_split_into_its_items_wherever_chunks_end() {
        let text = r#"{"kind":"items","metadata":{"continue":"items","items":[{"a":1}]}, "items" : [ {"a":"}\"]{\\"} ,
            {"items":[{}],"b":[[]]},{}],"more":[{}]}"#;
        for length in [1, 2, 3, 7, 64, 1000] {
            let (objects, rest) = split(JsonLayout::List, text, length);
            assert_eq!(objects, [r#"{"a":"}\"]{\\"}"#, r#"{"items":[{}],"b":[[]]}"#, "{}"], "{length}");
            let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
            assert_eq!(rest["items"], serde_json::json!([]));
            assert_eq!(rest["metadata"]["continue"], "items");
            assert_eq!(rest["more"], serde_json::json!([{}]));
        }
        for text in [r#"{"items":null,"a":1}"#, r#"{"items":[],"a":1}"#, r#"{"a":1}"#] {
            let (objects, rest) = split(JsonLayout::List, text, 3);
            assert!(objects.is_empty() && rest == text, "{rest}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_list_is_split_as_a_json_parser_would(
            items in proptest::collection::vec(("\\PC*|[\\[{\\]},\"\\\\]*", proptest::bool::ANY), 0..8),
            length in 1..40_usize,
        ) {
            let items: Vec<_> = items.into_iter().map(|(text, nested)| {
                let array = serde_json::json!([[text], {}]);
                if nested { serde_json::json!({text: {"items": array}}) } else { serde_json::json!({"items": text}) }
            }).collect();
            let text = serde_json::json!({"apiVersion": "v1", "items": items, "metadata": {"items": "["}}).to_string();
            let (objects, rest) = split(JsonLayout::List, &text, length);
            let objects: Vec<serde_json::Value> =
                objects.iter().map(|object| serde_json::from_str(object).unwrap()).collect();
            proptest::prop_assert_eq!(objects, items);
            let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
            proptest::prop_assert_eq!(&rest["metadata"]["items"], "[");
        }
    }

    #[test]
    fn events_are_split_wherever_chunks_end() {
        let text = "{\"type\":\"ADDED\",\"object\":{\"a\":\"}\\n{\"}}\n{\"b\":[{}]}{}\n";
        for length in [1, 2, 5, 1000] {
            let (objects, _) = split(JsonLayout::Events, text, length);
            assert_eq!(objects, [r#"{"type":"ADDED","object":{"a":"}\n{"}}"#, r#"{"b":[{}]}"#, "{}"]);
        }
    }

    #[test]
    fn only_the_start_of_an_oversized_object_is_held() {
        let mut splitter = Splitter::new(JsonLayout::Events);
        let chunk = vec![b'a'; 1 << 20];
        splitter.read(b"{\"a\":\"");
        for _ in 0..40 {
            splitter.read(&chunk);
            assert!(splitter.held() <= OBJECT_LIMIT);
        }
        let (_, object) = splitter.read(b"\"}");
        let object = object.unwrap();
        assert!(object.complete().is_none() && object.length() > 40 << 20);
    }
}

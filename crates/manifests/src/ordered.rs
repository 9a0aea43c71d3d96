//! Writes values in the key order of their document.

use std::collections::HashSet;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;
use serde_saphyr::SingleQuoted;

use super::node::{Content, Node};

/// A value that is written with its keys in the order of `like`; other keys come last. The serializer quotes strings that
/// YAML 1.1 would read as another type.
pub(super) struct Ordered<'a> {
    pub(super) value: &'a Value,
    pub(super) like: Option<&'a Node>,
}

impl<'a> Ordered<'a> {
    /// The items of a `kind: List`, or the value itself.
    pub(super) fn items(self) -> Vec<Self> {
        match self.value["items"].as_array() {
            Some(items) if self.value["kind"] == "List" => {
                let like = self.like.and_then(|like| Some(&like.entry("items")?.value));
                let item = |(index, value): (usize, &'a Value)| Self {
                    value,
                    like: like.and_then(|like| like.item(index)),
                };
                items.iter().enumerate().map(item).collect()
            }
            _ => vec![self],
        }
    }

    /// The YAML, without a line break at its end.
    pub(super) fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        yaml(self)
    }

    /// The YAML of a mapping entry.
    pub(super) fn yaml_entry(&self, key: &str) -> Result<String, serde_saphyr::ser::Error> {
        struct One<'a>(&'a str, &'a Ordered<'a>);
        impl Serialize for One<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(self.0, self.1)?;
                map.end()
            }
        }
        yaml(&One(key, self))
    }
}

fn yaml(value: &impl Serialize) -> Result<String, serde_saphyr::ser::Error> {
    // No line is wrapped.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = serde_saphyr::to_string_with_options(value, options)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Object(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                let mut seen = HashSet::new();
                for key in self.like.map(keys).unwrap_or_default() {
                    if let Some(value) = map.get(key)
                        && seen.insert(key)
                    {
                        let like = self.like.and_then(|like| Some(&like.entry(key)?.value));
                        out.serialize_entry(key, &Ordered { value, like })?;
                    }
                }
                for (key, value) in map.iter().filter(|(key, _)| !seen.contains(key.as_str())) {
                    out.serialize_entry(key, &Ordered { value, like: None })?;
                }
                out.end()
            }
            Value::Array(items) => {
                let like = |index| self.like.and_then(|like| like.item(index));
                serializer.collect_seq(
                    items.iter().enumerate().map(|(index, value)| Ordered { value, like: like(index) }),
                )
            }
            // JSON in a string, such as the record, is more readable without escaped quotes.
            Value::String(text) if text.contains('"') && !text.contains(char::is_control) => {
                SingleQuoted(text).serialize(serializer)
            }
            value => value.serialize(serializer),
        }
    }
}

fn keys(node: &Node) -> Vec<&str> {
    match &node.content {
        Content::Mapping(_, entries) => entries
            .iter()
            .flat_map(|entry| if entry.merge { merged_keys(&entry.value) } else { vec![&*entry.key] })
            .collect(),
        _ => vec![],
    }
}

fn merged_keys(node: &Node) -> Vec<&str> {
    match &node.content {
        Content::Sequence(_, items) => items.iter().flat_map(keys).collect(),
        _ => keys(node),
    }
}

//! A value in the order in which its document has it.

use std::collections::HashSet;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;
use serde_saphyr::SingleQuoted;

use super::node::{Content, Node};

/// A value that is written with its keys in the order of `like`; what isn't there comes last. Strings that
/// a reader of YAML 1.1 would take for something else are quoted by the serializer.
pub(super) struct Written<'a> {
    pub(super) value: &'a Value,
    pub(super) like: Option<&'a Node>,
}

impl<'a> Written<'a> {
    /// The items where it is a `kind: List`, else itself.
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

    /// As YAML, without the line break at its end.
    pub(super) fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        yaml(self)
    }

    /// As an entry of a mapping.
    pub(super) fn yaml_entry(&self, key: &str) -> Result<String, serde_saphyr::ser::Error> {
        struct One<'a>(&'a str, &'a Written<'a>);
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
    // No line is broken that wasn't before.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = serde_saphyr::to_string_with_options(value, options)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

impl Serialize for Written<'_> {
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
                        out.serialize_entry(key, &Written { value, like })?;
                    }
                }
                for (key, value) in map.iter().filter(|(key, _)| !seen.contains(key.as_str())) {
                    out.serialize_entry(key, &Written { value, like: None })?;
                }
                out.end()
            }
            Value::Array(items) => {
                let like = |index| self.like.and_then(|like| like.item(index));
                serializer.collect_seq(
                    items.iter().enumerate().map(|(index, value)| Written { value, like: like(index) }),
                )
            }
            // JSON in a string, as the record is, reads better without a backslash before each quote.
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

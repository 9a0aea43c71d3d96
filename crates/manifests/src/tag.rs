//! Scalars with a tag, as kubectl reads them.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;
use serde_saphyr::granit_parser::{ScalarStyle, Tag};

use super::scalar::{self, NotJson};

/// The namespace of the tags that begin with `!!`.
const YAML: &str = "tag:yaml.org,2002:";

/// Base64 as Go's `StdEncoding` reads it: trailing bits of the last character are ignored.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The value of a scalar. A tag that YAML doesn't define, such as `!vault`, makes it a string.
pub(super) fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let string = || Ok(Value::String(text.to_owned()));
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { resolved(text) } else { string() };
    };
    let cannot_be = |name: &str| format!("{text:?} cannot be read as !!{name}: correct the value or the tag");
    let name = tag.suffix_in_namespace(YAML).unwrap_or(Cow::Borrowed(""));
    let typed = |fits: fn(&Value) -> bool| {
        resolved(text).and_then(|value| if fits(&value) { Ok(value) } else { Err(cannot_be(&name)) })
    };
    match &*name {
        "int" => typed(|value| value.is_i64() || value.is_u64()),
        "float" => typed(Value::is_number),
        "bool" => typed(Value::is_boolean),
        "null" => typed(Value::is_null),
        // Its text is the value.
        "timestamp" if is_timestamp(text) => string(),
        "timestamp" => Err(cannot_be(&name)),
        "binary" => binary(text).map(Value::String).ok_or_else(|| cannot_be(&name)),
        _ => string(),
    }
}

/// Whether this key of a mapping merges its value into it: `<<`, also written `!!merge <<`.
pub(super) fn is_merge_key(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    text == "<<"
        && match tag {
            None => style == ScalarStyle::Plain,
            Some(tag) => tag.suffix_in_namespace(YAML).is_some_and(|name| name == "merge"),
        }
}

fn resolved(text: &str) -> Result<Value, String> {
    // The parser returns an empty value as `~`, which is equivalent.
    scalar::resolve(text).map_err(|NotJson| {
        format!("{text} cannot be represented in JSON, and so not sent to the API server: quote it")
    })
}

/// The first check of kubectl's library; the validity of the date is left to kubectl.
fn is_timestamp(text: &str) -> bool {
    let year = text.find('-').unwrap_or(0);
    year == 4 && text.bytes().take(year).all(|byte| byte.is_ascii_digit())
}

/// Decodes base64. In JSON each byte that isn't UTF-8 becomes U+FFFD.
fn binary(text: &str) -> Option<String> {
    let base64: String = text.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
    let bytes = BASE64.decode(base64).ok()?;
    let mut decoded = String::new();
    for chunk in bytes.utf8_chunks() {
        decoded.push_str(chunk.valid());
        decoded.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    Some(decoded)
}

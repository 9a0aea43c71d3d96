//! The memory that parsed JSON takes, computed before parsing.
//!
//! A parsed value takes many times its text: a member of an array of zeros is two bytes of text and at least [`ITEM`]
//! bytes of memory, and `{"a":1}` is seven and [`OBJECT`]. So the text is scanned first, which allocates nothing. Text
//! whose parsed value would be too large is not parsed.

use std::mem::size_of;

use memchr::memchr2;
use serde_json::Value;

/// The maximum parsed size of one review (object and oldObject), in bytes. An update of a Deployment with 1.4 MB of
/// environment variables takes less than half.
pub const PARSED_SIZE_LIMIT: usize = 8 * MIB;
/// The deepest nesting that is parsed: the limit of `serde_json`, less the levels of the review. Workloads have some 20
/// levels.
pub const DEPTH_LIMIT: usize = 100;
/// The largest parsed size of an ordinary review, in bytes. Few are larger.
pub const SMALL_PARSED_SIZE: usize = MIB / 2;
const MIB: usize = 1024 * 1024;

/// An array starts with a capacity of four values, plus the allocator's overhead.
const ARRAY: usize = 4 * size_of::<Value>() + 16;
/// A value in an array. Its buffer doubles, and during that there are two.
const ITEM: usize = 3 * size_of::<Value>();
/// A node of a `BTreeMap` has room for eleven entries.
const OBJECT: usize = 11 * ENTRY + 32;
/// A further entry: nodes that are filled in order are half full.
const MEMBER: usize = 2 * ENTRY + 16;
const ENTRY: usize = size_of::<String>() + size_of::<Value>();
/// A string has its own block, which the allocator rounds up.
const STRING: usize = 32;

/// The shape of a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The depth of nested arrays and objects.
    pub depth: usize,
    /// The maximum size of the parsed value, in bytes.
    pub parsed_size: usize,
}

impl Shape {
    /// Scans a text. Invalid JSON gets an arbitrary shape.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let (mut shape, mut depth) = (Self::default(), 0_usize);
        // A bit for each open level, the innermost lowest: whether it is an object.
        let mut objects = 0_u128;
        let mut rest = text.as_bytes();
        while let [byte, after @ ..] = rest {
            rest = after;
            match byte {
                b'"' => {
                    rest = after_string(after);
                    shape.parsed_size += STRING + after.len() - rest.len();
                }
                b'{' | b'[' => {
                    let is_object = *byte == b'{';
                    objects = objects << 1 | u128::from(is_object);
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                    shape.parsed_size += if is_object { OBJECT } else { ARRAY };
                }
                b'}' | b']' => {
                    objects >>= 1;
                    depth = depth.saturating_sub(1);
                }
                b',' => shape.parsed_size += if objects & 1 == 1 { MEMBER } else { ITEM },
                _ => {}
            }
        }
        shape
    }

    /// The shape of two texts.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { depth: self.depth.max(other.depth), parsed_size: self.parsed_size + other.parsed_size }
    }

    /// Whether it is that of an ordinary review, far from every limit.
    pub(crate) fn is_small(self) -> bool {
        self.depth <= DEPTH_LIMIT && self.parsed_size <= SMALL_PARSED_SIZE
    }
}

/// The text after the string that it begins in.
fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(found) = memchr2(b'"', b'\\', text) {
        if text[found] == b'"' {
            return &text[found + 1..];
        }
        // The escaped character, which may be a quotation mark.
        text = text.get(found + 2..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_commas_in_strings_do_not_count() {
        let shape = Shape::of(r#"{"a":["[{,\"[","\\"],"b":{}}"#);
        assert_eq!(shape.depth, 2);
        let strings = r#"a"[{,\"["\\"b""#.len() + 4 * STRING;
        assert_eq!(shape.parsed_size, 2 * OBJECT + ARRAY + ITEM + MEMBER + strings);
    }

    #[test]
    fn the_shape_of_invalid_json_is_bounded_by_its_length() {
        for text in ["", "]]]}", "\"\\", "{\"a", &"[".repeat(100_000)] {
            let shape = Shape::of(text);
            assert!(shape.depth <= text.len() && shape.parsed_size <= OBJECT * text.len(), "{shape:?}");
        }
    }
}

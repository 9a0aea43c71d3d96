//! Estimates of the memory that objects take.

use serde::Serialize;

/// The memory of a cached object beside its own fields, in bytes: its entries in the store, in indexes and in the
/// quota.
const OVERHEAD: usize = 1 << 10;

/// The approximate memory that an object takes in a cache, in bytes.
pub(super) fn cached_size(object: &impl Serialize) -> usize {
    OVERHEAD + serde_json::to_string(object).map_or(0, |text| parsed_size(&text))
}

/// The approximate size of a JSON text as a tree of values, in bytes: even a small map takes a B-tree node, and an
/// array grows by doubling.
#[must_use]
pub fn parsed_size(text: &str) -> usize {
    const MAP: usize = 700;
    const ARRAY: usize = 128;
    const ENTRY: usize = 64;
    let bytes = text.as_bytes();
    let (mut at, mut parsed_size) = (0, text.len());
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        parsed_size += match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                0
            }
            b'{' => MAP,
            b'[' => ARRAY,
            b',' | b':' => ENTRY,
            _ => 0,
        };
    }
    parsed_size
}

/// The position after the string that begins before `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(next) = memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]) {
        at += next + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

//! Hashes by which versions of an object are compared.

use std::hash::{DefaultHasher, Hash, Hasher as _};

/// A hash that is the same in every process of one build of adieu: `DefaultHasher` has fixed keys, and JSON objects are
/// hashed in the order of their keys. Another version may return another hash.
#[must_use]
pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_change_a_hash() {
        let [a, b] = [r#"{"a": 1, "b": 2}"#, r#"{"b": 2, "a": 1}"#].map(|text| {
            let object: serde_json::Value = serde_json::from_str(text).unwrap();
            hash_of(&object)
        });
        assert_eq!(a, b);
        assert_ne!(a, hash_of(&json!({"a": 1, "b": 3})));
    }
}

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

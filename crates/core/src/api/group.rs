//! The names by which the API server knows adieu.

/// The API group, which is also the prefix of every annotation.
pub const GROUP: &str = "adieu.dev";

/// The field manager under which adieu writes.
pub const FIELD_MANAGER: &str = "adieu";

//! The Job that owns other objects.

use serde_json::{Value, json};

/// A Job that owns other objects of its namespace: the garbage collector removes them after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// The owner reference, as JSON. It isn't a controller's, so that the Job's controller ignores owned pods.
    #[must_use]
    pub fn reference(&self) -> Value {
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": self.uid})
    }
}

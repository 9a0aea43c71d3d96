//! The manifests of this folder, read as the tools of Kubernetes read them.

pub mod files;

use std::{fs, sync::Arc};

use adieu_core::plan::NamespaceContext;
use serde_json::Value;

use crate::generate::is_workload;

/// Manifests that lack what the API server wants, because a later tool completes them.
pub const INCOMPLETE: &str = "incomplete";

/// One object of a manifest.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it stands: file, kind and name.
    pub name: String,
    /// The file's path in this folder.
    pub file: String,
    /// The object.
    pub object: Value,
    /// The policies and Services of the same file.
    pub context: NamespaceContext,
}

impl Document {
    /// Whether the API server lacks something in it.
    #[allow(dead_code)] // Not every target asks.
    pub fn is_incomplete(&self) -> bool {
        self.file.starts_with(INCOMPLETE)
    }
}

/// Every workload of every manifest.
#[allow(dead_code)] // Not every target asks.
pub fn workloads() -> impl Iterator<Item = Document> {
    all().into_iter().filter(|document| is_workload(&document.object))
}

/// Every object of every manifest, the members of a `kind: List` one by one.
pub fn all() -> Vec<Document> {
    let folder = files::folder();
    let mut documents = Vec::new();
    for file in files::files() {
        let text = fs::read_to_string(&file).unwrap();
        let file = file.strip_prefix(&folder).unwrap().display().to_string();
        let objects = objects(&text).unwrap_or_else(|error| unreachable!("{file}: {error}"));
        let context = context(&objects);
        documents.extend(objects.into_iter().map(|object| {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let name = format!("{file}: {} {}", text("/kind"), text("/metadata/name"));
            Document { name, file: file.clone(), object, context: context.clone() }
        }));
    }
    documents
}

fn objects(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let members = documents.into_iter().flat_map(|document| match document["items"].as_array() {
        Some(items) if document["kind"] == "List" => items.clone(),
        _ => vec![document],
    });
    Ok(members.filter(Value::is_object).collect())
}

fn context(objects: &[Value]) -> NamespaceContext {
    fn of_kind<T: serde::de::DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<Arc<T>> {
        let found = objects.iter().filter(|object| object["kind"] == kind);
        found.map(|object| Arc::new(serde_json::from_value(object.clone()).unwrap())).collect()
    }
    NamespaceContext {
        policies: of_kind(objects, "GracefulPolicy"),
        services: of_kind(objects, "Service"),
        ..NamespaceContext::default()
    }
}

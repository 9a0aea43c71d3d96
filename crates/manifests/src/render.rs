//! Manifests as text.

use serde::Serialize;

use super::{document::Document, ordered::Ordered};

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A sequence of documents.
    Yaml,
    /// One object.
    Json,
}

/// The documents of the files, with a marker between files that have none.
pub(super) fn yaml(files: &[Vec<Document>]) -> String {
    let file_texts =
        files.iter().map(|file| file.iter().flat_map(Document::text).any(|text| !text.is_empty()));
    let several = file_texts.filter(|has_text| *has_text).count() > 1;
    let mut out = String::new();
    for file in files {
        let mut first = true;
        for document in file {
            let [head, text] = document.text();
            if head.is_empty() && text.is_empty() {
                continue;
            }
            let marked = [head, text].concat().starts_with("---");
            // A sequence of JSON objects is a stream by itself, but one document of YAML.
            let separate = several && (first || document.is_json());
            if !out.is_empty() && !out.ends_with('\n') && (separate || marked) {
                out.push('\n');
            }
            // Older versions of kubectl read a stream that starts with a brace, and no marker, only as JSON.
            if separate && !marked && (!out.is_empty() || document.is_json()) {
                out.push_str("---\n");
            }
            out.extend([head, text]);
            first = false;
        }
    }
    out
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Ordered<'a>],
}

/// The object of the only document, or a List. Lists in it are flattened, and `null` is not an object.
pub(super) fn json(files: &[Vec<Document>]) -> Result<String, serde_json::Error> {
    let mut documents: Vec<Ordered<'_>> = files
        .iter()
        .flatten()
        .filter_map(Document::ordered)
        .filter(|document| !document.value.is_null())
        .collect();
    let mut text = match documents.as_slice() {
        [] => String::new(),
        [one] => serde_json::to_string_pretty(one)?,
        _ => {
            let items: Vec<_> = documents.drain(..).flat_map(Ordered::items).collect();
            serde_json::to_string_pretty(&List { api_version: "v1", kind: "List", items: &items })?
        }
    };
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(text)
}

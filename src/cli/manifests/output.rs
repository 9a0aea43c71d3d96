//! Manifests as text.

use serde::Serialize;

use super::{document::Document, written::Written};

/// How manifests are written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// Documents behind each other.
    Yaml,
    /// One object.
    Json,
}

/// Manifests that can't be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// As YAML.
    #[error("writing YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// As JSON.
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
}

pub(super) fn text(files: &[Vec<Document>], format: Format) -> Result<String, OutputError> {
    match format {
        Format::Yaml => yaml(files),
        Format::Json => json(files),
    }
}

/// The texts of the documents, with a marker between those that have none.
fn yaml(files: &[Vec<Document>]) -> Result<String, OutputError> {
    let mut out = String::new();
    for document in files.iter().flatten() {
        let text = document.yaml()?;
        if !out.is_empty() && !text.is_empty() {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            if !text.starts_with("---") {
                out.push_str("---\n");
            }
        }
        out.push_str(&text);
    }
    Ok(out)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Written<'a>],
}

/// The object of the only document, or a List. Lists in it are taken apart.
fn json(files: &[Vec<Document>]) -> Result<String, OutputError> {
    let mut documents: Vec<Written<'_>> = files.iter().flatten().filter_map(Document::written).collect();
    let mut text = match documents.as_slice() {
        [] => String::new(),
        [one] => serde_json::to_string_pretty(one)?,
        _ => {
            let items: Vec<_> = documents.drain(..).flat_map(Written::items).collect();
            serde_json::to_string_pretty(&List { api_version: "v1", kind: "List", items: &items })?
        }
    };
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(text)
}

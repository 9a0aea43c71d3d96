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
    /// As JSON.
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
}

pub(super) fn text(files: &[Vec<Document>], format: Format) -> Result<String, OutputError> {
    match format {
        Format::Yaml => Ok(yaml(files)),
        Format::Json => json(files),
    }
}

/// The files as they are, with a marker between them where there is none.
fn yaml(files: &[Vec<Document>]) -> String {
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
            // JSON objects behind each other are a stream by themselves, and one document of YAML.
            let apart = several && (first || document.is_json());
            if !out.is_empty() && !out.ends_with('\n') && (apart || marked) {
                out.push('\n');
            }
            // What begins with a brace, and not with a marker, older kubectls take for nothing but JSON.
            if apart && !marked && (!out.is_empty() || document.is_json()) {
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
    items: &'a [Written<'a>],
}

/// The object of the only document, or a List. Lists in it are taken apart, and what is `null` is no object.
fn json(files: &[Vec<Document>]) -> Result<String, OutputError> {
    let mut documents: Vec<Written<'_>> = files
        .iter()
        .flatten()
        .filter_map(Document::written)
        .filter(|document| !document.value.is_null())
        .collect();
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

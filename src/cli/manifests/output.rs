//! Manifests as text.

#[cfg(unix)]
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::{
    fs,
    io::{
        self,
        ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy},
        Write as _,
    },
    path::Path,
};

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

/// Writes a file. What was in it is replaced at once: it may be one of the inputs, and stays where the disk is full.
pub(super) fn to_file(path: &Path, text: &str) -> io::Result<()> {
    // What a link names is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = fs::metadata(path).ok();
    let device = before.as_ref().is_some_and(|before| !before.is_file());
    let name = path.file_name().filter(|_| !device);
    let Some(beside) = name.map(|name| {
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}", std::process::id()));
        path.with_file_name(beside)
    }) else {
        return fs::write(path, text);
    };
    // An existing file may be a link that another user placed there.
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if let Some(before) = &before {
        // It may hold a Secret: other users must not be able to read it meanwhile.
        options.mode(before.permissions().mode() & 0o777);
    }
    let mut file = match options.open(&beside) {
        // A file in a folder where none may be made.
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {
            return fs::write(path, text);
        }
        file => file?,
    };
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| before.map_or(Ok(()), |before| fs::set_permissions(&beside, before.permissions())))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    match written {
        // A file that is mounted by itself can't be replaced.
        Err(error) if error.kind() == ResourceBusy => fs::write(path, text),
        written => written,
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

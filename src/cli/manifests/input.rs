//! Reads files, folders and standard input.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// An input that can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// The file or directory doesn't exist, or can't be read.
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    /// The text is in another encoding.
    #[error("{}: not UTF-8 (line {line}, byte {at}): convert it", path.display())]
    NotUtf8 { path: PathBuf, line: usize, at: usize },
    /// The directory has no manifests.
    #[error("{}: no file that ends in .yaml, .yml or .json; with --recursive its directories are searched too", .0.display())]
    NoManifests(PathBuf),
    /// Standard input can be read only once.
    #[error("-f - is given twice, and standard input can be read only once")]
    StandardInputTwice,
    /// The input is held in memory, as text and as values.
    #[error("{}: with it, the input is larger than {} MiB, the limit: give fewer files, or split it", path.display(), LIMIT >> 20)]
    TooLarge { path: PathBuf },
}

/// The maximum size of the input, in bytes. Values take some 70 times as many.
const LIMIT: usize = 64 << 20;

/// The name of standard input, for messages.
pub(in crate::cli) const STANDARD_INPUT: &str = "standard input";

/// A file.
pub(super) struct File {
    /// Its path, for messages.
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads files, folders in the order of the names of their files, and standard input (`-`).
pub(super) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<File>, InputError> {
    let standard_input = Path::new("-");
    if paths.iter().filter(|path| *path == standard_input).count() > 1 {
        return Err(InputError::StandardInputTwice);
    }
    let mut files = Vec::new();
    let mut left = LIMIT;
    for path in paths {
        if path == standard_input {
            files.push(read_file(Path::new(STANDARD_INPUT), Ok(io::stdin()), &mut left)?);
        } else if path.is_dir() {
            let mut found = Vec::new();
            manifests_in(path, recursive, &mut found)?;
            if found.is_empty() {
                return Err(InputError::NoManifests(path.clone()));
            }
            for path in found {
                files.push(read_file(&path, fs::File::open(&path), &mut left)?);
            }
        } else {
            files.push(read_file(path, fs::File::open(path), &mut left)?);
        }
    }
    Ok(files)
}

fn manifests_in(folder: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let failed = |error| InputError::Io { path: folder.to_owned(), error };
    let mut entries =
        fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder may be circular, so only real folders are searched.
        if entry.file_type().map_err(failed)?.is_dir() {
            if recursive {
                manifests_in(&path, recursive, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
            && path.is_file()
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads a file, within the bytes that are left.
fn read_file(path: &Path, opened: io::Result<impl io::Read>, left: &mut usize) -> Result<File, InputError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(*left).unwrap_or(u64::MAX).saturating_add(1);
    opened
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| InputError::Io { path: path.to_owned(), error })?;
    *left = left.checked_sub(bytes.len()).ok_or_else(|| InputError::TooLarge { path: path.to_owned() })?;
    decode(path, bytes)
}

fn decode(path: &Path, bytes: Vec<u8>) -> Result<File, InputError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        InputError::NotUtf8 { path: path.to_owned(), line, at }
    })?;
    Ok(File { name: path.display().to_string(), text })
}

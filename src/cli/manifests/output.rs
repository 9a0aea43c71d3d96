//! Writes files.

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

/// Replaces a file atomically: it may be one of the inputs, and stays if the disk is full.
pub(super) fn to_file(path: &Path, text: &str) -> io::Result<()> {
    // The target of a link is replaced, not the link.
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
        // No file can be created in the folder.
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
        // A mounted file can't be replaced.
        Err(error) if error.kind() == ResourceBusy => fs::write(path, text),
        written => written,
    }
}

//! The file of a report.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::Path,
};

use anyhow::Context as _;

/// A writable file. Its content stays until a report is written. If it doesn't exist and no report is written, it
/// doesn't exist afterwards either.
#[derive(Debug)]
pub(in crate::cli) struct ReportFile<'a> {
    path: &'a Path,
    /// Whether the check has created it.
    is_placeholder: bool,
}

impl<'a> ReportFile<'a> {
    /// Checks that the file is writable.
    pub(in crate::cli) fn at(path: &'a Path) -> anyhow::Result<Self> {
        let is_placeholder = open(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, is_placeholder })
    }

    pub(in crate::cli) fn write(mut self, page: &str) -> anyhow::Result<()> {
        self.is_placeholder = false;
        fs::write(self.path, page).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for ReportFile<'_> {
    fn drop(&mut self) {
        if self.is_placeholder {
            let _ = fs::remove_file(self.path);
        }
    }
}

/// Opens the file. Returns whether it was created.
fn open(path: &Path) -> io::Result<bool> {
    match File::create_new(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).create(true).truncate(false).open(path).map(|_| false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_report_stays_until_the_next_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        fs::write(&path, "a long report of the last run").unwrap();
        drop(ReportFile::at(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a long report of the last run");
        ReportFile::at(&path).unwrap().write("a report").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a report");
    }

    #[test]
    fn without_a_report_no_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        drop(ReportFile::at(&path).unwrap());
        assert!(!path.exists());
        ReportFile::at(&path).unwrap().write("a report").unwrap();
        assert!(path.exists());
        ReportFile::at(folder.path()).unwrap_err();
        ReportFile::at(&folder.path().join("nowhere/report.html")).unwrap_err();
    }
}

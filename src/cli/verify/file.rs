//! The file that a report goes to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::Path,
};

use anyhow::Context as _;

/// A file that can be written. What is in it stays until a report is; where there was none and no report
/// comes, there is none afterwards.
#[derive(Debug)]
pub(super) struct ReportFile<'a> {
    path: &'a Path,
    /// Whether the check has created it.
    is_placeholder: bool,
}

impl<'a> ReportFile<'a> {
    /// Checks that it can be written.
    pub(super) fn at(path: &'a Path) -> anyhow::Result<Self> {
        let is_placeholder = open(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path, is_placeholder })
    }

    pub(super) fn write(mut self, page: &str) -> anyhow::Result<()> {
        self.is_placeholder = false;
        fs::write(self.path, page).with_context(|| format!("writing {}", self.path.display()))
    }
}

impl Drop for ReportFile<'_> {
    fn drop(&mut self) {
        if self.is_placeholder {
            let _ = fs::remove_file(self.path);
        }
    }
}

/// Whether it had to be created.
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
    fn a_report_stays_as_it_is_until_the_next_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        fs::write(&path, "a long report of the last run").unwrap();
        drop(ReportFile::at(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a long report of the last run");
        ReportFile::at(&path).unwrap().write("a report").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a report");
    }

    #[test]
    fn where_no_report_is_written_no_file_is_left() {
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

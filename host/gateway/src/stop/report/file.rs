//! Reports as files: written in one step, read without taking anything on trust.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Report, SCHEMA};

/// The longest report that is read: some hundred thousand instances.
const LONGEST_FILE: u64 = 64 << 20;

/// A report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The system refused.
    #[error("cannot write the shutdown report to {}: {source}", path.display())]
    Write {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Longer than any report.
    #[error("{} is too long to be a shutdown report", path.display())]
    TooLong {
        /// What was read.
        path: PathBuf,
    },
    /// The JSON ends in the middle.
    #[error("{} is cut off: it ends in the middle of the report", path.display())]
    CutOff {
        /// What was read.
        path: PathBuf,
    },
    /// Something else, or damaged.
    #[error("{} is not a shutdown report: {detail}", path.display())]
    Foreign {
        /// What was read.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Written by another version.
    #[error("{} has schema {found}, but this version of tidegate reads schema {SCHEMA}", path.display())]
    Schema {
        /// What was read.
        path: PathBuf,
        /// The schema it says it has.
        found: u64,
    },
}

impl ReportError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Write { .. } => Some("the folder must exist, and the gateway must be allowed to write to it"),
            Self::Read { .. } => None,
            Self::TooLong { .. } | Self::Foreign { .. } => {
                Some("a report is written by `tidegate run --shutdown-report FILE`")
            }
            Self::CutOff { .. } => Some("the process may have been killed while it wrote, or the copy is not whole"),
            Self::Schema { found, .. } if *found > u64::from(SCHEMA) => {
                Some("read it with the version of tidegate that wrote it, or a later one")
            }
            Self::Schema { .. } => Some("read it with the version of tidegate that wrote it"),
        }
    }
}

impl Report {
    /// Write it to `path`, in one step wherever that can be: whoever reads the file sees all of it or what was there
    /// before.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        write_whole(path, self.to_json().as_bytes())
            .map_err(|source| ReportError::Write { path: path.to_owned(), source })
    }

    /// Read a report back.
    ///
    /// # Errors
    /// When the file is not a whole report of this schema.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let unreadable = |source| ReportError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > LONGEST_FILE {
            return Err(ReportError::TooLong { path: path.to_owned() });
        }
        Self::from_json(&bytes, path)
    }

    /// Read a report from JSON; `path` is for messages.
    ///
    /// # Errors
    /// When it is not a whole report of this schema.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self, ReportError> {
        /// What every schema has.
        #[derive(Deserialize)]
        struct Head {
            schema: u64,
        }
        let path = || path.to_owned();
        let foreign = |detail: String| ReportError::Foreign { path: path(), detail };
        if json.trim_ascii().is_empty() {
            return Err(foreign("it is empty".to_owned()));
        }
        let refused = |error: serde_json::Error| {
            if error.is_eof() { ReportError::CutOff { path: path() } } else { foreign(error.to_string()) }
        };
        // The schema comes first: of another one, nothing else is known.
        let head: Head = serde_json::from_slice(json).map_err(refused)?;
        if head.schema != u64::from(SCHEMA) {
            return Err(ReportError::Schema { path: path(), found: head.schema });
        }
        serde_json::from_slice(json).map_err(refused)
    }
}

/// Write a file in one step: whoever reads it sees all of it or what was there before. Where the file cannot be
/// replaced (a pipe, a device, a file mounted on its own as Kubernetes does with its termination log) it is written in
/// place.
///
/// # Errors
/// When the system refuses both.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let replaceable = fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_file());
    if replaceable && replace(path, bytes).is_ok() {
        return Ok(());
    }
    fs::write(path, bytes)
}

/// Put a whole file in the place of another.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // In the same folder, since a rename cannot cross file systems.
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary_name);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // Half a file is of no use to anyone; it may not even exist.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("report.json");
        fs::write(&file, "what was there before").expect("written");
        report().write(&file).expect("written");
        assert_eq!(Report::read(&file).expect("whole"), report());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_report_that_cannot_be_written_says_where_it_was_to_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = report().write(&folder.path().join("missing/report.json")).expect_err("no such folder");
        assert!(error.to_string().starts_with("cannot write the shutdown report to "), "{error}");
        assert!(error.to_string().contains("missing/report.json"), "{error}");
    }

    #[test]
    fn other_files_are_told_apart() {
        let message = |json: &str| Report::from_json(json.as_bytes(), Path::new("r.json")).map_err(|e| e.to_string());
        let whole = report().to_json();
        let refused = |json: &str| message(json).expect_err("refused");
        assert_eq!(refused(""), "r.json is not a shutdown report: it is empty");
        assert_eq!(refused(&whole[..whole.len() / 2]), "r.json is cut off: it ends in the middle of the report");
        assert_eq!(
            refused(r#"{"schema": 2, "phases": "rearranged"}"#),
            "r.json has schema 2, but this version of tidegate reads schema 1"
        );
        assert_eq!(
            refused(r#"{"name": "tidegate"}"#),
            "r.json is not a shutdown report: missing field `schema` at line 1 column 20"
        );
        assert!(refused("schema = 1").starts_with("r.json is not a shutdown report: expected value"));
        assert!(refused(&whole.replace("\"completed\",", "\"vanished\",")).contains("unknown variant `vanished`"));
        // A later version of this schema may say more.
        assert!(message(&whole.replacen('{', "{\"outbox\": {\"pending\": 0},", 1)).is_ok());
    }
}

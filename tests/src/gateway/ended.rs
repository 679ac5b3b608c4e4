//! What a gateway leaves behind: its exit code, its report and its log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A gateway that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// From the first signal to the exit.
    pub took: Duration,
    /// The shutdown report; `None` if there is none.
    pub report: Option<Report>,
    /// Everything it has logged.
    pub log: Log,
    pub(super) folder: TempDir,
}

impl Ended {
    /// The report, which must be there.
    ///
    /// # Panics
    /// If it is not; the message has the log.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.report.as_ref().unwrap_or_else(|| panic!("there is no report\n{}", self.log.text()))
    }

    /// Where the report is, for as long as this lives.
    #[must_use]
    pub fn report_file(&self) -> PathBuf {
        self.folder.path().join("report.json")
    }
}

/// A shutdown report, as JSON: a test says what is in the file, not what the program's own types make of it.
#[derive(Debug)]
pub struct Report(pub Value);

impl Report {
    pub(super) fn read(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let report =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("the report is not JSON: {error}\n{text}"));
        Some(Self(report))
    }

    /// The value at a JSON pointer, or null.
    #[must_use]
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The number at a JSON pointer.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn number(&self, pointer: &str) -> u64 {
        self.at(pointer).as_u64().unwrap_or_else(|| panic!("no number at {pointer} in {:#}", self.0))
    }

    /// The entries of a plugin, an instance each.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Vec<&Value> {
        let all = self.at("/plugins").as_array().into_iter().flatten();
        all.filter(|entry| entry.get("name").and_then(Value::as_str) == Some(name)).collect()
    }

    /// How the instances of a plugin ended.
    #[must_use]
    pub fn outcomes(&self, name: &str) -> Vec<&str> {
        self.plugin(name).into_iter().filter_map(|entry| entry.get("outcome")?.as_str()).collect()
    }

    /// A phase by its name, or null if it never began.
    #[must_use]
    pub fn phase(&self, name: &str) -> &Value {
        let mut all = self.at("/phases").as_array().into_iter().flatten();
        all.find(|phase| phase.get("name").and_then(Value::as_str) == Some(name)).unwrap_or(&Value::Null)
    }
}

/// What was written to stderr.
#[derive(Debug, Clone)]
pub struct Log(String);

impl Log {
    pub(super) fn read(file: &Path) -> Self {
        Self(String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned())
    }

    /// As it is.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The lines that are whole.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.0.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The lines in which these keys have these values.
    #[must_use]
    pub fn with(&self, fields: &[(&str, &str)]) -> Vec<Value> {
        let has = |line: &Value| fields.iter().all(|(key, value)| line.get(key).and_then(Value::as_str) == Some(value));
        self.lines().into_iter().filter(has).collect()
    }
}

//! What people see: a line for each check as it ends, and at the end what to do about those that failed.

use std::io::IsTerminal as _;

use anstyle::{AnsiColor, Style};
use tidegate_runtime::Inspection;
use tidegate_testing::conformance::{CHECKS, Finding, Outcome, Progress, Report};

use super::Tested;
use crate::cli::{Failure, print};
use crate::config::HumanSize;

const PASSED: Style = AnsiColor::Green.on_default();
const FAILED: Style = AnsiColor::BrightRed.on_default().bold();
const SKIPPED: Style = Style::new().dimmed();
const HINT: Style = AnsiColor::BrightCyan.on_default().bold();

/// The table while it grows.
pub(super) struct Live {
    is_terminal: bool,
    /// Columns of the names.
    width: usize,
    /// What went wrong with stdout. The checks go on: another report may be wanted, too.
    broken: Option<Failure>,
}

impl Live {
    /// Say what is tested.
    pub(super) fn begin(tested: &Tested, inspection: &Inspection, only: &[String]) -> Result<Self, Failure> {
        let hooks: Vec<&str> = inspection.hooks.iter().map(|hook| hook.as_str()).collect();
        let size = HumanSize(inspection.size as u64);
        print(&format!("{}  {size}, {}\n\n", tested.file, hooks.join(" ")))?;
        let chosen = |name: &&str| only.is_empty() || only.iter().any(|only| only == name);
        let names = CHECKS.iter().map(|check| check.name).filter(chosen);
        Ok(Self {
            is_terminal: std::io::stdout().is_terminal(),
            width: names.map(str::len).max().unwrap_or(0),
            broken: None,
        })
    }

    /// A check begins, or has ended.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let text = match progress {
            Progress::Begins(check) if self.is_terminal => format!("  ....     {}", check.name),
            Progress::Begins(_) => return,
            Progress::Ended(finding) if self.is_terminal => format!("\r\x1b[K{}", line(finding, self.width)),
            Progress::Ended(finding) => line(finding, self.width),
        };
        if self.broken.is_none() {
            self.broken = print(&text).err();
        }
    }

    /// All have ended.
    pub(super) fn end(self, report: &Report) -> Result<(), Failure> {
        match self.broken {
            Some(failure) => Err(failure),
            None => print(&summary(report)),
        }
    }
}

/// One line: outcome, name, and what was measured or why it was skipped.
fn line(finding: &Finding, width: usize) -> String {
    let (style, word) = match finding.outcome {
        Outcome::Passed => (PASSED, "passed "),
        Outcome::Failed => (FAILED, "FAILED "),
        Outcome::Skipped => (SKIPPED, "skipped"),
    };
    let measures: Vec<String> = finding.measures.iter().map(ToString::to_string).collect();
    let says = match finding.outcome {
        Outcome::Skipped => finding.notes.join("; "),
        Outcome::Passed | Outcome::Failed => measures.join(", "),
    };
    let name = finding.check.name;
    let line = format!("  {style}{word}{style:#}  {name:width$}  {says}");
    format!("{}\n", line.trim_end())
}

/// What to do, what to know, and the sum.
fn summary(report: &Report) -> String {
    let mut text = String::new();
    for finding in report.findings.iter().filter(|finding| finding.outcome == Outcome::Failed) {
        text.push_str(&format!(
            "\n{FAILED}{}{FAILED:#} failed. It is to prove: {}\n",
            finding.check.name, finding.check.proves
        ));
        let mut given = None;
        for problem in &finding.problems {
            text.push_str(&format!("  - {}\n", problem.text.replace('\n', "\n    ")));
            // The same advice once.
            if let Some(advice) = problem.advice.as_ref().filter(|advice| given != Some(*advice)) {
                given = Some(advice);
                text.push_str(&format!("    {HINT}hint{HINT:#}: {advice}\n"));
            }
        }
    }
    let noted = report.findings.iter().filter(|finding| finding.outcome != Outcome::Skipped);
    let notes: Vec<String> = noted
        .flat_map(|finding| {
            finding.notes.iter().map(|note| format!("  {}: {}\n", finding.check.name, note.replace('\n', "\n    ")))
        })
        .collect();
    if !notes.is_empty() {
        text.push_str(&format!("\nnotes\n{}", notes.concat()));
    }
    let [passed, failed, skipped] =
        [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|outcome| report.count(outcome));
    let virtual_time: std::time::Duration = report.findings.iter().map(|finding| finding.virtual_time).sum();
    text.push_str(&format!(
        "\n{passed} passed, {failed} failed, {skipped} skipped in {:.1} s ({:.0} s of virtual time)\n",
        report.took.as_secs_f64(),
        virtual_time.as_secs_f64()
    ));
    text
}

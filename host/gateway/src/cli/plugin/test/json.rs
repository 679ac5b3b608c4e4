//! What `--json` prints. Fields are only added within a schema.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_testing::conformance::{Finding, Measure, Outcome, Problem, Report};

use super::Tested;

#[derive(Serialize)]
struct Json<'r> {
    schema: u32,
    plugin: &'r str,
    digest: &'r str,
    passed: bool,
    counts: Counts,
    took_ms: u64,
    checks: Vec<JsonCheck<'r>>,
}

#[derive(Serialize)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

#[derive(Serialize)]
struct JsonCheck<'r> {
    name: &'r str,
    proves: &'r str,
    /// `passed`, `failed` or `skipped`.
    outcome: &'r str,
    problems: Vec<JsonProblem<'r>>,
    notes: &'r [String],
    /// By name; a name ends with its unit, if it has one: `_bytes`, `_ns` (of virtual time), `_fuel`, `_percent`.
    measures: BTreeMap<String, u64>,
    virtual_ms: u64,
    took_ms: u64,
}

#[derive(Serialize)]
struct JsonProblem<'r> {
    text: &'r str,
    advice: Option<&'r str>,
}

impl<'r> From<&'r Finding> for JsonCheck<'r> {
    fn from(finding: &'r Finding) -> Self {
        let problem = |Problem { text, advice }: &'r Problem| JsonProblem { text, advice: advice.as_deref() };
        Self {
            name: finding.check.name,
            proves: finding.check.proves,
            outcome: finding.outcome.as_str(),
            problems: finding.problems.iter().map(problem).collect(),
            notes: &finding.notes,
            measures: finding.measures.iter().map(|measure| (Measure::key(measure), measure.value)).collect(),
            virtual_ms: millis(finding.virtual_time),
            took_ms: millis(finding.took),
        }
    }
}

/// The report as JSON.
pub(super) fn report(tested: &Tested, report: &Report) -> String {
    let json = Json {
        schema: 1,
        plugin: &tested.file,
        digest: &tested.digest,
        passed: report.is_passed(),
        counts: Counts {
            passed: report.count(Outcome::Passed),
            failed: report.count(Outcome::Failed),
            skipped: report.count(Outcome::Skipped),
        },
        took_ms: millis(report.took),
        checks: report.findings.iter().map(JsonCheck::from).collect(),
    };
    let mut text = serde_json::to_string_pretty(&json).expect("strings, numbers and lists always become JSON");
    text.push('\n');
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

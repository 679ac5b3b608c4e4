//! The shutdown report: what happened between the signal and the exit, as JSON, and the exit code that says it.
//!
//! A report is written once and read by people, dashboards and `tidegate report`, perhaps of another version: fields
//! are only added within a schema. `file` writes reports and reads them back.

mod file;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_runtime::{StopOutcome, StopReason};
use tokio::time::Instant;

pub use self::file::ReportError;
pub(crate) use self::file::write_whole;
use super::log::Stopped;
use super::phase::Phase;

/// The schema that is written, and the only one that is read.
pub const SCHEMA: u32 = 1;

/// Exchanges were cut off.
const REQUESTS_CUT: u8 = 10;
/// A plugin failed, trapped or overran its `shutdown`.
const PLUGIN_FAILED: u8 = 11;
/// Events were left in the outbox.
const EVENTS_LEFT: u8 = 12;
/// The codes that `exit_zero` maps to 0.
const UNCLEAN: std::ops::RangeInclusive<u8> = 10..=12;

/// One shutdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Why: `terminate`.
    pub reason: StopReason,
    /// The signal's name, `SIGTERM`; `None` if something else asked for the stop.
    pub signal: Option<String>,
    /// The whole grace period.
    pub grace_ms: u64,
    /// From the signal to the report.
    pub took_ms: u64,
    /// The phases that began, in the order of time.
    pub phases: Vec<PhaseReport>,
    /// What became of the exchanges.
    pub requests: Requests,
    /// What became of each instance of each plugin.
    pub plugins: Vec<PluginReport>,
    /// What became of the events in the outbox; `None` if there is no outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<OutboxReport>,
    /// The code the process exits with; see [`exit_code`].
    pub exit_code: u8,
    /// Whether the process has come to its end; false in an answer of the admin API while the stop still runs.
    #[serde(default = "whole")]
    pub complete: bool,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// As [`Phase::as_str`].
    pub name: String,
    /// Since the signal.
    pub started_ms: u64,
    /// How long it lasted.
    pub took_ms: u64,
    /// How long it could have lasted: its own part and what earlier phases left over.
    pub budget_ms: u64,
}

/// What became of the exchanges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Those that were running when the signal came.
    pub in_flight: u64,
    /// Those that ended well since.
    pub completed: u64,
    /// Those that were cut off when the drain's share was used up.
    pub cut: u64,
}

/// What became of the events in the outbox. An event counts once for each sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboxReport {
    /// Those that sinks of the configuration still have to get. They are safe on disk.
    pub pending: u64,
    /// Those that were delivered since the stop began.
    pub delivered: u64,
    /// Dead letters in the file, whenever they became that.
    pub dead: u64,
}

/// What became of one instance of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginReport {
    /// The plugin's name in the config.
    pub name: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// The instance's number.
    pub instance: u64,
    /// The generation of the configuration that loaded it.
    #[serde(default = "first_generation")]
    pub generation: u64,
    /// When it was told to stop, in milliseconds since the stop of the process began; negative if its own began earlier.
    /// Where a report does not say, it was told with the others.
    #[serde(default)]
    pub started_ms: Option<i64>,
    /// How its stop ended.
    pub outcome: StopOutcome,
    /// The time it was given, counted from the beginning of its stop.
    pub budget_ms: u64,
    /// The time it took, on the same clock.
    pub took_ms: u64,
    /// Time spent in the guest.
    pub cpu_ms: u64,
    /// By how much the end came after the budget.
    pub overshoot_ms: f64,
    /// Why it was stopped.
    pub reason: StopReason,
    /// Deferred tasks it left behind; always 0 in this version, which has none.
    pub deferred_left: u64,
    /// What went wrong.
    pub error: Option<String>,
}

/// A report that does not say is one that was written at the end.
fn whole() -> bool {
    true
}

/// A report that does not say was written when there was no other.
fn first_generation() -> u64 {
    1
}

impl PhaseReport {
    /// A phase that began `started` after the signal.
    #[must_use]
    pub fn new(phase: Phase, started: Duration, took: Duration, budget: Duration) -> Self {
        Self {
            name: phase.as_str().to_owned(),
            started_ms: millis(started),
            took_ms: millis(took),
            budget_ms: millis(budget),
        }
    }
}

impl PluginReport {
    /// What was heard of one stop, in a stop of the process that `began` then.
    #[must_use]
    pub fn new(stopped: &Stopped, began: Instant) -> Self {
        let Stopped { record, generation, ended } = stopped;
        let whole = |time: Duration| i64::try_from(millis(time)).unwrap_or(i64::MAX);
        // Subtracted last: what is over sooner than it took began before.
        let started = whole(ended.saturating_duration_since(began)) - whole(record.took);
        Self {
            name: record.plugin.to_string(),
            digest: record.digest.to_string(),
            instance: record.instance,
            generation: *generation,
            started_ms: Some(started),
            outcome: record.outcome,
            budget_ms: millis(record.budget),
            took_ms: millis(record.took),
            cpu_ms: millis(record.cpu),
            // Microseconds are what can be measured; more digits would be noise.
            overshoot_ms: record.overshoot.as_micros() as f64 / 1e3,
            reason: record.reason,
            deferred_left: 0,
            error: record.error.clone(),
        }
    }
}

/// A duration in the unit of the report, rounded to the nearest millisecond.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.saturating_add(Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX)
}

/// The code that says what happened: 0 all done in time, 10 exchanges were cut, 11 a plugin failed, trapped or
/// overran, 12 events were left in the outbox, 128+n a second signal with number n. The highest applies. With `exit_zero`, 10 to 12 become 0; a second
/// signal does not.
#[must_use]
pub fn exit_code(
    requests: &Requests,
    plugins: &[PluginReport],
    outbox: Option<&OutboxReport>,
    second_signal: Option<u8>,
    exit_zero: bool,
) -> u8 {
    if let Some(signal) = second_signal {
        return signal.saturating_add(128);
    }
    let code = if outbox.is_some_and(|outbox| outbox.pending > 0) {
        EVENTS_LEFT
    } else if plugins.iter().any(|plugin| !plugin.outcome.is_clean()) {
        PLUGIN_FAILED
    } else if requests.cut > 0 {
        REQUESTS_CUT
    } else {
        0
    };
    if exit_zero && UNCLEAN.contains(&code) { 0 } else { code }
}

impl Report {
    /// The report of a process that was told to stop before it had served anything: nothing had to be ended.
    #[must_use]
    pub fn before_ready(signal: &str, grace: Duration) -> Self {
        Self {
            schema: SCHEMA,
            reason: StopReason::Terminate,
            signal: Some(signal.to_owned()),
            grace_ms: millis(grace),
            took_ms: 0,
            phases: Vec::new(),
            requests: Requests::default(),
            plugins: Vec::new(),
            outbox: None,
            exit_code: 0,
            complete: true,
        }
    }

    /// The JSON, for people too: indented, with a newline at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("strings, numbers and lists always become JSON");
        json.push('\n');
        json
    }

    /// The code this report would have without `exit_zero`, as far as the report itself tells.
    #[must_use]
    pub fn unmapped_exit_code(&self) -> u8 {
        if self.exit_code > 128 {
            return self.exit_code;
        }
        exit_code(&self.requests, &self.plugins, self.outbox.as_ref(), None, false)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// A plugin instance that ended like this after `took_ms` of 5 s.
    pub(crate) fn plugin(name: &str, instance: u64, outcome: StopOutcome, took_ms: u64) -> PluginReport {
        PluginReport {
            name: name.to_owned(),
            digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            instance,
            generation: 1,
            started_ms: None,
            outcome,
            budget_ms: 5_000,
            took_ms,
            cpu_ms: took_ms / 2,
            overshoot_ms: 0.0,
            reason: StopReason::Terminate,
            deferred_left: 0,
            error: None,
        }
    }

    /// A report of a clean stop.
    pub(crate) fn report() -> Report {
        let (requests, plugins) =
            (Requests { in_flight: 3, completed: 3, cut: 0 }, vec![plugin("audit", 0, StopOutcome::Completed, 12)]);
        Report {
            schema: SCHEMA,
            reason: StopReason::Terminate,
            signal: Some("SIGTERM".to_owned()),
            grace_ms: 30_000,
            took_ms: 1_804,
            phases: vec![PhaseReport::new(
                Phase::Draining,
                Duration::from_micros(400),
                Duration::from_micros(1_790_500),
                Duration::from_secs(15),
            )],
            exit_code: exit_code(&requests, &plugins, None, None, false),
            requests,
            plugins,
            outbox: None,
            complete: true,
        }
    }

    #[test]
    fn the_json_has_the_names_of_the_design() {
        let expected = r#"{
  "schema": 1,
  "reason": "terminate",
  "signal": "SIGTERM",
  "grace_ms": 30000,
  "took_ms": 1804,
  "phases": [
    {
      "name": "draining",
      "started_ms": 0,
      "took_ms": 1791,
      "budget_ms": 15000
    }
  ],
  "requests": {
    "in_flight": 3,
    "completed": 3,
    "cut": 0
  },
  "plugins": [
    {
      "name": "audit",
      "digest": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
      "instance": 0,
      "generation": 1,
      "started_ms": null,
      "outcome": "completed",
      "budget_ms": 5000,
      "took_ms": 12,
      "cpu_ms": 6,
      "overshoot_ms": 0.0,
      "reason": "terminate",
      "deferred_left": 0,
      "error": null
    }
  ],
  "exit_code": 0,
  "complete": true
}
"#;
        assert_eq!(report().to_json(), expected);
    }

    #[test]
    fn a_report_from_before_there_were_reloads_reads_as_what_it_was() {
        let mut json = serde_json::to_value(report()).expect("JSON");
        json.as_object_mut().and_then(|report| report.remove("complete")).expect("it was there");
        let plugin = json.pointer_mut("/plugins/0").and_then(|plugin| plugin.as_object_mut());
        plugin.and_then(|plugin| plugin.remove("generation")).expect("it was there");
        assert_eq!(serde_json::from_value::<Report>(json).expect("a report"), report());
    }

    #[test]
    fn words_are_the_same_in_json_and_in_the_program() {
        for outcome in StopOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).expect("a word"), outcome.as_str());
        }
        for reason in [
            StopReason::Terminate,
            StopReason::Reload,
            StopReason::Disable,
            StopReason::Quarantine,
            StopReason::Recycle,
            StopReason::ScaleIn,
        ] {
            assert_eq!(serde_json::to_value(reason).expect("a word"), reason.as_str());
        }
    }

    #[test]
    fn the_highest_exit_code_applies() {
        let requests = |cut| Requests { cut, ..Requests::default() };
        let ended = |outcome| [plugin("a", 0, StopOutcome::Completed, 1), plugin("b", 0, outcome, 1)];
        assert_eq!(exit_code(&requests(0), &ended(StopOutcome::NoHook), None, None, false), 0);
        assert_eq!(exit_code(&requests(1), &[], None, None, false), 10);
        for outcome in [StopOutcome::Failed, StopOutcome::Trapped, StopOutcome::Overran, StopOutcome::Abandoned] {
            assert_eq!(exit_code(&requests(1), &ended(outcome), None, None, false), 11);
            assert_eq!(exit_code(&requests(1), &ended(outcome), None, None, true), 0);
            assert_eq!(exit_code(&requests(1), &ended(outcome), None, Some(15), true), 143);
            let left = OutboxReport { pending: 1, ..OutboxReport::default() };
            assert_eq!(exit_code(&requests(1), &ended(outcome), Some(&left), None, false), 12);
            assert_eq!(exit_code(&requests(1), &ended(outcome), Some(&left), None, true), 0);
            assert_eq!(exit_code(&requests(1), &ended(outcome), Some(&left), Some(15), false), 143);
        }
        assert_eq!(exit_code(&requests(0), &[], None, Some(2), false), 130);
        let dead = OutboxReport { pending: 0, delivered: 7, dead: 3 };
        assert_eq!(exit_code(&requests(0), &[], Some(&dead), None, false), 0, "dead letters wait for a person");
    }

    #[test]
    fn a_record_of_the_runtime_becomes_a_line() {
        let record = tidegate_runtime::StopRecord {
            plugin: Arc::from("stubborn"),
            digest: Arc::from("sha256:00"),
            instance: 7,
            reason: StopReason::Terminate,
            outcome: StopOutcome::Overran,
            budget: Duration::from_millis(500),
            took: Duration::from_micros(501_234),
            cpu: Duration::from_micros(499_600),
            overshoot: Duration::from_micros(1_234),
            snapshot: tidegate_runtime::Snapshot::None,
            error: Some("stopped".to_owned()),
        };
        let began = Instant::now();
        let stopped =
            |after| Stopped { record: record.clone(), generation: 3, ended: began + Duration::from_millis(after) };
        let line = PluginReport::new(&stopped(700), began);
        assert_eq!((line.generation, line.started_ms), (3, Some(199)));
        assert_eq!(PluginReport::new(&stopped(100), began).started_ms, Some(-401), "its stop began first");
        assert_eq!((line.took_ms, line.cpu_ms, line.overshoot_ms), (501, 500, 1.234));
        assert_eq!((line.outcome, line.instance), (StopOutcome::Overran, 7));
    }
}

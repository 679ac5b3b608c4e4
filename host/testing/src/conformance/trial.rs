//! A check that is under way.

use std::time::{Duration, Instant};

use tidegate_runtime::{CallError, CallOutcome, EndCause, Hook, PluginStats};

use super::finding::{Finding, Grouped, Measure, Outcome, Problem, Unit};
use super::{Check, Kit, requests};
use crate::exchange::{Answer, By, Request};
use crate::plugin::Plugin;
use crate::setup::Setup;

/// Problems of one check that are told; of more there is a number.
const MOST_PROBLEMS: usize = 5;

/// Virtual time after which a plugin that has faulted has a new instance, and its breaker is closed again.
const RECOVERY: Duration = Duration::from_secs(30);

/// Notes of one check.
const MOST_NOTES: usize = 20;

/// Characters of a text that is told.
const LONGEST: usize = 1_000;

/// A check that is under way, and what it has found so far.
pub(super) struct Trial<'k> {
    pub(super) kit: &'k Kit,
    /// What the checks before it have found.
    earlier: &'k [Finding],
    began: Instant,
    finding: Finding,
    /// Problems beyond those that are told.
    more: u64,
}

impl<'k> Trial<'k> {
    pub(super) fn new(kit: &'k Kit, check: &'static Check, earlier: &'k [Finding]) -> Self {
        let finding = Finding { outcome: Outcome::Passed, notes: Vec::new(), ..Finding::skipped(check, "") };
        Self { kit, earlier, began: Instant::now(), finding, more: 0 }
    }

    /// Load the plugin and do this with it. `None` if it does not load, which is a problem.
    pub(super) fn with<T>(
        &mut self,
        change: impl FnOnce(Setup) -> Setup,
        test: impl FnOnce(&mut Self, &mut Plugin) -> T,
    ) -> Option<T> {
        match change(self.kit.set_up().patience(self.began + self.kit.patience).upstream(requests::upstream)).load() {
            Ok(mut plugin) => {
                let result = test(self, &mut plugin);
                self.finding.virtual_time += plugin.now();
                Some(result)
            }
            Err(error) => {
                self.problem(format!("it does not load: {error}"), None);
                None
            }
        }
    }

    /// Whether it has taken as long as it may.
    pub(super) fn is_out_of_patience(&self) -> bool {
        self.began.elapsed() > self.kit.patience
    }

    /// Something is wrong.
    pub(super) fn problem(&mut self, text: impl Into<String>, advice: Option<&str>) {
        let problem = Problem { text: plain(&text.into()), advice: advice.map(str::to_owned) };
        self.finding.outcome = Outcome::Failed;
        if self.finding.problems.contains(&problem) {
            return;
        }
        if self.finding.problems.len() < MOST_PROBLEMS {
            self.finding.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.finding.outcome != Outcome::Failed
    }

    /// Whether this check, which comes before it, has failed.
    pub(super) fn has_failed(&self, check: &str) -> bool {
        self.earlier.iter().any(|finding| finding.check.name == check && finding.outcome == Outcome::Failed)
    }

    /// Something to know.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = plain(&text.into());
        if !self.finding.notes.contains(&text) && self.finding.notes.len() < MOST_NOTES {
            self.finding.notes.push(text);
        }
    }

    /// The check does not apply.
    pub(super) fn skip(&mut self, reason: &str) {
        self.finding.outcome = Outcome::Skipped;
        self.note(reason);
    }

    /// A number; the last one of a name stands.
    pub(super) fn measure(&mut self, name: &'static str, value: u64, unit: Unit) {
        self.finding.measures.retain(|measure| measure.name != name);
        self.finding.measures.push(Measure { name, value, unit });
    }

    /// A time.
    pub(super) fn time(&mut self, name: &'static str, time: Duration) {
        self.measure(name, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Unit::Nanos);
    }

    /// How much of a limit was used.
    pub(super) fn share(&mut self, name: &'static str, used: Duration, limit: Duration) {
        let percent = (used.as_nanos() * 100).div_ceil(limit.as_nanos().max(1));
        self.measure(name, u64::try_from(percent).unwrap_or(u64::MAX), Unit::Percent);
    }

    /// The faults of an exchange, if there are any; `what` was sent. The plugin gets the time to recover from them.
    pub(super) fn look_at(&mut self, plugin: &mut Plugin, what: &str, answer: &Answer) {
        let faults: Vec<&CallError> = answer.failures.iter().filter(|error| is_fault(&error.cause)).collect();
        for error in &faults {
            let CallError { hook, cause, .. } = error;
            let text = format!("{what}: {hook} {}{}", told(cause), last_words(plugin, *hook));
            self.problem(text, Some(advice(cause)));
        }
        if !faults.is_empty() {
            plugin.advance(RECOVERY);
        }
    }

    /// Faults of work off the requests' path, of which no answer tells.
    pub(super) fn look_at_background(&mut self, plugin: &Plugin) {
        for hook in [Hook::OnTick, Hook::OnDeferred] {
            for (outcome, calls) in faults_of(&plugin.stats(), hook) {
                let words = last_words(plugin, hook);
                let (text, advice) = match outcome {
                    CallOutcome::Cpu | CallOutcome::Wall => (
                        format!("{hook} overran its `deferred` limit ({calls} calls){words}"),
                        "make the call do less, or raise `deferred` under [plugin.limits]",
                    ),
                    other => (
                        format!("{hook} ended with `{}` ({calls} calls){words}", other.as_str()),
                        "return an error instead: a fault costs the instance and everything it keeps",
                    ),
                };
                self.problem(text, Some(advice));
            }
        }
    }

    /// Send ordinary requests, one after the other, and look at what came of them.
    pub(super) fn converse(&mut self, plugin: &mut Plugin, requests: impl IntoIterator<Item = u64>) -> Traffic {
        let mut traffic = Traffic::default();
        for number in requests {
            let request = requests::ordinary(&self.kit.request, number);
            let what = describe(&request);
            let answer = plugin.send(request);
            traffic.add(&answer);
            self.look_at(plugin, &what, &answer);
        }
        traffic
    }

    /// What is said of it.
    pub(super) fn finish(mut self) -> Finding {
        if self.more > 0 {
            let text = format!("{} more like these", Grouped(self.more));
            self.finding.problems.push(Problem { text, advice: None });
        }
        self.finding.took = self.began.elapsed();
        self.finding
    }
}

/// What became of ordinary requests.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    /// Those that reached the upstream.
    pub(super) forwarded: u64,
    /// Those that the plugin answered itself.
    pub(super) answered: u64,
    /// Errors that hooks returned: the first one, and how many.
    pub(super) errors: Option<(CallError, u64)>,
}

impl Traffic {
    fn add(&mut self, answer: &Answer) {
        self.requests += 1;
        self.forwarded += u64::from(answer.forwarded.is_some());
        self.answered += u64::from(matches!(answer.by, By::Plugin(_)));
        for error in &answer.failures {
            if matches!(error.cause, EndCause::Returned { .. }) {
                let (_, count) = self.errors.get_or_insert_with(|| (error.clone(), 0));
                *count += 1;
            }
        }
    }
}

/// A text of which a part may come from the plugin: it cannot steer a terminal, and has an end.
fn plain(text: &str) -> String {
    let shown = |character: char| if character.is_control() && character != '\n' { '\u{fffd}' } else { character };
    let mut plain: String = text.trim_end().chars().take(LONGEST).map(shown).collect();
    if text.chars().nth(LONGEST).is_some() {
        plain.push_str(" [..]");
    }
    plain
}

/// A request in a few words.
pub(super) fn describe(request: &Request) -> String {
    format!("{} {}", request.method, request.target)
}

/// The last line that a hook has written, for what its trap does not say.
fn last_words(plugin: &Plugin, hook: Hook) -> String {
    let lines = plugin.log();
    let last = lines.iter().rev().find(|line| line.hook == hook.as_str());
    last.map(|line| format!("; its last line: {}", line.message.trim())).unwrap_or_default()
}

/// Whether a call that ended so has cost an instance: everything but an error that was returned, and what kept it from being
/// called at all.
pub(super) fn is_fault(cause: &EndCause) -> bool {
    cause.retires() && !matches!(cause, EndCause::Abandoned)
}

/// How a call ended, after the hook's name.
fn told(cause: &EndCause) -> String {
    match cause {
        EndCause::Cpu { limit, .. } => format!("overran its {limit:?} of CPU time (`cpu`)"),
        EndCause::Wall { limit } => format!("overran its {limit:?} of time (`wall`)"),
        EndCause::Memory { limit } => format!("ran out of memory ({limit} bytes, `memory`)"),
        EndCause::Stack => "overflowed its stack".to_owned(),
        other => other.to_string(),
    }
}

/// What to do about it.
fn advice(cause: &EndCause) -> &'static str {
    match cause {
        EndCause::Cpu { .. } => "make the hook do less, or raise `cpu` under [plugin.limits]",
        EndCause::Wall { .. } => {
            "give what the hook waits for a time-out that is shorter than `wall`, or raise `wall` under [plugin.limits]"
        }
        EndCause::Memory { .. } => {
            "bound what the hook keeps and copies, lower `body`, or raise `memory` under [plugin.limits]"
        }
        EndCause::Stack => "bound the depth of recursion: a parser that follows what a client nests needs a limit",
        EndCause::Trap { .. } => {
            "return an error, or answer, where the hook panics: a trap costs the instance and everything it keeps"
        }
        EndCause::Refused { .. } => "check what the hook passes on before it does: a refusal costs the instance",
        _ => "look at what the plugin logs",
    }
}

/// The faults of a hook by outcome.
pub(super) fn faults_of(stats: &PluginStats, hook: Hook) -> Vec<(CallOutcome, u64)> {
    let calls = stats.hooks.iter().filter(|stats| stats.hook == hook).flat_map(|stats| stats.calls);
    let faults = CallOutcome::ALL.into_iter().zip(calls).filter(|(outcome, calls)| {
        let is_fault = match outcome {
            CallOutcome::Cpu
            | CallOutcome::Wall
            | CallOutcome::Memory
            | CallOutcome::Stack
            | CallOutcome::Trap
            | CallOutcome::Refused => true,
            CallOutcome::Ok
            | CallOutcome::Error
            | CallOutcome::Overloaded
            | CallOutcome::Unavailable
            | CallOutcome::Abandoned => false,
        };
        is_fault && *calls > 0
    });
    faults.collect()
}

/// Calls of a hook that ended so.
pub(super) fn calls_of(stats: &PluginStats, hook: Hook, outcome: CallOutcome) -> u64 {
    let hook = stats.hooks.iter().find(|stats| stats.hook == hook);
    hook.and_then(|stats| stats.calls.get(outcome as usize)).copied().unwrap_or(0)
}

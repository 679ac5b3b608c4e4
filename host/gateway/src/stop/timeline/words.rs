//! What the drawings say, in words, and how texts of a report become fit to be shown.

use std::time::Duration;

use tidegate_runtime::StopOutcome;

use super::super::report::{DeferredReport, OutboxReport, PluginReport, Report};
use super::groups::Group;
use crate::config::HumanDuration;

/// The longest name that is shown whole.
const LONGEST_LABEL: usize = 24;
/// So many instances are called by their numbers where nothing else tells them apart.
const MOST_NUMBERS: usize = 4;

/// What to do about a plugin that overran.
pub(super) const OVERRUN_HINT: &str = "raise `shutdown` under [plugin.limits], or have the plugin watch its deadline";

/// A name that fits.
pub(super) fn label(name: &str) -> String {
    printable(name, LONGEST_LABEL)
}

/// `audit #3` for one instance, `audit ×4` for several.
pub(super) fn group_label(group: &Group<'_>) -> String {
    let name = label(&group.first.name);
    if group.len() == 1 { format!("{name} #{}", group.first.instance) } else { format!("{name} ×{}", group.len()) }
}

/// `text` on one line, at most `longest` characters of it, without anything a terminal would act on, a page would
/// choke on, or that would change the order in which the line is read.
pub(super) fn printable(text: &str, longest: usize) -> String {
    let mut clean: String =
        text.chars().map(|c| if is_printable(c) { c } else { ' ' }).take(longest.saturating_add(1)).collect();
    if clean.chars().count() > longest {
        clean = clean.chars().take(longest.saturating_sub(1)).chain(['…']).collect();
    }
    clean
}

/// No controls, no line breaks, none of the marks that turn the direction of text, nothing XML cannot hold.
pub(super) fn is_printable(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}'))
}

/// `12ms of 5s`, or `9ms–12ms of 5s` for several.
pub(super) fn times((least_ms, greatest_ms): (u64, u64), budget_ms: u64) -> String {
    if least_ms == greatest_ms {
        format!("{} of {}", human(greatest_ms), human(budget_ms))
    } else {
        format!("{}–{} of {}", human(least_ms), human(greatest_ms), human(budget_ms))
    }
}

pub(super) fn human(millis: u64) -> HumanDuration {
    HumanDuration(Duration::from_millis(millis))
}

/// A time as short as one wants to read it.
pub(super) fn human_fraction(millis: f64) -> HumanDuration {
    HumanDuration(Duration::try_from_secs_f64(millis.max(0.0) / 1e3).unwrap_or(Duration::MAX))
}

/// What sets an instance apart from the rest of its report.
pub(super) fn notes(report: &Report, plugin: &PluginReport, generations: bool) -> String {
    let generation = generations.then(|| format!("gen {}", plugin.generation));
    let reason = (plugin.reason != report.reason).then(|| plugin.reason.as_str().to_owned());
    generation.into_iter().chain(reason).collect::<Vec<_>>().join(", ")
}

/// Why, how long, and what the exit code means.
#[derive(Debug)]
pub(super) struct Verdict {
    /// `SIGTERM (terminate)`
    pub(super) cause: String,
    /// `stopped in 2s of 30s`
    pub(super) took: String,
    /// `exit 11`
    pub(super) exit: String,
    /// `requests were cut`
    pub(super) meaning: String,
    pub(super) mood: Mood,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Badly,
    /// Well so far, but it is not over.
    Open,
}

pub(super) fn verdict(report: &Report) -> Verdict {
    let cause = match &report.signal {
        Some(signal) => format!("{} ({})", label(signal), report.reason.as_str()),
        None => report.reason.as_str().to_owned(),
    };
    let (took, grace, code) = (human(report.took_ms), human(report.grace_ms), report.exit_code);
    let clean = code == 0 && report.unmapped_exit_code() == 0;
    let (took, exit, mood) = match (report.complete, clean) {
        (true, true) => (format!("stopped in {took} of {grace}"), format!("exit {code}"), Mood::Well),
        (true, false) => (format!("stopped in {took} of {grace}"), format!("exit {code}"), Mood::Badly),
        (false, true) => (format!("still stopping, {took} of {grace} so far"), "no exit code yet".into(), Mood::Open),
        (false, false) => {
            (format!("still stopping, {took} of {grace} so far"), format!("exit {code} so far"), Mood::Badly)
        }
    };
    let meaning = if mood == Mood::Open { "nothing has gone wrong so far".to_owned() } else { meaning(report) };
    Verdict { cause, took, exit, meaning, mood }
}

/// What the exit code says.
fn meaning(report: &Report) -> String {
    let words = |code| match code {
        0 => "all done in time".to_owned(),
        10 => "requests were cut".to_owned(),
        11 if report.plugins.iter().all(|plugin| plugin.outcome.is_clean()) => {
            "work that a plugin had put off was left undone".to_owned()
        }
        11 => "a plugin failed, trapped or overran its shutdown".to_owned(),
        12 => "events were left in the outbox, safe on disk".to_owned(),
        130 => "a second signal (SIGINT) ended it".to_owned(),
        143 => "a second signal (SIGTERM) ended it".to_owned(),
        129.. => format!("a second signal (number {}) ended it", code - 128),
        _ => "a code of another version".to_owned(),
    };
    match (report.exit_code, report.unmapped_exit_code()) {
        (0, unmapped) if unmapped != 0 => format!("{}, but `exit_zero` made {unmapped} a 0", words(unmapped)),
        (code, _) => words(code),
    }
}

/// The exchanges up to the last word, and that word: how many were cut.
pub(super) fn requests(report: &Report) -> (String, String) {
    let requests = &report.requests;
    let cut = if requests.cut == 0 { "none cut".to_owned() } else { format!("{} cut", requests.cut) };
    (format!("{} running at the signal; {} completed, ", requests.in_flight, requests.completed), cut)
}

/// What became of the work that a plugin had put off, up to the last word, and that word: how much was left.
pub(super) fn deferred(work: &DeferredReport) -> (String, String) {
    let DeferredReport { name, accepted, completed, failed, handed_over, left, .. } = work;
    let failed = if *failed > 0 { format!("{failed} failed, ") } else { String::new() };
    let handed_over = if *handed_over > 0 { format!("{handed_over} handed over, ") } else { String::new() };
    let left = if *left == 0 { "none left".to_owned() } else { format!("{left} left") };
    (format!("{}: {accepted} put off; {completed} completed, {failed}{handed_over}", label(name)), left)
}

/// The outbox in numbers, and whether events were left in it: `812 delivered since, 0 left, 3 dead letters`.
pub(super) fn outbox(report: &Report) -> Option<(String, Mood)> {
    let OutboxReport { pending, delivered, dead } = report.outbox?;
    let letters = if dead == 1 { "1 dead letter".to_owned() } else { format!("{dead} dead letters") };
    let mood = if pending > 0 { Mood::Badly } else { Mood::Well };
    Some((format!("{delivered} delivered since the signal, {pending} left, {letters}"), mood))
}

/// `1 instance`, `4 instances`
pub(super) fn instances(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

/// `and 3 more instances: 2 completed, 1 no-hook`
pub(super) fn left_out(counts: &[(StopOutcome, usize)]) -> Option<String> {
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let each: Vec<String> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    (total > 0).then(|| format!("and {total} more instance{}: {}", if total == 1 { "" } else { "s" }, each.join(", ")))
}

/// What an outcome means.
pub(super) fn explanation(outcome: StopOutcome) -> &'static str {
    match outcome {
        StopOutcome::Completed => "its shutdown returned in time",
        StopOutcome::Failed => "its shutdown returned an error",
        StopOutcome::Trapped => "its shutdown trapped",
        StopOutcome::Overran => "it was stopped at the end of its budget",
        StopOutcome::NoHook => "the plugin has no shutdown",
        StopOutcome::Abandoned => "a second signal came before it was done",
    }
}

/// The instances of one failure, and what sets them apart: `audit #1, #2`, `audit ×9 (gen 1, reload)`.
pub(super) fn culprits(group: &Group<'_>, notes: &str) -> String {
    let who = if group.len() > MOST_NUMBERS {
        group_label(group)
    } else {
        let numbers: Vec<String> = group.instances().map(|plugin| format!("#{}", plugin.instance)).collect();
        format!("{} {}", label(&group.first.name), numbers.join(", "))
    };
    if notes.is_empty() { who } else { format!("{who} ({notes})") }
}

/// How it came to that; of an overrun, whether it computed or waited.
pub(super) fn account(group: &Group<'_>) -> String {
    if group.first.outcome != StopOutcome::Overran {
        return explanation(group.first.outcome).to_owned();
    }
    let (_, cpu_ms) = group.range(|plugin| plugin.cpu_ms);
    let (late, budget) = (human_fraction(group.overshoot_ms()), human(group.first.budget_ms));
    format!("stopped {late} after its {budget} were up (CPU time {})", human(cpu_ms))
}

//! A shutdown report as a picture for the terminal: what a person wants to see at three in the morning.
//!
//! The verdict comes first, then one time axis for everything: phases, and the instances of plugins under the phase
//! that stopped them. Instances that ended alike share a line. What went wrong is spelled out at the end, where the
//! eye comes to rest. Colour repeats what words and signs say already, so nothing is lost without it.

mod axis;

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tidegate_runtime::StopOutcome;

use self::axis::{Axis, Span};
use super::phase::Phase;
use super::report::{PluginReport, Report};
use crate::config::HumanDuration;

/// The columns of a terminal that does not say how many it has.
pub const DEFAULT_WIDTH: usize = 80;
/// Below this a picture is no use; lines get longer than the terminal instead.
const LEAST_WIDTH: usize = 60;
/// Beyond this lines are hard to follow.
const MOST_WIDTH: usize = 140;
/// The longest name that is shown whole.
const LONGEST_LABEL: usize = 24;
/// Details are spelled out for this many lines; more are counted.
const MOST_DETAILS: usize = 12;
/// The longest error text that is shown, characters.
const LONGEST_ERROR: usize = 300;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Draw the report, `width` columns wide. The text has escape sequences; whoever prints it strips them where they do
/// not belong.
#[must_use]
pub fn draw(report: &Report, width: usize) -> String {
    let rows = rows(report);
    let label_width = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let times_width = rows.iter().map(|row| row.times.chars().count()).max().unwrap_or(0);
    let outcome_width =
        rows.iter().map(|row| row.outcome.map_or(0, |outcome| outcome.as_str().len())).max().unwrap_or(0);
    let text_width = label_width + times_width + outcome_width + 6;
    let axis = Axis::new(
        rows.iter().map(|row| row.span.end_ms()).max().unwrap_or(0).max(report.took_ms),
        width.clamp(LEAST_WIDTH, MOST_WIDTH).saturating_sub(text_width).max(20),
    );

    let mut text = verdict(report);
    text.push('\n');
    let _ = writeln!(text, "{:label_width$}  {DIM}{}{DIM:#}", "", axis.ruler());
    for row in &rows {
        let style = row.outcome.map_or(AnsiColor::Blue.on_default(), colour);
        let _ = write!(text, "{:label_width$}  {}", row.label, axis.bar(&row.span, style));
        let _ = write!(text, "  {:>times_width$}", row.times);
        if let Some(outcome) = row.outcome {
            let _ = write!(text, "  {style}{}{style:#}", outcome.as_str());
        }
        text.push('\n');
    }
    if rows.iter().any(|row| axis.shows_budget(&row.span)) {
        let past = if rows.iter().any(|row| axis.shows_excess(&row.span)) { "   ▒ past it" } else { "" };
        let _ = writeln!(text, "{:label_width$}  {DIM}│ end of the budget{past}{DIM:#}", "");
    }
    text.push('\n');
    totals(report, &mut text);
    details(report, &mut text);
    text
}

/// One line of the picture.
struct Row {
    label: String,
    span: Span,
    /// `12ms of 5s`
    times: String,
    /// For plugins.
    outcome: Option<StopOutcome>,
}

/// Phases in order; the plugins stand under the phase that stops them, or at the end if that never began.
fn rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    let stopping = Phase::Stopping.as_str();
    let mut plugins_placed = false;
    for phase in &report.phases {
        rows.push(Row {
            label: label(&phase.name, ""),
            span: Span { start_ms: phase.started_ms, took_ms: phase.took_ms, budget_ms: phase.budget_ms },
            times: times(phase.took_ms, phase.took_ms, phase.budget_ms),
            outcome: None,
        });
        if phase.name == stopping && !plugins_placed {
            plugins_placed = true;
            rows.extend(plugin_rows(report, phase.started_ms));
        }
    }
    if !plugins_placed {
        rows.extend(plugin_rows(report, 0));
    }
    rows
}

/// Instances of the same plugin that ended alike share a row, which is as long as the slowest of them.
fn plugin_rows(report: &Report, start_ms: u64) -> Vec<Row> {
    groups(&report.plugins)
        .into_iter()
        .map(|group| {
            let slowest = group.iter().map(|plugin| plugin.took_ms).max().unwrap_or(0);
            let fastest = group.iter().map(|plugin| plugin.took_ms).min().unwrap_or(0);
            let first = group.first().copied();
            let budget_ms = first.map_or(0, |plugin| plugin.budget_ms);
            Row {
                label: first.map_or(String::new(), |plugin| {
                    let suffix = instances(&group, plugin);
                    format!("  {}", label(&plugin.name, &suffix))
                }),
                span: Span { start_ms, took_ms: slowest, budget_ms },
                times: times(fastest, slowest, budget_ms),
                outcome: first.map(|plugin| plugin.outcome),
            }
        })
        .collect()
}

/// Instances by plugin, outcome and budget, in the order in which the report names the plugins.
fn groups(plugins: &[PluginReport]) -> Vec<Vec<&PluginReport>> {
    let mut groups: Vec<Vec<&PluginReport>> = Vec::new();
    let alike = |a: &PluginReport, b: &PluginReport| {
        a.name == b.name && a.digest == b.digest && a.outcome == b.outcome && a.budget_ms == b.budget_ms
    };
    let mut names: Vec<&str> = Vec::new();
    for plugin in plugins {
        if !names.contains(&plugin.name.as_str()) {
            names.push(&plugin.name);
        }
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| alike(first, plugin))) {
            Some(group) => group.push(plugin),
            None => groups.push(vec![plugin]),
        }
    }
    groups.sort_by_key(|group| {
        let first = group.first();
        (first.and_then(|first| names.iter().position(|name| *name == first.name)), first.map(|first| first.outcome))
    });
    groups
}

/// `#3` for one instance, `×4` for several.
fn instances(group: &[&PluginReport], first: &PluginReport) -> String {
    if group.len() == 1 { format!(" #{}", first.instance) } else { format!(" ×{}", group.len()) }
}

/// A name that fits, without anything a terminal would act on: a report may come from elsewhere.
fn label(name: &str, suffix: &str) -> String {
    let name = printable(name, LONGEST_LABEL);
    format!("{name}{suffix}")
}

/// `text` on one line, at most `longest` characters of it.
fn printable(text: &str, longest: usize) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest + 1).collect();
    if clean.chars().count() > longest {
        clean = clean.chars().take(longest.saturating_sub(1)).chain(['…']).collect();
    }
    clean
}

/// `12ms of 5s`, or `9ms–12ms of 5s` for several.
fn times(fastest_ms: u64, slowest_ms: u64, budget_ms: u64) -> String {
    if fastest_ms == slowest_ms {
        format!("{} of {}", human(slowest_ms), human(budget_ms))
    } else {
        format!("{}–{} of {}", human(fastest_ms), human(slowest_ms), human(budget_ms))
    }
}

fn human(millis: u64) -> HumanDuration {
    HumanDuration(Duration::from_millis(millis))
}

/// A time as short as one wants to read it.
fn human_fraction(millis: f64) -> HumanDuration {
    HumanDuration(Duration::try_from_secs_f64(millis.max(0.0) / 1e3).unwrap_or_default())
}

/// The first lines: why, how long, and what the exit code means.
fn verdict(report: &Report) -> String {
    let cause = match &report.signal {
        Some(signal) => format!("{} ({})", printable(signal, LONGEST_LABEL), report.reason.as_str()),
        None => report.reason.as_str().to_owned(),
    };
    let style = if report.exit_code == 0 && report.unmapped_exit_code() == 0 {
        AnsiColor::Green.on_default().bold()
    } else {
        AnsiColor::Red.on_default().bold()
    };
    format!(
        "{BOLD}{cause}{BOLD:#}: stopped in {} of {}\n{style}exit {}{style:#}: {}\n",
        human(report.took_ms),
        human(report.grace_ms),
        report.exit_code,
        meaning(report),
    )
}

/// What the exit code says, in words.
fn meaning(report: &Report) -> String {
    let words = |code| match code {
        0 => "all done in time".to_owned(),
        10 => "requests were cut".to_owned(),
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

/// Requests and plugins in numbers.
fn totals(report: &Report, text: &mut String) {
    let requests = &report.requests;
    let red = AnsiColor::Red.on_default();
    let cut = match requests.cut {
        0 => "none cut".to_owned(),
        cut => format!("{red}{cut} cut{red:#}"),
    };
    let _ = writeln!(
        text,
        "requests  {} running at the signal; {} completed, {cut}",
        requests.in_flight, requests.completed,
    );
    if report.plugins.is_empty() {
        let _ = writeln!(text, "plugins   no instances");
        return;
    }
    let counted: Vec<String> = StopOutcome::ALL
        .into_iter()
        .filter_map(|outcome| {
            let count = report.plugins.iter().filter(|plugin| plugin.outcome == outcome).count();
            let style = colour(outcome);
            (count > 0).then(|| format!("{style}{count} {}{style:#}", outcome.as_str()))
        })
        .collect();
    let total = report.plugins.len();
    let _ = writeln!(
        text,
        "plugins   {total} {}: {}",
        if total == 1 { "instance" } else { "instances" },
        counted.join(", ")
    );
}

/// What went wrong, plugin by plugin.
fn details(report: &Report, text: &mut String) {
    let unclean = groups(&report.plugins)
        .into_iter()
        .filter(|group| group.first().is_some_and(|first| !first.outcome.is_clean()))
        .collect::<Vec<_>>();
    if unclean.is_empty() {
        return;
    }
    text.push('\n');
    for group in unclean.iter().take(MOST_DETAILS) {
        let Some(first) = group.first() else { continue };
        let style = colour(first.outcome);
        let what = match first.outcome {
            StopOutcome::Overran => overrun(group, first),
            StopOutcome::Failed => "its shutdown returned an error".to_owned(),
            StopOutcome::Trapped => "its shutdown trapped".to_owned(),
            StopOutcome::Abandoned => "a second signal came before it was done".to_owned(),
            StopOutcome::Completed | StopOutcome::NoHook => String::new(),
        };
        let name = label(&first.name, &instances(group, first));
        let _ = writeln!(text, "{style}{name} {}{style:#}: {what}", first.outcome.as_str());
        let mut errors: Vec<&str> = group.iter().filter_map(|plugin| plugin.error.as_deref()).collect();
        errors.sort_unstable();
        errors.dedup();
        if let Some((error, others)) = errors.split_first() {
            let _ = writeln!(text, "    {}", printable(error, LONGEST_ERROR));
            if !others.is_empty() {
                let _ = writeln!(text, "    and {} more", others.len());
            }
        }
    }
    if let Some(more) = unclean.len().checked_sub(MOST_DETAILS).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more");
    }
    if unclean.iter().any(|group| group.first().is_some_and(|first| first.outcome == StopOutcome::Overran)) {
        let hint = AnsiColor::BrightCyan.on_default().bold();
        let _ = writeln!(
            text,
            "{hint}hint{hint:#}: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline"
        );
    }
}

/// How an overrun ended, and whether it computed or waited.
fn overrun(group: &[&PluginReport], first: &PluginReport) -> String {
    let worst = group.iter().map(|plugin| plugin.overshoot_ms).fold(0.0, f64::max);
    let cpu = group.iter().map(|plugin| plugin.cpu_ms).max().unwrap_or(0);
    format!("stopped {} after its {} were up (CPU time {})", human_fraction(worst), human(first.budget_ms), human(cpu),)
}

fn colour(outcome: StopOutcome) -> Style {
    match outcome {
        StopOutcome::Completed => AnsiColor::Green.on_default(),
        StopOutcome::NoHook => DIM,
        StopOutcome::Failed | StopOutcome::Abandoned => AnsiColor::Yellow.on_default(),
        StopOutcome::Trapped | StopOutcome::Overran => AnsiColor::Red.on_default(),
    }
}

#[cfg(test)]
mod tests;

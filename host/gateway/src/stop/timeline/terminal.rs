//! The timeline in a terminal.

mod columns;

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use tidegate_runtime::StopOutcome;

use self::columns::Columns;
use super::super::report::Report;
use super::groups::{Bounds, count};
use super::rows::{Row, Status, Subject, Timeline};
use super::words::{self, Mood};

/// The columns of a terminal that does not say how many it has.
pub const DEFAULT_WIDTH: usize = 80;
/// Below this a picture is no use; lines get longer than the terminal instead.
const LEAST_WIDTH: usize = 60;
/// Beyond this lines are hard to follow.
const MOST_WIDTH: usize = 140;
/// What a terminal shows without scrolling, about.
const BOUNDS: Bounds = Bounds { alike: 4, rows: 40 };
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
    let timeline = Timeline::new(report, BOUNDS);
    let lines: Vec<Line<'_>> = timeline.rows.iter().map(Line::new).collect();
    let widest = |width: fn(&Line<'_>) -> usize| lines.iter().map(width).max().unwrap_or(0);
    let label_width = widest(|line| line.label.chars().count());
    let times_width = widest(|line| line.times.chars().count());
    let status_width = widest(|line| line.status().len());
    let notes_width = widest(|line| line.row.notes.len());
    // Two blanks before each but the first.
    let text_width = label_width + times_width + status_width + 6 + if notes_width > 0 { notes_width + 2 } else { 0 };
    let columns = Columns::new(timeline.axis, width.clamp(LEAST_WIDTH, MOST_WIDTH).saturating_sub(text_width).max(20));

    let mut text = verdict(report);
    text.push('\n');
    let _ = writeln!(text, "{:label_width$}  {DIM}{}{DIM:#}", "", columns.ruler());
    for line in &lines {
        let style = line.row.status().map_or(AnsiColor::Blue.on_default(), colour);
        let _ = write!(text, "{:label_width$}  {}", line.label, columns.bar(&line.row.span, style));
        let _ = write!(text, "  {:>times_width$}", line.times);
        match (line.status(), line.row.notes.as_str()) {
            ("", _) => {}
            (status, "") => _ = write!(text, "  {style}{status}{style:#}"),
            (status, notes) => _ = write!(text, "  {style}{status:status_width$}{style:#}  {notes}"),
        }
        text.push('\n');
    }
    if let Some(left_out) = words::left_out(&timeline.left_out) {
        let _ = writeln!(text, "  {left_out}");
    }
    if timeline.shows_budget() {
        let past = if timeline.rows.iter().any(|row| columns.shows_excess(&row.span)) { "   ▒ past it" } else { "" };
        let _ = writeln!(text, "{:label_width$}  {DIM}│ end of the budget{past}{DIM:#}", "");
    }
    text.push('\n');
    totals(report, &mut text);
    details(&timeline, &mut text);
    text
}

/// A row, ready to be measured.
struct Line<'a> {
    row: &'a Row<'a>,
    label: String,
    times: String,
}

impl<'a> Line<'a> {
    fn new(row: &'a Row<'a>) -> Self {
        let indent = if matches!(row.subject, Subject::Instances(_)) { "  " } else { "" };
        Self { row, label: format!("{indent}{}", row.label()), times: row.times() }
    }

    fn status(&self) -> &'static str {
        self.row.status().map_or("", Status::as_str)
    }
}

/// The first lines: why, how long, and what the exit code means.
fn verdict(report: &Report) -> String {
    let verdict = words::verdict(report);
    let style = match verdict.mood {
        Mood::Well => AnsiColor::Green.on_default().bold(),
        Mood::Badly => AnsiColor::Red.on_default().bold(),
        Mood::Open => AnsiColor::Blue.on_default().bold(),
    };
    format!(
        "{BOLD}{}{BOLD:#}: {}\n{style}{}{style:#}: {}\n",
        verdict.cause, verdict.took, verdict.exit, verdict.meaning,
    )
}

/// Requests and plugins in numbers.
fn totals(report: &Report, text: &mut String) {
    let (requests, cut) = words::requests(report);
    let red = if report.requests.cut > 0 { AnsiColor::Red.on_default() } else { Style::new() };
    let _ = writeln!(text, "requests  {requests}{red}{cut}{red:#}");
    plugins(report, text);
    if let Some((outbox, mood)) = words::outbox(report) {
        let style = if mood == Mood::Badly { AnsiColor::Red.on_default() } else { Style::new() };
        let _ = writeln!(text, "outbox    {style}{outbox}{style:#}");
    }
}

fn plugins(report: &Report, text: &mut String) {
    if report.plugins.is_empty() {
        let _ = writeln!(text, "plugins   no instances");
    } else {
        outcomes(report, text);
    }
    for work in report.deferred.iter().take(MOST_DETAILS) {
        let (account, left) = words::deferred(work);
        let red = if work.left > 0 { AnsiColor::Red.on_default() } else { Style::new() };
        let _ = writeln!(text, "deferred  {account}{red}{left}{red:#}");
    }
    if let Some(more) = report.deferred.len().checked_sub(MOST_DETAILS).filter(|more| *more > 0) {
        let left: u64 = report.deferred.iter().skip(MOST_DETAILS).map(|work| work.left).sum();
        let _ = writeln!(text, "deferred  and {more} more plugins, {left} left");
    }
}

fn outcomes(report: &Report, text: &mut String) {
    let counted = count(report.plugins.iter()).into_iter().map(|(outcome, count)| {
        let style = outcome_colour(outcome);
        format!("{style}{count} {outcome}{style:#}")
    });
    let counted: Vec<String> = counted.collect();
    let _ = writeln!(text, "plugins   {}: {}", words::instances(report.plugins.len()), counted.join(", "));
}

/// What went wrong, plugin by plugin.
fn details(timeline: &Timeline<'_>, text: &mut String) {
    let unclean = &timeline.unclean;
    if unclean.is_empty() {
        return;
    }
    text.push('\n');
    for group in unclean.iter().take(MOST_DETAILS) {
        let outcome = group.first.outcome;
        let style = outcome_colour(outcome);
        let name = timeline.culprits(group);
        let _ = writeln!(text, "{style}{name} {outcome}{style:#}: {}", words::account(group));
        if let Some((error, others)) = group.errors().split_first() {
            let _ = writeln!(text, "    {}", words::printable(error, LONGEST_ERROR));
            if !others.is_empty() {
                let _ = writeln!(text, "    and {} more", others.len());
            }
        }
    }
    if let Some(more) = unclean.len().checked_sub(MOST_DETAILS).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more");
    }
    if unclean.iter().any(|group| group.first.outcome == StopOutcome::Overran) {
        let hint = AnsiColor::BrightCyan.on_default().bold();
        let _ = writeln!(text, "{hint}hint{hint:#}: {}", words::OVERRUN_HINT);
    }
}

fn colour(status: Status) -> Style {
    match status {
        Status::Running => AnsiColor::Blue.on_default(),
        Status::Ended(outcome) => outcome_colour(outcome),
    }
}

fn outcome_colour(outcome: StopOutcome) -> Style {
    match outcome {
        StopOutcome::Completed => AnsiColor::Green.on_default(),
        StopOutcome::NoHook => DIM,
        StopOutcome::Failed | StopOutcome::Abandoned => AnsiColor::Yellow.on_default(),
        StopOutcome::Trapped | StopOutcome::Overran => AnsiColor::Red.on_default(),
    }
}

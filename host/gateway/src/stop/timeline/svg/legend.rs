//! What the shapes and colours of the picture mean. Each outcome has a sign of its own beside its colour.

use std::fmt::Write;

use tidegate_runtime::StopOutcome;

use super::super::axis::Axis;
use super::super::groups::count;
use super::super::rows::{Row, Status, Subject, Timeline};
use super::super::words;
use super::text::{CHAR, GAP, ROW, width};

/// The height of a bar.
pub(super) const BAR: f64 = 12.0;
/// The width of all bars together.
pub(super) const CHART: f64 = 660.0;
/// The sign for a budget that goes on after the end of the axis.
pub(super) const ON: &str = "m0-3l3 3l-3 3";

/// How a row is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Phase,
    Running,
    Ended(StopOutcome),
}

impl Shape {
    pub(super) fn of(status: Option<Status>) -> Self {
        match status {
            None => Self::Phase,
            Some(Status::Running) => Self::Running,
            Some(Status::Ended(outcome)) => Self::Ended(outcome),
        }
    }

    /// The class in the style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Running => "phase running",
            Self::Ended(outcome) => outcome.as_str(),
        }
    }

    /// The outline of the sign, around 0 0, about 9 wide.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Phase => "",
            // Three dots.
            Self::Running => "M-4 0h1M-.5 0h1M3 0h1",
            // A tick.
            Self::Ended(StopOutcome::Completed) => "M-4 0L-1 3L4-3.5",
            // A dash.
            Self::Ended(StopOutcome::NoHook) => "M-3.5 0h7",
            // A cross.
            Self::Ended(StopOutcome::Failed) => "M-3.5-3.5l7 7m0-7l-7 7",
            // A triangle of warning.
            Self::Ended(StopOutcome::Trapped) => "M0-4l4.5 8h-9zM0-1v2.5",
            // An arrow through a line.
            Self::Ended(StopOutcome::Overran) => "M-4.5 0h9m-3-3l3 3l-3 3M-1.5-4v8",
            // A circle, struck through.
            Self::Ended(StopOutcome::Abandoned) => "M4 0a4 4 0 1 1-8 0a4 4 0 1 1 8 0zM-2.8 2.8l5.6-5.6",
        }
    }
}

/// Whether to show that it went on after its budget. Of an instance every bit counts: it was to be stopped then. A
/// phase ends when somebody looks at the clock, and has to be late by as much as can be seen.
pub(super) fn is_past(axis: Axis, row: &Row<'_>) -> bool {
    let span = row.span;
    let late = match &row.subject {
        Subject::Instances(group) => group.overshoot_ms() > 0.0 || span.end_ms() > span.budget_end_ms(),
        Subject::Phase { .. } => (axis.part(span.end_ms()) - axis.part(span.budget_end_ms())) * CHART >= 1.0,
    };
    span.budget_ms > 0 && late
}

/// What the picture refers to.
pub(super) fn definitions() -> &'static str {
    "<defs><pattern id=\"tidegate-past\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
     patternTransform=\"rotate(45)\"><rect class=\"past-ground\" width=\"5\" height=\"5\"/>\
     <rect class=\"past-line\" width=\"2\" height=\"5\"/></pattern></defs>\n"
}

/// An entry of the legend.
#[derive(Debug)]
struct Entry {
    swatch: Swatch,
    text: &'static str,
    title: &'static str,
}

/// What an entry shows.
#[derive(Debug, Clone, Copy)]
enum Swatch {
    /// A bar, with the sign that goes with it.
    Bar(Shape),
    /// A piece of the budget.
    Track,
    BudgetEnd,
    BudgetOn,
    Past,
}

impl Entry {
    fn mark(&self) -> &'static str {
        if let Swatch::Bar(shape) = self.swatch { shape.mark() } else { "" }
    }
}

/// The entries a picture needs.
#[derive(Debug)]
pub(super) struct Legend(Vec<Entry>);

impl Legend {
    pub(super) fn of(timeline: &Timeline<'_>) -> Self {
        let mut entries = Vec::new();
        let mut add = |swatch, text, title| entries.push(Entry { swatch, text, title });
        if timeline.rows.iter().any(|row| matches!(row.subject, Subject::Phase { .. })) {
            add(Swatch::Bar(Shape::Phase), "phase", "a phase of the stop");
        }
        if timeline.rows.iter().any(|row| row.status() == Some(Status::Running)) {
            add(Swatch::Bar(Shape::Running), "running", "it was not over when the report was made");
        }
        for (outcome, _) in count(timeline.report.plugins.iter()) {
            add(Swatch::Bar(Shape::Ended(outcome)), outcome.as_str(), words::explanation(outcome));
        }
        if timeline.rows.iter().any(|row| row.span.budget_ms > 0) {
            add(Swatch::Track, "budget", "the time it was given, as far as the picture goes");
        }
        if timeline.rows.iter().any(|row| row.span.budget_ms > 0 && !timeline.axis.shows_budget(&row.span)) {
            add(Swatch::BudgetOn, "goes on", "the budget ends after the last of what is drawn");
        }
        if timeline.shows_budget() {
            add(Swatch::BudgetEnd, "its end", "the end of the budget");
        }
        if timeline.rows.iter().any(|row| is_past(timeline.axis, row)) {
            add(Swatch::Past, "past it", "the time it took after the end of its budget");
        }
        Self(entries)
    }

    /// Draw it below `y`, in as many lines as it takes; its height.
    pub(super) fn draw(&self, available: f64, y: f64, text: &mut String) -> f64 {
        let swatch = GAP * 1.25;
        let (mut x, mut line) = (0.0, 0.0);
        for entry in &self.0 {
            let mark = if entry.mark().is_empty() { 0.0 } else { GAP };
            let needed = swatch + GAP / 2.0 + mark + width(entry.text) as f64 * CHAR;
            if x > 0.0 && x + needed > available {
                x = 0.0;
                line += ROW;
            }
            let (top, middle) = (y + line + (ROW - BAR) / 2.0, y + line + ROW / 2.0);
            let rect = |class| {
                let size = format!("width=\"{swatch}\" height=\"{BAR}\" rx=\"2\"");
                format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" {size}/>")
            };
            let (class, drawn) = match entry.swatch {
                Swatch::Bar(shape) => (shape.class(), rect("bar")),
                Swatch::Track => ("entry", rect("track")),
                Swatch::Past => ("entry", rect("past")),
                Swatch::BudgetEnd => {
                    let centre = x + swatch / 2.0;
                    ("entry", format!("<path class=\"budget\" d=\"M{centre:.1} {top:.1}v{BAR}\"/>"))
                }
                Swatch::BudgetOn => {
                    let centre = x + swatch / 2.0 - 1.5;
                    ("entry", format!("<path class=\"on\" d=\"M{centre:.1} {middle:.1}{ON}\"/>"))
                }
            };
            let _ = write!(text, "<g class=\"{class}\"><title>{}</title>{drawn}", entry.title);
            let mut at = x + swatch + GAP / 2.0;
            if !entry.mark().is_empty() {
                let place = format!("translate({:.1} {middle:.1})", at + 4.0);
                let _ = write!(text, "<path class=\"mark\" transform=\"{place}\" d=\"{}\"/>", entry.mark());
                at += mark;
            }
            let _ = writeln!(text, "<text x=\"{at:.1}\" y=\"{:.1}\">{}</text></g>", middle + 4.0, entry.text);
            x += needed + GAP * 1.25;
        }
        line + ROW
    }
}

//! The rows of a timeline, the same for every drawing of it.

use tidegate_runtime::StopOutcome;

use super::super::phase::Phase;
use super::super::report::{PhaseReport, Report};
use super::axis::{Axis, Span};
use super::groups::{Bounds, Group, group, within};
use super::words;

/// A report has four phases; one that comes from elsewhere gets no more than this drawn.
const MOST_PHASES: usize = 16;

/// A report, laid out.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    pub(super) report: &'a Report,
    pub(super) rows: Vec<Row<'a>>,
    pub(super) axis: Axis,
    /// Instances there was no room for, by outcome.
    pub(super) left_out: Vec<(StopOutcome, usize)>,
    /// What went wrong.
    pub(super) unclean: Vec<Group<'a>>,
    /// Whether instances are of more than one generation. Otherwise it is not worth a word.
    pub(super) generations: bool,
}

/// A bar and what belongs to it.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) span: Span,
    /// What sets it apart from the rest of the report: `gen 2, reload`; mostly empty.
    pub(super) notes: String,
}

/// What a row is about.
#[derive(Debug)]
pub(super) enum Subject<'a> {
    Phase { phase: &'a PhaseReport, state: PhaseState },
    Instances(Group<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhaseState {
    Over,
    /// The report was made before its end.
    Running,
}

/// Where it stands, for rows that have to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    Ended(StopOutcome),
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended(outcome) => outcome.as_str(),
        }
    }
}

impl<'a> Timeline<'a> {
    pub(super) fn new(report: &'a Report, bounds: Bounds) -> Self {
        let groups = group(&report.plugins);
        let generations = report.plugins.windows(2).any(|pair| match pair {
            [one, other] => one.generation != other.generation,
            _ => false,
        });
        let (shown, left_out) = within(bounds, &groups);
        let row = |group: Group<'a>, stopping_ms| Row {
            span: span(&group, stopping_ms),
            notes: words::notes(report, group.first, generations),
            subject: Subject::Instances(group),
        };
        // The plugins stand under the phase that stops them, or at the end if that never began.
        let stopping = report.phases.iter().take(MOST_PHASES).find(|phase| phase.name == Phase::Stopping.as_str());
        let mut instances: Vec<Row<'a>> =
            shown.into_iter().map(|group| row(group, stopping.map_or(0, |phase| phase.started_ms))).collect();
        let mut rows = Vec::new();
        let last = report.phases.last().filter(|_| !report.complete);
        for phase in report.phases.iter().take(MOST_PHASES) {
            let running = last.is_some_and(|last| std::ptr::eq(last, phase));
            let state = if running { PhaseState::Running } else { PhaseState::Over };
            rows.push(Row {
                subject: Subject::Phase { phase, state },
                span: Span { start_ms: phase.started_ms, took_ms: phase.took_ms, budget_ms: phase.budget_ms },
                notes: String::new(),
            });
            if stopping.is_some_and(|stopping| std::ptr::eq(stopping, phase)) {
                rows.append(&mut instances);
            }
        }
        rows.append(&mut instances);
        let end_ms = rows.iter().map(|row| row.span.end_ms()).max().unwrap_or(0).max(report.took_ms);
        let unclean = groups.into_iter().filter(|group| !group.first.outcome.is_clean()).collect();
        Self { report, rows, axis: Axis::new(end_ms), left_out, unclean, generations }
    }

    /// Whether the end of a budget is marked anywhere.
    pub(super) fn shows_budget(&self) -> bool {
        self.rows.iter().any(|row| self.axis.shows_budget(&row.span))
    }

    /// The instances of one failure, and what sets them apart.
    pub(super) fn culprits(&self, group: &Group<'_>) -> String {
        words::culprits(group, &words::notes(self.report, group.first, self.generations))
    }
}

impl Row<'_> {
    /// `draining`, `audit #3`, `audit ×4`, without indentation.
    pub(super) fn label(&self) -> String {
        match &self.subject {
            Subject::Phase { phase, .. } => words::label(&phase.name),
            Subject::Instances(group) => words::group_label(group),
        }
    }

    /// `12ms of 5s`, or `9ms–12ms of 5s` for several.
    pub(super) fn times(&self) -> String {
        let took = match &self.subject {
            Subject::Phase { phase, .. } => (phase.took_ms, phase.took_ms),
            Subject::Instances(group) => group.range(|plugin| plugin.took_ms),
        };
        words::times(took, self.span.budget_ms)
    }

    pub(super) fn status(&self) -> Option<Status> {
        match &self.subject {
            Subject::Phase { state: PhaseState::Over, .. } => None,
            Subject::Phase { state: PhaseState::Running, .. } => Some(Status::Running),
            Subject::Instances(group) => Some(Status::Ended(group.first.outcome)),
        }
    }
}

/// From when the first of them was told to stop, or from the beginning of the axis if that was earlier. `stopping_ms` is
/// when all are told that the report says nothing else of.
fn span(group: &Group<'_>, stopping_ms: u64) -> Span {
    let (_, took_ms) = group.range(|plugin| plugin.took_ms);
    let started = group.instances().filter_map(|plugin| plugin.started_ms).min();
    let Some(started) = started else {
        return Span { start_ms: stopping_ms, took_ms, budget_ms: group.first.budget_ms };
    };
    // What lies before the axis is cut off at its beginning.
    let before = started.min(0).unsigned_abs();
    Span {
        start_ms: started.max(0).unsigned_abs(),
        took_ms: took_ms.saturating_sub(before),
        budget_ms: group.first.budget_ms.saturating_sub(before),
    }
}

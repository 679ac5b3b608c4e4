//! The time axis: from milliseconds to columns.

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::config::HumanDuration;

/// Something that began, lasted, and had a budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start_ms: u64,
    pub(super) took_ms: u64,
    pub(super) budget_ms: u64,
}

impl Span {
    pub(super) fn end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.took_ms)
    }

    fn budget_end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.budget_ms)
    }
}

/// A stretch of time over a number of columns.
#[derive(Debug)]
pub(super) struct Axis {
    length_ms: u64,
    columns: usize,
}

impl Axis {
    pub(super) fn new(length_ms: u64, columns: usize) -> Self {
        Self { length_ms: length_ms.max(1), columns }
    }

    /// Columns from the beginning, in eighths.
    fn eighths(&self, at_ms: u64) -> usize {
        let whole = self.columns * 8;
        let at = at_ms.min(self.length_ms) as f64 / self.length_ms as f64 * whole as f64;
        // `at` lies between 0 and `whole`.
        at.round() as usize
    }

    /// The column in which a moment lies.
    fn column(&self, at_ms: u64) -> usize {
        (self.eighths(at_ms) / 8).min(self.columns.saturating_sub(1))
    }

    /// Whether the end of the budget is on the axis. A span without a budget has no mark.
    pub(super) fn shows_budget(&self, span: &Span) -> bool {
        span.budget_ms > 0 && span.budget_end_ms() <= self.length_ms
    }

    /// Whether the span goes on visibly after the end of its budget.
    pub(super) fn shows_excess(&self, span: &Span) -> bool {
        self.shows_budget(span) && self.column(span.end_ms()) > self.column(span.budget_end_ms())
    }

    /// The bar of a span, as wide as the axis.
    pub(super) fn bar(&self, span: &Span, style: Style) -> String {
        const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        let (begin, end) = (self.eighths(span.start_ms), self.eighths(span.end_ms()));
        let start = self.column(span.start_ms);
        let mark = self.shows_budget(span).then(|| self.column(span.budget_end_ms()));
        let over = Style::new().fg_color(Some(AnsiColor::Red.into()));
        let mut text = String::new();
        let mut current = Style::new();
        for column in 0..self.columns {
            let filled = match end.saturating_sub(column * 8) {
                // A bar begins at the left of its column; one that ends there too is as long as it lasted, and
                // something that took no time at all still shows.
                within if column == start && within <= 8 => end.saturating_sub(begin).max(1),
                filled => filled,
            };
            let (glyph, style) = match mark {
                Some(mark) if column == mark => ('│', over),
                Some(mark) if column > mark && filled > 0 => ('▒', over),
                _ if column < start => (' ', Style::new()),
                _ if filled >= 8 => ('█', style),
                _ => (PARTS.get(filled).copied().unwrap_or(' '), style),
            };
            // Blanks need no style; what follows in the same style needs no new one.
            if glyph != ' ' && style != current {
                let _ = write!(text, "{current:#}{style}");
                current = style;
            }
            text.push(glyph);
        }
        let _ = write!(text, "{current:#}");
        text
    }

    /// Marks at round times: `0s        500ms     1s        1.5s`.
    pub(super) fn ruler(&self) -> String {
        let step = self.step();
        let mut text = String::new();
        let mut at = 0u64;
        while at <= self.length_ms {
            let column = self.eighths(at) / 8;
            let mark = HumanDuration(Duration::from_millis(at)).to_string();
            let used = text.chars().count();
            if column + mark.chars().count() > self.columns || (at > 0 && column <= used) {
                break;
            }
            let _ = write!(text, "{:pad$}{mark}", "", pad = column - used);
            at = match at.checked_add(step) {
                Some(next) => next,
                None => break,
            };
        }
        text
    }

    /// A round time that leaves room for a dozen columns between marks.
    fn step(&self) -> u64 {
        let most = (self.columns / 12).max(1) as u64;
        let least = self.length_ms.div_ceil(most).max(1);
        let seconds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000];
        let minutes = [2, 5, 10, 15, 30, 60, 120, 240, 480, 960].map(|minutes| minutes * 60_000);
        seconds.into_iter().chain(minutes).find(|step| *step >= least).unwrap_or(least)
    }
}

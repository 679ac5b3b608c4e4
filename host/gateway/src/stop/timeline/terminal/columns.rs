//! The time axis in columns of a terminal, each of which a bar can fill by eighths.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::super::axis::{Axis, Span};

/// An axis over a number of columns.
#[derive(Debug)]
pub(super) struct Columns {
    axis: Axis,
    columns: usize,
}

impl Columns {
    pub(super) fn new(axis: Axis, columns: usize) -> Self {
        Self { axis, columns }
    }

    /// Columns from the beginning, in eighths.
    fn eighths(&self, at_ms: u64) -> usize {
        // Lies between 0 and all of them.
        (self.axis.part(at_ms) * (self.columns * 8) as f64).round() as usize
    }

    /// The column in which a moment lies.
    fn column(&self, at_ms: u64) -> usize {
        (self.eighths(at_ms) / 8).min(self.columns.saturating_sub(1))
    }

    /// Whether the span goes on visibly after the end of its budget.
    pub(super) fn shows_excess(&self, span: &Span) -> bool {
        self.axis.shows_budget(span) && self.column(span.end_ms()) > self.column(span.budget_end_ms())
    }

    /// The bar of a span, as wide as the axis.
    pub(super) fn bar(&self, span: &Span, style: Style) -> String {
        const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        let (begin, end) = (self.eighths(span.start_ms), self.eighths(span.end_ms()));
        let start = self.column(span.start_ms);
        let mark = self.axis.shows_budget(span).then(|| self.column(span.budget_end_ms()));
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

    /// Marks at round times, at least a dozen columns apart: `0s        500ms     1s        1.5s`.
    pub(super) fn ruler(&self) -> String {
        let mut text = String::new();
        let mut used = 0;
        for mark in self.axis.marks(self.columns / 12) {
            let column = self.eighths(mark.at_ms) / 8;
            let width = mark.text.chars().count();
            if column + width > self.columns || (used > 0 && column <= used) {
                break;
            }
            let _ = write!(text, "{:pad$}{}", "", mark.text, pad = column - used);
            used = column + width;
        }
        text
    }
}

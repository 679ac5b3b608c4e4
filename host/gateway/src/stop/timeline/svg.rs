//! The timeline as a picture that scales: a file of its own, or a part of a page.
//!
//! Everything is in it, the style and the shapes too. It is laid out in the columns of a monospaced font, so that
//! widths are known without one at hand; no text can run into another, whatever a report calls things.

mod chart;
mod legend;
mod text;

use std::fmt::Write;

use tidegate_runtime::StopOutcome;

use self::chart::chart;
use self::text::{CHAR, GAP, ROW, wrapped};
use super::super::report::Report;
use super::groups::{Bounds, count};
use super::markup::Escaped;
use super::rows::Timeline;
use super::words::{self, Mood};

/// What one wants to scroll through, and what a browser draws without effort.
pub(super) const BOUNDS: Bounds = Bounds { alike: 200, rows: 200 };
/// The rules for the classes that the picture uses.
pub(super) const STYLE: &str = include_str!("svg/picture.css");

/// Failures are spelled out for this many groups; more are counted.
const MOST_DETAILS: usize = 12;
/// The longest error text that is shown, characters.
const LONGEST_ERROR: usize = 300;
/// The report as an SVG file.
#[must_use]
pub fn svg(report: &Report) -> String {
    let timeline = Timeline::new(report, BOUNDS);
    let verdict = words::verdict(report);
    let (chart, chart_width, chart_height) = chart(&timeline);
    let width = chart_width.max(640.0) + 2.0 * GAP;
    let mut sheet = Sheet { width, text: String::new(), y: GAP };
    sheet.paragraph("heading", &format!("{}: {}", verdict.cause, verdict.took));
    let mood = mood_class(verdict.mood);
    sheet.paragraph(&format!("verdict {mood}"), &format!("{}: {}", verdict.exit, verdict.meaning));
    sheet.y += GAP / 2.0;
    let _ = writeln!(sheet.text, "<g transform=\"translate({GAP} {:.1})\">{chart}</g>", sheet.y);
    sheet.y += chart_height + GAP / 2.0;
    for line in totals(&timeline) {
        sheet.paragraph("", &line);
    }
    sheet.y += GAP / 2.0;
    for line in failures(&timeline) {
        sheet.paragraph("", &line);
    }
    let height = sheet.y + GAP / 2.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tidegate\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-labelledby=\"tidegate-title tidegate-desc\">\n\
         {}<style>\n{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{}</svg>\n",
        explained(&timeline),
        sheet.text,
    )
}

/// The chart and its legend alone, for a page that says the rest itself and has [`STYLE`].
pub(super) fn figure(timeline: &Timeline<'_>) -> String {
    let (chart, width, height) = chart(timeline);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tidegate\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-labelledby=\"tidegate-title tidegate-desc\">\n\
         {}{chart}</svg>\n",
        explained(timeline),
    )
}

pub(super) fn mood_class(mood: Mood) -> &'static str {
    match mood {
        Mood::Well => "well",
        Mood::Badly => "badly",
        Mood::Open => "open",
    }
}

/// Everything the picture says, for those who do not see it.
fn explained(timeline: &Timeline<'_>) -> String {
    let verdict = words::verdict(timeline.report);
    let words = [totals(timeline), failures(timeline)].concat();
    format!(
        "<title id=\"tidegate-title\">{}: {}; {}: {}</title>\n<desc id=\"tidegate-desc\">{}</desc>\n",
        Escaped(&verdict.cause),
        verdict.took,
        verdict.exit,
        Escaped(&verdict.meaning),
        Escaped(&words.join("\n")),
    )
}

fn totals(timeline: &Timeline<'_>) -> Vec<String> {
    let (requests, cut) = words::requests(timeline.report);
    let plugins = &timeline.report.plugins;
    let counted: Vec<String> =
        count(plugins.iter()).into_iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let plugins = match plugins.len() {
        0 => "plugins: no instances".to_owned(),
        total => format!("plugins: {}: {}", words::instances(total), counted.join(", ")),
    };
    let outbox = words::outbox(timeline.report).map(|(outbox, _)| format!("outbox: {outbox}"));
    [format!("requests: {requests}{cut}"), plugins].into_iter().chain(outbox).collect()
}

fn failures(timeline: &Timeline<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for group in timeline.unclean.iter().take(MOST_DETAILS) {
        lines.push(format!("{} {}: {}", timeline.culprits(group), group.first.outcome, words::account(group)));
        if let Some((error, others)) = group.errors().split_first() {
            let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
            lines.push(format!("    {}{more}", words::printable(error, LONGEST_ERROR)));
        }
    }
    if let Some(more) = timeline.unclean.len().checked_sub(MOST_DETAILS).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    if timeline.unclean.iter().any(|group| group.first.outcome == StopOutcome::Overran) {
        lines.push(format!("hint: {}", words::OVERRUN_HINT));
    }
    lines
}

/// A file of its own, from top to bottom.
struct Sheet {
    width: f64,
    text: String,
    y: f64,
}

impl Sheet {
    /// Text over as many lines as it takes.
    fn paragraph(&mut self, class: &str, text: &str) {
        let indent = text.chars().take_while(|c| *c == ' ').count();
        // Headings are set larger.
        let size = if class == "heading" { 1.3 } else { 1.1 };
        let columns = ((self.width - 2.0 * GAP) / (CHAR * size)) as usize;
        for line in wrapped(text.trim(), columns.saturating_sub(indent).max(20)) {
            self.y += ROW;
            let x = GAP + indent as f64 * CHAR;
            let y = self.y - ROW / 3.0;
            let _ = writeln!(self.text, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", Escaped(&line));
        }
    }
}

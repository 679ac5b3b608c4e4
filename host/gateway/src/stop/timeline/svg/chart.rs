//! The chart: a row of text and a bar for each row of the timeline, over a ruler, with a legend.

use std::fmt::Write;

use super::super::markup::Escaped;
use super::super::rows::{Row, Subject, Timeline};
use super::super::words;
use super::legend::{self, BAR, CHART, Legend, ON, Shape, is_past};
use super::text::{CHAR, GAP, ROW, width, wrapped};

/// What took no time at all still shows, and so does what came after its budget.
const LEAST_BAR: f64 = 2.0;
const LEAST_PAST: f64 = 4.0;
/// The longest text of a tooltip's line.
const LONGEST_LINE: usize = 400;

/// Where the columns of the chart begin.
struct Layout {
    chart_x: f64,
    /// Right edge.
    times_x: f64,
    status_x: f64,
    notes_x: f64,
    width: f64,
}

impl Layout {
    fn new(timeline: &Timeline<'_>) -> Self {
        let widest =
            |columns: fn(&Row<'_>) -> usize| timeline.rows.iter().map(columns).max().unwrap_or(0) as f64 * CHAR;
        let indented = timeline.rows.iter().any(|row| matches!(row.subject, Subject::Instances(_)));
        let label = widest(|row| width(&row.label())) + if indented { GAP } else { 0.0 };
        let chart_x = label + GAP;
        let times_x = chart_x + CHART + GAP + widest(|row| width(&row.times()));
        let status_x = times_x + GAP * 1.5;
        let status = widest(|row| row.status().map_or(0, |status| width(status.as_str())));
        let notes_x = status_x + GAP + status + GAP;
        let notes = widest(|row| width(&row.notes));
        let width = match (status > 0.0, notes > 0.0) {
            (_, true) => notes_x + notes,
            (true, false) => status_x + GAP + status,
            (false, false) => times_x,
        };
        Self { chart_x, times_x, status_x, notes_x, width: width.ceil() }
    }
}

/// The chart with its legend, its width and its height.
pub(super) fn chart(timeline: &Timeline<'_>) -> (String, f64, f64) {
    if timeline.rows.is_empty() {
        return (String::new(), 0.0, 0.0);
    }
    let layout = Layout::new(timeline);
    let mut text = legend::definitions().to_owned();
    let bottom = ROW * (timeline.rows.len() + 1) as f64;
    ruler(timeline, &layout, bottom, &mut text);
    for (number, row) in timeline.rows.iter().enumerate() {
        draw(timeline, row, &layout, ROW * (number + 1) as f64, &mut text);
    }
    let mut y = bottom;
    for line in remarks(timeline) {
        let columns = (layout.width / CHAR) as usize;
        for line in wrapped(&line, columns) {
            y += ROW;
            let _ = writeln!(text, "<text class=\"remark\" x=\"0\" y=\"{:.1}\">{}</text>", y - 7.0, Escaped(&line));
        }
    }
    y += GAP / 2.0;
    y += Legend::of(timeline).draw(layout.width, y, &mut text);
    (text, layout.width, y)
}

/// What has to be known to read the rows right.
fn remarks(timeline: &Timeline<'_>) -> Vec<String> {
    let groups = || {
        timeline.rows.iter().filter_map(|row| match &row.subject {
            Subject::Instances(group) => Some(group),
            Subject::Phase { .. } => None,
        })
    };
    let shared = "×: so many instances that ended alike; the bar is that of the slowest";
    let own = "an instance whose bar touches the left edge was told to stop before the others";
    let left_out = words::left_out(&timeline.left_out);
    let shared = groups().any(|group| group.len() > 1).then(|| shared.to_owned());
    let own = groups()
        .any(|group| group.instances().any(|plugin| plugin.started_ms.is_some_and(|at| at < 0)))
        .then(|| own.to_owned());
    left_out.into_iter().chain(shared).chain(own).collect()
}

/// Round times, as far apart as the longest of them needs.
fn ruler(timeline: &Timeline<'_>, layout: &Layout, bottom: f64, text: &mut String) {
    let fits = |most: &usize| {
        let longest = timeline.axis.marks(*most).iter().map(|mark| width(&mark.text)).max().unwrap_or(0);
        // The last one may have to lie before its mark.
        longest as f64 * CHAR * 1.5 + GAP <= CHART / *most as f64
    };
    let most = [8, 6, 4, 3, 2].into_iter().find(fits).unwrap_or(1);
    for mark in timeline.axis.marks(most) {
        let along = timeline.axis.part(mark.at_ms) * CHART;
        let x = layout.chart_x + along;
        let anchor = match along {
            0.0 => "start",
            along if along > CHART - GAP => "end",
            _ => "middle",
        };
        let _ = writeln!(text, "<path class=\"grid\" d=\"M{x:.1} {ROW}V{bottom:.1}\"/>");
        let _ = writeln!(
            text,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            ROW - 7.0,
            mark.text
        );
    }
}

fn draw(timeline: &Timeline<'_>, row: &Row<'_>, layout: &Layout, y: f64, text: &mut String) {
    let (axis, span) = (timeline.axis, row.span);
    let x = |at_ms| layout.chart_x + axis.part(at_ms) * CHART;
    let indent = if matches!(row.subject, Subject::Instances(_)) { GAP } else { 0.0 };
    let (baseline, top) = (y + ROW / 2.0 + 4.0, y + (ROW - BAR) / 2.0);
    let shape = Shape::of(row.status());
    let rect = |class: &str, from: f64, to: f64| {
        format!(
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            to - from
        )
    };
    let _ =
        writeln!(text, "<g class=\"row {}\"><title>{}</title>", shape.class(), Escaped(&particulars(row).join("\n")));
    let _ = write!(text, "<rect class=\"ground\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{ROW}\"/>", layout.width);
    let _ = write!(text, "<text class=\"label\" x=\"{indent}\" y=\"{baseline:.1}\">{}</text>", Escaped(&row.label()));
    let (start, end) = (x(span.start_ms), x(span.end_ms()));
    text.push_str(&rect("track", start, x(span.budget_end_ms())));
    // At the very end of the axis there would be nothing to see of a short one.
    let start = start.min(layout.chart_x + CHART - LEAST_BAR);
    text.push_str(&rect("bar", start, end.max(start + LEAST_BAR)));
    if is_past(axis, row) {
        let budget = x(span.budget_end_ms());
        text.push_str(&rect("past", budget, end.max(budget + LEAST_PAST)));
    }
    if axis.shows_budget(&span) {
        let at = x(span.budget_end_ms());
        let _ = write!(text, "<path class=\"budget\" d=\"M{at:.1} {:.1}v{}\"/>", top - 3.0, BAR + 6.0);
    } else if span.budget_ms > 0 {
        let _ =
            write!(text, "<path class=\"on\" d=\"M{:.1} {:.1}{ON}\"/>", layout.chart_x + CHART + 3.0, top + BAR / 2.0);
    }
    let times_x = layout.times_x;
    let _ = write!(
        text,
        "<text class=\"times\" x=\"{times_x:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>",
        row.times()
    );
    if let Some(status) = row.status() {
        let (mark_x, mark_y) = (layout.status_x, y + ROW / 2.0);
        let _ = write!(
            text,
            "<path class=\"mark\" transform=\"translate({mark_x:.1} {mark_y:.1})\" d=\"{}\"/>",
            shape.mark()
        );
        let status_x = layout.status_x + GAP * 0.75;
        let _ =
            write!(text, "<text class=\"status\" x=\"{status_x:.1}\" y=\"{baseline:.1}\">{}</text>", status.as_str());
    }
    if !row.notes.is_empty() {
        let notes_x = layout.notes_x;
        let _ =
            write!(text, "<text class=\"notes\" x=\"{notes_x:.1}\" y=\"{baseline:.1}\">{}</text>", Escaped(&row.notes));
    }
    text.push_str("</g>\n");
}

/// What there is to know of a row, exactly, a line each.
fn particulars(row: &Row<'_>) -> Vec<String> {
    let between = |(least, greatest): (u64, u64)| match least == greatest {
        true => format!("{greatest} ms"),
        false => format!("{least} to {greatest} ms"),
    };
    let group = match &row.subject {
        Subject::Phase { phase, .. } => {
            return vec![
                words::printable(&phase.name, LONGEST_LINE),
                format!("began {} ms after the signal", phase.started_ms),
                format!("took {} ms of {} ms", phase.took_ms, phase.budget_ms),
            ];
        }
        Subject::Instances(group) => group,
    };
    let first = group.first;
    let numbers = match group.len() {
        1 => format!("#{}", first.instance),
        several => {
            let (least, greatest) = group.range(|plugin| plugin.instance);
            format!("{several} instances, #{least} to #{greatest}")
        }
    };
    let mut lines = vec![
        format!("{} {numbers}", words::printable(&first.name, LONGEST_LINE)),
        format!("{}: {}", first.outcome, words::explanation(first.outcome)),
        format!("took {} of {} ms", between(group.range(|plugin| plugin.took_ms)), first.budget_ms),
        format!("CPU time {}", between(group.range(|plugin| plugin.cpu_ms))),
    ];
    if group.overshoot_ms() > 0.0 {
        lines.push(format!("{} ms after its budget", group.overshoot_ms()));
    }
    lines.push(format!("reason {}", first.reason.as_str()));
    lines.push(format!("generation {}", first.generation));
    lines.push(words::printable(&first.digest, LONGEST_LINE));
    if let Some((error, others)) = group.errors().split_first() {
        let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
        lines.push(format!("error: {}{more}", words::printable(error, LONGEST_LINE)));
    }
    lines
}

//! The timeline as a page: the picture, and beside it everything as text, for those who do not see the picture, print
//! the page, or want a figure they can copy.
//!
//! The page is one file: it loads nothing, runs nothing, and forbids the browser to do either.

use std::fmt::Write;

use tidegate_runtime::StopOutcome;

use super::super::report::Report;
use super::groups::{Group, count};
use super::markup::Escaped;
use super::rows::{Row, Subject, Timeline};
use super::svg::{self, BOUNDS};
use super::words::{self, Mood};

/// Failures are spelled out for this many groups; more are counted.
const MOST_DETAILS: usize = 50;
/// Different errors of one group.
const MOST_ERRORS: usize = 5;
/// The longest error text that is shown, characters.
const LONGEST_ERROR: usize = 2_000;
/// The longest digest that is shown: one of SHA-512 fits.
const LONGEST_DIGEST: usize = 160;
/// What is shown of a digest in a table, `sha256:` included.
const SHORT_DIGEST: usize = 20;
/// The longest name that is shown.
const LONGEST_NAME: usize = 200;

const STYLE: &str = include_str!("html/page.css");

/// The report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let timeline = Timeline::new(report, BOUNDS);
    let verdict = words::verdict(report);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <meta name=\"generator\" content=\"tidegate {}\"/>\n\
         <title>Shutdown report: {}, {}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n",
        env!("CARGO_PKG_VERSION"),
        verdict.exit,
        Escaped(&verdict.cause),
        svg::STYLE,
    );
    let _ = writeln!(
        page,
        "<header>\n<h1>{}: {}</h1>\n<p class=\"verdict {}\"><strong>{}</strong>: {}</p>\n</header>",
        Escaped(&verdict.cause),
        verdict.took,
        svg::mood_class(verdict.mood),
        verdict.exit,
        Escaped(&verdict.meaning),
    );
    totals(report, &mut page);
    // A process that was stopped before it served has nothing to draw.
    if !timeline.rows.is_empty() {
        let _ = writeln!(page, "<figure>\n{}</figure>", svg::figure(&timeline));
    }
    failures(&timeline, &mut page);
    phases(&timeline, &mut page);
    instances(&timeline, &mut page);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Requests and plugins in numbers.
fn totals(report: &Report, page: &mut String) {
    let (requests, cut) = words::requests(report);
    let cut = if report.requests.cut > 0 { format!("<strong class=\"badly\">{cut}</strong>") } else { cut };
    let counted: Vec<String> = count(report.plugins.iter())
        .into_iter()
        .map(|(outcome, count)| match outcome.is_clean() {
            true => format!("{count} {outcome}"),
            false => format!("<strong class=\"badly\">{count} {outcome}</strong>"),
        })
        .collect();
    let plugins = match report.plugins.len() {
        0 => "no instances".to_owned(),
        total => format!("{}: {}", words::instances(total), counted.join(", ")),
    };
    let outbox = words::outbox(report).map(|(outbox, mood)| match mood {
        Mood::Badly => format!("<div><dt>outbox</dt><dd><strong class=\"badly\">{outbox}</strong></dd></div>\n"),
        Mood::Well | Mood::Open => format!("<div><dt>outbox</dt><dd>{outbox}</dd></div>\n"),
    });
    let outbox = outbox.unwrap_or_default();
    let _ = writeln!(
        page,
        "<dl>\n<div><dt>requests</dt><dd>{requests}{cut}</dd></div>\n<div><dt>plugins</dt><dd>{plugins}</dd></div>"
    );
    for work in report.deferred.iter().take(MOST_DETAILS) {
        let (account, left) = words::deferred(work);
        let left = if work.left > 0 { format!("<strong class=\"badly\">{left}</strong>") } else { left };
        let _ = writeln!(page, "<div><dt>deferred</dt><dd>{}{left}</dd></div>", Escaped(&account));
    }
    if let Some(more) = report.deferred.len().checked_sub(MOST_DETAILS).filter(|more| *more > 0) {
        let left: u64 = report.deferred.iter().skip(MOST_DETAILS).map(|work| work.left).sum();
        let _ = writeln!(page, "<div><dt>deferred</dt><dd>and {more} more plugins, {left} left</dd></div>");
    }
    let _ = writeln!(page, "{outbox}</dl>");
}

/// What went wrong, plugin by plugin.
fn failures(timeline: &Timeline<'_>, page: &mut String) {
    let unclean = &timeline.unclean;
    if unclean.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>What went wrong</h2>\n<ul>\n");
    for group in unclean.iter().take(MOST_DETAILS) {
        let outcome = group.first.outcome;
        let _ = write!(
            page,
            "<li><strong class=\"{outcome}\">{} {outcome}</strong>: {}",
            Escaped(&timeline.culprits(group)),
            words::account(group),
        );
        let errors = group.errors();
        for error in errors.iter().take(MOST_ERRORS) {
            let _ = write!(page, "\n<pre>{}</pre>", Escaped(&words::printable(error, LONGEST_ERROR)));
        }
        if let Some(more) = errors.len().checked_sub(MOST_ERRORS).filter(|more| *more > 0) {
            let _ = write!(page, "\n<p>and {more} more</p>");
        }
        page.push_str("</li>\n");
    }
    if let Some(more) = unclean.len().checked_sub(MOST_DETAILS).filter(|more| *more > 0) {
        let _ = writeln!(page, "<li>and {more} more</li>");
    }
    page.push_str("</ul>\n");
    if unclean.iter().any(|group| group.first.outcome == StopOutcome::Overran) {
        let _ = writeln!(page, "<p class=\"hint\"><strong>hint</strong>: {}</p>", words::OVERRUN_HINT);
    }
    page.push_str("</section>\n");
}

fn phases(timeline: &Timeline<'_>, page: &mut String) {
    let phases: Vec<&Row<'_>> =
        timeline.rows.iter().filter(|row| matches!(row.subject, Subject::Phase { .. })).collect();
    if phases.is_empty() {
        return;
    }
    table(page, "Phases", &["phase", "began after", "took", "budget", "past it"]);
    for row in phases {
        let span = row.span;
        let past = if span.budget_ms > 0 { span.took_ms.saturating_sub(span.budget_ms) } else { 0 };
        let running = if row.status().is_some() { " (running)" } else { "" };
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}{running}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&row.label()),
            words::human(span.start_ms),
            words::human(span.took_ms),
            words::human(span.budget_ms),
            if past > 0 { words::human(past).to_string() } else { String::new() },
        );
    }
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

/// The rows of the picture again. Errors are not: they stand above.
fn instances(timeline: &Timeline<'_>, page: &mut String) {
    let groups: Vec<&Group<'_>> = timeline
        .rows
        .iter()
        .filter_map(|row| match &row.subject {
            Subject::Instances(group) => Some(group),
            Subject::Phase { .. } => None,
        })
        .collect();
    if groups.is_empty() {
        return;
    }
    let generation: &[&str] = if timeline.generations { &["generation"] } else { &[] };
    let columns = ["plugin", "instance", "outcome", "took", "budget", "past it", "CPU time", "reason"];
    table(page, "Instances", &[&columns, generation, &["digest"]].concat());
    for group in groups {
        let first = group.first;
        let instance = match (group.len(), group.range(|plugin| plugin.instance)) {
            (1, (number, _)) => format!("#{number}"),
            (several, (least, greatest)) => format!("×{several} (#{least} to #{greatest})"),
        };
        let human = |(least, greatest): (u64, u64)| match least == greatest {
            true => words::human(greatest).to_string(),
            false => format!("{}–{}", words::human(least), words::human(greatest)),
        };
        let past = Some(group.overshoot_ms()).filter(|late| *late > 0.0).map(words::human_fraction);
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{instance}</td><td class=\"{outcome}\">{outcome}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            Escaped(&words::printable(&first.name, LONGEST_NAME)),
            human(group.range(|plugin| plugin.took_ms)),
            words::human(first.budget_ms),
            past.map_or(String::new(), |past| past.to_string()),
            human(group.range(|plugin| plugin.cpu_ms)),
            first.reason.as_str(),
            outcome = first.outcome,
        );
        if timeline.generations {
            let _ = write!(page, "<td>{}</td>", first.generation);
        }
        let _ = writeln!(
            page,
            "<td><code title=\"{}\">{}</code></td></tr>",
            Escaped(&words::printable(&first.digest, LONGEST_DIGEST)),
            Escaped(&words::printable(&first.digest, SHORT_DIGEST)),
        );
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    if let Some(left_out) = words::left_out(&timeline.left_out) {
        let _ = writeln!(page, "<p>{left_out}</p>");
    }
    page.push_str("</section>\n");
}

/// The beginning of a table.
fn table(page: &mut String, title: &str, columns: &[&str]) {
    let _ = write!(page, "<section>\n<h2>{title}</h2>\n<div class=\"wide\">\n<table>\n<thead><tr>");
    for column in columns {
        let _ = write!(page, "<th scope=\"col\">{column}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
}

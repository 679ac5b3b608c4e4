//! Pages and pictures: well-formed, self-contained, whole, whatever a report has in it.

use tidegate_runtime::{StopOutcome, StopReason};

use super::super::{html, svg};
use super::{phase, report, stubborn, usual};
use crate::stop::report::tests::plugin;
use crate::stop::report::{PluginReport, Report, Requests};

/// Read markup as strictly as XML is read, as far as we write it: every element is closed in its turn, every `&` begins
/// an entity that is known, attributes have quotes, and nothing is in it that XML cannot hold.
#[track_caller]
pub(super) fn check_markup(markup: &str) {
    let forbidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202e}');
    assert!(!markup.contains(forbidden), "{markup:?}");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some((text, tail)) = rest.split_once('<') {
        assert!(!text.contains('>') || open.last() == Some(&"style"), "{text}");
        check_entities(text);
        let (tag, tail) = tail.split_once('>').expect("a tag ends");
        rest = tail;
        check_entities(tag);
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        let known = "html head meta title style body main header h1 h2 p strong dl div dt dd figure section ul li pre \
                     table thead tbody tr th td code svg desc defs pattern rect g path text";
        assert!(known.split(' ').any(|known| known == name) || tag == "!DOCTYPE html", "<{tag}>");
        let attributes = tag.strip_prefix(name).unwrap_or_default().trim_end_matches('/');
        assert!(attributes.split('"').count() % 2 == 1, "<{tag}>");
        // Outside of quotes there are names alone.
        let unquoted: String = attributes.split('"').step_by(2).collect();
        assert!(unquoted.chars().all(|c| c.is_ascii_alphabetic() || "- =\n".contains(c)) || tag.starts_with('!'));
        assert!(unquoted.split(['=', ' ', '\n']).all(|name| !name.starts_with("on")), "<{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && !tag.starts_with('!') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let outside = markup.replace("http://www.w3.org/2000/svg", "").replace("url(#tidegate-past)", "");
    for loads in ["://", "url(", "@import", "src=", "href="] {
        // What stands in a text loads nothing.
        let tags = outside.split('<').filter_map(|part| part.split_once('>'));
        assert!(!tags.clone().any(|(tag, _)| tag.contains(loads) && !tag.contains("title=")), "{loads}");
        assert!(!tags.clone().any(|(tag, text)| tag == "style" && text.contains(loads)), "{loads}");
    }
}

#[track_caller]
fn check_entities(text: &str) {
    for part in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|entity| part.starts_with(entity));
        assert!(known, "&{part}");
    }
}

#[track_caller]
fn check_has(markup: &str, parts: &[&str]) {
    check_markup(markup);
    for part in parts {
        assert!(markup.contains(part), "no {part:?} in:\n{markup}");
    }
}

fn hostile() -> Report {
    let name = "</title><script>alert(1)</script>\u{1b}[31m\u{202e}\u{0}&amp;\"'";
    let mut report = usual(vec![PluginReport {
        name: name.to_owned(),
        digest: "\" onmouseover=\"alert(1)".to_owned(),
        instance: u64::MAX,
        generation: u64::MAX,
        budget_ms: u64::MAX,
        took_ms: u64::MAX,
        cpu_ms: u64::MAX,
        overshoot_ms: f64::MAX,
        error: Some("]]></style></svg>\n<img src=x onerror=alert(1)>".repeat(100)),
        reason: StopReason::ScaleIn,
        ..stubborn()
    }]);
    report.phases.push(phase(name, u64::MAX, u64::MAX, u64::MAX));
    report.plugins.push(plugin("名前", 1, StopOutcome::NoHook, 0));
    report.signal = Some("SIG<script>".to_owned());
    (report.took_ms, report.grace_ms) = (u64::MAX, u64::MAX);
    report.requests = Requests { in_flight: u64::MAX, completed: u64::MAX, cut: u64::MAX };
    report
}

#[test]
fn a_page_says_what_the_terminal_says_and_more() {
    let report = usual(vec![
        plugin("audit", 0, StopOutcome::Completed, 12),
        plugin("audit", 1, StopOutcome::Completed, 13),
        stubborn(),
    ]);
    for drawn in [html(&report), svg(&report)] {
        check_has(
            &drawn,
            &[
                "SIGTERM (terminate): stopped in 2.317s of 30s",
                "exit 11",
                "a plugin failed, trapped or overran its shutdown",
                "3 running at the signal; 3 completed, none cut",
                "role=\"img\" aria-labelledby=\"tidegate-title tidegate-desc\"",
                "<title id=\"tidegate-title\">",
                "<desc id=\"tidegate-desc\">",
                "prefers-color-scheme: dark",
                ">audit #0</text>",
                ">audit #1</text>",
                ">2.003s of 2s</text>",
                // A sign and a word beside each colour.
                "class=\"mark\"",
                ">overran</text>",
                "class=\"budget\"",
                "class=\"past\"",
                "stopped 2.68ms after its 2s were up (CPU time 1.987s)",
                "stopped after 1.987s of CPU time (limit 2s)",
                "raise `shutdown` under [plugin.limits]",
                // The exact figures, for a pointer that rests on a row.
                "<title>stubborn #0\noverran: it was stopped at the end of its budget\ntook 2003 ms of 2000 ms\n\
                 CPU time 1987 ms\n2.684 ms after its budget\nreason terminate\ngeneration 1\nsha256:0123456789abcdef",
                "error: stopped after 1.987s of CPU time (limit 2s)</title>",
                "<title>draining\nbegan 0 ms after the signal\ntook 310 ms of 15000 ms</title>",
            ],
        );
    }
    check_has(
        &html(&report),
        &[
            "<title>Shutdown report: exit 11, SIGTERM (terminate)</title>",
            "default-src 'none'",
            "<td class=\"overran\">overran</td><td>2.003s</td><td>2s</td><td>2.68ms</td><td>1.987s</td><td>terminate</td>",
        ],
    );
}

#[test]
fn reasons_generations_and_an_open_end_are_in_a_page_too() {
    let old = PluginReport {
        reason: StopReason::Quarantine,
        started_ms: Some(-30),
        ..plugin("auth", 0, StopOutcome::Completed, 80)
    };
    let mut report = usual(vec![old, plugin("audit", 0, StopOutcome::Completed, 12)]);
    for drawn in [html(&report), svg(&report)] {
        check_has(&drawn, &[">quarantine</text>", "an instance whose bar touches the left edge"]);
        assert!(!drawn.contains(">gen "), "{drawn}");
    }
    report.plugins.push(PluginReport { generation: 2, ..plugin("auth", 0, StopOutcome::Completed, 3) });
    report.complete = false;
    report.exit_code = 0;
    for drawn in [html(&report), svg(&report)] {
        check_has(&drawn, &[">gen 1, quarantine</text>", ">gen 2</text>", ">running</text>"]);
        check_has(
            &drawn,
            &["still stopping, 2.317s of 30s so far", "no exit code yet", "nothing has gone wrong so far"],
        );
    }
    check_has(&html(&report), &["<th scope=\"col\">generation</th>", "<td>2</td>"]);
}

#[test]
fn nothing_of_a_report_becomes_markup() {
    let report = hostile();
    for drawn in [html(&report), svg(&report)] {
        check_has(&drawn, &["&lt;/title&gt;&lt;script&gt;alert(1… #18446744073709551615", "SIG&lt;script&gt;"]);
        assert!(!drawn.contains("<script") && !drawn.contains("<img"), "{drawn}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }
}

#[test]
fn ten_thousand_instances_make_a_page_one_can_open() {
    let mut plugins: Vec<_> = (0..9_000).map(|n| plugin("audit", n, StopOutcome::Completed, n % 2_000)).collect();
    plugins.extend((0..1_000).map(|n| plugin(&format!("p{n}"), 0, StopOutcome::NoHook, 0)));
    plugins.push(stubborn());
    let report = usual(plugins);
    for drawn in [html(&report), svg(&report)] {
        check_has(
            &drawn,
            &[
                ">audit ×9000</text>",
                ">stubborn #0</text>",
                "×: so many instances that ended alike; the bar is that of the slowest",
                "and 802 more instances: 802 no-hook",
                "<title>audit 9000 instances, #0 to #8999\n",
            ],
        );
        assert_eq!(drawn.matches("<g class=\"row ").count(), 4 + 200);
        assert!(drawn.len() < 300_000, "{}", drawn.len());
    }
    // Each has a row of its own as long as there are no more rows than one wants to scroll through.
    let fewer = usual((0..200).map(|n| plugin("audit", n, StopOutcome::Completed, n)).collect());
    check_has(&svg(&fewer), &[">audit #0</text>", ">audit #199</text>"]);
}

#[test]
fn a_stop_without_anything_to_draw_is_a_page_all_the_same() {
    let nothing = report(Vec::new(), Requests::default(), Vec::new());
    for drawn in [html(&nothing), svg(&nothing)] {
        check_has(&drawn, &["stopped in 0s of 30s", "exit 0", "all done in time", "no instances"]);
        assert!(!drawn.contains("class=\"bar\""), "{drawn}");
    }
    // What took no time still has a bar.
    let short = report(vec![phase("draining", 0, 0, 0)], Requests::default(), Vec::new());
    check_has(&svg(&short), &["width=\"2.0\" height=\"12\""]);
}

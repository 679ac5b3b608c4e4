//! Which rows there are, and what is said beside them.

use tidegate_runtime::{StopOutcome, StopReason};

use super::super::draw;
use super::{check, phase, report, stubborn, usual};
use crate::stop::report::tests::plugin;
use crate::stop::report::{PluginReport, Report, Requests};

#[test]
fn many_that_ended_alike_share_a_row_below_those_that_have_one_each() {
    let mut plugins: Vec<_> = (0..5).map(|n| plugin("audit", n, StopOutcome::Completed, 100 * n)).collect();
    plugins.push(PluginReport { error: Some("no".to_owned()), ..plugin("audit", 5, StopOutcome::Failed, 80) });
    check(
        &usual(plugins),
        80,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 11: a plugin failed, trapped or overran its shutdown

            0s              1s               2s
lame-duck   ▏                                                0s of 0s
draining    █████▎                                       310ms of 15s
stopping         █████████████████████████████████▉  2.003s of 19.69s
  audit #5       █▋                                        80ms of 5s  failed
  audit ×5       ███████                               0s–400ms of 5s  completed
flushing                                          ▏    4ms of 20.687s

requests  3 running at the signal; 3 completed, none cut
plugins   6 instances: 5 completed, 1 failed

audit #5 failed: its shutdown returned an error
    no
"#,
    );
}

#[test]
fn a_tall_report_is_cut_to_what_a_terminal_shows() {
    // Plugins of two instances each: at first each has a row, then each plugin, then there are too many of them.
    let rows = |plugins: usize| {
        let instances = (0..plugins * 2).map(|n| {
            let outcome = if n / 2 == plugins - 1 { StopOutcome::Trapped } else { StopOutcome::Completed };
            plugin(&format!("p{}", n / 2), n as u64 % 2, outcome, 5)
        });
        let shown = anstream::adapter::strip_str(&draw(&usual(instances.collect()), 80)).to_string();
        let rows = shown.lines().filter(|line| line.starts_with("  p")).count();
        let left_out = shown.lines().find_map(|line| line.strip_prefix("  and ")).map(str::to_owned);
        let last = format!("  p{} #0 ", plugins - 1);
        (rows, left_out, shown.lines().any(|line| line.starts_with(&last)))
    };
    assert_eq!(rows(20), (40, None, true));
    assert_eq!(rows(30), (40, None, true));
    assert_eq!(rows(40), (40, None, false));
    assert_eq!(rows(41), (40, Some("2 more instances: 2 completed".to_owned()), false));
    assert_eq!(rows(5_000), (40, Some("9920 more instances: 9920 completed".to_owned()), false));
}

#[test]
fn what_sets_an_instance_apart_is_said_beside_it() {
    let old = PluginReport { reason: StopReason::Reload, ..stubborn() };
    let mut report = usual(vec![old, plugin("audit", 0, StopOutcome::Completed, 400)]);
    check(
        &report,
        80,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 11: a plugin failed, trapped or overran its shutdown

               0s                      2s
lame-duck      ▏                                     0s of 0s
draining       ███▊                              310ms of 15s
stopping          █████████████████████████  2.003s of 19.69s
  stubborn #0     ████████████████████████│      2.003s of 2s  overran    reload
  audit #0        █████▋                          400ms of 5s  completed
flushing                                  ▏    4ms of 20.687s
               │ end of the budget

requests  3 running at the signal; 3 completed, none cut
plugins   2 instances: 1 completed, 1 overran

stubborn #0 (reload) overran: stopped 2.68ms after its 2s were up (CPU time 1.987s)
    stopped after 1.987s of CPU time (limit 2s)
hint: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline
"#,
    );
    report.plugins.push(PluginReport { generation: 2, ..plugin("stubborn", 0, StopOutcome::Completed, 1) });
    check(
        &report,
        100,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 11: a plugin failed, trapped or overran its shutdown

               0s               1s                2s
lame-duck      ▏                                                  0s of 0s
draining       █████▌                                         310ms of 15s
stopping            ███████████████████████████████████▉  2.003s of 19.69s
  stubborn #0       ███████████████████████████████████│      2.003s of 2s  overran    gen 1, reload
  stubborn #0       ▏                                            1ms of 5s  completed  gen 2
  audit #0          ███████▋                                   400ms of 5s  completed  gen 1
flushing                                               ▏    4ms of 20.687s
               │ end of the budget

requests  3 running at the signal; 3 completed, none cut
plugins   3 instances: 2 completed, 1 overran

stubborn #0 (gen 1, reload) overran: stopped 2.68ms after its 2s were up (CPU time 1.987s)
    stopped after 1.987s of CPU time (limit 2s)
hint: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline
"#,
    );
    // Where all are of one generation, which one does not matter.
    report.plugins.iter_mut().for_each(|plugin| plugin.generation = 7);
    assert!(!draw(&report, 100).contains("gen "));
}

#[test]
fn a_stop_that_still_runs_says_so() {
    let phases = vec![phase("lame-duck", 0, 500, 500), phase("draining", 500, 700, 5_000)];
    let requests = Requests { in_flight: 9, completed: 4, cut: 0 };
    let mut report = Report { complete: false, ..report(phases, requests, vec![]) };
    check(
        &report,
        80,
        r#"
SIGTERM (terminate): still stopping, 1.2s of 30s so far
no exit code yet: nothing has gone wrong so far

           0s                500ms             1s
lame-duck  ██████████████████│                           500ms of 500ms
draining                     ██████████████████████████     700ms of 5s  running
           │ end of the budget

requests  9 running at the signal; 4 completed, none cut
plugins   no instances
"#,
    );
    report.plugins.push(stubborn());
    report.exit_code = 11;
    let shown = anstream::adapter::strip_str(&draw(&report, 80)).to_string();
    assert!(shown.contains("exit 11 so far: a plugin failed, trapped or overran its shutdown"), "{shown}");
}

#[test]
fn a_name_cannot_turn_the_line_around() {
    let shown = draw(&usual(vec![plugin("a\u{202e}b\u{7}\u{2028}c", 0, StopOutcome::Completed, 1)]), 80);
    assert!(shown.contains("  a b  c #0 "), "{shown}");
}

#[test]
fn a_bar_begins_when_its_instance_was_told_to_stop() {
    let at = |name: &str, started_ms, took_ms| PluginReport {
        started_ms: Some(started_ms),
        reason: StopReason::Reload,
        ..plugin(name, 0, StopOutcome::Completed, took_ms)
    };
    let report = usual(vec![at("before", -500, 1_000), at("within", 1_000, 500)]);
    let text = draw(&report, 80);
    let bar = |name: &str| {
        let line = text.lines().find(|line| line.contains(name)).expect("a row");
        let filled = |c: char| ('\u{2580}'..='\u{259f}').contains(&c);
        (line.chars().position(filled), line.chars().filter(|c| filled(*c)).count())
    };
    let phase = bar("lame-duck").0;
    assert_eq!(bar("before").0, phase, "at the left edge\n{text}");
    assert!(bar("within").0 > phase, "{text}");
    // As long as the time after the signal.
    assert!(bar("before").1.abs_diff(bar("within").1) <= 1, "{text}");
}

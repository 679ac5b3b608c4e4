//! Snapshots of whole timelines in a terminal, without colour; `rows` has what
//! they leave out and add, `pages` the other drawings.

mod pages;
mod rows;

use tidegate_runtime::{StopOutcome, StopReason};

use super::draw;
use crate::stop::report::tests::plugin;
use crate::stop::report::{PhaseReport, PluginReport, Report, Requests, exit_code};

fn phase(name: &str, started_ms: u64, took_ms: u64, budget_ms: u64) -> PhaseReport {
    PhaseReport { name: name.to_owned(), started_ms, took_ms, budget_ms }
}

fn report(phases: Vec<PhaseReport>, requests: Requests, plugins: Vec<PluginReport>) -> Report {
    Report {
        schema: 1,
        reason: StopReason::Terminate,
        signal: Some("SIGTERM".to_owned()),
        grace_ms: 30_000,
        took_ms: phases.iter().map(|phase| phase.started_ms + phase.took_ms).max().unwrap_or(0),
        exit_code: exit_code(&requests, &plugins, None, None, false),
        phases,
        requests,
        outbox: None,
        plugins,
        complete: true,
    }
}

fn usual(plugins: Vec<PluginReport>) -> Report {
    let phases = vec![
        phase("lame-duck", 0, 0, 0),
        phase("draining", 0, 310, 15_000),
        phase("stopping", 310, 2_003, 19_690),
        phase("flushing", 2_313, 4, 20_687),
    ];
    report(phases, Requests { in_flight: 3, completed: 3, cut: 0 }, plugins)
}

fn stubborn() -> PluginReport {
    PluginReport {
        budget_ms: 2_000,
        cpu_ms: 1_987,
        overshoot_ms: 2.684,
        error: Some("stopped after 1.987s of CPU time (limit 2s)".to_owned()),
        ..plugin("stubborn", 0, StopOutcome::Overran, 2_003)
    }
}

#[track_caller]
fn check(report: &Report, width: usize, expected: &str) {
    let shown = anstream::adapter::strip_str(&draw(report, width)).to_string();
    assert!(shown.trim_end() == expected.trim_matches('\n'), "got:\n<<<{shown}>>>\nexpected:\n{expected}");
}

#[test]
fn a_clean_stop_is_short() {
    let plugins = vec![plugin("audit", 0, StopOutcome::Completed, 12), plugin("stamp", 0, StopOutcome::NoHook, 0)];
    let phases = vec![phase("lame-duck", 0, 0, 0), phase("draining", 0, 25, 15_000), phase("stopping", 25, 12, 19_975)];
    check(
        &report(phases, Requests::default(), plugins),
        80,
        r#"
SIGTERM (terminate): stopped in 37ms of 30s
exit 0: all done in time

            0s                   20ms
lame-duck   ▏                                                0s of 0s
draining    ███████████████████████████                   25ms of 15s
stopping                               █████████████  12ms of 19.975s
  audit #0                             █████████████       12ms of 5s  completed
  stamp #0                             ▏                     0s of 5s  no-hook

requests  0 running at the signal; 0 completed, none cut
plugins   2 instances: 1 completed, 1 no-hook
"#,
    );
}

#[test]
fn an_overrun_is_cut_at_its_budget() {
    let mut plugins: Vec<_> = (0..4).map(|n| plugin("audit", n, StopOutcome::Completed, 9 + n)).collect();
    plugins.push(plugin("stamp", 0, StopOutcome::NoHook, 0));
    plugins.push(stubborn());
    check(
        &usual(plugins.clone()),
        80,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 11: a plugin failed, trapped or overran its shutdown

               0s             1s              2s
lame-duck      ▏                                             0s of 0s
draining       ████▉                                     310ms of 15s
stopping           ████████████████████████████████  2.003s of 19.69s
  audit #0         ▏                                        9ms of 5s  completed
  audit #1         ▏                                       10ms of 5s  completed
  audit #2         ▏                                       11ms of 5s  completed
  audit #3         ▏                                       12ms of 5s  completed
  stamp #0         ▏                                         0s of 5s  no-hook
  stubborn #0      ███████████████████████████████│      2.003s of 2s  overran
flushing                                          ▏    4ms of 20.687s
               │ end of the budget

requests  3 running at the signal; 3 completed, none cut
plugins   6 instances: 4 completed, 1 overran, 1 no-hook

stubborn #0 overran: stopped 2.68ms after its 2s were up (CPU time 1.987s)
    stopped after 1.987s of CPU time (limit 2s)
hint: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline
"#,
    );
    check(
        &usual(plugins),
        120,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 11: a plugin failed, trapped or overran its shutdown

               0s              500ms           1s               1.5s            2s
lame-duck      ▏                                                                                     0s of 0s
draining       ██████████▏                                                                       310ms of 15s
stopping                 █████████████████████████████████████████████████████████████████▉  2.003s of 19.69s
  audit #0               ▍                                                                          9ms of 5s  completed
  audit #1               ▍                                                                         10ms of 5s  completed
  audit #2               ▍                                                                         11ms of 5s  completed
  audit #3               ▍                                                                         12ms of 5s  completed
  stamp #0               ▏                                                                           0s of 5s  no-hook
  stubborn #0            █████████████████████████████████████████████████████████████████│      2.003s of 2s  overran
flushing                                                                                  ▏    4ms of 20.687s
               │ end of the budget

requests  3 running at the signal; 3 completed, none cut
plugins   6 instances: 4 completed, 1 overran, 1 no-hook

stubborn #0 overran: stopped 2.68ms after its 2s were up (CPU time 1.987s)
    stopped after 1.987s of CPU time (limit 2s)
hint: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline
"#,
    );
}

#[test]
fn every_way_to_fail_is_spelled_out() {
    let failed = PluginReport {
        error: Some("queue is full\nof\u{1b}[31m it".to_owned()),
        ..plugin("audit", 1, StopOutcome::Failed, 80)
    };
    let trapped =
        PluginReport { error: Some("wasm `unreachable`".to_owned()), ..plugin("pool", 0, StopOutcome::Trapped, 3) };
    let mut report = usual(vec![
        plugin("audit", 0, StopOutcome::Completed, 10),
        failed,
        trapped.clone(),
        PluginReport { instance: 1, ..trapped },
        stubborn(),
        plugin("a-plugin-with-a-name-that-goes-on-and-on", 0, StopOutcome::Abandoned, 1_500),
    ]);
    report.requests.cut = 2;
    report.exit_code = 143;
    check(
        &report,
        80,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 143: a second signal (SIGTERM) ended it

                               0s
lame-duck                      ▏                             0s of 0s
draining                       ██▋                       310ms of 15s
stopping                         ██████████████████  2.003s of 19.69s
  audit #0                       ▏                         10ms of 5s  completed
  audit #1                       █▍                        80ms of 5s  failed
  pool #0                        ▏                          3ms of 5s  trapped
  pool #1                        ▏                          3ms of 5s  trapped
  stubborn #0                    █████████████████│      2.003s of 2s  overran
  a-plugin-with-a-name-th… #0    █████████████▋            1.5s of 5s  abandoned
flushing                                          ▏    4ms of 20.687s
                               │ end of the budget

requests  3 running at the signal; 3 completed, 2 cut
plugins   6 instances: 1 completed, 1 failed, 2 trapped, 1 overran, 1 abandoned

audit #1 failed: its shutdown returned an error
    queue is full of [31m it
pool #0, #1 trapped: its shutdown trapped
    wasm `unreachable`
stubborn #0 overran: stopped 2.68ms after its 2s were up (CPU time 1.987s)
    stopped after 1.987s of CPU time (limit 2s)
a-plugin-with-a-name-th… #0 abandoned: a second signal came before it was done
hint: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline
"#,
    );
}

#[test]
fn an_exit_code_that_was_mapped_says_so() {
    let mut report = usual(vec![stubborn()]);
    report.exit_code = 0;
    let shown = anstream::adapter::strip_str(&draw(&report, 80)).to_string();
    assert!(
        shown.contains("exit 0: a plugin failed, trapped or overran its shutdown, but `exit_zero` made 11 a 0"),
        "{shown}"
    );
}

#[test]
fn a_gateway_without_plugins_that_cut_requests() {
    let phases = vec![phase("lame-duck", 0, 5_000, 5_000), phase("draining", 5_000, 15_002, 15_000)];
    let report = Report { signal: None, ..report(phases, Requests { in_flight: 9, completed: 2, cut: 7 }, vec![]) };
    check(
        &report,
        80,
        r#"
terminate: stopped in 20.002s of 30s
exit 10: requests were cut

           0s                       10s
lame-duck  ████████████│                                              5s of 5s
draining               ██████████████████████████████████████│  15.002s of 15s
           │ end of the budget

requests  9 running at the signal; 2 completed, 7 cut
plugins   no instances
"#,
    );
}

#[test]
fn past_its_budget_a_bar_changes() {
    let late = PluginReport { budget_ms: 1_000, overshoot_ms: 1_003.0, ..stubborn() };
    check(
        &usual(vec![late]),
        80,
        r#"
SIGTERM (terminate): stopped in 2.317s of 30s
exit 11: a plugin failed, trapped or overran its shutdown

               0s              1s              2s
lame-duck      ▏                                               0s of 0s
draining       █████▏                                      310ms of 15s
stopping            ████████████████████████████████▉  2.003s of 19.69s
  stubborn #0       ████████████████│▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒      2.003s of 1s  overran
flushing                                            ▏    4ms of 20.687s
               │ end of the budget   ▒ past it

requests  3 running at the signal; 3 completed, none cut
plugins   1 instance: 1 overran

stubborn #0 overran: stopped 1.003s after its 1s were up (CPU time 1.987s)
    stopped after 1.987s of CPU time (limit 2s)
hint: raise `shutdown` under [plugin.limits], or have the plugin watch its deadline
"#,
    );
}

#[test]
fn colours_are_there_for_a_terminal() {
    assert!(draw(&usual(vec![stubborn()]), 80).contains("\u{1b}[31m"));
}

mod any_report {
    use proptest::prelude::*;

    use super::super::{html, svg};
    use super::*;

    proptest! {
        #[test]
        fn can_be_drawn(
            times in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
            took_ms in any::<u64>(),
            overshoot_ms in any::<f64>(),
            name in ".*",
            width in 0usize..400,
            exit in any::<u8>(),
        ) {
            let mut report = usual(vec![PluginReport { name: name.clone(), took_ms, overshoot_ms, ..stubborn() }]);
            report.phases = times.into_iter().map(|(start, took, budget)| phase(&name, start, took, budget)).collect();
            report.exit_code = exit;
            prop_assert!(!draw(&report, width).is_empty());
            pages::check_markup(&html(&report));
            pages::check_markup(&svg(&report));
        }

        #[test]
        fn keeps_to_the_width_if_it_can(took_ms in 0u64..2_003, width in 70usize..=140) {
            let plugins = vec![plugin("audit", 0, StopOutcome::Completed, took_ms), plugin("stamp", 10, StopOutcome::NoHook, 0)];
            let shown = anstream::adapter::strip_str(&draw(&usual(plugins), width)).to_string();
            for line in shown.lines() {
                prop_assert!(line.chars().count() <= width, "{line}");
            }
        }
    }
}

//! Budgets as assertions, and baselines in files.

use tidegate_testing::{Baseline, BaselineError, Budget, Hook, Plugin};

use crate::{numbered, planted};

fn used(fault: &str) -> Plugin {
    let mut plugin = planted(fault).load().expect("it loads");
    (0..10).for_each(|number| drop(plugin.send(numbered(number))));
    plugin
}

#[test]
fn a_budget_holds_or_says_by_what_it_was_exceeded() {
    let plugin = used("none");
    let most = plugin.most(Hook::OnRequest).expect("it was called");
    let budget = Budget::of(Hook::OnRequest).fuel(most.fuel).host_calls(most.host_calls).memory(most.memory);
    plugin.assert_within(&budget);
    let exceeded = plugin.check_within(&budget.fuel(most.fuel - 1)).expect_err("by one");
    let said = exceeded.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(said, [format!("on-request used {} units of fuel; at most {}", most.fuel, most.fuel - 1)]);
}

#[test]
fn fuel_that_grew_by_a_third_fails_the_baseline_and_what_did_not_grow_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let baseline = Baseline::at(folder.path().join("baseline.toml"));
    let missing = used("none").check_baseline(&baseline).expect_err("there is no file yet");
    assert!(matches!(missing, BaselineError::File { .. }) && missing.to_string().contains("TIDEGATE_BASELINE=update"));
    used("none").check_baseline(&baseline.clone().update()).expect("it is written");
    used("none").check_baseline(&baseline.clone().tolerance(0.0)).expect("the same fuel");
    let error = used("slower").check_baseline(&baseline).expect_err("it grew");
    let BaselineError::Regressed(exceeded) = &error else { panic!("{error}") };
    assert_eq!(exceeded.len(), 1, "{error}");
    assert!(error.to_string().contains("on-request used") && error.to_string().contains("%"), "{error}");
    used("slower").check_baseline(&baseline.tolerance(0.6)).expect("within this tolerance");
}

#[test]
fn a_hook_that_the_baseline_does_not_know_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let baseline = Baseline::at(folder.path().join("baseline.toml"));
    used("none").check_baseline(&baseline.clone().update()).expect("it is written");
    let mut plugin = used("none");
    plugin.stop(std::time::Duration::from_secs(5));
    let error = plugin.check_baseline(&baseline).expect_err("it was never shut down");
    assert!(matches!(error, BaselineError::Unknown { hook: Hook::Shutdown, .. }), "{error}");
}

//! Stops that are under way, and what else goes on meanwhile.

use std::time::Duration;

use serde_json::json;
use tidegate_testing::{EndCause, Fault, Hook, StopOutcome, StopReason};
use tidegate_tests::setups::{cause, hostile, misbehaving};

const BUDGET: Duration = Duration::from_secs(5);

#[test]
fn time_goes_on_in_the_middle_of_a_stop_as_the_test_says() {
    let mut plugin = hostile(&json!({ "shutdown": "sleep=2000" })).pace(0).load().expect("it loads");
    let stopping = plugin.begin_stop(StopReason::Disable, BUDGET);
    plugin.advance(Duration::from_nanos(1_999_999_999));
    assert!(!stopping.is_over());
    assert_eq!(plugin.stats().instances.stopping, 1);
    plugin.advance(Duration::from_nanos(1));
    assert!(stopping.is_over());
    plugin.advance(Duration::from_secs(60));
    let stop = plugin.finish_stop(stopping);
    assert_eq!((stop.outcomes(), stop.took), (vec![StopOutcome::Completed], Duration::from_secs(2)));
    assert_eq!(stop.instances[0].reason, StopReason::Disable);
}

#[test]
fn a_second_signal_ends_what_is_under_way() {
    let mut plugin =
        hostile(&json!({ "on_request": "from-header", "shutdown": "sleep" })).instances(2).load().expect("it loads");
    let begun = plugin.begin(misbehaving("sleep"));
    let stopping = plugin.begin_stop(StopReason::Terminate, BUDGET);
    assert!(!begun.is_answered() && !stopping.is_over());
    let before = plugin.now();
    plugin.abandon();
    assert!(begun.is_answered() && stopping.is_over());
    assert_eq!(plugin.now(), before);
    assert_eq!(plugin.finish_stop(stopping).outcomes(), [StopOutcome::Abandoned; 2]);
    assert!(matches!(cause(&plugin.finish(begun)), Some(EndCause::Abandoned)));
}

#[test]
fn a_client_that_goes_away_costs_no_instance() {
    let mut plugin = hostile(&json!({ "on_request": "from-header" })).load().expect("it loads");
    let begun = plugin.begin(misbehaving("sleep=1000"));
    plugin.hang_up(begun);
    assert_eq!(plugin.stats().instances.busy, 1);
    plugin.advance(Duration::from_secs(1));
    assert_eq!((plugin.stats().instances.idle, plugin.instances()), (1, vec![0]));
    assert_eq!(plugin.send(misbehaving("forward")).status, 200);
}

#[test]
fn a_host_call_takes_as_long_as_was_planned() {
    let mut plugin = hostile(&json!({ "on_request": "from-header" })).pace(0).load().expect("it loads");
    plugin.plan(Hook::OnRequest, Fault::DelayAt(2, Duration::from_secs(7)));
    let answer = plugin.send(misbehaving("many-notes=3"));
    assert_eq!((answer.notes.len(), answer.took), (3, Duration::from_secs(7)));
    let answer = plugin.send(misbehaving("many-notes=3"));
    assert_eq!((answer.notes.len(), answer.took), (3, Duration::ZERO));
}

//! The stop of a plugin: told, timed, and stopped when the time is up, whatever it does.

use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::json;
use tidegate_testing::{EndCause, Hook, Plugin, Request, Setup, StopOutcome, StopReason, StopRecord};
use tidegate_tests::plugins::misbehave;
use tidegate_tests::setups::{AMPLE, SLICE, guest, hostile, misbehaving};

const BUDGET: Duration = Duration::from_millis(20);

fn only(records: &[StopRecord]) -> &StopRecord {
    let [record] = records else { panic!("{records:?}") };
    record
}

fn stopped(shutdown: &str, budget: Duration) -> StopRecord {
    let mut plugin = hostile(&json!({ "shutdown": shutdown })).load().expect("loads");
    let stop = plugin.stop(budget);
    assert_eq!(plugin.stats().stores_live, 0, "its memory is free again");
    let record = only(&stop.instances);
    assert_eq!((record.instance, record.budget, record.took), (0, budget, stop.took));
    record.clone()
}

#[test]
fn whatever_overruns_is_stopped_on_time() {
    for shutdown in ["spin", "sleep", "doze=1", "copy=8388608", "log-flood", "allocate-forever"] {
        let record = stopped(shutdown, BUDGET);
        assert_eq!(record.outcome, StopOutcome::Overran, "{shutdown}: {record:?}");
        assert!(record.overshoot < SLICE, "{shutdown}: {record:?}");
        assert_eq!(record.took, BUDGET + record.overshoot, "{shutdown}: {record:?}");
    }
    assert_eq!(stopped("sleep", BUDGET).overshoot, Duration::ZERO, "what waits ends at the very moment");
}

#[test]
fn whatever_ends_by_itself_has_its_own_outcome() {
    for (shutdown, outcome) in [
        ("ok", StopOutcome::Completed),
        ("sleep=5", StopOutcome::Completed),
        ("error", StopOutcome::Failed),
        ("trap", StopOutcome::Trapped),
        ("panic", StopOutcome::Trapped),
        ("exit", StopOutcome::Trapped),
        ("recurse", StopOutcome::Trapped),
        ("allocate", StopOutcome::Trapped),
        ("invalid-utf8", StopOutcome::Trapped),
    ] {
        let record = stopped(shutdown, AMPLE);
        assert_eq!(record.outcome, outcome, "{shutdown}: {record:?}");
        assert_eq!(record.error.is_some(), !outcome.is_clean(), "{shutdown}: {record:?}");
    }
}

#[test]
fn a_plugin_without_shutdown_is_let_go() {
    let mut plugin = guest("no-shutdown").load().expect("loads");
    let stop = plugin.stop(BUDGET);
    assert_eq!((stop.outcomes(), stop.took), (vec![StopOutcome::NoHook], Duration::ZERO));
}

#[test]
fn every_instance_is_told_side_by_side() {
    let setup = hostile(&json!({ "shutdown": "sleep=60" })).instances(4).pace(0);
    let stop = setup.load().expect("loads").stop(Duration::from_secs(5));
    assert_eq!(stop.took, Duration::from_millis(60), "not one after the other");
    let mut instances: Vec<u64> = stop.instances.iter().map(|record| record.instance).collect();
    instances.sort_unstable();
    assert_eq!(instances, (0..4).collect::<Vec<_>>());
    assert!(stop.is_clean(), "{stop:?}");
}

/// A plugin that is told by each request how to misbehave, and whose shutdown ends well.
fn told() -> Setup {
    hostile(&json!({ "on_request": "from-header", "shutdown": "ok" }))
}

#[test]
fn an_instance_in_a_call_finishes_it_and_is_then_told_with_the_time_that_is_left() {
    let config = json!({ "on_request": "from-header", "shutdown": "report" });
    let mut plugin = hostile(&config).pace(0).load().expect("loads");
    let begun = plugin.begin(misbehaving("sleep=500"));
    let stop = plugin.stop(Duration::from_secs(2));
    let record = only(&stop.instances);
    assert_eq!((record.outcome, record.took), (StopOutcome::Completed, Duration::from_millis(500)));
    let log = plugin.log();
    assert!(log.iter().any(|line| line.message.ends_with("1.5s left")), "{log:?}");
    let answer = plugin.finish(begun);
    assert!(
        answer.failure().is_some_and(|error| error.hook == Hook::OnResponse),
        "the next call is refused: {answer:?}"
    );
}

#[test]
fn a_call_that_outlasts_the_stop_is_cut_and_its_instance_has_overrun() {
    for how in ["sleep", "spin"] {
        let mut plugin = told().load().expect("loads");
        let (call, ()) = plugin.run(async {
            let (plugin, reason) = (plugin.inner(), StopReason::Terminate);
            tokio::join!(misbehave(plugin, how), plugin.stop(reason, BUDGET))
        });
        assert!(matches!(call, Err(EndCause::Wall { .. })), "{call:?}");
        let records = plugin.take_ended();
        let record = only(&records);
        assert_eq!(record.outcome, StopOutcome::Overran, "{record:?}");
        assert!(record.overshoot < SLICE, "{record:?}");
    }
}

#[test]
fn a_stopped_plugin_refuses_calls_and_a_second_stop_does_nothing() {
    let mut plugin = told().load().expect("loads");
    assert_eq!(plugin.stop(BUDGET).instances.len(), 1);
    assert_eq!(plugin.stop(BUDGET).instances.len(), 0);
    assert_eq!(plugin.send(misbehaving("forward")).status, 503);
}

#[test]
fn a_stop_that_nobody_waits_for_any_more_goes_on() {
    let mut plugin = hostile(&json!({ "shutdown": "sleep=20" })).load().expect("loads");
    plugin.run(async {
        assert!(plugin.inner().stop(StopReason::Disable, Duration::from_secs(20)).now_or_never().is_none());
    });
    plugin.advance(Duration::from_millis(21));
    assert_eq!(only(&plugin.take_ended()).outcome, StopOutcome::Completed);
    assert_eq!(plugin.stop(BUDGET).instances.len(), 0);
}

#[test]
fn abandoning_ends_a_stop_at_once() {
    for shutdown in ["spin", "sleep"] {
        let mut plugin = hostile(&json!({ "shutdown": shutdown })).load().expect("loads");
        let later = Duration::from_millis(20);
        plugin.run(async {
            let abandon = async {
                plugin.sleep(later).await;
                plugin.runtime().abandon();
            };
            tokio::join!(plugin.inner().stop(StopReason::Terminate, AMPLE), abandon)
        });
        let records = plugin.take_ended();
        let record = only(&records);
        assert_eq!(record.outcome, StopOutcome::Abandoned, "{record:?}");
        assert!((later..later + 2 * SLICE).contains(&record.took), "{record:?}");
    }
}

fn counts(plugin: &mut Plugin) -> Option<String> {
    plugin.send(Request::get("/")).header("x-count").map(str::to_owned)
}

#[test]
fn warm_instances_keep_their_memory_and_fresh_ones_have_none() {
    let fifth = |setup: Setup| {
        let mut plugin = setup.load().expect("loads");
        let counted: Vec<_> = (0..5).map(|_| counts(&mut plugin)).collect();
        (counted.into_iter().last().flatten(), plugin.stop(BUDGET).instances.len())
    };
    assert_eq!(fifth(guest("counter")), (Some("5".to_owned()), 1));
    assert_eq!(fifth(guest("counter").fresh()), (Some("1".to_owned()), 0));
}

#[test]
fn notes_reach_the_response_whichever_instance_serves_it() {
    let mut plugin = guest("notes").fresh().load().expect("loads");
    assert_eq!(plugin.send(Request::get("/path?query")).header("x-noted-path"), Some("/path"));
}

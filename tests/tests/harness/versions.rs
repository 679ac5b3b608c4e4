//! Versions of a plugin side by side, in one world.

use std::time::Duration;

use serde_json::json;
use tidegate_testing::{EndCause, HandOver, Request, Setup, Snapshot, StopReason};
use tidegate_tests::setups::{cause, guest, hostile, misbehaving};

const BUDGET: Duration = Duration::from_secs(5);

fn heir() -> Setup {
    guest("heir").config(&json!({})).hand_over()
}

#[test]
fn what_a_version_leaves_reaches_the_one_that_takes_over() {
    let mut old = heir().load().expect("it loads, and serves at once");
    assert_eq!(old.send(Request::get("/")).header("x-count"), Some("1"));
    let mut new = heir().load_beside(&old).expect("it loads");
    let waits = new.begin(Request::get("/"));
    assert!(!waits.is_answered(), "it is held");
    let handed_over = new.take_over(&old, BUDGET);
    assert_eq!(handed_over, HandOver { left: 1, handed_over: 1, ..HandOver::default() });
    assert_eq!(new.finish(waits).header("x-count"), Some("2"));
    // Who knows the old version only reaches the new one.
    assert_eq!(old.send(Request::get("/")).header("x-count"), Some("3"));
    let ended = old.take_ended();
    assert_eq!((ended.len(), ended[0].reason, ended[0].snapshot), (1, StopReason::Reload, Snapshot::Left { bytes: 8 }));
    let on_trial = new.take_ended();
    assert_eq!((on_trial.len(), on_trial[0].snapshot), (1, Snapshot::None), "the one that was configured without it");
    assert_eq!(old.now(), new.now());
}

#[test]
#[should_panic(expected = "load it beside the other")]
fn nobody_takes_over_from_a_plugin_in_another_world() {
    let old = heir().load().expect("it loads");
    heir().load().expect("it loads").take_over(&old, BUDGET);
}

#[test]
fn of_the_stop_of_one_the_other_sees_only_that_the_gateway_ends() {
    for (reason, phase) in
        [(StopReason::Reload, "Serving"), (StopReason::Disable, "Serving"), (StopReason::Terminate, "Stopping")]
    {
        let told = || hostile(&json!({ "on_request": "from-header" }));
        let mut one = told().load().expect("it loads");
        let mut other = told().load_beside(&one).expect("it loads");
        assert!(one.stop_for(reason, BUDGET).is_clean());
        let answer = other.send(misbehaving("tell"));
        let Some(EndCause::Returned { message }) = cause(&answer) else { panic!("{answer:?}") };
        assert_eq!(*message, format!("phase {phase}, reason None"));
    }
}

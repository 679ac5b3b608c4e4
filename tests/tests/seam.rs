//! Time enters the runtime through one seam: with a clock of the test's own, budgets are used up when the test says
//! so, and real time plays no part.

use std::time::Duration;

use serde_json::json;
use tidegate_testing::{EndCause, Setup};
use tidegate_tests::setups::{AMPLE, SLICE, cause, hostile, misbehaving};

fn told() -> Setup {
    hostile(&json!({ "on_request": "from-header" }))
}

#[test]
fn a_guest_that_waits_is_stopped_at_the_very_moment() {
    let wall = Duration::from_secs(1_000);
    let mut plugin = told().limits(|limits| limits.wall = wall).pace(0).load().expect("loads");
    let call = plugin.begin(misbehaving("sleep"));
    plugin.advance(wall - Duration::from_nanos(1));
    assert!(!call.is_answered());
    plugin.advance(Duration::from_nanos(1));
    assert!(call.is_answered());
    let answer = plugin.finish(call);
    assert!(matches!(cause(&answer), Some(EndCause::Wall { limit }) if *limit == wall), "{answer:?}");
    assert_eq!(answer.took, wall);
}

#[test]
fn a_guest_that_computes_is_stopped_when_the_tests_clock_says_so() {
    let limit = Duration::from_secs(1);
    // A slow machine: a thousand slices of fuel are a second.
    let pace = 1_000;
    let setup = told().limits(|limits| (limits.cpu, limits.wall) = (limit, AMPLE)).pace(pace);
    let mut plugin = setup.load().expect("loads");
    let answer = plugin.send(misbehaving("spin"));
    let Some(EndCause::Cpu { used, .. }) = cause(&answer) else { panic!("{answer:?}") };
    assert!((limit..limit + 1_000 * SLICE).contains(used), "{used:?}");
    assert_eq!(answer.took, *used);
}

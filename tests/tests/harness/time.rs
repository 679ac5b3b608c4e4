//! Virtual time.

use std::time::Duration;

use serde_json::json;
use tidegate_testing::{By, EndCause, Hook, Request, Setup, StopOutcome};
use tidegate_tests::components;

fn hostile(config: serde_json::Value) -> Setup {
    Setup::new(components::guest("hostile")).config(&config)
}

#[test]
fn a_shutdown_that_overruns_is_stopped_at_the_same_instruction_in_a_hundred_runs() {
    let run = || {
        let setup = hostile(json!({ "shutdown": "spin" })).limits(|limits| limits.shutdown = Duration::from_millis(20));
        let mut plugin = setup.load().expect("it loads");
        let stop = plugin.stop(Duration::from_secs(1));
        assert_eq!(stop.outcomes(), [StopOutcome::Overran]);
        let fuel = plugin.most(Hook::Shutdown).expect("it was called").fuel;
        (fuel, stop.took, stop.instances[0].overshoot)
    };
    let first = run();
    assert!(first.0 >= 20_000_000, "{first:?}");
    for _ in 1..100 {
        assert_eq!(run(), first);
    }
}

#[test]
fn what_waits_takes_virtual_time_and_no_other() {
    let setup =
        hostile(json!({ "on_request": "from-header" })).limits(|limits| limits.wall = Duration::from_secs(3_600));
    let mut plugin = setup.load().expect("it loads");
    let answer = plugin.send(Request::get("/").header("x-misbehave", "sleep"));
    let failure = answer.failure().expect("its time is up");
    assert!(matches!(failure.cause, EndCause::Wall { .. }), "{failure}");
    assert_eq!(answer.took.as_secs(), 3_600);
    assert!(matches!(answer.by, By::Failure(_)));
    assert_eq!(answer.status, 503);
}

#[test]
fn a_guest_sleeps_on_the_virtual_clock_beside_others_that_compute() {
    let mut plugin = Setup::new(components::guest("later"))
        .background(tidegate_testing::Deferred::default())
        .tick(Duration::from_secs(10))
        .limits(|limits| limits.deferred = Duration::from_secs(60))
        .load()
        .expect("it loads");
    plugin.send(Request::get("/").header("x-defer", "1 sleep=30000, 2 ok"));
    plugin.advance(Duration::from_secs(29));
    assert_eq!(plugin.stats().deferred_outcomes, [0, 0, 0, 0]);
    plugin.advance(Duration::from_secs(2));
    assert_eq!(plugin.stats().deferred_outcomes, [3, 0, 0, 0]);
    let ticks = plugin.calls().iter().filter(|call| call.hook == Hook::OnTick).count();
    assert_eq!(ticks, 1, "the instance was busy at 10 and 20 seconds, and owed one tick");
    let stop = plugin.stop(Duration::from_secs(5));
    assert!(stop.is_clean(), "{stop:?}");
}

#[test]
fn a_thousand_exchanges_take_moments() {
    let mut plugin = Setup::new(components::plugin("stamp")).load().expect("it loads");
    let answers: Vec<_> = (0..1_000).map(|_| plugin.send(Request::get("/"))).collect();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.failures.is_empty()), "{:?}", answers[0]);
    let fuel = |answer: &tidegate_testing::Answer| answer.calls.iter().map(|call| call.used.fuel).collect::<Vec<_>>();
    assert_eq!(fuel(&answers[10]), fuel(&answers[999]));
}

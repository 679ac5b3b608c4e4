//! Virtual time.

use std::time::Duration;

use serde_json::json;
use tidegate_testing::{Answer, By, EndCause, Hook, Request, Setup, StopOutcome};
use tidegate_tests::components;
use tidegate_tests::setups::{SLICE, cause, misbehaving};

fn hostile(config: serde_json::Value) -> Setup {
    Setup::new(components::guest("hostile")).config(&config)
}

#[test]
fn a_shutdown_that_computes_ends_at_its_deadline_to_a_slice_of_fuel_also_in_one_long_instruction() {
    // Between two ticks, and in the middle of a copy of 8 ms.
    let budget = Duration::from_nanos(12_345_678);
    for how in ["spin", "copy=8388608", "allocate-forever", "log-flood"] {
        let mut plugin = hostile(json!({ "shutdown": how })).load().expect("it loads");
        let stop = plugin.stop(budget);
        assert_eq!(stop.outcomes(), [StopOutcome::Overran], "{how}");
        let overshoot = stop.instances[0].overshoot;
        assert!(overshoot < SLICE, "{how}: {overshoot:?}");
        assert_eq!(stop.took, budget + overshoot, "{how}");
    }
}

#[test]
fn cpu_time_is_used_up_to_a_slice_of_fuel_also_in_one_long_instruction() {
    let cpu = Duration::from_nanos(12_345_678);
    for how in ["spin", "copy=8388608"] {
        let setup = hostile(json!({ "on_request": "from-header" })).limits(|limits| limits.cpu = cpu);
        let answer = setup.load().expect("it loads").send(misbehaving(how));
        let Some(EndCause::Cpu { used, .. }) = cause(&answer) else { panic!("{how}: {answer:?}") };
        assert!((cpu..cpu + SLICE).contains(used), "{how}: {used:?}");
    }
}

#[test]
fn a_call_that_returns_is_late_by_the_last_unit_of_its_fuel() {
    let forwarded = |wall| {
        let setup = hostile(json!({})).limits(|limits| limits.wall = wall);
        setup.load().expect("it loads").send(Request::get("/"))
    };
    let fuel = |answer: &Answer| answer.calls[0].used.fuel;
    let needs = fuel(&forwarded(Duration::from_secs(1)));
    assert!(needs > 0);
    let in_time = forwarded(Duration::from_nanos(needs));
    assert!(in_time.failures.iter().all(|error| error.hook != Hook::OnRequest), "{in_time:?}");
    let late = forwarded(Duration::from_nanos(needs - 1));
    assert_eq!((fuel(&late), late.failures[0].hook), (needs, Hook::OnRequest), "{late:?}");
    assert!(matches!(cause(&late), Some(EndCause::Wall { .. })), "{late:?}");
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
    assert_eq!(answer.took, Duration::from_secs(3_600), "it ends where it was cut");
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

//! Instances that are stopped one at a time while their plugin serves: those that have served their time, and those that
//! are no longer needed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate_runtime::Health;
use tidegate_testing::{Answer, EndCause, Plugin, Recycle, Request, Setup, StopOutcome, StopReason, StopRecord};
use tidegate_tests::plugins::answered;
use tidegate_tests::setups::{SLICE, cause, guest, hostile, misbehaving};

/// After so many exchanges with the hostile guest, each of which is two calls.
fn after_exchanges(exchanges: u64) -> Recycle {
    Recycle { calls: Some(2 * exchanges), memory: None }
}

/// A hostile plugin that is told by each request how to misbehave, and by this how to shut down.
fn told(shutdown: &str) -> Setup {
    let setup = hostile(&json!({ "on_request": "from-header", "shutdown": shutdown }));
    setup.limits(|limits| limits.shutdown = Duration::from_secs(20))
}

fn serves(plugin: &mut Plugin) -> Answer {
    let answer = plugin.send(Request::get("/"));
    assert!(answer.failures.is_empty(), "{answer:?}");
    answer
}

/// The same thrice, one after the other and within one run: what they set off goes on beside them.
async fn three_exchanges(plugin: &tidegate_runtime::Plugin) {
    for _ in 0..3 {
        let (exchange, requested) = plugin.on_request(answered(&[])).await;
        let (_, responded) = plugin.on_response(exchange).await;
        assert!(requested.is_ok() && responded.is_ok(), "{requested:?}, {responded:?}");
    }
}

/// What a guest sees that is not being stopped.
fn sees_nothing(plugin: &mut Plugin) {
    let answer = plugin.send(misbehaving("tell"));
    let Some(EndCause::Returned { message }) = cause(&answer) else { panic!("{answer:?}") };
    assert_eq!(message, "phase Serving, reason None");
}

/// The only one that has ended since the last time.
fn ended(plugin: &mut Plugin) -> StopRecord {
    let records = plugin.take_ended();
    let [record] = &*records else { panic!("{records:?}") };
    record.clone()
}

/// Why and how each instance ended, in the order of their numbers. Each has one record.
fn ends(mut records: Vec<StopRecord>) -> Vec<(StopReason, StopOutcome)> {
    records.sort_by_key(|record| record.instance);
    assert!(records.iter().map(|record| record.instance).eq(0..records.len() as u64), "{records:?}");
    records.iter().map(|record| (record.reason, record.outcome)).collect()
}

#[test]
fn an_instance_is_replaced_after_so_many_calls() {
    let shutdown = Duration::from_secs(7);
    let setup = guest("counter").recycle(Recycle { calls: Some(3), memory: None });
    let mut plugin = setup.limits(|limits| limits.shutdown = shutdown).load().expect("loads");
    for instance in [0, 1] {
        for count in ["1", "2", "3"] {
            assert_eq!(plugin.instances(), [instance]);
            assert_eq!(serves(&mut plugin).header("x-count"), Some(count));
        }
        let record = ended(&mut plugin);
        assert_eq!((record.instance, record.reason), (instance, StopReason::Recycle));
        assert_eq!((record.outcome, record.budget), (StopOutcome::Completed, shutdown));
    }
    serves(&mut plugin);
    assert_eq!(
        (plugin.instances(), plugin.stats().stores_live),
        (vec![2], 1),
        "the memory of the others is free again"
    );
    assert_eq!(plugin.stats().retired, 0);
}

#[test]
fn an_instance_is_replaced_when_it_has_grown() {
    let recycle = Recycle { calls: None, memory: Some(4 << 20) };
    let mut plugin = told("ok").recycle(recycle).load().expect("loads");
    for _ in 0..10 {
        serves(&mut plugin);
    }
    assert_eq!(plugin.instances(), [0]);
    assert_eq!(plugin.send(misbehaving("log-giant=4194304")).status, 200);
    let record = ended(&mut plugin);
    assert_eq!((record.instance, record.reason), (0, StopReason::Recycle));
    serves(&mut plugin);
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![1], 1));
}

#[test]
fn a_plugin_without_shutdown_is_recycled_without_a_call() {
    let setup = guest("no-shutdown").recycle(Recycle { calls: Some(1), memory: None });
    let mut plugin = setup.load().expect("loads");
    serves(&mut plugin);
    let record = ended(&mut plugin);
    assert_eq!((record.outcome, record.reason), (StopOutcome::NoHook, StopReason::Recycle));
}

#[test]
fn whatever_its_shutdown_does_it_ends_on_time_and_the_replacement_serves_meanwhile() {
    // To allocate all its memory takes a guest 32 of them, in steps of one.
    let shutdown = Duration::from_millis(50);
    for (how, outcome) in [
        ("spin", StopOutcome::Overran),
        ("sleep", StopOutcome::Overran),
        ("allocate-forever", StopOutcome::Overran),
        ("trap", StopOutcome::Trapped),
        ("recurse", StopOutcome::Trapped),
        ("error", StopOutcome::Failed),
    ] {
        let setup = told(how).recycle(after_exchanges(2)).limits(|limits| limits.shutdown = shutdown);
        let mut plugin = setup.load().expect("loads");
        plugin.run(async {
            three_exchanges(plugin.inner()).await;
            if outcome == StopOutcome::Overran {
                let stopping = plugin.stats().instances.stopping;
                assert_eq!((plugin.instances(), stopping), (vec![0, 1], 1), "{how}: the third had another instance");
            }
        });
        plugin.advance(shutdown);
        let record = ended(&mut plugin);
        assert_eq!((record.instance, record.reason, record.outcome), (0, StopReason::Recycle, outcome), "{record:?}");
        assert!(record.budget == shutdown && record.overshoot < SLICE, "{how}: {record:?}");
        assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![1], 1), "{how}");
        serves(&mut plugin);
    }
}

#[test]
fn a_shutdown_that_traps_again_and_again_is_no_fault_of_the_calls() {
    let mut plugin = told("trap").recycle(after_exchanges(1)).load().expect("loads");
    for _ in 0..20 {
        serves(&mut plugin);
        assert_eq!(ended(&mut plugin).outcome, StopOutcome::Trapped);
    }
    let stats = plugin.stats();
    assert_eq!((*plugin.inner().health().borrow(), stats.retired, stats.breaker_open), (Health::Good, 0, false));
}

#[test]
fn the_guest_sees_why_it_is_recycled() {
    let mut plugin = told("tell").recycle(after_exchanges(1)).fail_open().load().expect("loads");
    sees_nothing(&mut plugin);
    let error = ended(&mut plugin).error.expect("it tells");
    assert!(error.contains("phase Stopping, reason Some(Recycle)"), "{error}");
}

#[test]
fn the_others_see_nothing_while_one_is_recycled() {
    let recycle = Recycle { calls: None, memory: Some(4 << 20) };
    let mut plugin = told("sleep").instances(2).recycle(recycle).load().expect("loads");
    assert_eq!(plugin.send(misbehaving("log-giant=4194304")).status, 200);
    let instances = plugin.stats().instances;
    assert_eq!((instances.idle, instances.stopping), (2, 1));
    for _ in 0..4 {
        sees_nothing(&mut plugin);
    }
    assert_eq!(ends(plugin.stop(Duration::from_millis(50)).instances).len(), 3);
}

/// So many calls at a time, each of which needs an instance of its own.
fn all_busy(plugin: &mut Plugin, calls: usize) {
    let answers = plugin.send_all((0..calls).map(|_| misbehaving("sleep=20")));
    assert!(answers.iter().all(|answer| answer.failures.is_empty()), "{answers:?}");
}

#[test]
fn what_is_idle_beyond_min_goes_when_its_time_is_up() {
    let idle = Duration::from_secs(60);
    let mut plugin = told("tell").instances_between(1, 3, idle).pace(0).load().expect("loads");
    all_busy(&mut plugin, 3);
    assert_eq!(plugin.stats().instances.idle, 3);

    plugin.advance(idle - Duration::from_nanos(1));
    serves(&mut plugin);
    assert_eq!(plugin.stats().instances.idle, 3, "a moment too early");

    plugin.advance(Duration::from_nanos(1));
    let mut gone = BTreeSet::new();
    for record in plugin.take_ended() {
        assert_eq!((record.reason, record.outcome), (StopReason::ScaleIn, StopOutcome::Failed));
        assert!(record.error.is_some_and(|error| error.contains("phase Stopping, reason Some(ScaleIn)")));
        gone.insert(record.instance);
    }
    let stays: Vec<u64> = (0..3).filter(|number| !gone.contains(number)).collect();
    assert_eq!((stays.len(), plugin.instances(), plugin.stats().stores_live), (1, stays.clone(), 1));
    sees_nothing(&mut plugin);

    plugin.advance(10 * idle);
    assert_eq!((plugin.instances(), plugin.take_ended().len()), (stays, 0), "min stays");
}

#[test]
fn watching_over_a_surplus_keeps_no_plugin_alive() {
    let setup = told("ok").instances_between(1, 2, Duration::from_secs(60)).pace(0);
    let mut plugin = setup.load().expect("loads");
    let mut beside = told("ok").load_beside(&plugin).expect("loads");
    all_busy(&mut plugin, 2);
    assert_eq!(plugin.stats().instances.idle, 2, "there is a surplus");
    let name = Arc::clone(plugin.inner().name());
    drop(plugin);
    beside.advance(Duration::ZERO);
    assert_eq!(Arc::strong_count(&name), 1, "nothing is left of it that has its name");
    beside.advance(Duration::from_secs(3_600));
}

#[test]
fn a_stop_waits_for_what_is_being_recycled_which_keeps_its_reason() {
    let mut plugin = told("sleep=60").recycle(after_exchanges(2)).pace(0).load().expect("loads");
    for _ in 0..3 {
        serves(&mut plugin);
    }
    assert_eq!(plugin.instances(), [0, 1]);
    let stop = plugin.stop(Duration::from_secs(20));
    let completed = StopOutcome::Completed;
    assert_eq!(ends(stop.instances), [(StopReason::Recycle, completed), (StopReason::Terminate, completed)]);
    assert_eq!(stop.took, Duration::from_millis(60));
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![], 0));
}

#[test]
fn the_deadline_of_a_stop_holds_for_what_is_being_recycled() {
    let budget = Duration::from_millis(20);
    for how in ["sleep", "spin"] {
        let mut plugin = told(how).recycle(after_exchanges(2)).load().expect("loads");
        plugin.run(async {
            three_exchanges(plugin.inner()).await;
            plugin.inner().stop(StopReason::Terminate, budget).await;
        });
        let records = plugin.take_ended();
        assert!(records.iter().all(|record| record.overshoot < SLICE), "{records:?}");
        let overran = StopOutcome::Overran;
        assert_eq!(ends(records), [(StopReason::Recycle, overran), (StopReason::Terminate, overran)]);
        assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![], 0));
    }
}

#[test]
fn a_recycled_instance_is_abandoned_with_everything_else() {
    let mut plugin = told("sleep").recycle(after_exchanges(1)).load().expect("loads");
    serves(&mut plugin);
    plugin.abandon();
    let record = ended(&mut plugin);
    assert_eq!((record.instance, record.reason, record.outcome), (0, StopReason::Recycle, StopOutcome::Abandoned));
}

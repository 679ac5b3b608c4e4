//! Instances that are stopped one at a time while their plugin serves: those that have served their time, and those that
//! are no longer needed.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_runtime::{EndCause, Health, Limits, Recycle, StopOutcome, StopReason, StopRecord};
use tidegate_tests::clock::{StillClock, paused_runtime, still_runtime};
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, Loaded, answered, exchange, misbehave, runtime, stop};

/// How late an end may be on a machine that is busy with other tests. The benchmark has the real distribution.
const SLACK: Duration = Duration::from_secs(2);

fn after_calls(calls: u64) -> Recycle {
    Recycle { calls: Some(calls), memory: None }
}

/// No limit but that of `shutdown` is met, however busy the machine is.
fn shutdown_within(shutdown: Duration) -> Limits {
    Limits { cpu: Fixture::AMPLE, wall: Fixture::AMPLE, shutdown, ..Limits::default() }
}

/// A hostile plugin that is told by each request how to misbehave, and by this how to shut down.
fn hostile(shutdown: &str) -> Fixture {
    let limits = shutdown_within(Duration::from_secs(20));
    Fixture { limits, ..Fixture::hostile(&format!(r#"{{"on_request": "from-header", "shutdown": "{shutdown}"}}"#)) }
}

async fn call(plugin: &Loaded) {
    let (_, result) = plugin.on_request(exchange(&[])).await;
    result.expect("it serves");
}

/// What a guest sees that is not being stopped.
async fn sees_nothing(plugin: &Loaded) {
    let told = misbehave(plugin, "tell").await;
    assert!(
        matches!(&told, Err(EndCause::Returned { message }) if message == "phase Serving, reason None"),
        "{told:?}"
    );
}

/// Why and how each instance ended, in the order of their numbers. Each has one record.
fn ends(mut records: Vec<StopRecord>) -> Vec<(StopReason, StopOutcome)> {
    records.sort_by_key(|record| record.instance);
    assert!(records.iter().map(|record| record.instance).eq(0..records.len() as u64), "{records:?}");
    records.iter().map(|record| (record.reason, record.outcome)).collect()
}

#[tokio::test]
async fn an_instance_is_replaced_after_so_many_calls() {
    let fixture = Fixture {
        recycle: after_calls(3),
        limits: shutdown_within(Duration::from_secs(7)),
        ..Fixture::new(components::guest("counter"))
    };
    let plugin = fixture.load(&runtime(4)).await.expect("loads");
    for instance in [0, 1] {
        for count in ["1", "2", "3"] {
            let (exchange, result) = plugin.on_response(answered(&[])).await;
            result.expect("it serves");
            let response = exchange.response.expect("kept");
            assert_eq!(response.headers.get("x-count").map(http::HeaderValue::as_bytes), Some(count.as_bytes()));
        }
        let record = plugin.records.next().await;
        assert_eq!((record.instance, record.reason), (instance, StopReason::Recycle));
        assert_eq!((record.outcome, record.budget), (StopOutcome::Completed, Duration::from_secs(7)));
    }
    plugin.on_response(answered(&[])).await.1.expect("it serves");
    assert_eq!(
        (plugin.instances(), plugin.stats().stores_live),
        (vec![2], 1),
        "the memory of the others is free again"
    );
    assert_eq!(plugin.stats().retired, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_requests_loses_none_to_an_instance_that_is_recycled_after_every_call() {
    let plugin = Fixture { recycle: after_calls(1), ..hostile("ok") }.load(&runtime(4)).await.expect("loads");
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move {
                // Until the 50th replacement.
                while plugin.instances().iter().all(|number| *number < 50) {
                    call(&plugin).await;
                    let instances = plugin.stats().instances;
                    assert!(instances.stopping <= 1 && instances.idle + instances.busy + instances.starting <= 1);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("it has lost none");
    }
    let records = stop(&plugin, Duration::from_secs(20)).await;
    let ends = ends(records);
    assert!(ends.iter().all(|(_, outcome)| *outcome == StopOutcome::Completed), "{ends:?}");
    assert!(ends.len() > 50, "an instance that cannot go at once goes soon");
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![], 0));
}

#[tokio::test]
async fn an_instance_is_replaced_when_it_has_grown() {
    let recycle = Recycle { calls: None, memory: Some(4 << 20) };
    let plugin = Fixture { recycle, ..hostile("ok") }.load(&runtime(4)).await.expect("loads");
    for _ in 0..10 {
        call(&plugin).await;
    }
    assert_eq!(plugin.instances(), [0]);
    misbehave(&plugin, "log-giant=4194304").await.expect("it serves");
    let record = plugin.records.next().await;
    assert_eq!((record.instance, record.reason), (0, StopReason::Recycle));
    call(&plugin).await;
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![1], 1));
}

#[tokio::test]
async fn a_plugin_without_shutdown_is_recycled_without_a_call() {
    let fixture = Fixture { recycle: after_calls(1), ..Fixture::new(components::guest("no-shutdown")) };
    let plugin = fixture.load(&runtime(4)).await.expect("loads");
    call(&plugin).await;
    let record = plugin.records.next().await;
    assert_eq!((record.outcome, record.reason), (StopOutcome::NoHook, StopReason::Recycle));
}

#[tokio::test]
async fn whatever_its_shutdown_does_it_ends_on_time_and_the_replacement_serves_meanwhile() {
    // Time for two calls and a new instance, on however busy a machine.
    let shutdown = Duration::from_secs(2);
    for (how, outcome) in [
        ("spin", StopOutcome::Overran),
        ("sleep", StopOutcome::Overran),
        ("allocate-forever", StopOutcome::Overran),
        ("trap", StopOutcome::Trapped),
        ("recurse", StopOutcome::Trapped),
        ("error", StopOutcome::Failed),
    ] {
        let fixture = Fixture { recycle: after_calls(2), limits: shutdown_within(shutdown), ..hostile(how) };
        let plugin = fixture.load(&runtime(4)).await.expect("loads");
        for _ in 0..3 {
            call(&plugin).await;
        }
        if outcome == StopOutcome::Overran {
            assert_eq!((plugin.instances(), plugin.stats().instances.stopping), (vec![0, 1], 1), "{how}");
        }
        let record = plugin.records.next().await;
        assert_eq!((record.instance, record.reason, record.outcome), (0, StopReason::Recycle, outcome), "{record:?}");
        assert!(record.budget == shutdown && record.overshoot < SLACK, "{how}: {record:?}");
        assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![1], 1), "{how}");
        call(&plugin).await;
    }
}

#[tokio::test]
async fn a_shutdown_that_traps_again_and_again_is_no_fault_of_the_calls() {
    let plugin = Fixture { recycle: after_calls(1), ..hostile("trap") }.load(&runtime(4)).await.expect("loads");
    for _ in 0..20 {
        call(&plugin).await;
        assert_eq!(plugin.records.next().await.outcome, StopOutcome::Trapped);
    }
    let stats = plugin.stats();
    assert_eq!((*plugin.health().borrow(), stats.retired, stats.breaker_open), (Health::Good, 0, false));
}

#[tokio::test]
async fn the_guest_sees_why_it_is_recycled() {
    let plugin = Fixture { recycle: after_calls(1), ..hostile("tell") }.load(&runtime(4)).await.expect("loads");
    sees_nothing(&plugin).await;
    let error = plugin.records.next().await.error.expect("it tells");
    assert!(error.contains("phase Stopping, reason Some(Recycle)"), "{error}");
}

#[tokio::test]
async fn the_others_see_nothing_while_one_is_recycled() {
    let recycle = Recycle { calls: None, memory: Some(4 << 20) };
    let plugin = Fixture { instances: 2, recycle, ..hostile("sleep") }.load(&runtime(4)).await.expect("loads");
    misbehave(&plugin, "log-giant=4194304").await.expect("it serves");
    while plugin.stats().instances.idle < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(plugin.stats().instances.stopping, 1);
    for _ in 0..4 {
        sees_nothing(&plugin).await;
    }
    let records = stop(&plugin, Duration::from_millis(50)).await;
    assert_eq!(ends(records).len(), 3);
}

#[tokio::test]
async fn what_is_idle_beyond_min_goes_when_its_time_is_up() {
    let (runtime, clock) = still_runtime();
    let idle = Duration::from_secs(60);
    let fixture = Fixture { surplus: 2, idle, ..hostile("tell") };
    let plugin = fixture.load(&runtime).await.expect("loads");
    all_busy(&plugin, &clock, 3).await;
    assert_eq!(plugin.stats().instances.idle, 3);

    clock.advance(idle.saturating_sub(Duration::from_nanos(1)));
    call(&plugin).await;
    settle().await;
    assert_eq!(plugin.stats().instances.idle, 3, "a moment too early");

    clock.advance(Duration::from_nanos(1));
    let mut gone = BTreeSet::new();
    for _ in 0..2 {
        let record = plugin.records.next().await;
        assert_eq!((record.reason, record.outcome), (StopReason::ScaleIn, StopOutcome::Failed));
        assert!(record.error.is_some_and(|error| error.contains("phase Stopping, reason Some(ScaleIn)")));
        gone.insert(record.instance);
    }
    let stays: Vec<u64> = (0..3).filter(|number| !gone.contains(number)).collect();
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (stays.clone(), 1));
    sees_nothing(&plugin).await;

    clock.advance(10 * idle);
    settle().await;
    assert_eq!((plugin.instances(), plugin.records.take().len()), (stays, 0), "min stays");
}

/// Let everything run that can. (These tests have one thread.)
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// So many calls at a time, each of which needs an instance of its own.
async fn all_busy(plugin: &Loaded, clock: &StillClock, calls: usize) {
    let time_goes_on = async {
        while plugin.stats().instances.busy < calls {
            tokio::task::yield_now().await;
        }
        settle().await;
        clock.advance(Duration::from_millis(20));
    };
    let calls = join_all((0..calls).map(|_| misbehave(plugin, "sleep=20")));
    let (ends, ()) = tokio::join!(calls, time_goes_on);
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    settle().await;
}

#[tokio::test]
async fn watching_over_a_surplus_keeps_no_plugin_alive() {
    let (runtime, clock) = still_runtime();
    let plugin = Fixture { surplus: 1, ..hostile("ok") }.load(&runtime).await.expect("loads");
    all_busy(&plugin, &clock, 2).await;
    assert_eq!(plugin.stats().instances.idle, 2, "there is a surplus");
    let Loaded { plugin, records, .. } = plugin;
    drop(plugin);
    assert!(records.are_final());
    clock.advance(Duration::from_secs(3600));
    settle().await;
    assert_eq!(records.take().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_being_recycled_which_keeps_its_reason() {
    let runtime = paused_runtime();
    let plugin = Fixture { recycle: after_calls(2), ..hostile("sleep=60") }.load(&runtime).await.expect("loads");
    for _ in 0..3 {
        call(&plugin).await;
    }
    assert_eq!(plugin.instances(), [0, 1]);
    let records = stop(&plugin, Duration::from_secs(20)).await;
    let completed = StopOutcome::Completed;
    assert_eq!(ends(records), [(StopReason::Recycle, completed), (StopReason::Terminate, completed)]);
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![], 0));
}

#[tokio::test]
async fn the_deadline_of_a_stop_holds_for_what_is_being_recycled() {
    for how in ["sleep", "spin"] {
        let plugin = Fixture { recycle: after_calls(2), ..hostile(how) }.load(&runtime(4)).await.expect("loads");
        for _ in 0..3 {
            call(&plugin).await;
        }
        let records = stop(&plugin, Duration::from_millis(100)).await;
        assert!(records.iter().all(|record| record.overshoot < SLACK), "{records:?}");
        let overran = StopOutcome::Overran;
        assert_eq!(ends(records), [(StopReason::Recycle, overran), (StopReason::Terminate, overran)]);
        assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![], 0));
    }
}

#[tokio::test]
async fn a_recycled_instance_is_abandoned_with_everything_else() {
    let runtime = runtime(4);
    let plugin = Fixture { recycle: after_calls(1), ..hostile("sleep") }.load(&runtime).await.expect("loads");
    call(&plugin).await;
    settle().await;
    runtime.abandon();
    let record = plugin.records.next().await;
    assert_eq!((record.instance, record.reason, record.outcome), (0, StopReason::Recycle, StopOutcome::Abandoned));
}

//! Work after the response: each payload that is taken is done, has failed, or is named as left; nothing waits for it that
//! has no need to, and no stop takes longer than it may for it.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_runtime::{
    Deferred, DeferredOutcome, DrainRecord, Hook, Isolation, Limits, LoadError, Recycle, StopOutcome, StopReason,
    StopRecord, Verdict,
};
use tidegate_tests::clock::{StillClock, paused_runtime, still_runtime};
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, Loaded, exchange, runtime, stop};

/// So long that a test which meets it has failed.
const LONG: Duration = Duration::from_secs(60);

/// Limits that are not met by chance.
fn roomy() -> Limits {
    Limits { cpu: LONG, wall: LONG, deferred: LONG, shutdown: Duration::from_secs(5), ..Limits::default() }
}

fn later() -> Fixture {
    Fixture { limits: roomy(), ..Fixture::later("{}") }
}

/// Have this put off. What the guest says of it: how many were taken, and the last refusal.
async fn put_off(plugin: &Loaded, what: &str) -> String {
    let (_, result) = plugin.on_request(exchange(&[("x-defer", what), ("x-reply", "1")])).await;
    match result.expect("it answers") {
        Verdict::Respond(reply) => String::from_utf8_lossy(&reply.body).into_owned(),
        other => panic!("{other:?}"),
    }
}

/// Payloads by outcome: completed, failed, refused, left.
fn outcomes(plugin: &Loaded) -> [u64; DeferredOutcome::ALL.len()] {
    plugin.stats().deferred_outcomes
}

fn ended(plugin: &Loaded) -> u64 {
    let [completed, failed, _, left] = outcomes(plugin);
    completed + failed + left
}

async fn until(holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, holding).await.expect("it comes about");
}

/// The one record of a plugin's deferred work, whose numbers add up.
fn drained(plugin: &Loaded) -> DrainRecord {
    let records = plugin.drained();
    let [record] = &*records else { panic!("{records:?}") };
    assert_eq!(record.accepted, record.completed + record.failed + record.handed_over + record.left, "{record:?}");
    record.clone()
}

fn left(records: &[StopRecord]) -> u64 {
    records.iter().map(|record| record.deferred_left).sum()
}

#[tokio::test]
async fn what_is_put_off_is_done_after_the_call_and_the_call_does_not_wait_for_it() {
    let plugin = later().load(&runtime(4)).await.expect("loads");
    assert_eq!(put_off(&plugin, "3 sleep=20").await, "taken 3, all");
    assert_eq!(ended(&plugin), 0, "the call has returned before any of it is done");
    until(|| ended(&plugin) == 3).await;
    assert_eq!(outcomes(&plugin), [3, 0, 0, 0]);
    until(|| plugin.stats().instances.idle == 1).await;
    let stats = plugin.stats();
    assert_eq!((stats.deferred.waiting, stats.deferred.bytes, stats.deferred.running), (0, 0, 0));
    let calls = stats.hooks.iter().find(|hook| hook.hook == Hook::OnDeferred).expect("it is exported").calls;
    assert_eq!(calls.iter().sum::<u64>(), 3);
}

#[tokio::test]
async fn a_full_queue_refuses_whole_payloads_and_says_which_bound_it_was() {
    let deferred = Deferred { queue: 4, bytes: 1_000, ..Deferred::default() };
    let plugin = Fixture { deferred, ..later() }.load(&runtime(4)).await.expect("loads");
    // The one instance is in this call: nothing is worked off meanwhile.
    assert_eq!(put_off(&plugin, "6 ok").await, "taken 4, QueueFull");
    until(|| ended(&plugin) == 4).await;
    assert_eq!(put_off(&plugin, "3 size=400").await, "taken 2, QueueFull");
    until(|| ended(&plugin) == 6).await;
    assert_eq!(put_off(&plugin, "1 size=1000").await, "taken 1, all");
    until(|| ended(&plugin) == 7).await;
    for too_large in ["1 size=1001", "1 size=8000000"] {
        assert_eq!(put_off(&plugin, too_large).await, "taken 0, TooLarge", "{too_large}");
    }
    assert_eq!(outcomes(&plugin), [7, 0, 5, 0]);
    assert_eq!(plugin.stats().retired, 0);
}

#[tokio::test]
async fn a_payload_that_never_ends_is_stopped_at_the_limit_and_the_next_one_is_done() {
    // Much longer than what ends by itself takes, on however busy a machine.
    let limits = Limits { deferred: Duration::from_secs(2), ..roomy() };
    let plugin = Fixture { limits, ..later() }.load(&runtime(4)).await.expect("loads");
    for what in ["spin", "hang"] {
        put_off(&plugin, what).await;
        put_off(&plugin, "ok").await;
    }
    until(|| ended(&plugin) == 4).await;
    assert_eq!(outcomes(&plugin), [2, 2, 0, 0]);
    assert_eq!(plugin.stats().retired, 2, "what overran is gone");
}

#[tokio::test]
async fn what_fails_is_counted_and_not_tried_again() {
    let plugin = later().load(&runtime(4)).await.expect("loads");
    put_off(&plugin, "2 error").await;
    until(|| ended(&plugin) == 2).await;
    assert_eq!(plugin.stats().retired, 0, "an error is no fault of the instance");
    put_off(&plugin, "trap").await;
    until(|| ended(&plugin) == 3).await;
    assert_eq!((outcomes(&plugin), plugin.stats().retired), ([0, 3, 0, 0], 1));
}

#[tokio::test]
async fn work_that_fails_again_and_again_takes_no_request_down() {
    let plugin = Fixture { instances: 2, ..later() }.load(&runtime(4)).await.expect("loads");
    put_off(&plugin, "40 trap").await;
    for _ in 0..100 {
        assert_eq!(put_off(&plugin, "0 ok").await, "taken 0, all");
        assert!(!plugin.stats().breaker_open);
    }
    until(|| ended(&plugin) >= 10).await;
    // It rests: it is tried once per pause, and each is longer.
    assert!(ended(&plugin) < 40, "{:?}", outcomes(&plugin));
    let records = stop(&plugin, LONG).await;
    // There is no other time: the stop does not wait for the pause.
    assert_eq!((outcomes(&plugin)[3], left(&records)), (0, 0));
    assert_eq!(drained(&plugin).failed, 40);
}

#[tokio::test(start_paused = true)]
async fn what_is_worked_on_may_put_more_off_but_not_in_a_stop() {
    let runtime = paused_runtime();
    let plugin = later().load(&runtime).await.expect("loads");
    put_off(&plugin, "again=3").await;
    until(|| ended(&plugin) == 4).await;
    assert_eq!(outcomes(&plugin), [4, 0, 0, 0]);
    put_off(&plugin, "1 sleep=20, 1 again=3").await;
    let mut stopping = Box::pin(stop(&plugin, LONG));
    assert!(settles(&mut stopping).await.is_none());
    tokio::time::timeout(LONG, stopping).await.expect("it is over");
    // `again` has failed: what it wanted to put off was refused.
    assert_eq!(outcomes(&plugin), [5, 1, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn no_more_instances_work_on_it_than_its_concurrency() {
    let runtime = paused_runtime();
    let deferred = Deferred { concurrency: 2, ..Deferred::default() };
    let plugin = Fixture { deferred, instances: 4, ..later() }.load(&runtime).await.expect("loads");
    put_off(&plugin, "8 sleep=20").await;
    for done in [0, 2, 4, 6] {
        settle().await;
        assert_eq!((ended(&plugin), plugin.stats().deferred.running), (done, 2));
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    until(|| ended(&plugin) == 8).await;
}

#[tokio::test]
async fn requests_do_not_starve_the_work_nor_the_work_the_requests() {
    let plugin = later().load(&runtime(4)).await.expect("loads");
    let done = std::cell::Cell::new(false);
    // The one instance is never idle: there is always a call that waits for it.
    let callers = join_all((0..4).map(|_| async {
        let mut calls = 0;
        while !done.get() || calls < 10 {
            put_off(&plugin, "0 ok").await;
            calls += 1;
        }
    }));
    let work = async {
        put_off(&plugin, "50 sleep=1").await;
        until(|| ended(&plugin) == 50).await;
        done.set(true);
    };
    tokio::time::timeout(LONG, async { tokio::join!(callers, work) }).await.expect("neither starves");
}

#[tokio::test]
async fn in_fresh_isolation_each_payload_has_an_instance_of_its_own() {
    let fixture =
        Fixture { isolation: Isolation::Fresh, instances: 2, tick: Some(Duration::from_millis(20)), ..later() };
    let plugin = fixture.load(&runtime(8)).await.expect("loads");
    put_off(&plugin, "5 ok").await;
    until(|| ended(&plugin) == 5).await;
    until(|| ticks(&plugin) >= 3).await;
    put_off(&plugin, "5 sleep=10").await;
    assert!(stop(&plugin, LONG).await.is_empty(), "nothing is left to be shut down");
    assert_eq!(drained(&plugin).completed, 10);
}

#[tokio::test]
async fn work_counts_as_a_call_that_recycles_its_instance() {
    let recycle = Recycle { calls: Some(3), memory: None };
    let plugin = Fixture { recycle, ..later() }.load(&runtime(4)).await.expect("loads");
    put_off(&plugin, "2 ok").await;
    assert_eq!(plugin.records.next().await.reason, StopReason::Recycle);
    // Its `shutdown` put something off, too: the plugin goes on, and another instance does it.
    until(|| ended(&plugin) == 3).await;
    assert_eq!(outcomes(&plugin), [3, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_queue_run_dry_before_any_instance_is_told() {
    let runtime = paused_runtime();
    let plugin = Fixture { instances: 2, ..later() }.load(&runtime).await.expect("loads");
    put_off(&plugin, "10 sleep=10").await;
    settle().await;
    let records = stop(&plugin, LONG).await;
    let record = drained(&plugin);
    assert_eq!((record.completed, record.left, record.reason), (10, 0, StopReason::Terminate));
    assert_eq!(record.at_stop, 10, "{record:?}");
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!((record.outcome, record.deferred_left), (StopOutcome::Completed, 0), "{record:?}");
        assert_eq!(record.budget, Duration::from_secs(5), "its shutdown has all its time");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_of_work_in_a_stop_is_replaced_and_told_of() {
    let runtime = paused_runtime();
    let plugin = later().load(&runtime).await.expect("loads");
    // All in one call, and the first of it ends no sooner than there is nothing else to do: the others are done in the stop.
    assert_eq!(put_off(&plugin, "1 sleep=30, 1 trap, 3 ok").await, "taken 5, all");
    let mut stopping = Box::pin(stop(&plugin, LONG));
    assert!(settles(&mut stopping).await.is_none());
    let records = tokio::time::timeout(LONG, stopping).await.expect("it is over");
    // The refusal is that of the guest's `shutdown`.
    assert_eq!(outcomes(&plugin), [4, 1, 1, 0]);
    let ends: BTreeSet<_> = records.iter().map(|record| (record.instance, record.outcome)).collect();
    assert_eq!(ends, BTreeSet::from([(0, StopOutcome::Trapped), (1, StopOutcome::Completed)]), "{records:?}");
}

/// A plugin on a clock that stands still, which works on something that never ends while three more wait.
async fn stuck(
    clock_limits: Limits,
    deferred: Deferred,
) -> (Loaded, std::sync::Arc<StillClock>, tidegate_runtime::Runtime) {
    let (runtime, clock) = still_runtime();
    let fixture = Fixture { limits: clock_limits, deferred, ..Fixture::later("{}") };
    let plugin = fixture.load(&runtime).await.expect("loads");
    assert_eq!(put_off(&plugin, "4 hang").await, "taken 4, all");
    until(|| plugin.stats().deferred.running == 1).await;
    (plugin, clock, runtime)
}

/// Everything that can happen now has happened.
async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// Whether a stop is over, once everything that can happen now has happened.
async fn settles<F: Future + Unpin>(stop: &mut F) -> Option<F::Output> {
    for _ in 0..1_000 {
        tokio::select! {
            biased;
            done = &mut *stop => return Some(done),
            () = tokio::task::yield_now() => {}
        }
    }
    None
}

#[tokio::test]
async fn the_share_ends_on_time_and_what_is_left_is_counted_once() {
    let limits = Limits { shutdown: Duration::from_secs(100), ..roomy() };
    let drain = Duration::from_secs(10);
    let (plugin, clock, _runtime) = stuck(limits, Deferred { drain, ..Deferred::default() }).await;
    assert_eq!(plugin.longest_stop(), Duration::from_secs(110));
    let mut stopping = Box::pin(stop(&plugin, Duration::MAX));
    assert!(settles(&mut stopping).await.is_none());
    clock.advance(drain - Duration::from_nanos(1));
    assert!(settles(&mut stopping).await.is_none());
    assert_eq!(plugin.stats().deferred.waiting, 3);
    clock.advance(Duration::from_nanos(1));
    assert!(settles(&mut stopping).await.is_none());
    assert_eq!((plugin.stats().deferred.waiting, outcomes(&plugin)), (0, [0, 0, 0, 3]));
    // What is in a call goes on until its own limit, which comes before the end of the stop.
    clock.advance(LONG);
    let records = tokio::time::timeout(LONG, stopping).await.expect("it is over");
    let [record] = &*records else { panic!("{records:?}") };
    assert_eq!((record.outcome, record.deferred_left), (StopOutcome::Overran, 3), "{record:?}");
    let record = drained(&plugin);
    assert_eq!((record.failed, record.left, record.at_stop, record.budget), (1, 3, 4, drain), "{record:?}");
}

#[tokio::test]
async fn a_short_budget_leaves_the_shutdown_its_time_and_the_work_none() {
    let limits = Limits { shutdown: Duration::from_secs(20), ..roomy() };
    let (plugin, clock, _runtime) = stuck(limits, Deferred::default()).await;
    let mut stopping = Box::pin(stop(&plugin, Duration::from_secs(20)));
    assert!(settles(&mut stopping).await.is_none());
    assert_eq!(outcomes(&plugin), [0, 0, 0, 3]);
    // The call is cut at the end of the stop.
    clock.advance(Duration::from_secs(20));
    let records = tokio::time::timeout(LONG, stopping).await.expect("it is over");
    assert_eq!((records.len(), left(&records), drained(&plugin).failed), (1, 3, 1));
}

#[tokio::test]
async fn a_second_stop_that_has_less_time_shortens_the_share() {
    let limits = Limits { shutdown: Duration::from_secs(20), ..roomy() };
    let drain = Duration::from_secs(50);
    let (plugin, clock, _runtime) = stuck(limits, Deferred { drain, ..Deferred::default() }).await;
    let mut first = Box::pin(stop(&plugin, Duration::MAX));
    assert!(settles(&mut first).await.is_none());
    let mut second = Box::pin(plugin.stop(StopReason::Terminate, Duration::from_secs(25)));
    assert!(settles(&mut second).await.is_none());
    assert_eq!(plugin.stats().deferred.waiting, 3);
    clock.advance(Duration::from_secs(5));
    assert!(settles(&mut second).await.is_none());
    assert_eq!(outcomes(&plugin), [0, 0, 0, 3]);
    clock.advance(Duration::from_secs(20));
    tokio::time::timeout(LONG, async { tokio::join!(first, second) }).await.expect("it is over");
    assert_eq!(drained(&plugin).budget, Duration::from_secs(5));
}

#[tokio::test]
async fn abandoning_ends_the_work_and_what_was_left_is_counted() {
    let (plugin, _clock, runtime) = stuck(roomy(), Deferred { drain: LONG, ..Deferred::default() }).await;
    let mut stopping = Box::pin(stop(&plugin, Duration::MAX));
    assert!(settles(&mut stopping).await.is_none());
    runtime.abandon();
    let records = tokio::time::timeout(LONG, stopping).await.expect("it is over");
    assert_eq!(records.iter().map(|record| record.outcome).collect::<Vec<_>>(), [StopOutcome::Abandoned]);
    assert_eq!((left(&records), drained(&plugin).failed), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn work_that_waits_goes_to_the_version_that_takes_over() {
    let runtime = paused_runtime();
    let version = Fixture { hand_over: true, instances: 2, ..later() };
    let old = version.load(&runtime).await.expect("loads");
    old.open().await.expect("opens");
    // One that has room for two of them.
    let deferred = Deferred { queue: 2, ..Deferred::default() };
    let new = Fixture { deferred, ..version }.load(&runtime).await.expect("loads");
    // The first ends no sooner than there is nothing else to do.
    put_off(&old, "1 sleep=50, 2 ok").await;
    settle().await;
    assert_eq!(old.stats().deferred.running, 1);
    new.take_over(&old, old.longest_stop()).await;
    until(|| ended(&new) == 2).await;
    let record = drained(&old);
    assert_eq!((record.completed, record.handed_over, record.left), (1, 2, 0), "{record:?}");
    stop(&new, LONG).await;
    assert_eq!((drained(&new).accepted, drained(&new).completed), (2, 2));
}

#[tokio::test]
async fn a_version_that_is_held_works_on_nothing_and_one_that_is_stopped_then_leaves_it() {
    let version = Fixture { hand_over: true, config: r#"{"configure": "ok"}"#.into(), ..later() };
    let plugin = version.load(&runtime(8)).await.expect("loads");
    let records = stop(&plugin, LONG).await;
    assert_eq!((outcomes(&plugin), left(&records)), ([0, 0, 1, 1], 1));
}

fn ticks(plugin: &Loaded) -> u64 {
    let stats = plugin.stats();
    stats.hooks.iter().filter(|hook| hook.hook == Hook::OnTick).flat_map(|hook| hook.calls).sum()
}

const PERIOD: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_instance_is_ticked_once_per_period_and_a_missed_period_is_not_made_up_for() {
    let (runtime, clock) = still_runtime();
    let plugin = Fixture { tick: Some(PERIOD), instances: 3, ..later() }.load(&runtime).await.expect("loads");
    settle().await;
    clock.advance(PERIOD - Duration::from_nanos(1));
    settle().await;
    assert_eq!(ticks(&plugin), 0, "the first period is not over");
    clock.advance(Duration::from_nanos(1));
    until(|| ticks(&plugin) == 3).await;
    settle().await;
    assert_eq!(ticks(&plugin), 3);
    clock.advance(5 * PERIOD);
    until(|| ticks(&plugin) == 6).await;
    settle().await;
    assert_eq!(ticks(&plugin), 6);
    stop(&plugin, LONG).await;
    clock.advance(PERIOD);
    settle().await;
    assert_eq!(ticks(&plugin), 6, "a plugin that has been stopped is not ticked");
}

#[tokio::test]
async fn one_instance_at_a_time_is_in_a_tick_and_one_that_is_busy_has_it_after_its_call() {
    let (runtime, clock) = still_runtime();
    let config = r#"{"on_tick": "sleep=5"}"#;
    let fixture = Fixture { tick: Some(PERIOD), instances: 2, config: config.into(), ..later() };
    let plugin = fixture.load(&runtime).await.expect("loads");
    // One of them works on something.
    put_off(&plugin, "sleep=12000").await;
    until(|| plugin.stats().deferred.running == 1).await;
    clock.advance(PERIOD);
    settle().await;
    clock.advance(Duration::from_millis(5));
    until(|| ticks(&plugin) == 1).await;
    assert_eq!(plugin.stats().deferred.running, 1, "the idle one has been ticked beside it");
    clock.advance(Duration::from_secs(2));
    settle().await;
    clock.advance(Duration::from_millis(5));
    until(|| ticks(&plugin) == 2).await;
    assert_eq!(ended(&plugin), 1, "the busy one came after its call");
}

#[tokio::test]
async fn ticks_come_to_a_plugin_that_is_never_idle() {
    let fixture = Fixture { tick: Some(Duration::from_millis(10)), ..later() };
    let plugin = fixture.load(&runtime(4)).await.expect("loads");
    let callers = join_all((0..4).map(|_| async {
        while ticks(&plugin) < 5 {
            put_off(&plugin, "0 ok").await;
        }
    }));
    tokio::time::timeout(LONG, callers).await.expect("it is ticked");
}

#[tokio::test]
async fn a_tick_that_fails_costs_an_instance_and_no_request() {
    let config = r#"{"on_tick": "trap"}"#;
    let fixture = Fixture { tick: Some(Duration::from_millis(5)), config: config.into(), ..later() };
    let plugin = fixture.load(&runtime(4)).await.expect("loads");
    while ticks(&plugin) < 10 {
        assert_eq!(put_off(&plugin, "0 ok").await, "taken 0, all");
        assert!(!plugin.stats().breaker_open);
    }
    assert!(plugin.stats().retired >= 10);
}

#[tokio::test]
async fn a_tick_does_not_keep_an_instance_that_nobody_needs() {
    let (runtime, clock) = still_runtime();
    let fixture = Fixture { tick: Some(PERIOD), surplus: 1, idle: 3 * PERIOD, ..later() };
    let plugin = fixture.load(&runtime).await.expect("loads");
    put_off(&plugin, "sleep=20").await;
    settle().await;
    // The only one works on something: this call brings up another.
    put_off(&plugin, "0 ok").await;
    assert_eq!(plugin.instances(), [0, 1]);
    clock.advance(Duration::from_millis(20));
    for _ in 0..4 {
        settle().await;
        clock.advance(PERIOD);
    }
    assert_eq!(plugin.records.next().await.reason, StopReason::ScaleIn);
}

#[tokio::test]
async fn a_tick_without_its_hook_is_refused() {
    let fixture = Fixture { tick: Some(PERIOD), ..Fixture::new(components::guest("counter")) };
    let refused = fixture.load(&runtime(4)).await.map(drop).expect_err("it has no such hook");
    assert!(matches!(refused, LoadError::NoTick), "{refused}");
    assert_eq!(refused.to_string(), "has a `tick`, but the component exports no `on-tick`");
}

#[tokio::test]
async fn what_configure_puts_off_is_done() {
    let plugin = Fixture { config: r#"{"configure": "ok"}"#.into(), ..later() }.load(&runtime(4)).await.expect("loads");
    until(|| ended(&plugin) == 1).await;
    assert_eq!(outcomes(&plugin), [1, 0, 0, 0]);
}

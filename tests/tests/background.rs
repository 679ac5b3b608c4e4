//! Work after the response: each payload that is taken is done, has failed, or is named as left; nothing waits for it that
//! has no need to, and no stop takes longer than it may for it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tidegate_runtime::{DeferredOutcome, LoadError, Verdict};
use tidegate_testing::{
    Deferred, DrainRecord, Fault, Hook, Limits, Plugin, Recycle, Request, Setup, SetupError, Stop, StopOutcome,
    StopReason,
};
use tidegate_tests::plugins::exchange;
use tidegate_tests::setups::{AMPLE, guest, later};

const SHUTDOWN: Duration = Duration::from_secs(5);

fn roomy() -> Setup {
    later(&json!({})).limits(|limits| limits.shutdown = SHUTDOWN)
}

/// The same, in which nothing that is computed takes time.
fn still() -> Setup {
    roomy().pace(0)
}

fn asking(what: &str) -> Request {
    Request::get("/").header("x-defer", what).header("x-reply", "1")
}

/// Have this put off. What the guest says of it: how many were taken, and the last refusal.
fn put_off(plugin: &mut Plugin, what: &str) -> String {
    let answer = plugin.send(asking(what));
    assert!(answer.is_from_plugin(), "{answer:?}");
    answer.text()
}

/// The same within a run of the test's own.
async fn asks(plugin: &tidegate_runtime::Plugin, what: &str) -> String {
    let (_, result) = plugin.on_request(exchange(&[("x-defer", what), ("x-reply", "1")])).await;
    match result.expect("it answers") {
        Verdict::Respond(reply) => String::from_utf8_lossy(&reply.body).into_owned(),
        other => panic!("{other:?}"),
    }
}

/// Payloads by outcome: completed, failed, refused, left.
fn outcomes(plugin: &Plugin) -> [u64; DeferredOutcome::ALL.len()] {
    plugin.stats().deferred_outcomes
}

fn ended(plugin: &Plugin) -> u64 {
    let [completed, failed, _, left] = outcomes(plugin);
    completed + failed + left
}

fn running(plugin: &Plugin) -> usize {
    plugin.stats().deferred.running
}

fn calls(plugin: &Plugin, hook: Hook) -> u64 {
    let stats = plugin.stats();
    stats.hooks.iter().filter(|stats| stats.hook == hook).flat_map(|stats| stats.calls).sum()
}

/// What a stop tells of the deferred work; its numbers add up.
fn drained(stop: &Stop) -> DrainRecord {
    let record = stop.deferred.clone().expect("there was some");
    assert_eq!(record.accepted, record.completed + record.failed + record.handed_over + record.left, "{record:?}");
    record
}

fn left(stop: &Stop) -> u64 {
    stop.instances.iter().map(|record| record.deferred_left).sum()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const NANOSECOND: Duration = Duration::from_nanos(1);

#[test]
fn what_is_put_off_is_done_after_the_call_and_the_call_does_not_wait_for_it() {
    let mut plugin = still().load().expect("loads");
    let answer = plugin.send(asking("3 sleep=20"));
    assert_eq!((&*answer.text(), answer.took), ("taken 3, all", Duration::ZERO));
    assert_eq!(ended(&plugin), 0, "the call has returned before any of it is done");
    for done in 1..=3 {
        plugin.advance(millis(20));
        assert_eq!(outcomes(&plugin), [done, 0, 0, 0]);
    }
    let stats = plugin.stats();
    assert_eq!((stats.instances.idle, stats.deferred.waiting, stats.deferred.bytes), (1, 0, 0));
    assert_eq!((stats.deferred.running, calls(&plugin, Hook::OnDeferred)), (0, 3));
}

#[test]
fn a_full_queue_refuses_whole_payloads_and_says_which_bound_it_was() {
    let setup = roomy().background(Deferred { queue: 4, bytes: 1_000, ..Deferred::default() });
    let mut plugin = setup.load().expect("loads");
    // The one instance is in this call: nothing is worked off meanwhile.
    assert_eq!(put_off(&mut plugin, "6 ok"), "taken 4, QueueFull");
    assert_eq!(ended(&plugin), 4);
    assert_eq!(put_off(&mut plugin, "3 size=400"), "taken 2, QueueFull");
    assert_eq!(ended(&plugin), 6);
    assert_eq!(put_off(&mut plugin, "1 size=1000"), "taken 1, all");
    assert_eq!(ended(&plugin), 7);
    for too_large in ["1 size=1001", "1 size=8000000"] {
        assert_eq!(put_off(&mut plugin, too_large), "taken 0, TooLarge", "{too_large}");
    }
    assert_eq!(outcomes(&plugin), [7, 0, 5, 0]);
    assert_eq!(plugin.stats().retired, 0);
}

#[test]
fn a_payload_that_never_ends_is_stopped_at_the_limit_and_the_next_one_is_done() {
    let limit = millis(20);
    let mut plugin = roomy().limits(|limits| limits.deferred = limit).load().expect("loads");
    for what in ["spin", "hang"] {
        put_off(&mut plugin, what);
        put_off(&mut plugin, "ok");
    }
    plugin.advance(2 * limit);
    assert_eq!(outcomes(&plugin), [2, 2, 0, 0]);
    assert_eq!(plugin.stats().retired, 2, "what overran is gone");
}

#[test]
fn what_fails_is_counted_and_not_tried_again() {
    let mut plugin = roomy().load().expect("loads");
    put_off(&mut plugin, "2 error");
    assert_eq!(ended(&plugin), 2);
    assert_eq!(plugin.stats().retired, 0, "an error is no fault of the instance");
    put_off(&mut plugin, "trap");
    plugin.advance(AMPLE);
    assert_eq!((outcomes(&plugin), plugin.stats().retired), ([0, 3, 0, 0], 1));
}

#[test]
fn work_that_fails_again_and_again_takes_no_request_down() {
    let mut plugin = roomy().instances(2).load().expect("loads");
    put_off(&mut plugin, "40 trap");
    for _ in 0..100 {
        assert_eq!(put_off(&mut plugin, "0 ok"), "taken 0, all");
        assert!(!plugin.stats().breaker_open);
    }
    plugin.advance(Duration::from_secs(1));
    // It rests: it is tried once per pause, and each is longer.
    assert!((10..40).contains(&ended(&plugin)), "{:?}", outcomes(&plugin));
    let stop = plugin.stop(AMPLE);
    // There is no other time: the stop does not wait for the pause.
    assert_eq!((outcomes(&plugin)[3], left(&stop)), (0, 0));
    assert_eq!(drained(&stop).failed, 40);
    assert!(stop.took < Duration::from_secs(1), "{:?}", stop.took);
}

#[test]
fn what_is_worked_on_may_put_more_off_but_not_in_a_stop() {
    let mut plugin = still().load().expect("loads");
    put_off(&mut plugin, "again=3");
    assert_eq!(outcomes(&plugin), [4, 0, 0, 0]);
    put_off(&mut plugin, "1 sleep=20, 1 again=3");
    let stop = plugin.stop(AMPLE);
    assert_eq!(stop.took, millis(20));
    // `again` has failed: what it wanted to put off was refused.
    assert_eq!(outcomes(&plugin), [5, 1, 2, 0]);
}

#[test]
fn no_more_instances_work_on_it_than_its_concurrency() {
    let setup = still().background(Deferred { concurrency: 2, ..Deferred::default() }).instances(4);
    let mut plugin = setup.load().expect("loads");
    put_off(&mut plugin, "8 sleep=20");
    for done in [0, 2, 4, 6] {
        assert_eq!((ended(&plugin), running(&plugin)), (done, 2));
        plugin.advance(millis(20));
    }
    assert_eq!((ended(&plugin), running(&plugin)), (8, 0));
}

#[test]
fn requests_do_not_starve_the_work_nor_the_work_the_requests() {
    let plugin = roomy().load().expect("loads");
    let (done, inner) = (Cell::new(false), plugin.inner());
    // The one instance is never idle: there is always a call that waits for it.
    plugin.run(async {
        let callers = join_all((0..4).map(|_| async {
            let mut calls = 0;
            while !done.get() || calls < 10 {
                asks(inner, "0 ok").await;
                calls += 1;
            }
        }));
        let work = async {
            asks(inner, "50 sleep=1").await;
            while ended(&plugin) < 50 {
                plugin.sleep(millis(1)).await;
            }
            done.set(true);
        };
        tokio::join!(callers, work)
    });
    assert!(plugin.now() < Duration::from_secs(1), "neither starves: {:?}", plugin.now());
}

#[test]
fn in_fresh_isolation_each_payload_has_an_instance_of_its_own() {
    let mut plugin = roomy().fresh().instances(2).tick(millis(20)).load().expect("loads");
    put_off(&mut plugin, "5 ok");
    assert_eq!(ended(&plugin), 5);
    plugin.advance(millis(61));
    assert_eq!(calls(&plugin, Hook::OnTick), 3);
    put_off(&mut plugin, "5 sleep=10");
    let stop = plugin.stop(AMPLE);
    assert!(stop.instances.is_empty(), "nothing is left to be shut down");
    assert_eq!(drained(&stop).completed, 10);
}

#[test]
fn work_counts_as_a_call_that_recycles_its_instance() {
    let mut plugin = roomy().recycle(Recycle { calls: Some(3), memory: None }).load().expect("loads");
    put_off(&mut plugin, "2 ok");
    assert_eq!(plugin.take_ended().iter().map(|record| record.reason).collect::<Vec<_>>(), [StopReason::Recycle]);
    // Its `shutdown` put something off, too: the plugin goes on, and another instance does it.
    assert_eq!(outcomes(&plugin), [3, 0, 0, 0]);
}

#[test]
fn a_stop_lets_the_queue_run_dry_before_any_instance_is_told() {
    let mut plugin = still().instances(2).load().expect("loads");
    put_off(&mut plugin, "10 sleep=10");
    let stop = plugin.stop(AMPLE);
    let record = drained(&stop);
    assert_eq!((record.completed, record.left, record.reason), (10, 0, StopReason::Terminate));
    assert_eq!(record.at_stop, 10, "{record:?}");
    assert_eq!(stop.instances.len(), 2);
    for record in &stop.instances {
        assert_eq!((record.outcome, record.deferred_left), (StopOutcome::Completed, 0), "{record:?}");
        assert_eq!(record.budget, SHUTDOWN, "its shutdown has all its time");
    }
}

#[test]
fn an_instance_that_dies_of_work_in_a_stop_is_replaced_and_told_of() {
    let mut plugin = still().load().expect("loads");
    // All in one call, and the first of it goes on until time does: the others are done in the stop.
    assert_eq!(put_off(&mut plugin, "1 sleep=30, 1 trap, 3 ok"), "taken 5, all");
    let stop = plugin.stop(AMPLE);
    // The refusal is that of the guest's `shutdown`.
    assert_eq!(outcomes(&plugin), [4, 1, 1, 0]);
    let ends: BTreeSet<_> = stop.instances.iter().map(|record| (record.instance, record.outcome)).collect();
    assert_eq!(ends, BTreeSet::from([(0, StopOutcome::Trapped), (1, StopOutcome::Completed)]), "{stop:?}");
}

/// So long that what never ends by itself is still there.
const LONG: Duration = Duration::from_secs(60);

/// A plugin which works on something that never ends while three more wait, and time stands still.
fn stuck(shutdown: Duration, deferred: Deferred) -> Plugin {
    let limits = |limits: &mut Limits| (limits.shutdown, limits.deferred) = (shutdown, LONG);
    let mut plugin = later(&json!({})).background(deferred).limits(limits).pace(0).load().expect("loads");
    assert_eq!(put_off(&mut plugin, "4 hang"), "taken 4, all");
    assert_eq!(running(&plugin), 1);
    plugin
}

#[test]
fn the_share_ends_on_time_and_what_is_left_is_counted_once() {
    let drain = Duration::from_secs(10);
    let mut plugin = stuck(Duration::from_secs(100), Deferred { drain, ..Deferred::default() });
    assert_eq!(plugin.inner().longest_stop(), Duration::from_secs(110));
    let stopping = plugin.begin_stop(StopReason::Terminate, Duration::MAX);
    plugin.advance(drain - NANOSECOND);
    assert_eq!(plugin.stats().deferred.waiting, 3);
    plugin.advance(NANOSECOND);
    assert!(!stopping.is_over());
    assert_eq!((plugin.stats().deferred.waiting, outcomes(&plugin)), (0, [0, 0, 0, 3]));
    // What is in a call goes on until its own limit, which comes before the end of the stop.
    let stop = plugin.finish_stop(stopping);
    assert_eq!(stop.took, LONG);
    let [record] = &*stop.instances else { panic!("{stop:?}") };
    assert_eq!((record.outcome, record.deferred_left), (StopOutcome::Overran, 3), "{record:?}");
    let record = drained(&stop);
    assert_eq!((record.failed, record.left, record.at_stop, record.budget), (1, 3, 4, drain), "{record:?}");
    assert_eq!(record.took, drain);
}

#[test]
fn a_short_budget_leaves_the_shutdown_its_time_and_the_work_none() {
    let budget = Duration::from_secs(20);
    let mut plugin = stuck(budget, Deferred::default());
    let stopping = plugin.begin_stop(StopReason::Terminate, budget);
    assert!(!stopping.is_over());
    assert_eq!(outcomes(&plugin), [0, 0, 0, 3]);
    // The call is cut at the end of the stop.
    let stop = plugin.finish_stop(stopping);
    assert_eq!((stop.instances.len(), left(&stop), drained(&stop).failed, stop.took), (1, 3, 1, budget));
}

#[test]
fn a_second_stop_that_has_less_time_shortens_the_share() {
    let drain = Duration::from_secs(50);
    let mut plugin = stuck(Duration::from_secs(20), Deferred { drain, ..Deferred::default() });
    let first = plugin.begin_stop(StopReason::Terminate, Duration::MAX);
    let second = plugin.begin_stop(StopReason::Terminate, Duration::from_secs(25));
    assert_eq!(plugin.stats().deferred.waiting, 3);
    plugin.advance(Duration::from_secs(5) - NANOSECOND);
    assert_eq!(outcomes(&plugin), [0, 0, 0, 0]);
    plugin.advance(NANOSECOND);
    assert!(!second.is_over());
    assert_eq!(outcomes(&plugin), [0, 0, 0, 3]);
    let stop = plugin.finish_stop(first);
    assert!(second.is_over());
    assert_eq!((stop.took, drained(&stop).budget), (Duration::from_secs(25), Duration::from_secs(5)));
}

#[test]
fn abandoning_ends_the_work_and_what_was_left_is_counted() {
    let mut plugin = stuck(SHUTDOWN, Deferred { drain: LONG, ..Deferred::default() });
    let stopping = plugin.begin_stop(StopReason::Terminate, Duration::MAX);
    assert!(!stopping.is_over());
    plugin.abandon();
    let stop = plugin.finish_stop(stopping);
    assert_eq!((stop.outcomes(), stop.took), (vec![StopOutcome::Abandoned], Duration::ZERO));
    assert_eq!((left(&stop), drained(&stop).failed), (3, 1));
}

#[test]
fn work_that_waits_goes_to_the_version_that_takes_over() {
    let version = || still().hand_over().instances(2);
    let mut old = version().load().expect("loads, and opens");
    // One that has room for two of them.
    let setup = version().background(Deferred { queue: 2, ..Deferred::default() });
    let mut new = setup.load_beside(&old).expect("loads");
    // The first goes on until time does.
    put_off(&mut old, "1 sleep=50, 2 ok");
    assert_eq!(running(&old), 1);
    let taking_over = new.begin_take_over(&old, old.inner().longest_stop());
    assert_eq!(outcomes(&old), [0, 0, 0, 0]);
    new.finish_take_over(taking_over);
    assert_eq!(ended(&new), 2);
    let record = old.take_drained().expect("there was some");
    assert_eq!((record.completed, record.handed_over, record.left), (1, 2, 0), "{record:?}");
    let stop = new.stop(AMPLE);
    assert_eq!((drained(&stop).accepted, drained(&stop).completed), (2, 2));
}

#[test]
fn a_version_that_is_held_works_on_nothing_and_one_that_is_stopped_then_leaves_it() {
    let other = roomy().hand_over().load().expect("loads");
    let setup = later(&json!({ "configure": "ok" })).hand_over();
    let mut plugin = setup.load_beside(&other).expect("loads");
    let stop = plugin.stop(AMPLE);
    assert_eq!((outcomes(&plugin), left(&stop)), ([0, 0, 1, 1], 1));
}

fn ticks(plugin: &Plugin) -> u64 {
    calls(plugin, Hook::OnTick)
}

const PERIOD: Duration = Duration::from_secs(10);

#[test]
fn every_instance_is_ticked_once_per_period_and_a_missed_period_is_not_made_up_for() {
    let mut plugin = still().tick(PERIOD).instances(3).load().expect("loads");
    plugin.advance(PERIOD - NANOSECOND);
    assert_eq!(ticks(&plugin), 0, "the first period is not over");
    plugin.advance(NANOSECOND);
    assert_eq!(ticks(&plugin), 3);
    // Five periods go by at once.
    plugin.plan(Hook::OnRequest, Fault::DelayAt(1, 5 * PERIOD));
    put_off(&mut plugin, "1 ok");
    assert_eq!((plugin.now(), ticks(&plugin)), (6 * PERIOD, 6));
    plugin.advance(PERIOD - NANOSECOND);
    assert_eq!(ticks(&plugin), 6);
    plugin.advance(NANOSECOND);
    assert_eq!(ticks(&plugin), 9);
    plugin.stop(AMPLE);
    let ticked = ticks(&plugin);
    plugin.advance(PERIOD);
    assert_eq!(ticks(&plugin), ticked, "a plugin that has been stopped is not ticked");
}

#[test]
fn one_instance_at_a_time_is_in_a_tick_and_one_that_is_busy_has_it_after_its_call() {
    let setup = later(&json!({ "on_tick": "sleep=5" })).tick(PERIOD).instances(2).pace(0);
    let mut plugin = setup.load().expect("loads");
    // One of them works on something.
    put_off(&mut plugin, "sleep=12000");
    assert_eq!(running(&plugin), 1);
    plugin.advance(PERIOD);
    assert_eq!(ticks(&plugin), 0);
    plugin.advance(millis(5));
    assert_eq!((ticks(&plugin), running(&plugin)), (1, 1), "the idle one has been ticked beside it");
    plugin.advance(millis(1_995));
    assert_eq!((ticks(&plugin), ended(&plugin)), (1, 1));
    plugin.advance(millis(5));
    assert_eq!(ticks(&plugin), 2, "the busy one came after its call");
}

#[test]
fn ticks_come_to_a_plugin_that_is_never_idle() {
    let plugin = roomy().tick(millis(10)).load().expect("loads");
    plugin.run(join_all((0..4).map(|_| async {
        while ticks(&plugin) < 5 {
            asks(plugin.inner(), "0 ok").await;
        }
    })));
    let now = plugin.now();
    assert!((millis(50)..millis(51)).contains(&now), "once per period: {now:?}");
}

#[test]
fn a_tick_that_fails_costs_an_instance_and_no_request() {
    let mut plugin = later(&json!({ "on_tick": "trap" })).tick(millis(5)).load().expect("loads");
    while ticks(&plugin) < 10 {
        assert_eq!(put_off(&mut plugin, "0 ok"), "taken 0, all");
        assert!(!plugin.stats().breaker_open);
        plugin.advance(millis(1));
    }
    assert_eq!(plugin.stats().retired, ticks(&plugin));
}

#[test]
fn a_tick_does_not_keep_an_instance_that_nobody_needs() {
    let mut plugin = still().tick(PERIOD).instances_between(1, 2, 3 * PERIOD).load().expect("loads");
    put_off(&mut plugin, "sleep=20");
    // The only one works on something: this call brings up another.
    put_off(&mut plugin, "0 ok");
    assert_eq!(plugin.instances(), [0, 1]);
    plugin.advance(3 * PERIOD - NANOSECOND);
    assert_eq!(plugin.take_ended().len(), 0);
    plugin.advance(PERIOD);
    assert_eq!(plugin.take_ended().iter().map(|record| record.reason).collect::<Vec<_>>(), [StopReason::ScaleIn]);
}

#[test]
fn a_tick_without_its_hook_is_refused() {
    let Err(SetupError::Refused(refused)) = guest("counter").tick(PERIOD).load() else { panic!("it has no such hook") };
    assert!(matches!(refused, LoadError::NoTick), "{refused}");
    assert_eq!(refused.to_string(), "has a `tick`, but the component exports no `on-tick`");
}

#[test]
fn what_configure_puts_off_is_done() {
    let plugin = later(&json!({ "configure": "ok" })).load().expect("loads");
    assert_eq!(outcomes(&plugin), [1, 0, 0, 0]);
}

//! One version of a plugin takes over from another, with its state: no call fails for it, no count is lost without a
//! word, and nobody hangs, whatever either of them does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_runtime::{
    EndCause, Exchange, HandOver, Limits, LoadError, Plugin, Runtime, Snapshot, SnapshotOutcome, StopOutcome,
    StopReason, StopRecord, Unavailable, Verdict,
};
use tidegate_tests::clock::paused_runtime;
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, Loaded, answered, misbehave, runtime, stop};

/// Nothing that is within it by its nature takes so long, on however busy a machine.
const BUDGET: Duration = Duration::from_secs(60);

/// A count that outlives its version.
fn heir(config: &str) -> Fixture {
    Fixture { config: config.into(), hand_over: true, ..Fixture::new(components::guest("heir")) }
}

/// The first version, which has nobody to take over from.
async fn first(fixture: Fixture, runtime: &Runtime) -> Loaded {
    let plugin = fixture.load(runtime).await.expect("loads");
    plugin.open().await.expect("opens");
    plugin
}

async fn call(plugin: &Plugin) -> Result<Box<Exchange>, EndCause> {
    let (exchange, result) = plugin.on_response(answered(&[])).await;
    result.map(|_| exchange).map_err(|error| error.cause)
}

fn field(exchange: &Exchange, name: &str) -> String {
    let response = exchange.response.as_ref().expect("kept");
    response.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// What one more call says the count is, and of how many snapshots it was made.
async fn count(plugin: &Plugin) -> (u64, u64) {
    let exchange = call(plugin).await.expect("serves");
    let number = |name| field(&exchange, name).parse().expect("a number");
    (number("x-count"), number("x-inherited"))
}

fn counted(plugin: &Plugin, what: SnapshotOutcome) -> u64 {
    SnapshotOutcome::ALL
        .iter()
        .zip(plugin.stats().snapshots)
        .filter(|(outcome, _)| **outcome == what)
        .map(|(_, count)| count)
        .sum()
}

fn only(records: Vec<StopRecord>) -> StopRecord {
    let [record] = &*records else { panic!("{records:?}") };
    record.clone()
}

const ONE_LOST: HandOver = HandOver { left: 1, handed_over: 0, refused: 0, lost: 1 };
const ONE_REFUSED: HandOver = HandOver { left: 1, handed_over: 0, refused: 1, lost: 0 };
const ONE_HANDED_OVER: HandOver = HandOver { left: 1, handed_over: 1, refused: 0, lost: 0 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_and_no_count_is_lost_while_version_follows_version() {
    let runtime = runtime(16);
    let instances = |instances| Fixture { instances, ..heir("{}") };
    let old = first(instances(3), &runtime).await;
    let (done, enough) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    // All of them know the first version only, like exchanges that began with it.
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (old, done, enough) = (old.clone(), done.clone(), enough.clone());
            tokio::spawn(async move {
                while !enough.load(Ordering::SeqCst) {
                    call(&old).await.expect("no call fails");
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let some_more_calls = || async {
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < before + 100 {
            tokio::task::yield_now().await;
        }
    };
    let mut last = old.clone();
    for size in [1, 4, 2, 1] {
        some_more_calls().await;
        let next = instances(size).load(&runtime).await.expect("loads");
        let result = next.take_over(&last, BUDGET).await;
        // How many there were is known by their ends: under load, some come up only when the others are told to stop.
        let left = last.records.take().iter().filter(|end| end.snapshot == Snapshot::Left { bytes: 8 }).count();
        assert!(left > 0);
        assert_eq!(result, HandOver { left, handed_over: left, ..HandOver::default() });
        assert_eq!(last.stats().stores_live, 0);
        last = next;
    }
    some_more_calls().await;
    enough.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("no call fails");
    }
    assert_eq!(count(&last).await.0, done.load(Ordering::SeqCst) + 1);
}

#[tokio::test]
async fn every_snapshot_reaches_one_instance_of_the_new_version() {
    let runtime = runtime(16);
    // Instances before and after, and how many of the new ones have served nothing and are not needed.
    for (before, after, spare) in [(1, 1, 1), (2, 1, 1), (3, 2, 1), (1, 3, 0), (3, 3, 1)] {
        let old = first(Fixture { instances: before, ..heir("{}") }, &runtime).await;
        count(&old).await;
        let new = Fixture { instances: after, ..heir("{}") }.load(&runtime).await.expect("loads");
        let result = new.take_over(&old, BUDGET).await;
        assert_eq!(result, HandOver { left: before, handed_over: before, ..HandOver::default() });
        let records = old.records.take();
        assert_eq!(records.len(), before);
        for record in records {
            assert_eq!((record.outcome, record.reason), (StopOutcome::Completed, StopReason::Reload));
            assert_eq!(record.snapshot, Snapshot::Left { bytes: 8 });
        }
        for _ in 0..spare {
            let record = new.records.next().await;
            assert_eq!((record.reason, record.snapshot), (StopReason::Reload, Snapshot::None), "{record:?}");
        }
        assert_eq!(counted(&new, SnapshotOutcome::HandedOver), before as u64);
        if after == 1 {
            assert_eq!(count(&new).await, (2, before as u64));
        }
        stop(&new, BUDGET).await;
        assert_eq!((old.stats().stores_live, new.stats().stores_live), (0, 0));
    }
}

#[tokio::test]
async fn a_plugin_that_is_held_serves_nobody_before_it_is_opened() {
    // Long enough for the call that is let in.
    let limits = Limits { cpu: Fixture::AMPLE, wall: Duration::from_secs(1), queue: 1, ..Limits::default() };
    let plugin = Fixture { limits, instances: 2, ..heir("{}") }.load(&runtime(4)).await.expect("loads");
    assert_eq!(plugin.instances(), [0], "one on trial");
    let (waits, refused) = tokio::join!(call(&plugin), call(&plugin));
    for result in [waits, refused] {
        assert!(matches!(result, Err(EndCause::Overloaded { .. })), "{result:?}");
    }
    plugin.open().await.expect("opens");
    assert_eq!((plugin.instances(), count(&plugin).await), (vec![0, 1], (1, 0)));
}

#[tokio::test]
async fn a_plugin_that_is_held_can_be_stopped() {
    let plugin = heir(r#"{"leaving": "nothing"}"#).load(&runtime(4)).await.expect("loads");
    let (waits, records) = tokio::join!(call(&plugin), stop(&plugin, BUDGET));
    assert!(matches!(waits, Err(EndCause::Unavailable(Unavailable::Stopping))), "{waits:?}");
    assert_eq!(only(records).outcome, StopOutcome::Completed);
    plugin.open().await.expect("there is nothing to open");
    assert!(call(&plugin).await.is_err());
    assert_eq!(plugin.stats().stores_live, 0);
}

#[tokio::test]
async fn state_can_be_left_in_a_shutdown_that_has_a_successor_and_nowhere_else() {
    let plugin = first(heir("{}"), &runtime(4)).await;
    let exchange = call(&plugin).await.expect("serves");
    assert_eq!((&*field(&exchange, "x-outside"), &*field(&exchange, "x-late")), ("Err(NoSuccessor)", "0"));
    let record = only(stop(&plugin, BUDGET).await);
    assert_eq!((record.outcome, record.snapshot), (StopOutcome::Failed, Snapshot::None));
    assert!(record.error.is_some_and(|error| error.contains("no version takes over")));
}

#[tokio::test]
async fn the_last_snapshot_counts() {
    let runtime = runtime(4);
    let old = first(heir(r#"{"leaving": "count-at-last"}"#), &runtime).await;
    count(&old).await;
    let new = heir("{}").load(&runtime).await.expect("loads");
    assert_eq!(new.take_over(&old, BUDGET).await, ONE_HANDED_OVER);
    assert_eq!(count(&new).await, (2, 1));
    let exchange = call(&new).await.expect("serves");
    assert_eq!(&*field(&exchange, "x-late"), "0", "what is inherited is there in `configure` only");
}

#[tokio::test]
async fn a_version_that_refuses_its_inheritance_serves_without_it() {
    let runtime = runtime(4);
    for how in ["refuse", "trap", "spin"] {
        let old = first(heir("{}"), &runtime).await;
        count(&old).await;
        let mut fixture = heir(&format!(r#"{{"inheriting": "{how}"}}"#));
        // Long enough for whatever does not spin.
        fixture.limits.configure = Duration::from_secs(2);
        let new = fixture.load(&runtime).await.expect("it is fine without");
        assert_eq!(new.take_over(&old, BUDGET).await, ONE_REFUSED, "{how}");
        assert_eq!(count(&new).await, (1, 0), "{how}");
        assert_eq!(counted(&new, SnapshotOutcome::Refused), 1);
        assert!(!new.stats().breaker_open);
    }
}

#[tokio::test]
async fn what_nobody_reads_is_lost() {
    let runtime = runtime(4);
    let old = first(heir("{}"), &runtime).await;
    let new = heir(r#"{"inheriting": "nothing"}"#).load(&runtime).await.expect("loads");
    assert_eq!(new.take_over(&old, BUDGET).await, ONE_LOST);
    // One that serves already has been configured already.
    let serves = first(heir("{}"), &runtime).await;
    assert_eq!(serves.take_over(&new, BUDGET).await, ONE_LOST);
    assert_eq!(count(&new).await, (1, 0), "calls go over to it all the same");
}

#[tokio::test]
async fn a_snapshot_over_the_limit_is_an_error_to_the_plugin_and_no_trap() {
    let runtime = runtime(4);
    for limit in [1 << 10, 1 << 20] {
        let mut fixture = heir(r#"{"leaving": "giant"}"#);
        fixture.limits.snapshot = limit;
        let old = first(fixture, &runtime).await;
        let new = heir("{}").load(&runtime).await.expect("loads");
        assert_eq!(new.take_over(&old, BUDGET).await, ONE_REFUSED);
        let record = only(old.records.take());
        assert_eq!((record.outcome, record.snapshot), (StopOutcome::Completed, Snapshot::TooLarge { bytes: 8 << 20 }));
    }
}

#[tokio::test]
async fn what_a_shutdown_left_that_did_not_end_well_is_lost() {
    let runtime = runtime(4);
    for (how, outcome) in [
        ("count-then-fail", StopOutcome::Failed),
        ("count-then-trap", StopOutcome::Trapped),
        ("count-then-spin", StopOutcome::Overran),
    ] {
        let old = first(heir(&format!(r#"{{"leaving": "{how}"}}"#)), &runtime).await;
        let new = heir("{}").load(&runtime).await.expect("loads");
        assert_eq!(new.take_over(&old, Duration::from_secs(2)).await, ONE_LOST, "{how}");
        let record = only(old.records.take());
        assert_eq!((record.outcome, record.snapshot), (outcome, Snapshot::Lost { bytes: 8 }));
        assert_eq!(counted(&new, SnapshotOutcome::Lost), 1);
        assert_eq!(count(&new).await, (1, 0), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_a_hand_over_no_longer_than_they_may() {
    let runtime = paused_runtime();
    let old = first(heir(r#"{"leaving": "count-later"}"#), &runtime).await;
    let mut fixture = heir("{}");
    let wall = Duration::from_millis(50);
    fixture.limits.wall = wall;
    let new = fixture.load(&runtime).await.expect("loads");
    let calls = async {
        while old.stats().instances.stopping == 0 {
            tokio::task::yield_now().await;
        }
        let (over_old, over_new, ()) = tokio::join!(call(&old), call(&new), tokio::time::advance(wall));
        (over_old, over_new)
    };
    let (result, (over_old, over_new)) = tokio::join!(new.take_over(&old, BUDGET), calls);
    for waited in [over_old, over_new] {
        assert!(matches!(waited, Err(EndCause::Overloaded { .. })), "{waited:?}");
    }
    assert_eq!((result, count(&old).await), (ONE_HANDED_OVER, (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_stopped_while_it_takes_over_keeps_nobody_waiting() {
    let runtime = paused_runtime();
    let old = first(heir(r#"{"leaving": "count-later"}"#), &runtime).await;
    let new = heir(r#"{"leaving": "nothing"}"#).load(&runtime).await.expect("loads");
    let stop_it = async {
        while old.stats().instances.stopping == 0 {
            tokio::task::yield_now().await;
        }
        tokio::join!(call(&old), stop(&new, BUDGET))
    };
    let (result, (waits, records)) = tokio::join!(new.take_over(&old, BUDGET), stop_it);
    assert!(matches!(waits, Err(EndCause::Unavailable(Unavailable::Stopping))), "{waits:?}");
    assert_eq!((only(records).outcome, result), (StopOutcome::Completed, ONE_LOST));
    assert!(call(&old).await.is_err());
    assert_eq!((old.stats().stores_live, new.stats().stores_live), (0, 0));
}

#[tokio::test]
async fn a_second_signal_ends_a_hand_over_at_once() {
    let runtime = runtime(4);
    let old = first(heir(r#"{"leaving": "count-then-spin"}"#), &runtime).await;
    let new = heir("{}").load(&runtime).await.expect("loads");
    let abandon = async {
        while old.stats().instances.stopping == 0 {
            tokio::task::yield_now().await;
        }
        runtime.abandon();
    };
    let (result, ()) = tokio::join!(new.take_over(&old, Duration::from_secs(60)), abandon);
    assert_eq!(result.handed_over, 0);
    assert_eq!(only(old.records.take()).outcome, StopOutcome::Abandoned);
    assert_eq!(only(stop(&new, BUDGET).await).outcome, StopOutcome::Abandoned);
    assert_eq!((old.stats().stores_live, new.stats().stores_live), (0, 0));
}

#[tokio::test]
async fn a_hand_over_goes_on_when_nobody_waits_for_it() {
    let runtime = runtime(4);
    let old = first(heir("{}"), &runtime).await;
    count(&old).await;
    let new = heir("{}").load(&runtime).await.expect("loads");
    {
        let taking_over = new.take_over(&old, BUDGET);
        tokio::pin!(taking_over);
        std::future::poll_fn(|cx| {
            assert!(taking_over.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(count(&new).await, (2, 1));
}

#[tokio::test]
async fn reload_upon_reload_loses_nothing() {
    let runtime = runtime(8);
    let first = first(heir(r#"{"leaving": "count-later"}"#), &runtime).await;
    count(&first).await;
    let (second, third) =
        (heir("{}").load(&runtime).await.expect("loads"), heir("{}").load(&runtime).await.expect("loads"));
    let (one, two, _) = tokio::join!(second.take_over(&first, BUDGET), third.take_over(&second, BUDGET), call(&first));
    assert_eq!((one, two.lost + two.refused), (ONE_HANDED_OVER, 0));
    assert_eq!((count(&first).await.0, first.stats().stores_live, second.stats().stores_live), (3, 0, 0));
}

#[tokio::test]
async fn two_versions_that_take_over_from_each_other_hang_nobody() {
    let runtime = runtime(8);
    let (one, other) =
        (heir("{}").load(&runtime).await.expect("loads"), heir("{}").load(&runtime).await.expect("loads"));
    let budget = Duration::from_millis(200);
    tokio::join!(one.take_over(&other, budget), other.take_over(&one, budget));
}

#[tokio::test]
async fn a_hook_that_the_new_version_lacks_is_skipped_for_exchanges_of_the_old_one() {
    let runtime = runtime(4);
    let old = Fixture::hostile(r#"{"on_request": "trap"}"#).load(&runtime).await.expect("loads");
    let new = heir("{}").load(&runtime).await.expect("loads");
    assert_eq!(new.take_over(&old, BUDGET).await, HandOver::default());
    assert!(matches!(misbehave(&old, "whatever").await, Ok(Verdict::Forward)));
    assert_eq!(count(&old).await, (1, 0));
}

#[tokio::test]
async fn a_version_takes_over_once_and_not_from_itself() {
    let runtime = runtime(8);
    let old = first(heir("{}"), &runtime).await;
    assert_eq!(old.take_over(&old, BUDGET).await, HandOver::default());
    count(&old).await;
    let (one, two) = (heir("{}").load(&runtime).await.expect("loads"), heir("{}").load(&runtime).await.expect("loads"));
    assert_eq!(one.take_over(&old, BUDGET).await, ONE_HANDED_OVER);
    assert_eq!(two.take_over(&old, BUDGET).await, HandOver::default());
    assert_eq!((count(&one).await, count(&two).await, count(&old).await), ((2, 1), (1, 0), (3, 1)));
    // Nor does one come back that has been stopped.
    assert_eq!(old.take_over(&one, BUDGET).await, HandOver::default());
    assert!(call(&one).await.is_err());
}

#[tokio::test]
async fn a_component_that_has_no_part_in_it_is_refused() {
    let fixture = Fixture { hand_over: true, ..Fixture::new(components::guest("counter")) };
    let error = fixture.load(&runtime(2)).await.map(drop).expect_err("refused");
    assert!(matches!(error, LoadError::NoHandOver), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("leave-snapshot")));
}

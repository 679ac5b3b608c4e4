//! What is about real time and real threads: the thread that ticks the epoch stops guests, workers are not held up, and
//! nothing is lost where instances and versions change places while several threads call them.
//!
//! Every other test of plugins is in virtual time, on the harness (`tidegate-testing`): there is no such thread in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_runtime::{EndCause, HandOver, Limits, Plugin, Recycle, Snapshot, StopOutcome, StopRecord};
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, Loaded, answered, exchange, misbehave, runtime, stop};

const BUDGET: Duration = Duration::from_millis(100);

/// How late an end may be on a machine that is busy with other tests. The benchmark has the real distribution.
const SLACK: Duration = Duration::from_secs(2);

/// A hostile plugin that is told by each request how to misbehave, and by this how to shut down.
fn told(shutdown: &str) -> Fixture {
    Fixture::hostile(&format!(r#"{{"on_request": "from-header", "shutdown": "{shutdown}"}}"#))
}

fn only(records: &[StopRecord]) -> &StopRecord {
    let [record] = records else { panic!("{records:?}") };
    record
}

#[tokio::test]
async fn a_shutdown_that_overruns_is_stopped_by_the_tick_or_by_the_timer() {
    for shutdown in ["spin", "sleep", "doze=1", "copy=8388608", "log-flood", "allocate-forever"] {
        let plugin = told(shutdown).load(&runtime(4)).await.expect("loads");
        let records = stop(&plugin, BUDGET).await;
        let record = only(&records);
        assert_eq!((record.outcome, record.budget), (StopOutcome::Overran, BUDGET), "{shutdown}: {record:?}");
        assert!(record.took >= BUDGET && record.overshoot < SLACK, "{shutdown}: {record:?}");
        assert_eq!(plugin.stats().stores_live, 0, "its memory is free again");
    }
}

#[tokio::test]
async fn a_call_that_computes_ends_for_its_time() {
    let cpu = Duration::from_millis(20);
    for (limits, is_cpu) in [
        (Limits { cpu, wall: Fixture::AMPLE, ..Limits::default() }, true),
        (Limits { cpu: Fixture::AMPLE, wall: BUDGET, ..Limits::default() }, false),
    ] {
        let plugin = Fixture { limits, ..told("ok") }.load(&runtime(4)).await.expect("loads");
        for how in ["spin", "copy=4194304"] {
            match misbehave(&plugin, how).await {
                Err(EndCause::Cpu { used, .. }) => assert!(is_cpu && used >= cpu, "{how}: {used:?}"),
                Err(EndCause::Wall { .. }) => assert!(!is_cpu, "{how}"),
                other => panic!("{how}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_stop_is_cut() {
    for how in ["sleep", "spin"] {
        let plugin = told("ok").load(&runtime(4)).await.expect("loads");
        let caller = plugin.clone();
        let call = tokio::spawn(async move { misbehave(&caller, how).await });
        while plugin.stats().instances.busy == 0 {
            tokio::task::yield_now().await;
        }
        let records = stop(&plugin, BUDGET).await;
        let record = only(&records);
        assert_eq!(record.outcome, StopOutcome::Overran, "{record:?}");
        assert!(record.overshoot < SLACK, "{record:?}");
        assert!(call.await.expect("joined").is_err());
    }
}

#[tokio::test]
async fn abandoning_ends_a_guest_that_computes() {
    let runtime = runtime(4);
    let plugin = told("spin").load(&runtime).await.expect("loads");
    let abandon = async {
        while plugin.stats().instances.stopping == 0 {
            tokio::task::yield_now().await;
        }
        runtime.abandon();
    };
    let (records, ()) = tokio::join!(stop(&plugin, Fixture::AMPLE), abandon);
    let record = only(&records);
    assert_eq!(record.outcome, StopOutcome::Abandoned, "{record:?}");
    assert!(record.took < Fixture::AMPLE / 2, "{record:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_computes_does_not_hold_up_its_worker_thread() {
    let limits = Limits { cpu: Duration::from_millis(200), wall: Fixture::AMPLE, ..Limits::default() };
    let plugin = Fixture { limits, ..told("ok") }.load(&runtime(4)).await.expect("loads");
    let spinning = tokio::spawn(async move { misbehave(&plugin, "spin").await });
    // Each yield needs the only worker; the spinning guest gives it up at every tick.
    let mut turns = 0_u32;
    while !spinning.is_finished() {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(matches!(spinning.await, Ok(Err(EndCause::Cpu { .. }))));
    assert!(turns >= 20, "only {turns} turns in 200 ms of a spinning guest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_requests_loses_none_to_an_instance_that_is_recycled_after_every_call() {
    let recycle = Recycle { calls: Some(1), memory: None };
    let plugin = Fixture { recycle, ..told("ok") }.load(&runtime(4)).await.expect("loads");
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move {
                // Until the 50th replacement.
                while plugin.instances().iter().all(|number| *number < 50) {
                    plugin.on_request(exchange(&[])).await.1.expect("it serves");
                    let instances = plugin.stats().instances;
                    assert!(instances.stopping <= 1 && instances.idle + instances.busy + instances.starting <= 1);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("it has lost none");
    }
    let mut records = stop(&plugin, Duration::from_secs(20)).await;
    records.sort_by_key(|record| record.instance);
    assert!(records.iter().map(|record| record.instance).eq(0..records.len() as u64), "each once: {records:?}");
    assert!(records.iter().all(|record| record.outcome == StopOutcome::Completed), "{records:?}");
    assert!(records.len() > 50, "an instance that cannot go at once goes soon");
    assert_eq!((plugin.instances(), plugin.stats().stores_live), (vec![], 0));
}

/// A count that outlives its version.
fn heir(instances: usize) -> Fixture {
    Fixture { instances, hand_over: true, ..Fixture::new(components::guest("heir")) }
}

async fn count(plugin: &Plugin) -> u64 {
    let (exchange, result) = plugin.on_response(answered(&[])).await;
    result.expect("no call fails");
    let response = exchange.response.expect("kept");
    let count = response.headers.get("x-count").and_then(|count| count.to_str().ok());
    count.and_then(|count| count.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_and_no_count_is_lost_while_version_follows_version() {
    let runtime = runtime(16);
    let old = heir(3).load(&runtime).await.expect("loads");
    old.open().await.expect("opens");
    let (done, enough) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    // All of them know the first version only, like exchanges that began with it.
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (old, done, enough) = (old.clone(), done.clone(), enough.clone());
            tokio::spawn(async move {
                while !enough.load(Ordering::SeqCst) {
                    count(&old).await;
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
    let mut last: Loaded = old.clone();
    for size in [1, 4, 2, 1] {
        some_more_calls().await;
        let next = heir(size).load(&runtime).await.expect("loads");
        let result = next.take_over(&last, Fixture::AMPLE).await;
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
    assert_eq!(count(&last).await, done.load(Ordering::SeqCst) + 1);
}

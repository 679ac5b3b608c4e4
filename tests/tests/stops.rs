//! The stop of a plugin: told, timed, and stopped when the time is up, whatever it does.

use std::time::Duration;

use futures_util::FutureExt as _;
use tidegate_runtime::{Isolation, Limits, StopOutcome, StopReason, StopRecord};
use tidegate_tests::clock::paused_runtime;
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, answered, exchange, misbehave, runtime, stop};

const BUDGET: Duration = Duration::from_millis(100);

/// Enough for whatever ends by itself, on a machine that is busy with other tests.
const AMPLE: Duration = Duration::from_secs(60);

/// How late an end may be on a machine that is busy with other tests. The benchmark has the real distribution.
const SLACK: Duration = Duration::from_secs(2);

async fn stopped(shutdown: &str, budget: Duration) -> StopRecord {
    let fixture = Fixture::hostile(&format!(r#"{{"shutdown": "{shutdown}"}}"#));
    let plugin = fixture.load(&runtime(4)).await.expect("loads");
    let records = stop(&plugin, budget).await;
    assert_eq!(plugin.stats().stores_live, 0, "its memory is free again");
    let [record] = &*records else { panic!("{records:?}") };
    assert_eq!((record.instance, record.budget), (0, budget));
    record.clone()
}

#[tokio::test]
async fn whatever_overruns_is_stopped_on_time() {
    for shutdown in ["spin", "sleep", "doze=1", "copy=8388608", "log-flood", "allocate-forever"] {
        let record = stopped(shutdown, BUDGET).await;
        assert_eq!(record.outcome, StopOutcome::Overran, "{shutdown}: {record:?}");
        assert!(record.took >= BUDGET && record.overshoot < SLACK, "{shutdown}: {record:?}");
    }
}

#[tokio::test]
async fn whatever_ends_by_itself_has_its_own_outcome() {
    for (shutdown, outcome) in [
        ("ok", StopOutcome::Completed),
        ("sleep=5", StopOutcome::Completed),
        ("error", StopOutcome::Failed),
        ("trap", StopOutcome::Trapped),
        ("panic", StopOutcome::Trapped),
        ("exit", StopOutcome::Trapped),
        ("recurse", StopOutcome::Trapped),
        ("allocate", StopOutcome::Trapped),
        ("invalid-utf8", StopOutcome::Trapped),
    ] {
        let record = stopped(shutdown, AMPLE).await;
        assert_eq!(record.outcome, outcome, "{shutdown}: {record:?}");
        assert_eq!(record.error.is_some(), !outcome.is_clean(), "{shutdown}: {record:?}");
    }
}

#[tokio::test]
async fn a_plugin_without_shutdown_is_let_go() {
    let plugin = Fixture::new(components::guest("no-shutdown")).load(&runtime(4)).await.expect("loads");
    let records = stop(&plugin, BUDGET).await;
    assert_eq!(records.iter().map(|record| record.outcome).collect::<Vec<_>>(), [StopOutcome::NoHook]);
}

#[tokio::test(start_paused = true)]
async fn every_instance_is_told_side_by_side() {
    let runtime = paused_runtime();
    let fixture = Fixture { instances: 4, ..Fixture::hostile(r#"{"shutdown": "sleep=60"}"#) };
    let plugin = fixture.load(&runtime).await.expect("loads");
    let begun = tokio::time::Instant::now();
    let records = stop(&plugin, Duration::from_secs(5)).await;
    // One after the other they would take 240 ms of the time that passes only while all of them sleep.
    assert!(begun.elapsed() < Duration::from_millis(120), "{:?}", begun.elapsed());
    let mut instances: Vec<u64> = records.iter().map(|record| record.instance).collect();
    instances.sort_unstable();
    assert_eq!(instances, (0..4).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.outcome == StopOutcome::Completed));
}

#[tokio::test]
async fn an_instance_in_a_call_finishes_it_and_is_then_told_with_the_time_that_is_left() {
    let config = r#"{"on_request": "from-header", "shutdown": "ok"}"#;
    let plugin = Fixture::hostile(config).load(&runtime(4)).await.expect("loads");
    let (request, records) = tokio::join!(misbehave(&plugin, "sleep=500"), stop(&plugin, AMPLE));
    assert!(request.is_ok(), "{request:?}");
    let [record] = &*records else { panic!("{records:?}") };
    assert_eq!(record.outcome, StopOutcome::Completed);
    assert!(record.took >= Duration::from_millis(250), "{record:?}");
}

#[tokio::test]
async fn a_call_that_outlasts_the_stop_is_cut_and_its_instance_has_overrun() {
    let limits = Limits { wall: Duration::from_secs(60), cpu: Duration::from_secs(60), ..Limits::default() };
    for how in ["sleep", "spin"] {
        let config = r#"{"on_request": "from-header", "shutdown": "ok"}"#;
        let plugin = Fixture { limits, ..Fixture::hostile(config) }.load(&runtime(4)).await.expect("loads");
        let caller = plugin.clone();
        let call = tokio::spawn(async move { misbehave(&caller, how).await });
        while plugin.stats().instances.busy == 0 {
            tokio::task::yield_now().await;
        }
        let records = stop(&plugin, BUDGET).await;
        let [record] = &*records else { panic!("{records:?}") };
        assert_eq!(record.outcome, StopOutcome::Overran, "{record:?}");
        assert!(record.overshoot < SLACK, "{record:?}");
        assert!(call.await.expect("joined").is_err());
    }
}

#[tokio::test]
async fn a_stopped_plugin_refuses_calls_and_a_second_stop_does_nothing() {
    let plugin = Fixture::hostile(r#"{"shutdown": "ok"}"#).load(&runtime(4)).await.expect("loads");
    assert_eq!(stop(&plugin, BUDGET).await.len(), 1);
    assert_eq!(stop(&plugin, BUDGET).await.len(), 0);
    assert!(misbehave(&plugin, "forward").await.is_err());
}

#[tokio::test]
async fn a_stop_that_nobody_waits_for_any_more_goes_on() {
    let plugin = Fixture::hostile(r#"{"shutdown": "sleep=20"}"#).load(&runtime(4)).await.expect("loads");
    assert!(plugin.stop(StopReason::Disable, Duration::from_secs(20)).now_or_never().is_none());
    assert_eq!(plugin.records.next().await.outcome, StopOutcome::Completed);
    assert_eq!(stop(&plugin, BUDGET).await.len(), 0);
}

#[tokio::test]
async fn abandoning_ends_a_stop_at_once() {
    for shutdown in ["spin", "sleep"] {
        let runtime = runtime(4);
        let plugin = Fixture::hostile(&format!(r#"{{"shutdown": "{shutdown}"}}"#)).load(&runtime).await.expect("loads");
        let abandon = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            runtime.abandon();
        };
        let (records, ()) = tokio::join!(stop(&plugin, Duration::from_secs(60)), abandon);
        let [record] = &*records else { panic!("{records:?}") };
        assert_eq!(record.outcome, StopOutcome::Abandoned, "{record:?}");
        assert!(record.took < Duration::from_secs(30), "{record:?}");
    }
}

#[tokio::test]
async fn warm_instances_keep_their_memory_and_fresh_ones_have_none() {
    let count = |isolation| async move {
        let fixture = Fixture { isolation, ..Fixture::new(components::guest("counter")) };
        let plugin = fixture.load(&runtime(8)).await.expect("loads");
        for _ in 0..4 {
            let (_, result) = plugin.on_response(answered(&[])).await;
            result.expect("counts");
        }
        let (exchange, _) = plugin.on_response(answered(&[])).await;
        let response = exchange.response.expect("kept");
        let count = response.headers.get("x-count").and_then(|count| count.to_str().ok()).map(str::to_owned);
        (count, stop(&plugin, BUDGET).await.len())
    };
    assert_eq!(count(Isolation::Warm).await, (Some("5".to_owned()), 1));
    assert_eq!(count(Isolation::Fresh).await, (Some("1".to_owned()), 0));
}

#[tokio::test]
async fn notes_reach_the_response_whichever_instance_serves_it() {
    let fixture = Fixture { isolation: Isolation::Fresh, ..Fixture::new(components::guest("notes")) };
    let plugin = fixture.load(&runtime(8)).await.expect("loads");
    let (mut exchange, result) = plugin.on_request(exchange(&[])).await;
    result.expect("noted");
    exchange.response = answered(&[]).response;
    let (exchange, result) = plugin.on_response(exchange).await;
    result.expect("found");
    let response = exchange.response.expect("kept");
    assert_eq!(response.headers.get("x-noted-path").map(http::HeaderValue::as_bytes), Some(&b"/path"[..]));
}

//! After its deadline nothing a plugin asked for takes effect, also when nothing has stopped it yet. No tick ever comes
//! here, and each reading of the clock takes a millisecond: what is in time and what is late is the same on every run.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Environment, Moment, Randomness, Sleep, Ticks};
use tidegate_runtime::metrics::{Reading, Registry};
use tidegate_runtime::{
    EndCause, Exchange, Grants, Late, Limits, LoadError, Runtime, RuntimeConfig, StopOutcome, Verdict,
};
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, Loaded, answered, exchange, misbehave, stop};

const READING: Duration = Duration::from_millis(1);

/// A wall limit that is over before a guest has done anything.
const NOTHING: Duration = Duration::from_nanos(1);

/// Moves on whenever it is read.
#[derive(Clone, Default)]
struct CostlyClock(Arc<AtomicU64>);

impl CostlyClock {
    fn look(&self) -> Moment {
        Moment::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for CostlyClock {
    fn now(&self) -> Moment {
        let reading = u64::try_from(READING.as_nanos()).expect("short");
        Moment::from_nanos(self.0.fetch_add(reading, Ordering::SeqCst) + reading)
    }

    fn thread_cpu(&self) -> Duration {
        Duration::from_nanos(self.look().as_nanos())
    }

    fn unix(&self) -> Duration {
        Duration::from_nanos(self.look().as_nanos())
    }

    // Nobody waits for it: what a test waits for ends by itself.
    fn sleep_until(&self, moment: Moment) -> Sleep {
        let clock = self.clone();
        Box::pin(std::future::poll_fn(move |_| if clock.look() >= moment { Poll::Ready(()) } else { Poll::Pending }))
    }
}

fn runtime() -> Runtime {
    let clock = Arc::new(CostlyClock::default());
    let environment = Environment { clock, ticks: Ticks::Manual, randomness: Randomness::Seeded(7) };
    Runtime::new(RuntimeConfig { slots: 16, cache: None, environment }).expect("the engine starts")
}

/// A hostile plugin that has so much wall time for a request, and an instance for each request of a test: with so little
/// time none can wait for a replacement.
async fn hostile(wall: Duration) -> Loaded {
    let config = r#"{"on_request": "from-header", "on_response": "from-header"}"#;
    let limits = Limits { wall, ..Limits::default() };
    Fixture { limits, instances: 8, ..Fixture::hostile(config) }.load(&runtime()).await.expect("loads")
}

fn late(plugin: &Loaded, what: Late) -> u64 {
    Late::ALL.iter().zip(plugin.stats().late).filter(|(kind, _)| **kind == what).map(|(_, count)| count).sum()
}

fn overran<T>(result: &Result<T, EndCause>) -> bool {
    matches!(result, Err(EndCause::Wall { .. }))
}

#[tokio::test]
async fn edits_are_made_up_to_the_deadline_and_none_after_it() {
    let plugin = hostile(20 * READING).await;
    let (exchange, result) = plugin.on_request(exchange(&[("x-misbehave", "forty-thousand-headers")])).await;
    assert!(overran(&result.map_err(|error| error.cause)));
    let edits =
        |exchange: &Exchange| exchange.request.headers.keys().filter(|name| name.as_str() != "x-misbehave").count();
    // One per reading of the clock; the last one at the very deadline.
    assert_eq!(edits(&exchange), 20);
    assert_eq!((late(&plugin, Late::HostCall), late(&plugin, Late::Call)), (1, 0));
    assert_eq!(plugin.stats().retired, 1);
}

#[tokio::test]
async fn whatever_has_an_effect_ends_a_guest_that_is_late() {
    let plugin = hostile(NOTHING).await;
    let asked = ["forty-thousand-headers", "path-injection", "unknown-upstream", "many-notes", "log-flood", "print"];
    for (n, how) in (1..).zip(asked) {
        let result = misbehave(&plugin, how).await;
        assert!(overran(&result), "{how}: {result:?}");
        assert_eq!((late(&plugin, Late::HostCall), late(&plugin, Late::Call)), (n, 0), "{how}");
    }
    let (exchange, result) = plugin.on_response(answered(&[("x-misbehave-response", "forty-thousand-headers")])).await;
    assert!(overran(&result.map_err(|error| error.cause)));
    assert!(exchange.response.expect("kept").headers.is_empty());
}

#[tokio::test]
async fn whatever_a_guest_returns_late_is_dropped() {
    let plugin = hostile(NOTHING).await;
    for (n, how) in (1..).zip(["forward", "reply", "read-body", "error", "reply-status"]) {
        let result = misbehave(&plugin, how).await;
        assert!(overran(&result), "{how}: {result:?}");
        assert_eq!((late(&plugin, Late::Call), late(&plugin, Late::HostCall)), (n, 0), "{how}");
        assert_eq!(plugin.stats().retired, n, "its instance is gone, like that of every overrun");
    }
}

#[tokio::test]
async fn what_is_done_by_the_very_deadline_is_in_time() {
    // Such a call reads the clock when it begins and when it is done.
    let (exactly, just_missed) = (hostile(READING).await, hostile(READING - NOTHING).await);
    assert!(matches!(misbehave(&exactly, "forward").await, Ok(Verdict::Forward)));
    assert!(overran(&misbehave(&just_missed, "forward").await));
}

#[tokio::test]
async fn a_shutdown_that_returns_ok_after_its_deadline_has_overrun() {
    for (shutdown, outcome) in [("busy=10", StopOutcome::Completed), ("busy=40", StopOutcome::Overran)] {
        let plugin =
            Fixture::hostile(&format!(r#"{{"shutdown": "{shutdown}"}}"#)).load(&runtime()).await.expect("loads");
        let records = stop(&plugin, 30 * READING).await;
        let [record] = &*records else { panic!("{records:?}") };
        assert_eq!(record.outcome, outcome, "{record:?}");
        assert_eq!(late(&plugin, Late::Call), u64::from(outcome == StopOutcome::Overran));
    }
}

#[tokio::test]
async fn a_configure_that_returns_late_refuses_the_plugin() {
    let limits = Limits { configure: 30 * READING, ..Limits::default() };
    for (configure, accepted) in [("busy=10", true), ("busy=40", false)] {
        let fixture = Fixture { limits, ..Fixture::hostile(&format!(r#"{{"configure": "{configure}"}}"#)) };
        match fixture.load(&runtime()).await.map(drop) {
            Ok(()) => assert!(accepted),
            Err(LoadError::Configure(error)) => assert!(!accepted && overran(&Err::<(), _>(error.cause))),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn lines_are_logged_up_to_the_deadline_and_none_after_it() {
    let log = Capture::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let plugin = Fixture::hostile(r#"{"shutdown": "log-flood"}"#).load(&runtime()).await.expect("loads");
    let records = stop(&plugin, 30 * READING).await;
    assert!(records.iter().all(|record| record.outcome == StopOutcome::Overran), "{records:?}");
    // The stop itself reads the clock a few times before the guest begins.
    let lines = log.text().lines().filter(|line| line.contains("and another line")).count();
    assert!((1..30).contains(&lines), "{lines} lines");
    assert_eq!((late(&plugin, Late::HostCall), late(&plugin, Late::Call)), (1, 0));
}

#[tokio::test]
async fn a_number_that_comes_late_is_not_counted() {
    let metrics = Registry::default().of(&"teller".into(), 10);
    let grants = Grants { metrics: Some(metrics.clone()), ..Grants::default() };
    for (wall, counts) in [(100 * READING, 1), (NOTHING, 0)] {
        let limits = Limits { wall, ..Limits::default() };
        let fixture = Fixture { limits, grants: grants.clone(), ..Fixture::new(components::guest("teller")) };
        let plugin = fixture.load(&runtime()).await.expect("loads");
        let (_, result) = plugin.on_request(exchange(&[("x-tell", "count sent 1")])).await;
        assert_eq!(overran(&result.map_err(|error| error.cause)), counts == 0);
        assert_eq!(late(&plugin, Late::HostCall), 1 - counts);
    }
    let all = metrics.snapshot();
    let readings: Vec<_> = all.iter().flat_map(|snapshot| &snapshot.series).map(|(_, reading)| *reading).collect();
    assert_eq!(readings, [Reading::Number(1.0)]);
}

/// What is logged in this thread.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

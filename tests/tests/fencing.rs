//! After its deadline nothing a plugin asked for takes effect, also when nothing has stopped it yet. No tick ever comes
//! here, and each reading of the clock takes a millisecond: what is in time and what is late is the same on every run.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Empty};
use tidegate_keyvalue::{Bounds, Memory, Namespace, PluginBucket, Store, WhenFull};
use tidegate_runtime::environment::{Clock, Environment, Moment, Randomness, Sleep, Ticks};
use tidegate_runtime::grants::{Bucket, BucketError, Buckets};
use tidegate_runtime::metrics::{Reading, Registry};
use tidegate_runtime::outbound::{Body, Caller, Outbound, OutboundError, Timeouts};
use tidegate_runtime::{
    EndCause, Exchange, Grants, Late, Limits, LoadError, PluginSpec, Runtime, RuntimeConfig, StopOutcome, Verdict,
};
use tidegate_tests::components::{self, guest};
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
    let environment = Environment { clock, ticks: Ticks::Manual, randomness: Randomness::Seeded(7), gauge: None };
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
async fn nothing_is_put_off_after_the_deadline() {
    // It computes for 20 readings of the clock first.
    for (wall, taken) in [(80 * READING, true), (10 * READING, false)] {
        let limits = Limits { wall, ..Limits::default() };
        let plugin = Fixture { limits, ..Fixture::later("{}") }.load(&runtime()).await.expect("loads");
        let (_, result) = plugin.on_request(exchange(&[("x-busy", "20"), ("x-defer", "ok"), ("x-reply", "1")])).await;
        assert_eq!(overran(&result.map_err(|error| error.cause)), !taken);
        assert_eq!(late(&plugin, Late::HostCall), u64::from(!taken));
        plugin.stop(tidegate_runtime::StopReason::Terminate, Duration::from_secs(9)).await;
        assert_eq!(plugin.drained().iter().map(|record| record.accepted).sum::<u64>(), u64::from(taken));
    }
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

/// Answers every request with nothing, once it has all of its body; and counts them and their bytes.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Made>>);

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Made {
    requests: usize,
    bytes: usize,
    broken_off: usize,
}

impl Answers {
    fn made(&self) -> Made {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, count: impl FnOnce(&mut Made)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Outbound for Answers {
    fn send(
        &self,
        request: http::Request<Body>,
        _caller: Caller,
        _timeouts: Timeouts,
    ) -> BoxFuture<'static, Result<http::Response<Body>, OutboundError>> {
        let this = self.clone();
        this.count(|made| made.requests += 1);
        Box::pin(async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                match frame.map(|frame| frame.data_ref().map_or(0, |data| data.len())) {
                    Ok(bytes) => this.count(|made| made.bytes += bytes),
                    Err(error) => {
                        this.count(|made| made.broken_off += 1);
                        return Err(error);
                    }
                }
            }
            Ok(http::Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync()))
        })
    }

    fn requests_per_call(&self) -> usize {
        8
    }
}

/// A plugin that makes requests, and has so much wall time for a call.
async fn caller(wall: Duration, answers: &Answers) -> Loaded {
    let grants = Grants { http: Some(Arc::new(answers.clone())), ..Grants::default() };
    let limits = Limits { wall, ..Limits::default() };
    Fixture { limits, grants, ..Fixture::new(guest("caller")) }.load(&runtime()).await.expect("loads")
}

async fn call(plugin: &Loaded, deed: &str) -> Result<Verdict, EndCause> {
    let (_, result) = plugin.on_request(exchange(&[("x-call", deed)])).await;
    result.map_err(|error| error.cause)
}

#[tokio::test]
async fn no_request_is_made_after_the_deadline() {
    let answers = Answers::default();
    let late_from_the_start = caller(NOTHING, &answers).await;
    let result = call(&late_from_the_start, r#"{"make": {"url": "http://a.test/"}}"#).await;
    assert!(overran(&result), "{result:?}");
    assert_eq!((late(&late_from_the_start, Late::HostCall), answers.made()), (1, Made::default()));

    let never_done = caller(100 * READING, &answers).await;
    let result = call(&never_done, r#"{"forever": {"url": "http://a.test/"}}"#).await;
    assert!(overran(&result), "{result:?}");
    // Each reads the clock at least once, when it is asked for.
    let made = answers.made().requests;
    assert!((1..=100).contains(&made), "{made}");
}

#[tokio::test]
async fn no_piece_of_a_body_is_sent_after_the_deadline() {
    let answers = Answers::default();
    let plugin = caller(50 * READING, &answers).await;
    let result = call(&plugin, r#"{"make": {"url": "http://a.test/", "method": "POST", "body": 1000000}}"#).await;
    assert!(overran(&result), "{result:?}");
    let made = answers.made();
    // The clock is read for each piece, of which this guest makes 4 KiB each.
    assert!(made.requests == 1 && made.bytes <= 50 * 4096, "{made:?}");
}

/// One bucket, whatever it is called.
struct One(Arc<dyn Namespace>);

impl Buckets for One {
    fn open(&self, _name: &str) -> Result<Arc<dyn Bucket>, BucketError> {
        Ok(Arc::new(PluginBucket::new(Arc::clone(&self.0), 1024, Arc::default())))
    }
}

#[tokio::test]
async fn keys_are_stored_up_to_the_deadline_and_none_after_it() {
    let bounds =
        Bounds { max_entries: 10_000, max_bytes: 1 << 20, max_value: 1024, ttl: None, when_full: WhenFull::Refuse };
    let namespace = Store::Memory(Memory::new(bounds)).namespace(None);
    let grants =
        Grants { kv: Some(Arc::new(One(Arc::clone(&namespace)))), values: Some(Arc::default()), ..Grants::default() };
    let limits = Limits { wall: 20 * READING, ..Limits::default() };
    let spec = PluginSpec { grants, limits, ..PluginSpec::new("keeper") };
    let plugin = runtime().load(spec, components::read(&components::guest("keeper"))).await.expect("loads");
    let fields = [("x-op", "flood"), ("x-bucket", "b"), ("x-key", "k"), ("x-value", "v"), ("x-count", "1000")];
    let (_, result) = plugin.on_request(exchange(&fields)).await;
    assert!(overran(&result.map_err(|error| error.cause)));
    // One per reading of the clock.
    let stored = namespace.usage().expect("it is in memory").entries;
    assert!((1..=20).contains(&stored), "{stored}");
    assert_eq!(plugin.stats().late.iter().sum::<u64>(), 1, "the one after them was refused");
}

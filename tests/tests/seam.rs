//! Time enters the runtime through one seam: with a clock of the test's own, budgets are used up when the test says
//! so, and real time plays no part.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_runtime::{EndCause, Limits};
use tidegate_tests::clock::still_runtime;
use tidegate_tests::plugins::{Fixture, misbehave};

#[tokio::test]
async fn a_guest_that_waits_is_stopped_at_the_very_moment() {
    let (runtime, clock) = still_runtime();
    let limits = Limits { wall: Duration::from_secs(1000), ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::hostile(r#"{"on_request": "from-header"}"#) };
    let plugin = fixture.load(&runtime).await.expect("loads");
    let mut call = pin!(misbehave(&plugin, "sleep"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_nanos(999_999_999_999));
    assert!(call.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_nanos(1));
    assert!(matches!(call.as_mut().poll(&mut cx), Poll::Ready(Err(EndCause::Wall { .. }))));
}

#[tokio::test]
async fn a_guest_that_computes_is_stopped_when_the_tests_clock_says_so() {
    let (runtime, clock) = still_runtime();
    // Time flies while the guest waits for its turn, too: only its CPU time is limited.
    let limits = Limits { cpu: Duration::from_secs(1), wall: Duration::MAX, ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::hostile(r#"{"on_request": "from-header"}"#) };
    let plugin = fixture.load(&runtime).await.expect("loads");
    // Another thread lets time pass, a tick at a time and as fast as it can: the seconds fly by.
    let done = Arc::new(AtomicBool::new(false));
    let (ticking, ended) = (runtime.clone(), done.clone());
    let ticker = std::thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            clock.advance(Duration::from_millis(1));
            ticking.tick();
        }
    });
    let end = misbehave(&plugin, "spin").await;
    done.store(true, Ordering::SeqCst);
    ticker.join().expect("the ticker ends");
    assert!(matches!(end, Err(EndCause::Cpu { limit, used }) if limit.as_secs() == 1 && used >= limit), "{end:?}");
}

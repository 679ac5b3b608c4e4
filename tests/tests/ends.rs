//! Every way a call can end has a cause of its own, retires the instance if it must, and touches nobody else.

use std::time::Duration;

use tidegate_runtime::{BodyVerdict, EndCause, Hook, Limits, Plugin, Unavailable, Verdict};
use tidegate_tests::plugins::{Fixture, Loaded, answered, exchange, misbehave, runtime};

/// A hostile plugin that is told by each request how to misbehave.
async fn hostile(limits: Limits) -> Loaded {
    let config = r#"{"on_request": "from-header", "on_request_body": "from-header", "on_response": "from-header"}"#;
    let fixture = Fixture { limits, ..Fixture::hostile(config) };
    fixture.load(&runtime(8)).await.expect("loads")
}

fn generous() -> Limits {
    // Wide enough that only the limit under test can be met, however busy the machine is.
    Limits { cpu: Duration::from_secs(120), wall: Duration::from_secs(120), ..Limits::default() }
}

/// The plugin serves, with a new instance if the last one is gone.
async fn serves(plugin: &Plugin) {
    let verdict = misbehave(plugin, "forward").await;
    assert!(matches!(verdict, Ok(Verdict::Forward)), "{verdict:?}");
}

async fn ends(plugin: &Plugin, how: &str, expected: fn(&EndCause) -> bool) {
    let retired = plugin.stats().retired;
    let cause = misbehave(plugin, how).await.expect_err(how);
    assert!(expected(&cause), "{how} ended as {cause:?}");
    assert_eq!(plugin.stats().retired - retired, u64::from(cause.retires()), "{how} ended as {cause:?}");
    serves(plugin).await;
}

#[tokio::test]
async fn a_guest_that_spins_ends_for_its_cpu_time() {
    let plugin = hostile(Limits { cpu: Duration::from_millis(20), ..generous() }).await;
    for how in ["spin", "copy=4194304", "log-flood"] {
        ends(&plugin, how, |cause| matches!(cause, EndCause::Cpu { .. })).await;
    }
}

#[tokio::test]
async fn a_guest_that_waits_ends_for_its_wall_time() {
    // Long enough for a call that does nothing, and for the instance that it needs.
    let plugin = hostile(Limits { wall: Duration::from_secs(1), ..generous() }).await;
    for how in ["sleep", "doze=1"] {
        ends(&plugin, how, |cause| matches!(cause, EndCause::Wall { .. })).await;
    }
    // A guest that spins with much CPU time left is stopped by the same limit.
    ends(&plugin, "spin", |cause| matches!(cause, EndCause::Wall { .. })).await;
}

#[tokio::test]
async fn a_call_that_is_cut_counts_with_the_time_it_took() {
    let plugin = hostile(Limits { wall: Duration::from_millis(30), ..generous() }).await;
    misbehave(&plugin, "sleep").await.expect_err("cut");
    let stats = plugin.stats();
    let hook = stats.hooks.iter().find(|hook| hook.hook == Hook::OnRequest).expect("it has the hook");
    assert!(hook.wall >= Duration::from_millis(30), "{:?}", hook.wall);
    assert!(hook.cpu < Duration::from_millis(30), "a sleep is no CPU time: {:?}", hook.cpu);
}

#[tokio::test]
async fn a_guest_that_allocates_without_end_ends_for_its_memory() {
    let plugin = hostile(generous()).await;
    ends(&plugin, "allocate", |cause| matches!(cause, EndCause::Memory { limit } if *limit == 32 << 20)).await;
}

#[tokio::test]
async fn a_guest_that_ignores_refused_memory_ends_for_its_cpu_time() {
    let plugin = hostile(Limits { cpu: Duration::from_millis(50), ..generous() }).await;
    ends(&plugin, "allocate-forever", |cause| matches!(cause, EndCause::Cpu { .. })).await;
}

#[tokio::test]
async fn a_guest_that_recurses_ends_for_its_stack() {
    let plugin = hostile(generous()).await;
    ends(&plugin, "recurse", |cause| matches!(cause, EndCause::Stack)).await;
}

#[tokio::test]
async fn a_trap_tells_where_it_happened_and_what_the_guest_said() {
    let plugin = hostile(generous()).await;
    ends(&plugin, "trap", |cause| matches!(cause, EndCause::Trap { message } if message.contains(" in "))).await;
    ends(&plugin, "panic", |cause| matches!(cause, EndCause::Trap { .. })).await;
    ends(&plugin, "exit", |cause| matches!(cause, EndCause::Trap { message } if message.contains("exit"))).await;
}

#[tokio::test]
async fn a_returned_error_keeps_the_instance() {
    let plugin = hostile(generous()).await;
    ends(&plugin, "error", |cause| matches!(cause, EndCause::Returned { .. })).await;
    assert_eq!(plugin.instances(), [0]);
}

#[tokio::test]
async fn what_the_host_refuses_is_told_from_a_trap() {
    let plugin = hostile(Limits { memory: 1000 << 20, ..generous() }).await;
    for how in [
        "invalid-utf8",
        "giant-string=200000000",
        "reply-forty-thousand-headers",
        "reply-header-injection",
        "giant-body=5000000",
    ] {
        ends(&plugin, how, |cause| matches!(cause, EndCause::Refused { .. })).await;
    }
}

#[tokio::test]
async fn read_body_without_a_body_hook_is_refused() {
    let plugin = hostile(generous()).await;
    assert!(matches!(misbehave(&plugin, "read-body").await, Ok(Verdict::ReadBody)));
    let fields = [("x-misbehave-request-body", "echo-length")];
    let (_, verdict) = plugin.on_request_body(exchange(&fields), bytes::Bytes::from_static(b"12345")).await;
    assert!(matches!(verdict, Ok(BodyVerdict::Replace(body)) if body == "5"));
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_at_once_and_waiting_in_it_counts_as_wall_time() {
    let limits = Limits { wall: Duration::from_millis(300), queue: 1, ..generous() };
    let plugin = hostile(limits).await;
    let (first, second, third) =
        tokio::join!(misbehave(&plugin, "sleep"), misbehave(&plugin, "forward"), misbehave(&plugin, "forward"));
    assert!(matches!(first, Err(EndCause::Wall { .. })), "{first:?}");
    assert!(matches!(third, Err(EndCause::Overloaded { instances: 1, waiting: 1 })), "{third:?}");
    // The second waited until the first was stopped; either its own time was up by then or it got the replacement, with
    // little time left.
    assert!(matches!(second, Ok(_) | Err(EndCause::Overloaded { .. } | EndCause::Wall { .. })), "{second:?}");
}

#[tokio::test]
async fn a_plugin_that_always_fails_opens_its_breaker_and_comes_back() {
    let config = r#"{"on_request": "from-header"}"#;
    let fixture = Fixture { instances: 2, limits: generous(), ..Fixture::hostile(config) };
    let plugin = fixture.load(&runtime(8)).await.expect("loads");
    let mut refused = None;
    for _ in 0..20 {
        match misbehave(&plugin, "trap").await {
            Err(cause @ EndCause::Unavailable(_)) => {
                refused = Some(cause);
                break;
            }
            other => assert!(matches!(other, Err(EndCause::Trap { .. })), "{other:?}"),
        }
    }
    assert!(matches!(refused, Some(EndCause::Unavailable(Unavailable::BreakerOpen))), "{refused:?}");
    // It opens for 320 ms, more if a probe fails; asking again and again does not keep it open.
    let mut tries = 0;
    while misbehave(&plugin, "forward").await.is_err() {
        tries += 1;
        assert!(tries < 10_000, "the breaker stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!plugin.stats().breaker_open);
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_ends_well_and_keeps_its_instance() {
    let plugin = hostile(generous()).await;
    {
        let call = misbehave(&plugin, "sleep=30");
        tokio::pin!(call);
        // Once: the guest is in its sleep now.
        let started = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
        assert!(started);
    }
    serves(&plugin).await;
    assert_eq!((plugin.instances(), plugin.stats().retired), (vec![0], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_computes_does_not_hold_up_its_worker_thread() {
    let plugin = hostile(Limits { cpu: Duration::from_millis(200), ..generous() }).await;
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

#[tokio::test]
async fn edits_that_break_a_message_are_refused_one_by_one() {
    let plugin = hostile(generous()).await;
    let (exchange, _) = plugin.on_request(exchange(&[("x-misbehave", "forty-thousand-headers")])).await;
    assert!(exchange.request.headers.len() <= 256, "{} fields", exchange.request.headers.len());
    let (exchange, _) = plugin.on_response(answered(&[("x-misbehave-response", "header-injection")])).await;
    let fields = exchange.response.expect("kept").headers;
    assert!(fields.values().all(|value| !value.as_bytes().contains(&b'\n')), "{fields:?}");
}

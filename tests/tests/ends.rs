//! Every way a call can end has a cause of its own, retires the instance if it must, and touches nobody else.

use std::time::Duration;

use serde_json::json;
use tidegate_runtime::Unavailable;
use tidegate_testing::{EndCause, Hook, HookStats, Limits, Plugin, Request, Setup};
use tidegate_tests::setups::{SLICE, cause, hostile, misbehaving};

/// A hostile plugin that is told by each request how to misbehave; only a limit that is set here is met.
fn told(limits: impl FnOnce(&mut Limits)) -> Plugin {
    setup().limits(limits).load().expect("loads")
}

fn setup() -> Setup {
    let told = "from-header";
    hostile(&json!({ "on_request": told, "on_request_body": told, "on_response": told }))
}

fn as_it_is(_: &mut Limits) {}

/// The plugin serves, with a new instance if the last one is gone.
fn serves(plugin: &mut Plugin) {
    let answer = plugin.send(misbehaving("forward"));
    assert!(answer.failures.is_empty(), "{answer:?}");
}

fn ends(plugin: &mut Plugin, how: &str, expected: fn(&EndCause) -> bool) {
    let retired = plugin.stats().retired;
    let answer = plugin.send(misbehaving(how));
    let cause = cause(&answer).expect(how);
    assert!(expected(cause), "{how} ended as {cause:?}");
    assert_eq!(plugin.stats().retired - retired, u64::from(cause.retires()), "{how} ended as {cause:?}");
    serves(plugin);
}

fn stats(plugin: &Plugin, hook: Hook) -> HookStats {
    let stats = plugin.stats();
    stats.hooks.into_iter().find(|stats| stats.hook == hook).expect("it has the hook")
}

#[test]
fn a_guest_that_spins_ends_for_its_cpu_time() {
    let mut plugin = told(|limits| limits.cpu = Duration::from_millis(20));
    for how in ["spin", "copy=4194304", "log-flood"] {
        ends(&mut plugin, how, |cause| {
            let limit = Duration::from_millis(20);
            matches!(cause, EndCause::Cpu { used, .. } if (limit..limit + SLICE).contains(used))
        });
    }
}

#[test]
fn a_guest_that_waits_ends_for_its_wall_time() {
    // Long enough for a call that does nothing.
    let mut plugin = told(|limits| limits.wall = Duration::from_millis(20));
    // A guest that spins with much CPU time left is stopped by the same limit.
    for how in ["sleep", "doze=1", "spin"] {
        ends(&mut plugin, how, |cause| matches!(cause, EndCause::Wall { .. }));
    }
}

#[test]
fn a_call_that_is_cut_counts_with_the_time_it_took() {
    let wall = Duration::from_millis(30);
    let mut plugin = told(|limits| limits.wall = wall);
    let answer = plugin.send(misbehaving("sleep"));
    assert!(answer.failure().is_some(), "{answer:?}");
    let stats = stats(&plugin, Hook::OnRequest);
    assert_eq!(stats.wall, wall);
    assert!(stats.cpu < Duration::from_millis(1), "a sleep is no CPU time: {:?}", stats.cpu);
}

#[test]
fn a_guest_that_allocates_without_end_ends_for_its_memory() {
    let mut plugin = told(as_it_is);
    ends(&mut plugin, "allocate", |cause| matches!(cause, EndCause::Memory { limit } if *limit == 32 << 20));
}

#[test]
fn a_guest_that_ignores_refused_memory_ends_for_its_cpu_time() {
    let mut plugin = told(|limits| limits.cpu = Duration::from_millis(50));
    ends(&mut plugin, "allocate-forever", |cause| matches!(cause, EndCause::Cpu { .. }));
}

#[test]
fn a_guest_that_recurses_ends_for_its_stack() {
    ends(&mut told(as_it_is), "recurse", |cause| matches!(cause, EndCause::Stack));
}

#[test]
fn a_trap_tells_where_it_happened_and_what_the_guest_said() {
    let mut plugin = told(as_it_is);
    ends(&mut plugin, "trap", |cause| matches!(cause, EndCause::Trap { message } if message.contains(" in ")));
    ends(&mut plugin, "panic", |cause| matches!(cause, EndCause::Trap { .. }));
    ends(&mut plugin, "exit", |cause| matches!(cause, EndCause::Trap { message } if message.contains("exit")));
}

#[test]
fn a_returned_error_keeps_the_instance() {
    let mut plugin = told(as_it_is);
    ends(&mut plugin, "error", |cause| matches!(cause, EndCause::Returned { .. }));
    assert_eq!(plugin.instances(), [0]);
}

#[test]
fn what_the_host_refuses_is_told_from_a_trap() {
    let mut plugin = told(|limits| limits.memory = 1000 << 20);
    for how in [
        "invalid-utf8",
        "giant-string=200000000",
        "reply-forty-thousand-headers",
        "reply-header-injection",
        "giant-body=5000000",
    ] {
        ends(&mut plugin, how, |cause| matches!(cause, EndCause::Refused { .. }));
    }
}

#[test]
fn a_body_that_was_asked_for_is_read_and_replaced() {
    let request = Request::post("/", "12345").header("x-misbehave", "read-body");
    let answer = told(as_it_is).send(request.header("x-misbehave-request-body", "echo-length"));
    let forwarded = answer.forwarded.expect("it goes on");
    assert_eq!((&*forwarded.body, answer.failures.len()), (&b"5"[..], 0));
}

#[test]
fn a_queue_that_is_full_refuses_at_once_and_waiting_in_it_counts_as_wall_time() {
    let wall = Duration::from_millis(300);
    let mut plugin = setup().limits(|limits| (limits.wall, limits.queue) = (wall, 1)).pace(0).load().expect("loads");
    let sleeps = plugin.begin(misbehaving("sleep"));
    plugin.advance(Duration::from_millis(100));
    let waits = plugin.begin(misbehaving("sleep=250"));
    let refused = plugin.begin(misbehaving("forward"));
    assert!(refused.is_answered() && !waits.is_answered());
    let (sleeps, waits, refused) = (plugin.finish(sleeps), plugin.finish(waits), plugin.finish(refused));
    assert!(matches!(cause(&sleeps), Some(EndCause::Wall { .. })), "{sleeps:?}");
    assert!(matches!(cause(&refused), Some(EndCause::Overloaded { instances: 1, waiting: 1 })), "{refused:?}");
    // It has waited for 200 ms until the first was stopped: of its own time there are 100 left.
    assert!(matches!(cause(&waits), Some(EndCause::Wall { limit }) if *limit == wall), "{waits:?}");
    assert_eq!((sleeps.took, waits.took, refused.took), (wall, wall, Duration::ZERO));
}

#[test]
fn a_plugin_that_always_fails_opens_its_breaker_and_comes_back() {
    let mut plugin = setup().instances(2).load().expect("loads");
    let mut refused = None;
    for _ in 0..20 {
        match cause(&plugin.send(misbehaving("trap"))) {
            Some(cause @ EndCause::Unavailable(_)) => {
                refused = Some(cause.clone());
                break;
            }
            other => assert!(matches!(other, Some(EndCause::Trap { .. })), "{other:?}"),
        }
    }
    assert!(matches!(refused, Some(EndCause::Unavailable(Unavailable::BreakerOpen))), "{refused:?}");
    // It opens for 320 ms; asking again and again does not keep it open.
    let (opened, mut tries) = (plugin.now(), 0);
    while plugin.send(misbehaving("forward")).status != 200 {
        tries += 1;
        plugin.advance(Duration::from_millis(5));
    }
    let open = plugin.now() - opened;
    assert!((Duration::from_millis(310)..Duration::from_millis(330)).contains(&open), "{open:?} and {tries} tries");
    assert!(!plugin.stats().breaker_open);
}

#[test]
fn a_call_whose_caller_goes_away_ends_well_and_keeps_its_instance() {
    let mut plugin = told(as_it_is);
    let begun = plugin.begin(misbehaving("sleep=30"));
    plugin.hang_up(begun);
    serves(&mut plugin);
    assert_eq!((plugin.instances(), plugin.stats().retired), (vec![0], 0));
}

#[test]
fn a_guest_that_computes_lets_others_run_meanwhile() {
    let plugin = told(|limits| limits.cpu = Duration::from_millis(2));
    let (spinning, turns) = plugin.run(async {
        let spinning = tidegate_tests::plugins::misbehave(plugin.inner(), "spin");
        tokio::pin!(spinning);
        let mut turns = 0_u32;
        loop {
            tokio::select! {
                biased;
                end = &mut spinning => break (end, turns),
                () = tokio::task::yield_now() => turns += 1,
            }
        }
    });
    assert!(matches!(spinning, Err(EndCause::Cpu { .. })), "{spinning:?}");
    // A yield takes two polls, and there is one after each slice of fuel.
    assert!(turns >= 990, "only {turns} turns");
}

#[test]
fn edits_that_break_a_message_are_refused_one_by_one() {
    let mut plugin = setup().fail_open().load().expect("loads");
    let answer = plugin.send(misbehaving("forty-thousand-headers"));
    let fields = answer.forwarded.expect("it goes on").headers.len();
    assert!(fields <= 256, "{fields} fields");
    let answer = plugin.send(Request::get("/").header("x-misbehave-response", "header-injection"));
    assert_eq!(answer.failures.len(), 1, "{answer:?}");
    let lines = |response: &http::HeaderMap| response.values().any(|value| value.as_bytes().contains(&b'\n'));
    assert!(!lines(&answer.headers), "{:?}", answer.headers);
}

//! After its deadline nothing a plugin asked for takes effect, also when nothing has stopped it yet. What is in time and what
//! is late is the same on every run: to the unit of fuel, or to the request to the host.

#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

mod outside;

use std::time::Duration;

use serde_json::json;
use tidegate_runtime::metrics::Reading;
use tidegate_runtime::{Late, LoadError};
use tidegate_testing::{Answer, EndCause, Fault, Hook, Plugin, Request, Setup, SetupError, StopOutcome};
use tidegate_tests::setups::{cause, guest, hostile, later, misbehaving};

/// So much time has a call. It is late by a day where a test plans that.
const WALL: Duration = Duration::from_secs(1);

const NANOSECOND: Duration = Duration::from_nanos(1);

/// A hostile plugin that is told by each request how to misbehave, and behind which an exchange goes on.
fn told() -> Setup {
    let setup = hostile(&json!({ "on_request": "from-header", "on_response": "from-header" }));
    setup.limits(|limits| limits.wall = WALL).fail_open()
}

/// Calls that were late when they returned, and those that asked the host for something then.
fn late(plugin: &Plugin) -> [u64; 2] {
    let late = plugin.stats().late;
    let of = |what| Late::ALL.iter().zip(late).filter(|(kind, _)| **kind == what).map(|(_, count)| count).sum();
    [of(Late::Call), of(Late::HostCall)]
}

fn overran(answer: &Answer) -> bool {
    cause(answer).is_some_and(is_overrun)
}

fn is_overrun(cause: &EndCause) -> bool {
    matches!(cause, EndCause::Wall { .. })
}

/// What the calls of this hook that have ended have burned, in virtual time: a nanosecond for each unit of fuel.
fn time_of(plugin: &Plugin, hook: Hook) -> Duration {
    Duration::from_nanos(plugin.calls().iter().filter(|call| call.hook == hook).map(|call| call.used.fuel).sum())
}

#[test]
fn edits_are_made_up_to_the_deadline_and_none_after_it() {
    let mut plugin = told().load().expect("loads");
    plugin.plan(Hook::OnRequest, Fault::LateAt(21));
    let answer = plugin.send(misbehaving("forty-thousand-headers"));
    assert!(overran(&answer), "{answer:?}");
    let forwarded = answer.forwarded.expect("it goes on");
    assert_eq!(forwarded.headers.keys().filter(|name| name.as_str() != "x-misbehave").count(), 20);
    assert_eq!((late(&plugin), plugin.stats().retired), ([0, 1], 1));
}

#[test]
fn whatever_has_an_effect_ends_a_guest_that_is_late() {
    let mut plugin = told().load().expect("loads");
    let asked = ["forty-thousand-headers", "path-injection", "unknown-upstream", "many-notes", "log-flood", "print"];
    for (n, how) in (1..).zip(asked) {
        plugin.plan(Hook::OnRequest, Fault::LateAt(1));
        let answer = plugin.send(misbehaving(how));
        assert!(overran(&answer), "{how}: {answer:?}");
        assert_eq!(late(&plugin), [0, n], "{how}");
        assert!(answer.notes.is_empty() && plugin.log().is_empty(), "{how}");
    }
    plugin.plan(Hook::OnResponse, Fault::LateAt(1));
    let answer = plugin.send(Request::get("/").header("x-misbehave-response", "forty-thousand-headers"));
    assert!(overran(&answer) && answer.headers.is_empty(), "{answer:?}");
}

#[test]
fn nothing_is_put_off_after_the_deadline() {
    for (after, is_taken) in [(WALL, true), (WALL + NANOSECOND, false)] {
        let setup = later(&json!({})).limits(|limits| limits.wall = WALL).pace(0);
        let mut plugin = setup.load().expect("loads");
        plugin.plan(Hook::OnRequest, Fault::DelayAt(1, after));
        let answer = plugin.send(Request::get("/").header("x-defer", "ok").header("x-reply", "1"));
        if !is_taken {
            assert!(overran(&answer), "{answer:?}");
        }
        assert_eq!(late(&plugin)[1], u64::from(!is_taken));
        let stop = plugin.stop(Duration::from_secs(9));
        assert_eq!(stop.deferred.map_or(0, |record| record.accepted), u64::from(is_taken));
    }
}

#[test]
fn whatever_a_guest_returns_late_is_dropped_by_the_last_unit_of_its_fuel() {
    for how in ["forward", "reply", "read-body", "error", "reply-status"] {
        let returns = |wall| {
            let mut plugin = told().limits(|limits| limits.wall = wall).load().expect("loads");
            let answer = plugin.send(misbehaving(how));
            let is_late = answer.failures.iter().any(|error| error.hook == Hook::OnRequest && is_overrun(&error.cause));
            (plugin, answer, is_late)
        };
        let first_call = |answer: &Answer| Duration::from_nanos(answer.calls[0].used.fuel);
        let needs = first_call(&returns(WALL).1);
        assert!(!returns(needs).2, "{how}: what is done by the very deadline is in time");
        let (plugin, answer, is_late) = returns(needs - NANOSECOND);
        assert!(is_late && !answer.is_from_plugin(), "{how}: {answer:?}");
        assert_eq!(first_call(&answer), needs, "{how}: it has returned");
        let [returned, asked] = late(&plugin);
        assert!(returned >= 1 && asked == 0, "{how}");
        assert_eq!(plugin.stats().retired, returned, "{how}: its instance is gone, like that of every overrun");
    }
}

#[test]
fn a_shutdown_that_returns_ok_after_its_deadline_has_overrun() {
    let mut plugin = hostile(&json!({})).load().expect("loads");
    assert!(plugin.stop(WALL).is_clean());
    let needs = time_of(&plugin, Hook::Shutdown);
    for (budget, outcome) in [(needs, StopOutcome::Completed), (needs - NANOSECOND, StopOutcome::Overran)] {
        let mut plugin = hostile(&json!({})).load().expect("loads");
        assert_eq!(plugin.stop(budget).outcomes(), [outcome]);
        assert_eq!(late(&plugin), [u64::from(outcome == StopOutcome::Overran), 0]);
        assert_eq!(time_of(&plugin, Hook::Shutdown), needs, "it has returned");
    }
}

#[test]
fn a_configure_that_returns_late_refuses_the_plugin() {
    let loaded = |configure| hostile(&json!({})).limits(|limits| limits.configure = configure).load();
    // The making of the instance counts for it.
    let needs = time_of(&loaded(WALL).expect("loads"), Hook::Configure);
    assert!(loaded(needs).is_ok());
    match loaded(needs - NANOSECOND).expect_err("late") {
        SetupError::Refused(LoadError::Configure(error)) => assert!(is_overrun(&error.cause), "{error}"),
        error => panic!("{error}"),
    }
}

#[test]
fn lines_are_logged_up_to_the_deadline_and_none_after_it() {
    let mut plugin = hostile(&json!({ "shutdown": "log-flood" })).load().expect("loads");
    plugin.plan(Hook::Shutdown, Fault::LateAt(31));
    assert_eq!(plugin.stop(WALL).outcomes(), [StopOutcome::Overran]);
    assert_eq!(plugin.log().iter().filter(|line| line.message.contains("and another line")).count(), 30);
    assert_eq!(late(&plugin), [0, 1]);
}

#[test]
fn a_number_that_comes_late_is_not_counted() {
    let setup = guest("teller").metrics().limits(|limits| limits.wall = WALL);
    let mut plugin = setup.load().expect("loads");
    let tells = || Request::get("/").header("x-tell", "count sent 1");
    assert!(plugin.send(tells()).failures.is_empty());
    plugin.plan(Hook::OnRequest, Fault::LateAt(1));
    assert!(overran(&plugin.send(tells())));
    assert_eq!(late(&plugin), [0, 1]);
    let all = plugin.metrics();
    let readings: Vec<_> = all.iter().flat_map(|snapshot| &snapshot.series).map(|(_, reading)| *reading).collect();
    assert_eq!(readings, [Reading::Number(1.0)]);
}

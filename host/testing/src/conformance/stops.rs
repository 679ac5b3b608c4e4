//! Whether it stops in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_runtime::{Hook, StopOutcome, StopReason, StopRecord};

use super::finding::{Time, Unit};
use super::requests;
use super::trial::Trial;
use crate::exchange::Response;
use crate::plugin::{Plugin, Stop};
use crate::setup::Setup;
use crate::world::Reply;

/// Requests after which a plugin has something to finish.
const REQUESTS: u64 = 200;

/// Instances, where several are stopped side by side.
const INSTANCES: usize = 3;

/// Requests in flight when it is stopped: more than it has instances.
const IN_FLIGHT: u64 = 12;

/// No plugin is expected to end within less.
const SHORTEST: Duration = Duration::from_millis(10);

/// Why it is not stopped while it has something to do.
const IDLE_FAILS: &str = "stop-idle fails already";

/// What an error that `shutdown` returns means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Returned {
    /// Nothing was wrong: it should not have.
    Wrong,
    /// It has said what it could not finish, as it should.
    Said,
}

/// Nothing to do, for every reason there is.
pub(super) fn idle(trial: &mut Trial<'_>) {
    let (mut slowest, mut reasons) = (Duration::ZERO, 0);
    for reason in StopReason::ALL {
        if !trial.is_sound() {
            // One that overruns does so for every reason, and takes its time for it.
            break;
        }
        trial.with(
            |setup| setup,
            |trial, plugin| {
                plugin.advance(Duration::from_secs(1));
                let stop = plugin.stop_for(reason, plugin.filter.plugin.longest_stop());
                slowest = slowest.max(stop.took);
                reasons += 1;
                judge(trial, &stop, &format!("idle, reason {reason}"), Returned::Wrong);
            },
        );
    }
    trial.measure("reasons", reasons, Unit::Count);
    trial.time("slowest stop", slowest);
    if !trial.kit.has(Hook::Shutdown) {
        trial.note("it has no shutdown: its instances are let go without a call");
    }
}

/// Right after requests, and in the middle of some.
pub(super) fn busy(trial: &mut Trial<'_>) {
    if trial.has_failed("stop-idle") {
        return trial.skip(IDLE_FAILS);
    }
    let mut slowest = Duration::ZERO;
    trial.with(
        |setup| setup,
        |trial, plugin| {
            trial.converse(plugin, 0..REQUESTS);
            let stop = plugin.stop(plugin.filter.plugin.longest_stop());
            slowest = slowest.max(stop.took);
            judge(trial, &stop, &format!("right after {REQUESTS} requests"), Returned::Wrong);
        },
    );
    let answers_late = |setup: Setup| {
        let answer = |request: &_| match requests::upstream(request) {
            Reply::Now(response) => Reply::After(Duration::from_millis(50), response),
            other => other,
        };
        setup.instances(INSTANCES).upstream(answer)
    };
    if trial.is_sound() {
        trial.with(answers_late, |trial, plugin| {
            let stop = in_flight(trial, plugin, plugin.filter.plugin.longest_stop());
            slowest = slowest.max(stop.took);
            judge(trial, &stop, &format!("with {IN_FLIGHT} requests in flight"), Returned::Wrong);
        });
    }
    trial.measure("requests", REQUESTS + IN_FLIGHT, Unit::Count);
    trial.time("slowest stop", slowest);
}

/// Neither the upstream nor any server answers.
pub(super) fn stalled(trial: &mut Trial<'_>) {
    if trial.has_failed("stop-idle") {
        return trial.skip(IDLE_FAILS);
    }
    let full = trial.kit.set_up().spec_limits().shutdown;
    let mut slowest = Duration::ZERO;
    for budget in [full, (full / 4).max(SHORTEST * 10).min(full)] {
        if !trial.is_sound() {
            break;
        }
        let stalls = Arc::new(AtomicBool::new(false));
        let (upstream, servers, answer) = (Arc::clone(&stalls), Arc::clone(&stalls), trial.kit.answer.clone());
        let world = |setup: Setup| {
            setup
                .instances(INSTANCES)
                .limits(|limits| limits.shutdown = budget)
                .upstream(move |request| stalling(&upstream, || requests::upstream(request)))
                .servers_answer(move |_| stalling(&servers, || Reply::Now(Response::clone(&answer))))
        };
        trial.with(world, |trial, plugin| {
            // It has something to bring to an end, and nobody to bring it to.
            for number in 0..requests::DISTINCT {
                plugin.send(requests::ordinary(&trial.kit.request, number));
            }
            stalls.store(true, Ordering::Relaxed);
            let stop = in_flight(trial, plugin, plugin.filter.plugin.longest_stop());
            slowest = slowest.max(stop.took);
            judge(trial, &stop, &format!("while nobody answers, in {}", Time(budget)), Returned::Said);
        });
    }
    trial.measure("in flight", IN_FLIGHT, Unit::Count);
    trial.time("slowest stop", slowest);
}

fn stalling(stalls: &AtomicBool, otherwise: impl FnOnce() -> Reply) -> Reply {
    if stalls.load(Ordering::Relaxed) { Reply::Never } else { otherwise() }
}

/// Stop it with requests in flight. What becomes of these is another check's matter.
fn in_flight(trial: &Trial<'_>, plugin: &mut Plugin, budget: Duration) -> Stop {
    let begin = |number| plugin.begin(requests::ordinary(&trial.kit.request, number));
    let begun: Vec<_> = (0..IN_FLIGHT).map(begin).collect();
    let stop = plugin.stop(budget);
    for begun in begun {
        plugin.finish(begun);
    }
    stop
}

/// Budgets that are too short for what it has to do.
pub(super) fn deadline(trial: &mut Trial<'_>) {
    if !trial.kit.has(Hook::Shutdown) {
        return trial.skip("it has no shutdown: its instances are let go without a call");
    }
    if trial.has_failed("stop-idle") {
        return trial.skip(IDLE_FAILS);
    }
    let full = trial.kit.set_up().spec_limits().shutdown;
    let Some(longest) = stop_within(trial, full) else { return };
    trial.time("longest shutdown", longest.took);
    trial.share("of shutdown", longest.took, full);
    if longest.outcome == StopOutcome::Overran {
        return;
    }
    let mut shortest = full;
    for eighths in [6, 4, 2, 1] {
        let budget = longest.took * eighths / 8;
        if budget < SHORTEST || !trial.is_sound() {
            break;
        }
        shortest = budget;
        stop_within(trial, budget);
    }
    trial.time("shortest deadline", shortest);
    if shortest == full {
        let text = format!("its shutdown took {} for {REQUESTS} requests: too little to cut short", Time(longest.took));
        trial.note(text);
    }
}

/// Stop it right after requests, with so much time for `shutdown`; what became of the instance that took the longest.
fn stop_within(trial: &mut Trial<'_>, budget: Duration) -> Option<StopRecord> {
    let limit = |setup: Setup| setup.limits(|limits| limits.shutdown = budget);
    trial.with(limit, |trial, plugin| {
        trial.converse(plugin, 0..REQUESTS);
        let stop = plugin.stop(plugin.filter.plugin.longest_stop());
        judge(trial, &stop, &format!("right after {REQUESTS} requests, in {}", Time(budget)), Returned::Said);
        stop.instances.into_iter().max_by_key(|record| record.took)
    })?
}

/// Whether a stop is as it should be.
fn judge(trial: &mut Trial<'_>, stop: &Stop, when: &str, returned: Returned) {
    for record in &stop.instances {
        let StopRecord { outcome, budget, took, error, .. } = record;
        let error = error.as_deref().unwrap_or("it says nothing");
        match outcome {
            StopOutcome::Completed | StopOutcome::NoHook => {}
            StopOutcome::Failed if returned == Returned::Said => trial.note(format!("{when}: shutdown {error}")),
            StopOutcome::Failed => trial.problem(
                format!("{when}: shutdown {error}"),
                Some("the shutdown report calls that `failed`, and the exit code is 11: return it for what is lost"),
            ),
            StopOutcome::Trapped => trial.problem(
                format!("{when}: shutdown {error}"),
                Some("return an error where it panics: whatever else it had to finish is lost"),
            ),
            StopOutcome::Overran | StopOutcome::Abandoned => trial.problem(
                format!("{when}: shutdown was still running after {} and was stopped", Time(*budget.max(took))),
                Some(
                    "ask the deadline in every step of a loop and before each wait (`deadline.expired()`, \
                     `deadline.remaining()`), hand over what is left, and return; or raise `shutdown` under \
                     [plugin.limits]",
                ),
            ),
        }
    }
    if let Some(drain) = stop.deferred.as_ref().filter(|drain| drain.left > 0) {
        let text = format!("{when}: there was no time for {} payloads that it had put off", drain.left);
        match returned {
            Returned::Said => trial.note(text),
            Returned::Wrong => trial.problem(text, Some("raise `drain` under [plugin.deferred], or put less off")),
        }
    }
}

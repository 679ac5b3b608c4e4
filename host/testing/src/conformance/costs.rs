//! What it costs: memory over many requests, and fuel from one run to the next.

use std::time::Duration;

use tidegate_runtime::{Hook, Isolation};

use super::finding::{Grouped, Size, Unit};
use super::requests;
use super::trial::Trial;
use crate::ledger::Call;
use crate::setup::Setup;

/// Requests after which an instance has what it needs.
const WARM: u64 = 1_000;

/// Requests in all.
const REQUESTS: u64 = 10_000;

/// Requests in a second of virtual time: so often on-tick and what is deferred have their turn.
const PER_SECOND: u64 = 100;

/// What the memory may grow by from there to there: four pages. An allocator takes whole pages, and keeps some in reserve;
/// a leak of 30 bytes per request is beyond it.
const TOLERANCE: u64 = 4 * (64 << 10);

/// Exchanges of which each costs what it costs.
const COURSE: u64 = 96;

/// The time that it has to stop in each of these runs.
const STOP: Duration = Duration::from_millis(100);

/// What the dearest and the cheapest run may differ by when only the time of day or random numbers differ, hundredths.
const TENTH: u64 = 10;

/// Another hour of another day of another month than the harness's own.
const ELSEWHEN: Duration = Duration::from_secs(37 * 86_400 + 13 * 3_600 + 7 * 60 + 11);

/// Midnight, 1 January 2026, UTC.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Memory over many requests.
pub(super) fn memory(trial: &mut Trial<'_>) {
    let setup = trial.kit.set_up();
    let (recycle, limit) = (setup.recycled(), setup.spec_limits().memory as u64);
    if setup.isolation() == Isolation::Fresh {
        return trial.skip("with `isolation = \"fresh\"` no instance outlives its call");
    }
    let ticked = super::hooks::ticked(trial);
    let world = |setup: Setup| ticked(setup.recycle(tidegate_runtime::Recycle::default()));
    trial.with(world, |trial, plugin| {
        let used = |plugin: &crate::plugin::Plugin| plugin.used_memory() as u64;
        let begins = used(plugin);
        let mut warm = begins;
        for second in 0..REQUESTS / PER_SECOND {
            if second == WARM / PER_SECOND {
                warm = used(plugin);
            }
            let first = second * PER_SECOND;
            trial.converse(plugin, first..first + PER_SECOND);
            plugin.advance(Duration::from_secs(1));
            trial.look_at_background(plugin);
            if !trial.is_sound() {
                // What faults has a new instance, whose memory says nothing of the old one.
                return;
            }
        }
        let ends = used(plugin);
        trial.measure("requests", REQUESTS, Unit::Count);
        trial.measure("at first", begins, Unit::Bytes);
        trial.measure("after 1000", warm, Unit::Bytes);
        trial.measure("after 10000", ends, Unit::Bytes);
        let grown = ends.saturating_sub(warm);
        if grown <= TOLERANCE {
            return;
        }
        let each = grown / (REQUESTS - WARM);
        let lasts = REQUESTS + limit.saturating_sub(ends) / each.max(1);
        let text = format!(
            "it grew by {} from {} requests to {}, {each} bytes per request; at this rate an instance is out of memory ({}) \
             after {} requests",
            Size(grown),
            Grouped(WARM),
            Grouped(REQUESTS),
            Size(limit),
            Grouped(lasts),
        );
        match (recycle.memory, recycle.calls) {
            (None, None) => trial.problem(
                text,
                Some(
                    "bound what it keeps of each request; or, for a language whose memory grows by itself, replace instances \
                     in time: `recycle = { memory = \"24MiB\" }` under [[plugin]]",
                ),
            ),
            (memory, calls) => {
                let by_memory = memory.map(|memory| REQUESTS + (memory as u64).saturating_sub(ends) / each.max(1));
                let after = by_memory.into_iter().chain(calls).min().unwrap_or(REQUESTS);
                trial.note(format!("{text}. Its `recycle` replaces it after about {} requests", Grouped(after)));
            }
        }
    });
}

/// Fuel from run to run.
pub(super) fn fuel(trial: &mut Trial<'_>) {
    let Some(first) = course(trial, |setup| setup) else { return };
    trial.measure("calls", first.len() as u64, Unit::Count);
    trial.measure("in all", total(&first), Unit::Fuel);
    let Some(again) = course(trial, |setup| setup) else { return };
    if let Some((number, (one, other))) = first.iter().zip(&again).enumerate().find(|(_, (one, other))| one != other) {
        let text = format!(
            "two runs of the same exchanges differ: call {} ({}) burned {} fuel, and then {}",
            number + 1,
            one.hook,
            Grouped(one.used.fuel),
            Grouped(other.used.fuel)
        );
        return trial.problem(text, Some("that should be impossible; please report it, with the plugin if you can"));
    }
    if first.len() != again.len() {
        let text = format!("two runs of the same exchanges have {} and {} calls", first.len(), again.len());
        return trial.problem(text, None);
    }
    compare(trial, &first, "at another time of day", |setup| setup.begins_at(EPOCH + ELSEWHEN));
    compare(trial, &first, "with other random numbers", |setup| setup.seed(2));
}

/// The same exchanges with one thing changed that should make no difference.
fn compare(trial: &mut Trial<'_>, first: &[Call], what: &str, change: impl FnOnce(Setup) -> Setup) {
    let Some(other) = course(trial, change) else { return };
    for hook in Hook::ALL {
        let of = |calls: &[Call]| calls.iter().filter(|call| call.hook == hook).map(|call| call.used.fuel).sum::<u64>();
        let (one, other) = (of(first), of(&other));
        if one == other {
            continue;
        }
        let percent = (one.abs_diff(other) * 100).div_ceil(one.max(1));
        let text = format!("{what} {hook} burns {} fuel instead of {} ({percent}%)", Grouped(other), Grouped(one));
        if percent <= TENTH || trial.kit.varies() {
            trial.note(text);
        } else {
            trial.problem(
                text,
                Some("what a call costs should follow from what it is given; if this is meant, say so with --may-vary"),
            );
        }
    }
}

/// The calls of some exchanges, of ticks, and of a stop.
fn course(trial: &mut Trial<'_>, change: impl FnOnce(Setup) -> Setup) -> Option<Vec<Call>> {
    let ticked = super::hooks::ticked(trial);
    trial.with(
        |setup| change(ticked(setup)),
        |trial, plugin| {
            for number in 0..COURSE {
                plugin.send(requests::ordinary(&trial.kit.request, number));
            }
            plugin.advance(Duration::from_secs(3));
            // Whatever it does in that time, it does it in every run.
            plugin.stop(STOP);
            plugin.calls()
        },
    )
}

fn total(calls: &[Call]) -> u64 {
    calls.iter().map(|call| call.used.fuel).sum()
}

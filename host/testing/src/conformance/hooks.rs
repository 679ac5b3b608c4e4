//! Whether its hooks do what hooks do.

use std::time::Duration;

use tidegate_runtime::{CallError, CallOutcome, Hook};

use super::finding::Unit;
use super::requests;
use super::trial::{Traffic, Trial, calls_of};
use crate::plugin::Plugin;
use crate::setup::Setup;

/// How often a plugin is ticked whose config does not say it.
const PERIOD: Duration = Duration::from_secs(1);

/// Ticks that are waited for.
const TICKS: u32 = 5;

/// The hooks of an exchange.
pub(super) fn hooks(trial: &mut Trial<'_>) {
    let of_exchanges = [Hook::OnRequest, Hook::OnRequestBody, Hook::OnResponse, Hook::OnResponseBody];
    let own: Vec<Hook> = of_exchanges.into_iter().filter(|hook| trial.kit.has(*hook)).collect();
    if own.is_empty() {
        return trial.skip("it has no hook that sees requests or responses");
    }
    trial.with(
        |setup| setup,
        |trial, plugin| {
            let limits = *plugin.filter.plugin.limits();
            let traffic = trial.converse(plugin, 0..requests::DISTINCT);
            trial.measure("requests", traffic.requests, Unit::Count);
            returned(trial, &traffic);
            slowest(trial, plugin, &own, limits.cpu);
            unseen(trial, plugin, &own);
            if traffic.answered == traffic.requests {
                let text = "the plugin answered every request itself, so the other checks see none that passes";
                trial.note(format!("{text}: say with --header or --path what lets one through"));
            }
        },
    );
}

/// An error that is returned to an ordinary request is a 503 for its client.
fn returned(trial: &mut Trial<'_>, traffic: &Traffic) {
    let Some((CallError { hook, cause, .. }, count)) = &traffic.errors else { return };
    let text = format!("{count} of {} ordinary requests: {hook} {cause}", traffic.requests);
    trial.problem(
        text,
        Some(
            "with `on_failure = \"closed\"` that is a 503: answer what the plugin does not want with `respond`, or say \
             with --header, --path, --set or --http-answer what it takes for a request to succeed",
        ),
    );
}

/// The most that a call has cost.
fn slowest(trial: &mut Trial<'_>, plugin: &Plugin, hooks: &[Hook], limit: Duration) {
    let most = hooks.iter().filter_map(|hook| plugin.most(*hook)).max_by_key(|used| used.fuel);
    if let Some(used) = most {
        trial.measure("dearest call", used.fuel, Unit::Fuel);
        // At the pace of the harness: a nanosecond for each.
        trial.share("of cpu", Duration::from_nanos(used.fuel), limit);
    }
}

/// Hooks that these requests have not reached.
fn unseen(trial: &mut Trial<'_>, plugin: &Plugin, own: &[Hook]) {
    for hook in own.iter().filter(|hook| plugin.most(**hook).is_none()) {
        let why = match hook {
            Hook::OnRequestBody | Hook::OnResponseBody => "no hook asked for a body with `read-body`",
            _ => "nothing got that far",
        };
        trial.note(format!("{hook} was not called: {why}"));
    }
}

/// The setup as it is ticked: as its config says, or once a second; and hardly ever if that has turned out to be too much.
pub(super) fn ticked(trial: &Trial<'_>) -> impl FnOnce(Setup) -> Setup + use<> {
    let (is_too_much, is_there) = (trial.has_failed("tick"), trial.kit.has(Hook::OnTick));
    move |setup| match setup.period() {
        _ if !is_there => setup,
        _ if is_too_much => setup.tick(Duration::from_secs(86_400)),
        None => setup.tick(PERIOD),
        Some(_) => setup,
    }
}

/// `on-tick`.
pub(super) fn tick(trial: &mut Trial<'_>) {
    if !trial.kit.has(Hook::OnTick) {
        return trial.skip("it has no on-tick");
    }
    let period = trial.kit.set_up().period().unwrap_or(PERIOD);
    trial.with(
        |setup| setup.tick(period),
        |trial, plugin| {
            let limit = plugin.filter.plugin.limits().deferred;
            trial.converse(plugin, 0..requests::DISTINCT);
            plugin.advance(period * TICKS + limit);
            let calls = plugin.calls().iter().filter(|call| call.hook == Hook::OnTick).count();
            trial.measure("ticks", calls as u64, Unit::Count);
            if calls == 0 {
                trial.problem(format!("{TICKS} ticks went by without a call of on-tick"), None);
            }
            trial.look_at_background(plugin);
            if calls_of(&plugin.stats(), Hook::OnTick, CallOutcome::Error) > 0 {
                let advice = "return an error from on-tick only when an operator has to know: it is counted and logged";
                trial.problem("on-tick returned an error although nothing was wrong", Some(advice));
            }
            if let Some(used) = plugin.most(Hook::OnTick) {
                trial.measure("dearest tick", used.fuel, Unit::Fuel);
                trial.share("of deferred", Duration::from_nanos(used.fuel), limit);
            }
        },
    );
}

/// `on-deferred`.
pub(super) fn deferred(trial: &mut Trial<'_>) {
    if !trial.kit.has(Hook::OnDeferred) {
        return trial.skip("it has no on-deferred");
    }
    trial.with(
        |setup| setup,
        |trial, plugin| {
            let limit = plugin.filter.plugin.limits().deferred;
            trial.converse(plugin, 0..requests::DISTINCT);
            plugin.advance(limit);
            // What is put off now is drained by the stop.
            let begun: Vec<_> = (0..16).map(|n| plugin.begin(requests::ordinary(&trial.kit.request, n))).collect();
            for begun in begun {
                plugin.finish(begun);
            }
            let stop = plugin.stop(plugin.filter.plugin.longest_stop());
            let [completed, failed, refused, left] = plugin.stats().deferred_outcomes;
            trial.measure("payloads", completed + failed + left, Unit::Count);
            trial.look_at_background(plugin);
            if failed > 0 && trial.is_sound() {
                trial.problem(format!("on-deferred returned an error for {failed} payloads: they are lost"), None);
            }
            if refused > 0 {
                trial.note(format!("{refused} payloads were refused: the queue was full"));
            }
            if let Some(drain) = stop.deferred.filter(|drain| drain.left > 0) {
                let advice = "make the work shorter, or raise `drain` under [plugin.deferred]";
                trial.problem(format!("the stop left {} payloads undone", drain.left), Some(advice));
            }
            if completed + failed + left == 0 {
                trial.note("these requests put no work off: say with --header or --path what makes one do");
            }
            if let Some(used) = plugin.most(Hook::OnDeferred) {
                trial.measure("dearest payload", used.fuel, Unit::Fuel);
                trial.share("of deferred", Duration::from_nanos(used.fuel), limit);
            }
        },
    );
}

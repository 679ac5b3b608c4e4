//! Planted faults are found, and what is sound passes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tidegate_testing::{Fault, Faults, Hook, Plugin, StopOutcome, Sweep};

use crate::{numbered, planted};

const BUDGET: Duration = Duration::from_secs(5);

/// Every request that was answered well is in an event, once the plugin has been stopped.
fn loses_nothing(fault: &str) -> bool {
    let mut plugin = planted(fault).load().expect("it loads");
    for number in 0..5 {
        assert_eq!(plugin.send(numbered(number)).status, 200);
    }
    let stop = plugin.stop(BUDGET);
    let events: Vec<String> = plugin.events().iter().map(|event| event.text()).collect();
    stop.is_clean() && events == ["/0", "/1", "/2", "/3", "/4"]
}

#[test]
fn a_plugin_that_loses_its_last_batch_is_found_out() {
    assert!(loses_nothing("none"));
    assert!(!loses_nothing("loses-last-batch"));
}

#[test]
fn a_plugin_that_looks_at_its_deadline_too_rarely_is_stopped_at_the_same_instruction_every_time() {
    let run = |fault| {
        let mut plugin =
            planted(fault).limits(|limits| limits.shutdown = Duration::from_millis(30)).load().expect("loads");
        plugin.send(numbered(0));
        let stop = plugin.stop(BUDGET);
        (stop.outcomes(), plugin.most(Hook::Shutdown).map(|used| used.fuel))
    };
    let (outcomes, fuel) = run("checks-rarely");
    assert_eq!(outcomes, [StopOutcome::Overran]);
    assert_eq!(run("checks-rarely"), (outcomes, fuel));
    assert_eq!(run("none").0, [StopOutcome::Completed]);
}

#[test]
fn memory_that_is_lost_per_request_shows() {
    let grown = |fault| {
        let mut plugin = planted(fault).load().expect("it loads");
        let mut memory = Vec::new();
        for number in 0..1_000 {
            let answer = plugin.send(numbered(number));
            memory.push(answer.calls.first().expect("it was called").used.memory);
        }
        memory[999] - memory[99]
    };
    assert_eq!(grown("none"), 0);
    assert!(grown("leaks") >= 800 << 10);
}

/// Batches are published whole or not at all, whatever happens while one is published, and when: at how many places that
/// was tried.
fn holds_everywhere(fault: &str, faults: Faults) -> Option<u64> {
    let load = || {
        let mut plugin = planted(fault).load()?;
        (0..2).for_each(|number| drop(plugin.send(numbered(number))));
        Ok(plugin)
    };
    let whole = |plugin: &mut Plugin, _: &_| {
        let events = plugin.events().len();
        assert!(events.is_multiple_of(3), "{events} events: a batch is half-written");
    };
    let sweep = match faults {
        Faults::Traps(_) => Sweep::of(faults).every(25),
        _ => Sweep::of(faults),
    };
    let sweep = || sweep.run(load, |plugin| drop(plugin.send(numbered(2))), whole).expect("it loads");
    catch_unwind(AssertUnwindSafe(sweep)).ok()
}

#[test]
fn what_is_published_at_once_is_never_half_written() {
    for (faults, least) in
        [(Faults::Publishes, 1), (Faults::Deadlines(Hook::OnRequest), 1), (Faults::Traps(Hook::OnRequest), 200)]
    {
        let places = holds_everywhere("none", faults);
        assert!(places.is_some_and(|places| places >= least), "{faults:?}: {places:?}");
    }
}

#[test]
fn a_batch_that_can_be_half_written_is_found_out() {
    for faults in [Faults::Publishes, Faults::Deadlines(Hook::OnRequest), Faults::Traps(Hook::OnRequest)] {
        assert_eq!(holds_everywhere("publishes-one-by-one", faults), None, "{faults:?}");
    }
}

#[test]
fn a_trap_comes_at_the_unit_of_fuel_that_was_planned_and_costs_the_instance() {
    let mut plugin = planted("none").load().expect("it loads");
    plugin.plan(Hook::OnRequest, Fault::TrapAt(500));
    let answer = plugin.send(numbered(0));
    assert_eq!(answer.status, 503);
    let call = answer.calls.first().expect("it was called");
    // Fuel is looked at once per block of instructions.
    assert!((500..600).contains(&call.used.fuel), "{call:?}");
    let answer = plugin.send(numbered(1));
    assert_eq!((answer.status.as_u16(), answer.calls.last().map(|call| call.instance)), (200, Some(1)));
}

//! What the chapters on shutting down and on ports from elsewhere show.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_testing::{Deferred, Faults, Hook, Plugin, Reply, Request, Response, Setup, StopOutcome, Sweep};
use tidegate_tests::components;

const BUDGET: Duration = Duration::from_secs(5);

fn greeted(count: usize, setup: Setup) -> Plugin {
    let mut plugin = setup.load().expect("it loads");
    (0..count).for_each(|number| drop(plugin.send(Request::get(&format!("/hello/{number}")))));
    plugin
}

// ANCHOR: slow
#[test]
fn hello_says_what_it_had_no_time_for() {
    let setup = Setup::new(components::sample("hello-plugin")).config(&json!({ "greeting": "hi" }));
    // A slow machine: 100 ns per unit of fuel, and 20 ms for the end.
    let setup = setup.pace(100).limits(|limits| {
        (limits.cpu, limits.wall) = (Duration::from_secs(1), Duration::from_secs(1));
        limits.shutdown = Duration::from_millis(20);
    });
    let mut plugin = greeted(500, setup);
    let stop = plugin.stop(BUDGET);
    assert_eq!(stop.outcomes(), [StopOutcome::Failed]);
    let said = stop.instances[0].error.as_deref().unwrap_or_default();
    assert!(said.ends_with("names were not written"), "{said}");
}
// ANCHOR_END: slow

/// The plugin that tells a broker, with a broker that does this.
fn notify(broker: impl Fn() -> Reply + Send + Sync + 'static) -> Setup {
    Setup::new(components::sample("notify"))
        .config(&json!({ "url": "https://broker.example.com/events" }))
        .tick(Duration::from_secs(1))
        .limits(|limits| limits.deferred = Duration::from_secs(2))
        .outbox(["broker.missed"])
        .http(["https://broker.example.com"], move |_| broker())
}

fn served(count: usize, setup: Setup) -> Plugin {
    let mut plugin = setup.load().expect("it loads");
    (0..count).for_each(|number| drop(plugin.send(Request::get(&format!("/{number}")))));
    plugin
}

/// The sizes of the batches that the broker was sent.
fn batches(plugin: &Plugin) -> Vec<usize> {
    let bodies = plugin.asked().into_iter().map(|asked| asked.request.body);
    bodies.map(|body| serde_json::from_slice::<Vec<Value>>(&body).expect("it is JSON").len()).collect()
}

// ANCHOR: batch
#[test]
fn the_last_batch_is_sent_at_the_end() {
    let mut plugin = served(250, notify(|| Response::new(202).into()));
    plugin.advance(Duration::from_secs(1));
    assert_eq!(batches(&plugin), [100, 100], "full ones go with a tick");
    let stop = plugin.stop(BUDGET);
    assert!(stop.is_clean(), "{stop:?}");
    assert_eq!(batches(&plugin), [100, 100, 50]);
}

#[test]
fn what_a_dead_broker_does_not_take_is_in_the_outbox() {
    let mut plugin = served(250, notify(|| Reply::Never));
    let stop = plugin.stop(BUDGET);
    assert!(stop.is_clean() && stop.took < BUDGET, "{stop:?}");
    assert_eq!(plugin.events().len(), 250);
}
// ANCHOR_END: batch

// ANCHOR: sweep
#[test]
fn no_event_is_lost_whichever_request_to_the_broker_fails() {
    let load = || {
        let mut plugin = notify(|| Response::new(202).into()).load()?;
        (0..250).for_each(|number| drop(plugin.send(Request::get(&format!("/{number}")))));
        Ok(plugin)
    };
    let stop = |plugin: &mut Plugin| drop(plugin.stop(BUDGET));
    let places = Sweep::of(Faults::Requests)
        .run(load, stop, |plugin, _| assert_eq!(paths(plugin).len(), 250))
        .expect("it loads");
    assert_eq!(places, 3, "three batches");
}

/// The paths of the exchanges that somebody has been told of.
fn paths(plugin: &Plugin) -> BTreeSet<String> {
    let sent = plugin
        .asked()
        .into_iter()
        .flat_map(|asked| serde_json::from_slice::<Vec<Value>>(&asked.request.body).expect("it is JSON"));
    let kept = plugin.events().into_iter().map(|event| serde_json::from_slice(&event.body).expect("it is JSON"));
    sent.chain(kept).map(|event: Value| event["path"].to_string()).collect()
}
// ANCHOR_END: sweep

// ANCHOR: parts
#[test]
fn lines_are_written_and_then_the_session_is_given_back() {
    let setup = Setup::new(components::sample("parts")).background(Deferred::default());
    let setup = setup.http(["https://sessions.example.com"], |asked| match asked.request.method.as_str() {
        "POST" => Response::new(200).body("s-1"),
        _ => Response::new(204),
    });
    let mut plugin = served(3, setup);
    let stop = plugin.stop(BUDGET);
    assert!(stop.is_clean(), "{stop:?}");
    assert_eq!(plugin.log().iter().filter(|line| line.hook == "shutdown").count(), 3);
    let asked: Vec<String> =
        plugin.asked().iter().map(|asked| format!("{} {}", asked.request.method, asked.request.target)).collect();
    assert_eq!(asked, ["POST /begin", "DELETE /s-1"]);
}

#[test]
fn a_server_that_does_not_answer_costs_a_second_and_is_said() {
    let setup = Setup::new(components::sample("parts")).background(Deferred::default());
    let setup = setup.http(["https://sessions.example.com"], |asked| match asked.request.method.as_str() {
        "POST" => Reply::Now(Response::new(200).body("s-1")),
        _ => Reply::Never,
    });
    let mut plugin = served(1, setup);
    let stop = plugin.stop(BUDGET);
    assert_eq!(stop.outcomes(), [StopOutcome::Failed]);
    assert!(stop.took <= Duration::from_millis(1_100), "{stop:?}");
    assert!(stop.instances[0].error.as_deref().is_some_and(|error| error.contains("session: ")), "{stop:?}");
}
// ANCHOR_END: parts

// ANCHOR: stubborn
#[test]
fn who_does_not_look_at_the_deadline_is_stopped_at_it() {
    let setup = Setup::new(components::plugin("stubborn")).limits(|limits| limits.shutdown = Duration::from_millis(50));
    let mut plugin = setup.load().expect("it loads");
    let stop = plugin.stop(BUDGET);
    assert_eq!(stop.outcomes(), [StopOutcome::Overran]);
    assert_eq!(stop.took.as_millis(), 50);
    assert!(plugin.most(Hook::Shutdown).is_some());
}
// ANCHOR_END: stubborn

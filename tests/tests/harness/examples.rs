//! The example plugins, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_testing::{Hook, Reply, Request, Response, Setup, StopOutcome};
use tidegate_tests::components;

fn example(name: &str) -> Setup {
    Setup::new(components::plugin(name))
}

#[test]
fn audit_has_an_event_of_every_request_that_was_answered() {
    let mut plugin = example("audit").outbox(["audit.exchange"]).load().expect("it loads");
    for number in 0..3 {
        assert_eq!(plugin.send(Request::get(&format!("/{number}"))).status, 200);
    }
    let events = plugin.events();
    assert_eq!(events.len(), 3);
    let event: serde_json::Value = serde_json::from_slice(&events[1].body).expect("it is JSON");
    assert_eq!((event["path"].as_str(), event["status"].as_u64()), (Some("/1"), Some(200)));
    plugin.fail_publish(0, 1, tidegate_testing::PublishError::Full);
    assert_eq!(plugin.send(Request::get("/")).status, 503, "no answer without an event");
}

#[test]
fn rate_limit_lets_a_client_have_its_share_of_each_window() {
    let window = Duration::from_secs(60);
    let setup = example("rate-limit").config(&json!({ "limit": 10, "window": 60, "header": "x-key" }));
    let mut plugin = setup.kv_with_ttl("rate-limit", 2 * window).load().expect("it loads");
    let mut passed = |count: usize, key: &str| {
        (0..count).filter(|_| plugin.send(Request::get("/").header("x-key", key)).status == 200).count()
    };
    assert_eq!((passed(15, "a"), passed(5, "b")), (10, 5));
    plugin.advance(3 * window);
    let mut passed = |count: usize, key: &str| {
        (0..count).filter(|_| plugin.send(Request::get("/").header("x-key", key)).status == 200).count()
    };
    assert_eq!(passed(15, "a"), 10, "three windows later nothing of it is left");
}

#[test]
fn token_auth_asks_once_per_token_until_what_it_remembers_is_too_old() {
    let config = json!({ "url": "https://login.example.com/introspect", "client_id": "gateway", "cache": 60 });
    let setup = example("token-auth").config(&config).secret("introspection", "s3cret");
    let mut plugin = setup
        .http(["https://login.example.com"], |asked| {
            let is_good = asked.request.body.starts_with(b"token=good");
            let answer = Response::new(200).header("content-type", "application/json");
            let answer = answer.body(json!({ "active": is_good, "sub": "ann" }).to_string());
            Reply::After(Duration::from_millis(20), answer)
        })
        .load()
        .expect("it loads");
    let ask = |token: &str| Request::get("/").header("authorization", &format!("Bearer {token}"));
    let answer = plugin.send(ask("good"));
    assert_eq!((answer.status.as_u16(), answer.forwarded_header("x-auth-subject")), (200, Some("ann")), "{answer:?}");
    assert_eq!(answer.took.as_millis(), 20);
    plugin.send(ask("good"));
    assert_eq!(plugin.asked().len(), 1, "it remembers");
    plugin.advance(Duration::from_secs(61));
    plugin.send(ask("good"));
    assert_eq!(plugin.asked().len(), 2);
    assert_eq!(plugin.send(ask("bad")).status, 401);
    assert!(plugin.log().iter().all(|line| !line.message.contains("s3cret")));
}

#[test]
fn webhook_events_come_in_batches_and_the_last_one_at_the_end() {
    let config =
        json!({ "url": "https://hooks.example.com/in", "batch": 3, "age_ms": 5_000, "missed": "hooks.missed" });
    let is_down = Arc::new(AtomicUsize::new(0));
    let down = Arc::clone(&is_down);
    let mut plugin = example("webhook-events")
        .config(&config)
        .tick(Duration::from_secs(1))
        .outbox(["hooks.missed"])
        .http(["https://hooks.example.com"], move |_| match down.load(Ordering::Relaxed) {
            0 => Reply::Now(Response::new(204)),
            _ => Reply::Never,
        })
        .load()
        .expect("it loads");
    (0..4).for_each(|number| drop(plugin.send(Request::get(&format!("/{number}")))));
    plugin.advance(Duration::from_secs(2));
    let sizes = |plugin: &tidegate_testing::Plugin| {
        let bodies = plugin.asked().into_iter().map(|asked| asked.request.body);
        let sizes = bodies.map(|body| serde_json::from_slice::<Vec<serde_json::Value>>(&body).expect("JSON").len());
        sizes.collect::<Vec<_>>()
    };
    assert_eq!(sizes(&plugin), [3], "a full one");
    plugin.advance(Duration::from_secs(6));
    assert_eq!(sizes(&plugin), [3, 1], "one that waited long enough");
    is_down.store(1, Ordering::Relaxed);
    (0..2).for_each(|number| drop(plugin.send(Request::get(&format!("/late/{number}")))));
    let stop = plugin.stop(Duration::from_secs(30));
    assert_eq!(stop.outcomes(), [StopOutcome::Completed], "{stop:?}");
    assert_eq!(plugin.events().len(), 2, "what could not be sent goes to the outbox");
}

#[test]
fn journal_writes_what_it_keeps_within_the_deadline() {
    let mut plugin = example("journal").load().expect("it loads");
    (0..5).for_each(|number| drop(plugin.send(Request::get(&format!("/{number}")))));
    let stop = plugin.stop(Duration::from_secs(5));
    assert_eq!(stop.outcomes(), [StopOutcome::Completed], "{stop:?}");
    assert!(plugin.log().iter().any(|line| line.hook == "shutdown"), "{:?}", plugin.log());
}

#[test]
fn stubborn_is_stopped_when_its_time_is_up_and_not_a_moment_later() {
    let setup = example("stubborn").limits(|limits| limits.shutdown = Duration::from_millis(50));
    let mut plugin = setup.load().expect("it loads");
    let stop = plugin.stop(Duration::from_secs(1));
    assert_eq!(stop.outcomes(), [StopOutcome::Overran]);
    let [record] = &*stop.instances else { panic!("{stop:?}") };
    assert!(record.overshoot <= Duration::from_micros(1), "{record:?}");
    assert!(plugin.most(Hook::Shutdown).is_some());
}

//! What the chapters on testing and on limits show.

use std::time::Duration;

use serde_json::json;
use tidegate_testing::{Baseline, Budget, Deferred, Hook, Plugin, Request, Response, Setup, StopReason};
use tidegate_tests::components;

// ANCHOR: hello
/// The plugin, as a gateway would have it with `greeting` in its `[plugin.config]`.
fn hello() -> Setup {
    // In a crate of your own: the path of your component.
    Setup::new(components::sample("hello-plugin")).config(&json!({ "greeting": "good morning" }))
}

#[test]
fn hello_greets_and_tells_at_its_end_whom() {
    let mut plugin = hello().load().expect("it loads");
    let answer = plugin.send(Request::get("/hello/ann"));
    assert_eq!((answer.status.as_u16(), &*answer.text()), (200, "good morning, ann\n"));

    let stop = plugin.stop(Duration::from_secs(5));
    assert!(stop.is_clean(), "{stop:?}");
    assert!(plugin.log().iter().any(|line| line.message == "greeted ann"));
}
// ANCHOR_END: hello

#[test]
fn hello_is_refused_without_a_greeting() {
    let setup = Setup::new(components::sample("hello-plugin")).config(&json!({ "greeting": "" }));
    let error = setup.load().expect_err("it refuses its config").to_string();
    assert!(error.contains("`greeting` is empty"), "{error}");
}

/// What the chapter on limits has been measured with: `--no-capture` shows it.
#[test]
#[expect(clippy::print_stdout, reason = "what is measured is to be read")]
fn hello_uses_little() {
    // ANCHOR: measure
    let mut plugin = hello().load().expect("it loads");
    for number in 0..1_000 {
        plugin.send(Request::get(&format!("/hello/{number}")));
    }
    plugin.stop(Duration::from_secs(5));
    for hook in [Hook::Configure, Hook::OnRequest, Hook::Shutdown] {
        let most = plugin.most(hook).expect("it was called");
        println!("{hook}: {} fuel, {} host calls, {} KiB", most.fuel, most.host_calls, most.memory >> 10);
    }
    // ANCHOR_END: measure
    // ANCHOR: budget
    plugin.assert_within(&Budget::of(Hook::OnRequest).fuel(50_000).host_calls(2).memory(4 << 20));
    // ANCHOR_END: budget
}

#[test]
fn hello_uses_no_more_than_it_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hello.toml");
    let greet = |plugin: &mut Plugin| drop(plugin.send(Request::get("/hello/ann")));
    let mut before = hello().load().expect("it loads");
    greet(&mut before);
    before.assert_baseline(&Baseline::at(&file).update());
    let mut plugin = hello().load().expect("it loads");
    greet(&mut plugin);
    // ANCHOR: baseline
    plugin.assert_baseline(&Baseline::at(&file).tolerance(0.1));
    // ANCHOR_END: baseline
}

#[test]
fn visits_are_written_with_a_tick_and_the_rest_at_the_end() {
    let setup = Setup::new(components::sample("visits")).background(Deferred::default()).tick(Duration::from_secs(10));
    let mut plugin = setup.metrics().load().expect("it loads");
    let written = |plugin: &Plugin| plugin.log().into_iter().map(|line| line.message).collect::<Vec<_>>();
    plugin.send(Request::get("/a"));
    plugin.advance(Duration::from_secs(11));
    assert_eq!(written(&plugin), ["visited: /a"]);
    plugin.send(Request::get("/b"));
    assert!(plugin.stop(Duration::from_secs(5)).is_clean());
    assert_eq!(written(&plugin), ["visited: /a", "visited: /b"]);
}

// ANCHOR: tally
#[test]
fn tally_goes_on_counting_in_its_next_version() {
    let setup = || Setup::new(components::sample("tally")).hand_over();
    let mut old = setup().load().expect("it loads");
    for _ in 0..3 {
        old.send(Request::get("/"));
    }
    let mut new = setup().load_beside(&old).expect("it loads");
    let handed_over = new.take_over(&old, Duration::from_secs(5));
    assert_eq!((handed_over.left, handed_over.handed_over), (1, 1));
    assert_eq!(new.send(Request::get("/")).forwarded_header("x-seen"), Some("4"));
}
// ANCHOR_END: tally

#[test]
fn tally_counts_and_ends_well_where_nobody_follows() {
    let mut plugin = Setup::new(components::sample("tally")).load().expect("it loads");
    plugin.send(Request::get("/"));
    assert_eq!(plugin.send(Request::get("/")).forwarded_header("x-seen"), Some("2"));
    assert!(plugin.stop_for(StopReason::Reload, Duration::from_secs(5)).is_clean());
}

#[test]
fn key_check_asks_the_server() {
    let setup = Setup::new(components::sample("key-check")).http(["https://auth.example.com"], |asked| {
        Response::new(if asked.request.target == "/keys/good" { 200 } else { 404 })
    });
    let mut plugin = setup.load().expect("it loads");
    let mut status = |key: &str| plugin.send(Request::get("/").header("x-api-key", key)).status.as_u16();
    assert_eq!((status("good"), status("bad"), status("../admin")), (200, 401, 401));
    assert_eq!(plugin.asked().len(), 2);
}

// ANCHOR: tenant
#[test]
fn tenants_are_told_apart_and_counted_by_all_instances_together() {
    let setup = Setup::new(components::sample("tenant")).config(&json!({ "header": "x-tenant" }));
    let setup = setup.kv("counts").metrics().tick(Duration::from_secs(10)).instances(2);
    let mut plugin = setup.load().expect("it loads");
    assert_eq!(plugin.send(Request::get("/")).status, 400);
    let answers = plugin.send_all((0..4).map(|_| Request::get("/").header("x-tenant", "north")));
    assert!(answers.iter().all(|answer| answer.header("x-served-for") == Some("north")), "{answers:?}");
    assert_eq!(plugin.bucket("counts").value("seen").as_deref(), Some(&b"4"[..]));
    plugin.advance(Duration::from_secs(11));
    assert!(plugin.log().iter().any(|line| line.message == "4 requests with a tenant"));
}
// ANCHOR_END: tenant

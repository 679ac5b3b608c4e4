//! A plugin that misbehaves in whatever way a request asks for, beside a route that has nothing to do with it.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tidegate_tests::client::{Answer, Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

/// A hostile plugin under `/h`, one that is well under `/ok`.
/// The CPU limit leaves room for what is no matter of time: a debug build of the host takes 20 ms to look at 40,000 fields.
fn config(origin: &Origin, hostile: PluginTable) -> ConfigFile {
    let hostile = hostile.config("on_request = 'from-header'").config("on_response = 'from-header'");
    ConfigFile::before(origin.address())
        .plugin(hostile.limit("cpu = '300ms'").limit("memory = '16MiB'").limit("body = '256KiB'"))
        .plugin(PluginTable::example("stamp").set("instances = 2"))
        .route("/h", &["h"])
        .route("/ok", &["stamp"])
}

/// What becomes of a request whose hook misbehaves like this: the outcome that is counted and logged, and the limit.
struct Misdeed {
    how: &'static str,
    outcome: &'static str,
    limit: Option<&'static str>,
}

const fn ends(how: &'static str, outcome: &'static str) -> Misdeed {
    Misdeed { how, outcome, limit: None }
}

const fn limited(how: &'static str, limit: &'static str) -> Misdeed {
    Misdeed { how, outcome: limit, limit: Some(limit) }
}

/// In `on-request`, most of them in `on-response` as well.
const MISDEEDS: [Misdeed; 22] = [
    limited("spin", "cpu"),
    limited("copy=4194304", "cpu"),
    limited("log-flood", "cpu"),
    limited("allocate-forever", "cpu"),
    limited("allocate", "memory"),
    ends("recurse", "stack"),
    ends("trap", "trap"),
    ends("panic", "trap"),
    ends("exit", "trap"),
    ends("error", "error"),
    ends("giant-string", "refused"),
    ends("invalid-utf8", "refused"),
    // Edits that the host refuses with a typed error, which this plugin hands on.
    ends("forty-thousand-headers", "error"),
    ends("giant-header", "error"),
    ends("header-injection", "error"),
    ends("forbidden-header", "error"),
    // Replies.
    ends("reply-forty-thousand-headers", "refused"),
    ends("reply-header-injection", "refused"),
    ends("reply-forbidden-header", "refused"),
    ends("reply-status=99", "refused"),
    ends("reply-status=1000", "refused"),
    ends("giant-body=5000000", "refused"),
];

/// What else can be done to a request.
const REQUEST_MISDEEDS: [Misdeed; 3] =
    [ends("path-injection", "error"), ends("unknown-upstream", "error"), ends("many-notes", "error")];

/// Ask the hook to misbehave.
async fn misbehave(client: &Client, field: &str, how: &str, id: &str) -> Answer {
    client.send(get("/h", &[(field, how), ("x-request-id", id)])).await
}

/// The answer names the exchange and nothing else.
fn is_discreet(answer: &Answer, id: &str, how: &str) {
    assert_eq!((answer.status, answer.header("x-request-id")), (503, id), "{how}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!((&problem["request_id"], &problem["status"]), (&Value::from(id), &Value::from(503)), "{how}");
    let text = answer.text();
    assert!(text.len() < 300, "{how}: {text}");
    for internal in ["plugin", "hostile", "wasm", "trap", "memory", "limit", "on-re", "instance", "\"h\""] {
        assert!(!text.contains(internal), "{how}: {text}");
    }
}

/// One success forgets the faults before it, so that the breaker stays closed.
async fn serves(client: &Client) {
    assert_eq!(client.get("/h").await.status, 200);
}

#[tokio::test]
async fn every_misdeed_is_a_503_with_its_outcome_and_its_log_line_and_nobody_else_notices() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, PluginTable::hostile("h"))).await;
    let (client, done) = (gateway.client(), AtomicBool::new(false));
    // Somebody else, all the time.
    let neighbour = async {
        let (other, mut answered) = (gateway.client(), 0_u32);
        while !done.load(Ordering::Relaxed) {
            let answer = other.get("/ok").await;
            assert_eq!((answer.status, answer.header("x-stamped-by")), (200, "tidegate"), "{}", answer.text());
            answered += 1;
        }
        answered
    };
    let misdeeds = async {
        let mut told: Vec<(String, &str, &Misdeed)> = Vec::new();
        let requests = MISDEEDS.iter().chain(&REQUEST_MISDEEDS).map(|misdeed| ("x-misbehave", "on-request", misdeed));
        let responses = MISDEEDS.iter().map(|misdeed| ("x-misbehave-response", "on-response", misdeed));
        for (number, (field, hook, misdeed)) in requests.chain(responses).enumerate() {
            let before = gateway.calls("h", hook, misdeed.outcome).await;
            let id = format!("deed-{number}");
            is_discreet(&misbehave(&client, field, misdeed.how, &id).await, &id, misdeed.how);
            let after = gateway.calls("h", hook, misdeed.outcome).await;
            assert_eq!(after - before, 1.0, "{hook} {}: not counted as {}", misdeed.how, misdeed.outcome);
            told.push((id, hook, misdeed));
            serves(&client).await;
        }
        done.store(true, Ordering::Relaxed);
        told
    };
    let (answered, told) = tokio::join!(neighbour, misdeeds);
    assert!(answered as usize >= told.len(), "{answered}");

    let ended = gateway.stop().await;
    for (id, hook, misdeed) in told {
        let lines = ended.log.with(&[("request_id", &id), ("message", "plugin failed")]);
        let [line] = &*lines else { panic!("{}: {lines:#?}", misdeed.how) };
        assert_eq!((&line["plugin"], &line["hook"]), (&Value::from("h"), &Value::from(hook)), "{line:#}");
        assert_eq!(line["outcome"], misdeed.outcome, "{line:#}");
        assert_eq!(line["limit"].as_str(), misdeed.limit, "{line:#}");
        let access = ended.log.with(&[("target", "access"), ("request_id", &id)]);
        assert!(matches!(&*access, [line] if line["status"] == 503), "{}: {access:#?}", misdeed.how);
    }
    // The guest's own lines carry the request's id, and a flood of them is cut off.
    assert!(
        ended.log.text().lines().all(|line| line.starts_with('{')),
        "no panic of the gateway, which would not be JSON"
    );
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn a_guest_that_waits_is_ended_by_its_wall_time() {
    let origin = Origin::start().await;
    let hostile = PluginTable::hostile("h").limit("wall = '300ms'");
    let gateway = TestGateway::start(&config(&origin, hostile)).await;
    let client = gateway.client();
    for (number, how) in ["sleep", "doze=1"].into_iter().enumerate() {
        let id = format!("waits-{number}");
        is_discreet(&misbehave(&client, "x-misbehave", how, &id).await, &id, how);
        let line = [("message", "plugin failed"), ("request_id", &*id), ("outcome", "wall"), ("limit", "wall")];
        gateway.until("it is logged", async || gateway.log().with(&line).len() == 1).await;
        assert_eq!(client.get("/ok").await.status, 200);
    }
    assert_eq!(gateway.calls("h", "on-request", "wall").await, 2.0);
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_off_and_counted() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, PluginTable::hostile("h"))).await;
    let client = gateway.client();
    for number in 0..5 {
        misbehave(&client, "x-misbehave", "log-flood", &format!("flood-{number}")).await;
        serves(&client).await;
    }
    misbehave(&client, "x-misbehave", "log-giant=1000000", "giant").await;
    let ended = gateway.stop().await;
    for number in 0..5 {
        let lines = ended.log.with(&[("target", "tidegate::plugin"), ("request", &format!("flood-{number}"))]);
        assert!(lines.len() <= 1025, "{}", lines.len());
        let left_out =
            lines.iter().filter_map(|line| line["message"].as_str()).filter(|text| text.contains("left out"));
        assert_eq!(left_out.count(), 1);
    }
    let giant = ended.log.with(&[("target", "tidegate::plugin"), ("request", "giant")]);
    assert!(matches!(&*giant, [line] if line["message"].as_str().is_some_and(|text| text.len() <= 8 << 10)));
    assert!(ended.log.text().len() < 8 << 20, "{}", ended.log.text().len());
}

#[tokio::test]
async fn memory_stays_bounded_over_two_hundred_misdeeds() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, PluginTable::hostile("h"))).await;
    let client = gateway.client();
    let round = async |count: usize| {
        for misdeed in MISDEEDS.iter().cycle().take(count) {
            misbehave(&client, "x-misbehave", misdeed.how, "memory").await;
            serves(&client).await;
        }
    };
    round(MISDEEDS.len()).await;
    let before = gateway.resident();
    round(200).await;
    let after = gateway.resident();
    println!("resident: {} MiB before, {} MiB after 200 misdeeds", before >> 20, after >> 20);
    // An instance has 16 MiB, and there is one at a time.
    assert!(after < before + (48 << 20), "{} MiB before, {} MiB after", before >> 20, after >> 20);
    let stores = gateway.metric("tidegate_stores_live{plugin=\"h\",generation=\"1\"}").await;
    assert!(stores <= 2.0, "{stores} stores live");
}

#[tokio::test]
async fn a_plugin_that_fails_all_the_time_is_left_alone_and_comes_back() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, PluginTable::hostile("h").set("instances = 2"))).await;
    let client = gateway.client();
    let open = "tidegate_plugin_breaker_open{plugin=\"h\"}";
    let mut refused = 0;
    for number in 0..60 {
        is_discreet(
            &misbehave(&client, "x-misbehave", "trap", &format!("{number}")).await,
            &format!("{number}"),
            "trap",
        );
        refused += usize::from(gateway.calls("h", "on-request", "unavailable").await > 0.0);
        if refused > 3 {
            break;
        }
    }
    assert!(refused > 0, "the breaker never opened");
    assert_eq!(client.get("/ok").await.status, 200);
    // Asking again and again does not keep it open.
    gateway.until("it serves again", async || client.get("/h").await.status == 200).await;
    assert_eq!(gateway.metric(open).await, 0.0);
    assert_eq!(client.get("/h").await.status, 200);
    let lines = gateway.log().with(&[("message", "plugin failed"), ("outcome", "unavailable")]);
    assert!(!lines.is_empty());
}

#[tokio::test]
async fn a_plugin_that_may_fail_open_is_skipped() {
    let origin = Origin::start().await;
    let hostile = PluginTable::hostile("h").set("on_failure = 'open'").limit("wall = '2s'");
    let gateway = TestGateway::start(&config(&origin, hostile)).await;
    let client = gateway.client();
    for (number, misdeed) in MISDEEDS.iter().enumerate() {
        for (field, hook) in [("x-misbehave", "on-request"), ("x-misbehave-response", "on-response")] {
            let id = format!("{hook}-{number}");
            let answer = misbehave(&client, field, misdeed.how, &id).await;
            assert_eq!(answer.status, 200, "{hook} {}: {}", misdeed.how, answer.text());
            assert_eq!(answer.json()["method"], "GET", "the origin's answer");
            serves(&client).await;
        }
    }
    let ended = gateway.stop().await;
    let lines = ended.log.with(&[("message", "plugin failed"), ("on_failure", "open")]);
    assert_eq!(lines.len(), MISDEEDS.len() * 2);
}

#[tokio::test]
async fn no_edit_that_was_refused_gets_onto_the_wire() {
    let origin = Origin::start().await;
    let hostile = PluginTable::hostile("h").set("on_failure = 'open'");
    let gateway = TestGateway::start(&config(&origin, hostile)).await;
    let client = gateway.client();
    for how in ["header-injection", "path-injection", "forbidden-header", "giant-header", "forty-thousand-headers"] {
        let answer = client.send(get("/h?q", &[("x-misbehave", how)])).await;
        assert_eq!(answer.status, 200, "{how}: {}", answer.text());
        let seen = answer.json();
        let fields = seen["headers"].as_object().cloned().unwrap_or_default();
        assert_eq!(seen["target"], "/h?q", "{how}");
        assert!(!fields.contains_key("x-injected") && !fields.contains_key("x-hostile"), "{how}: {seen:#}");
        assert!(fields.len() <= 300 && !fields.contains_key("content-length"), "{how}: {} fields", fields.len());
    }
    for how in ["header-injection", "forbidden-header", "giant-header"] {
        let answer = client.send(get("/h", &[("x-misbehave-response", how)])).await;
        assert_eq!(answer.status, 200, "{how}");
        assert!(!answer.headers.contains_key("x-injected") && !answer.headers.contains_key("x-hostile"), "{how}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{how}");
    }
}

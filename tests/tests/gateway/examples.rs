//! The four example plugins through one gateway, and their end: what the README shows. The larger ones are in modules of
//! their own.

mod rate_limit;
mod token_auth;
mod webhook_events;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tidegate_tests::client::{Client, get};
use tidegate_tests::components;
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway, tidegate};
use tidegate_tests::origin::Origin;

const EVENTS: usize = 22;

/// A grant of requests to this address of this machine.
fn local(address: SocketAddr) -> String {
    format!("http = [{{ origin = 'http://{address}', addresses = ['127.0.0.1/32'] }}]")
}

fn config(origin: &Origin) -> ConfigFile {
    ConfigFile::before(origin.address())
        .plugin(PluginTable::example("stamp").set("instances = 2"))
        .plugin(PluginTable::example("api-key").config("keys = ['sesame']"))
        .plugin(PluginTable::example("journal").config("batch = 1000").config("flush_delay_ms = 1"))
        .plugin(PluginTable::example("stubborn").limit("shutdown = '300ms'"))
        .route("/", &["stamp", "journal", "stubborn"])
        .route("/private", &["stamp", "api-key", "journal"])
}

#[tokio::test]
async fn four_plugins_serve_and_each_ends_in_its_own_way() {
    let origin = Origin::start().await;
    let mut gateway = TestGateway::start(&config(&origin)).await;
    let client = gateway.client();

    for n in 0..EVENTS - 3 {
        let answer = client.send(get(&format!("/{n}"), &[("x-request-id", &format!("open-{n}"))])).await;
        assert_eq!((answer.status, answer.header("x-stamped-by")), (200, "tidegate"));
        assert_eq!(answer.json()["headers"]["x-stamped-by"], "tidegate", "on the way in");
    }
    let seen = origin.requests();
    let refused = client.get("/private").await;
    assert_eq!((refused.status, refused.header("x-stamped-by")), (401, "tidegate"), "stamp comes before api-key");
    assert_eq!(origin.requests(), seen, "the origin hears nothing of it");
    let let_in = client.send(get("/private", &[("x-api-key", "sesame")])).await;
    assert_eq!(let_in.status, 200);
    assert_eq!(let_in.json()["headers"]["x-api-key"], Value::Null, "the key is for the plugin alone");

    let slow = client.send(get("/slow", &[("x-origin", "hold"), ("x-request-id", "under-way")]));
    let stop = async {
        origin.holds(1).await;
        gateway.terminate();
        gateway.reaches("draining").await;
        origin.release();
        gateway.wait().await
    };
    let (slow, ended) = tokio::join!(slow, stop);
    assert_eq!((slow.status, slow.header("x-stamped-by")), (200, "tidegate"));

    // The refused request never reaches journal, which comes after api-key; the others do, the slow one included.
    let written = ended.log.with(&[("plugin", "journal"), ("hook", "shutdown"), ("context", "journal")]);
    let written: Vec<&str> = written.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(written.last(), Some(&format!("flushed {} events", EVENTS - 1).as_str()));
    assert_eq!(written.len(), EVENTS, "every event and the summary: {written:#?}");
    assert!(written.contains(&"open-7 GET /7 200") && written.contains(&"under-way GET /slow 200"), "{written:#?}");

    let report = ended.report();
    assert_eq!(report.outcomes("stamp"), ["no-hook", "no-hook"]);
    assert_eq!(report.outcomes("api-key"), ["no-hook"]);
    assert_eq!(report.outcomes("journal"), ["completed"]);
    assert_eq!(report.outcomes("stubborn"), ["overran"]);
    assert_eq!(ended.code, Some(11));
    let stubborn = report.plugin("stubborn")[0];
    let (took, budget) = (stubborn["took_ms"].as_u64(), stubborn["budget_ms"].as_u64());
    assert!(took >= budget && budget == Some(300), "{stubborn:#}");
}

#[tokio::test]
async fn the_report_has_every_field_of_the_design() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    gateway.get("/").await;
    let ended = gateway.stop().await;
    let report = ended.report();

    let fields = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
    let lacks = |pointer: &str, wanted: &[&str]| {
        let found = fields(report.at(pointer)).unwrap_or_default();
        let absent = wanted.iter().filter(|name| !found.iter().any(|found| found == *name));
        absent.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let none: Vec<String> = Vec::new();
    let top = ["schema", "reason", "signal", "grace_ms", "took_ms", "phases", "requests", "plugins", "exit_code"];
    assert_eq!(lacks("", &top), none);
    assert_eq!(lacks("/phases/0", &["name", "started_ms", "took_ms", "budget_ms"]), none);
    assert_eq!(lacks("/requests", &["in_flight", "completed", "cut"]), none);
    let plugin = ["name", "digest", "instance", "outcome", "budget_ms", "took_ms", "cpu_ms", "deferred_left", "error"];
    assert_eq!(lacks("/plugins/0", &plugin), none);

    assert_eq!(report.number("/schema"), 1);
    assert_eq!((report.at("/reason").as_str(), report.at("/signal").as_str()), (Some("terminate"), Some("SIGTERM")));
    assert_eq!(report.number("/grace_ms"), 20_000);
    assert_eq!(report.at("/exit_code").as_i64(), ended.code.map(i64::from));
    let digest = report.at("/plugins/0/digest").as_str().unwrap_or_default();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");

    let phases = report.at("/phases").as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = phases.iter().filter_map(|phase| phase["name"].as_str()).collect();
    assert_eq!(names, ["lame-duck", "draining", "stopping", "flushing"]);
    // One after the other, none longer than its budget and what a busy machine adds, and all of them in the whole.
    let mut end = 0;
    for phase in &phases {
        let [started, took] = ["started_ms", "took_ms"].map(|key| phase[key].as_u64().unwrap_or(u64::MAX));
        assert!(started + 1 >= end, "{phases:#?}");
        end = started.saturating_add(took);
    }
    assert!(end <= report.number("/took_ms") + 2, "{:#}", report.0);
    // What the drain left over is passed on.
    assert!(report.phase("stopping")["budget_ms"].as_u64() > Some(5_000), "{:#}", report.0);
}

#[tokio::test]
async fn the_report_command_draws_what_happened() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    gateway.get("/").await;
    let ended = gateway.stop().await;
    let drawn = tidegate(&["report", &ended.report_file().display().to_string()]).await;
    assert_eq!((drawn.code, drawn.stderr.as_str()), (Some(0), ""));
    for part in ["exit 11", "draining", "stopping", "stamp #1", "journal #0", "completed", "stubborn #0", "overran"] {
        assert!(drawn.stdout.contains(part), "no {part:?} in:\n{}", drawn.stdout);
    }
    assert!(!drawn.stdout.contains('\u{1b}'), "escape sequences are for terminals");

    // The same as a file for a browser, and as a picture.
    let folder = tempfile::tempdir().expect("a folder");
    let write = async |name: &str| {
        let out = folder.path().join(name).display().to_string();
        let written = tidegate(&["report", &ended.report_file().display().to_string(), "--html", &out]).await;
        assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""));
        assert!(written.stdout.starts_with(&format!("{out}: ")), "{}", written.stdout);
        std::fs::read_to_string(&out).expect("written")
    };
    let (page, picture) = (write("report.html").await, write("report.svg").await);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
    assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"), "{picture}");
    for part in ["exit 11", ">draining<", ">stopping<", ">stamp #1<", ">journal #0<", ">completed<", ">stubborn #0<"] {
        assert!(page.contains(part) && picture.contains(part), "no {part:?} in:\n{page}\n{picture}");
    }
    let piped = tidegate(&["report", &ended.report_file().display().to_string(), "--html", "-"]).await;
    assert_eq!((piped.code, piped.stdout), (Some(0), page));
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2, "nothing else is left behind");
}

#[tokio::test]
async fn plugins_see_clients_of_http2_like_any_other() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    let client = Client::http2(gateway.address());
    let answers = (0..20).map(|n| {
        let client = client.clone();
        async move { client.send(get(&format!("/{n}"), &[("x-origin", "slow=5")])).await }
    });
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!((answer.status, answer.header("x-stamped-by")), (200, "tidegate"));
        assert_eq!(answer.json()["headers"]["x-stamped-by"], "tidegate");
    }
    assert_eq!(client.get("/private").await.status, 401);
    assert_eq!(client.send(get("/private", &[("x-api-key", "sesame")])).await.status, 200);
    let ended = gateway.stop().await;
    assert!(!ended.log.with(&[("message", "flushed 21 events")]).is_empty(), "{}", ended.log.text());
}

#[tokio::test]
async fn an_answered_exchange_is_in_the_audit_even_if_the_gateway_is_killed() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let audited = || {
        let audit = PluginTable::example("audit").grant("outbox = ['audit.exchange']");
        ConfigFile::before(origin.address())
            .plugin(audit.config("user_header = 'x-user'"))
            .route("/", &["audit"])
            .section(&format!("[outbox]\npath = '{}'", at("outbox.db")))
            .section(&format!("[[outbox.sink]]\ntopic = 'audit.*'\nkind = 'file'\npath = '{}'", at("audit.ndjson")))
    };
    // A folder in the sink's place: nothing is delivered for now.
    std::fs::create_dir(at("audit.ndjson")).expect("made");
    let mut gateway = TestGateway::start(&audited()).await;
    for n in 0..EVENTS {
        let answer = gateway.client().send(get(&format!("/{n}?token=hidden"), &[("x-user", "ada")])).await;
        assert_eq!(answer.status, 200);
    }
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait().await;

    std::fs::remove_dir(at("audit.ndjson")).expect("removed");
    let gateway = TestGateway::start(&audited()).await;
    let lines = async || std::fs::read_to_string(at("audit.ndjson")).unwrap_or_default().lines().count();
    gateway.until("every event is delivered", async || lines().await >= EVENTS).await;
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    let text = std::fs::read_to_string(at("audit.ndjson")).expect("there");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let paths: Vec<&str> = events.iter().filter_map(|event| event["data"]["path"].as_str()).collect();
    let expected: Vec<String> = (0..EVENTS).map(|n| format!("/{n}")).collect();
    assert_eq!(paths, expected, "in the order of the user's requests");
    assert!(!text.contains("hidden"), "queries may have secrets");
}

#[tokio::test]
async fn an_exchange_that_cannot_be_audited_is_answered_as_the_operator_says() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    for (on_failure, status) in [("closed", 503), ("open", 200)] {
        let audit = PluginTable::example("audit").grant("outbox = ['audit.exchange']");
        // An outbox that takes one event, and a sink that is never there.
        let at = |name: &str| folder.path().join(format!("{on_failure}-{name}")).display().to_string();
        std::fs::create_dir(at("audit.ndjson")).expect("made");
        let config = ConfigFile::before(origin.address())
            .plugin(audit.set(&format!("on_failure = '{on_failure}'")))
            .route("/", &["audit"])
            .section(&format!("[outbox]\npath = '{}'\nmax_events = 1", at("outbox.db")))
            .section(&format!("[[outbox.sink]]\ntopic = 'audit.*'\nkind = 'file'\npath = '{}'", at("audit.ndjson")));
        let gateway = TestGateway::start(&config).await;
        assert_eq!(gateway.get("/first").await.status, 200);
        assert_eq!(gateway.get("/second").await.status, status, "{on_failure}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn the_config_in_each_readme_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("target")).expect("made");
    let stamp = components::plugin("stamp");
    let built = stamp.parent().and_then(|built| built.canonicalize().ok()).expect("`cargo xtask plugins` has been run");
    std::os::unix::fs::symlink(built, folder.path().join("target/plugins")).expect("linked");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").expect("written");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example-plugins");
    let mut checked = 0;
    for entry in std::fs::read_dir(examples).expect("listed") {
        let entry = entry.expect("listed");
        // Those in other languages are built where their tools are: see `tests/languages.rs`.
        if !entry.path().join("Cargo.toml").is_file() {
            continue;
        }
        let text = std::fs::read_to_string(entry.path().join("README.md")).expect("each has one");
        // Blocks are indented; those with commands are none of a config.
        let block = |line: &str| line.is_empty() || line.starts_with("    ");
        let lines: Vec<&str> = text.lines().collect();
        let blocks = lines.chunk_by(|one, next| block(one) == block(next));
        let blocks = blocks.map(|lines| lines.join("\n").replace("    ", ""));
        let blocks: Vec<String> = blocks.filter(|block| block.trim_start().starts_with('[')).collect();
        let name = entry.file_name().display().to_string();
        let config = blocks.join("\n").replace("/run/secrets/introspection", &secret.display().to_string());
        let rest =
            "[[upstream]]\nname = 'api'\ntargets = ['http://127.0.0.1:9000']\n[[route]]\npath = '/'\nupstream = 'api'";
        let file = folder.path().join("tidegate.toml");
        let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-cache");
        let config = format!("cache = '{cache}'\n{config}\n{rest}\nplugins = ['{name}']\n");
        std::fs::write(&file, &config).expect("written");
        let output = tidegate(&["check", "--config", &file.display().to_string()]).await;
        assert_eq!(output.code, Some(0), "{name}: {}{}\n{config}", output.stdout, output.stderr);
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

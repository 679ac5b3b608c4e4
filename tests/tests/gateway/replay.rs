//! What a gateway has recorded goes through a plugin once more: by the harness and by `tidegate plugin replay`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_testing::Setup;
use tidegate_testing::recording::{REDACTED, RecordedExchange, RecordedResponse, Refused};
use tidegate_tests::client::{get, post};
use tidegate_tests::components;
use tidegate_tests::gateway::{ConfigFile, Output, PluginTable, tidegate};
use tidegate_tests::origin::Origin;
use tidegate_tests::receiver::{Receiver, Reply};

use super::record::Recorded;
use super::secrets;

/// What a gateway records on a route with `stamp` and on one with `api-key`.
async fn some_exchanges() -> (TempDir, Vec<RecordedExchange>) {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .plugin(PluginTable::example("stamp").config("name = 'x-by'"))
        .plugin(PluginTable::example("api-key").config("keys = ['sesame']"))
        .route("/stamp", &["stamp"])
        .route("/key", &["api-key"]);
    let recorded = Recorded::start(&config, &[]).await;
    let client = recorded.gateway.client();
    for number in 0..5 {
        client.get(&format!("/stamp/{number}")).await;
        client.send(post("/stamp", &[("x-origin", "body=hello")], "hello")).await;
        client.send(get("/key", &[("x-api-key", "sesame")])).await;
        assert_eq!(client.get("/key").await.status, 401);
    }
    recorded.stop().await
}

#[tokio::test]
async fn what_a_gateway_has_recorded_goes_through_the_same_plugin_as_it_went() {
    let (_folder, exchanges) = some_exchanges().await;
    let of = |name: &str| -> Vec<RecordedExchange> {
        exchanges.iter().filter(|exchange| exchange.plugins == [name]).cloned().collect()
    };
    let (stamped, keyed) = (of("stamp"), of("api-key"));
    assert_eq!((stamped.len(), keyed.len()), (10, 10));
    let replay = |setup: Setup, exchanges: Vec<RecordedExchange>| {
        // It has a runtime of its own.
        let replaying = tokio::task::spawn_blocking(move || setup.replay(&exchanges).expect("it loads").differences);
        async move { replaying.await.expect("it does not panic") }
    };
    let stamp = |config: Value| Setup::new(components::plugin("stamp")).config(&config);
    assert_eq!(replay(stamp(json!({ "name": "x-by" })), stamped.clone()).await, []);
    // The key itself is not in the recording.
    let api_key = Setup::new(components::plugin("api-key")).config(&json!({ "keys": [REDACTED] }));
    assert_eq!(replay(api_key, keyed).await, []);

    let differences = replay(stamp(json!({ "name": "x-by", "value": "another" })), stamped).await;
    assert_eq!(differences.len(), 10);
    assert_eq!(differences[0].what, ["x-by is another, and was tidegate"]);
}

#[tokio::test]
async fn the_command_tells_what_goes_differently_and_exits_with_3() {
    let (folder, exchanges) = some_exchanges().await;
    let (plugin, recording) = (components::plugin("stamp"), folder.path().join("recording"));
    let (plugin, recording) = (plugin.display().to_string(), recording.display().to_string());
    let replay = async |more: &[&str]| {
        let arguments = [&["plugin", "replay", plugin.as_str(), recording.as_str(), "--name", "stamp"], more].concat();
        tidegate(&arguments).await
    };
    let same = replay(&["--plugin-config", "{\"name\":\"x-by\"}"]).await;
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), "10 exchanges: 10 went as they did, 0 differently\n"));

    let other = replay(&["--plugin-config", "{\"name\":\"x-other\"}"]).await;
    assert_eq!(other.code, Some(3), "{}", other.stderr);
    let first = exchanges.iter().find(|exchange| exchange.plugins == ["stamp"]).expect("there are ten");
    let said =
        format!("GET /stamp/0 ({}): x-by is absent, and was tidegate; x-other is tidegate, and was absent", first.id);
    assert!(other.stdout.starts_with(&said), "{}", other.stdout);
    assert!(other.stdout.ends_with("10 exchanges: 0 went as they did, 10 differently\n"), "{}", other.stdout);

    let json = replay(&["--plugin-config", "{\"name\":\"x-other\"}", "--json"]).await;
    let said: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!((json.code, &said["schema"], &said["exchanges"]), (Some(3), &json!(1), &json!(10)));
    assert_eq!(said["differences"].as_array().map(Vec::len), Some(10));
    assert_eq!(said["differences"][0]["what"][0], "x-by is absent, and was tidegate");

    let nowhere = folder.path().join("nowhere").display().to_string();
    for arguments in [
        ["plugin", "replay", plugin.as_str(), nowhere.as_str()],
        ["plugin", "replay", nowhere.as_str(), recording.as_str()],
        ["plugin", "replay", recording.as_str(), recording.as_str()],
    ] {
        let output = tidegate(&arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{}", output.stderr);
        assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_replay_compares_only_what_the_plugin_answered() {
    let (_folder, mut exchanges) = some_exchanges().await;
    exchanges.retain(|exchange| exchange.plugins == ["stamp"]);
    let refused = RecordedResponse { status: 502, headers: Vec::new(), body: Default::default() };
    for (exchange, why) in exchanges.iter_mut().zip([Refused::Upstream, Refused::Other, Refused::Plugin]) {
        (exchange.answer, exchange.refused) = (refused.clone(), Some(why));
    }
    let setup = Setup::new(components::plugin("stamp")).config(&json!({ "name": "x-by" }));
    let replayed = tokio::task::spawn_blocking(move || {
        let replayed = setup.replay(&exchanges).expect("it loads");
        (replayed.exchanges, replayed.not_compared, replayed.differences)
    });
    let (all, not_compared, differences) = replayed.await.expect("it does not panic");
    assert_eq!((all, not_compared), (10, 2));
    let [failed] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!(failed.what, ["status 200, and was 502"], "a failure of the plugin that does not come again is one");
}

/// A recording of plugins with grants, each on a route of its own, and the config of the gateway.
struct Granted {
    _folders: [TempDir; 2],
    config: PathBuf,
    recording: PathBuf,
}

impl Granted {
    async fn record() -> Self {
        let (origin, server, folder) =
            (Origin::start().await, Receiver::start().await, tempfile::tempdir().expect("a folder"));
        server.behave(|_, _| Reply::With(200, ("content-type", "application/json".to_owned()), "{\"a\":1}".to_owned()));
        let at = |name: &str| folder.path().join(name).display().to_string();
        let events =
            format!("[outbox]\npath = '{}'\n[[outbox.sink]]\ntopic = 'audit.*'\nkind = 'file'\n", at("outbox.db"));
        let config = secrets::before(origin.address(), folder.path())
            .section(&format!("{events}path = '{}'", at("events.ndjson")))
            .plugin(PluginTable::example("audit").grant("outbox = ['audit.*']"))
            .plugin(caller(&server))
            .route("/audit", &["audit"])
            .route("/call", &["caller"]);
        let recorded = Recorded::start(&config, &[]).await;
        let client = recorded.gateway.client();
        for number in 0..3 {
            client.get(&format!("/audit/{number}")).await;
            let count = [("x-op", "increment"), ("x-bucket", "main"), ("x-key", "k"), ("x-delta", "2")];
            assert_eq!(client.send(get("/", &count)).await.text(), (2 * (number + 1)).to_string());
            let call = json!({ "make": { "url": server.url(), "method": "POST", "body": 5 } }).to_string();
            let called = client.send(get("/call", &[("x-call", &call)])).await;
            assert_eq!(called.json()[0]["text"], "{\"a\":1}", "{}", called.text());
        }
        for key in ["region", "token"] {
            assert_eq!(secrets::told(&client, "value", key).await.0, 200);
        }
        let (recording, _) = recorded.stop().await;
        let path = recording.path().join("recording");
        Self { config: config.written(folder.path()), _folders: [folder, recording], recording: path }
    }

    async fn replay(&self, plugin: &Path, more: &[&str]) -> Output {
        replay(plugin, &self.recording, more).await
    }

    async fn with_config(&self, plugin: &Path, more: &[&str]) -> Output {
        let config = self.config.display().to_string();
        self.replay(plugin, &[&["--config", &config], more].concat()).await
    }
}

fn caller(server: &Receiver) -> PluginTable {
    let grant = format!("http = [{{ origin = 'http://{}', addresses = ['127.0.0.1/32'] }}]", server.address());
    PluginTable::guest("caller").grant(&grant)
}

async fn replay(plugin: &Path, recording: &Path, more: &[&str]) -> Output {
    let (plugin, recording) = (plugin.display().to_string(), recording.display().to_string());
    tidegate(&[&["plugin", "replay", &*plugin, &*recording], more].concat()).await
}

#[tokio::test]
async fn with_the_config_of_its_gateway_a_plugin_has_its_grants_and_stand_ins_behind_them() {
    let granted = Granted::record().await;
    let audit = components::plugin("audit");
    let events = "3 exchanges: 3 went as they did, 0 differently\nit published 3 events, which went nowhere\n";
    let output = granted.with_config(&audit, &[]).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), events), "{}", output.stderr);

    // A bucket counts from nothing, values are those of the file, and secrets what the recording has in their place.
    let output = granted.with_config(&components::guest("keeper"), &[]).await;
    let counted =
        "5 exchanges: 5 went as they did, 0 differently\nit used buckets 3 times, which were empty at first\n";
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), counted), "{}", output.stderr);
    let output = granted.with_config(&components::guest("keeper"), &["--secret", "token=another one"]).await;
    assert_eq!(output.code, Some(3), "{}", output.stderr);
    assert!(output.stdout.contains("5 exchanges: 4 went as they did, 1 differently\n"), "{}", output.stdout);

    // What a server said is not in the recording: what does not depend on it is the same.
    let output = granted.with_config(&components::guest("caller"), &["--http-answer", "no", "--json"]).await;
    let said: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!((output.code, &said["differences"].as_array().map(Vec::len)), (Some(3), &Some(3)), "{said}");
    assert_eq!(said["stand_ins"], json!({ "asked": 3, "published": 0, "bucket_calls": 0 }));
    let output = granted.with_config(&components::guest("caller"), &[]).await;
    let asked = "it asked servers 3 times, which is not recorded; each answer was 200 with `{}` (--http-answer)\n";
    assert!(output.stdout.ends_with(asked), "{}", output.stdout);
}

#[tokio::test]
async fn without_a_config_a_plugin_is_granted_what_it_imports() {
    let granted = Granted::record().await;
    let output = granted.replay(&components::plugin("audit"), &["--name", "audit"]).await;
    let events = "3 exchanges: 3 went as they did, 0 differently\nit published 3 events, which went nowhere\n";
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), events), "{}", output.stderr);
    let output = granted.replay(&components::guest("keeper"), &["--name", "keeper"]).await;
    assert_eq!(output.code, Some(3), "it has no values: {}", output.stderr);
    assert!(output.stdout.contains("GET / ("), "{}", output.stdout);
    assert!(output.stdout.contains("5 exchanges: 3 went as they did, 2 differently\n"), "{}", output.stdout);
}

#[tokio::test]
async fn what_a_plugin_lacks_and_whose_recording_it_is_are_told_with_what_to_do() {
    let granted = Granted::record().await;
    let audit = components::plugin("audit");
    let ungranted = granted.config.with_file_name("ungranted.toml");
    std::fs::write(&ungranted, format!("[[plugin]]\nname = 'audit'\npath = '{}'\n", audit.display())).expect("written");
    let ungranted = ungranted.display().to_string();
    let config = granted.config.display().to_string();
    for (plugin, arguments, error, hint) in [
        ("audit", vec!["--config", &ungranted], "imports `tidegate:plugin/outbox@", "grant it with `outbox = ["),
        ("audit", vec!["--config", &config, "--name", "adit"], "has no plugin `adit`", "did you mean `audit`?"),
        ("audit", vec!["--name", "auditor"], "is of a route with the plugin `auditor`", "audit, caller, keeper"),
        ("stamp", vec!["--config", &config], "has several plugins, and none is the one in", "say which with `--name`"),
        ("audit", vec!["--config", &config, "--secret", "a=b"], "is not granted a secret `a`", "grant it in `secrets`"),
        ("audit", vec!["--plugin-config", "[]"], "--plugin-config is no JSON object", "for example"),
        ("api-key", vec!["--name", "audit"], "configure", "say what it wants: `--set KEY=VALUE`"),
    ] {
        let output = granted.replay(&components::plugin(plugin), &arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", output.stderr);
        let (said, hinted) = output.stderr.split_once("hint: ").unwrap_or_else(|| panic!("{}", output.stderr));
        assert!(said.starts_with("error: ") && said.contains(error), "{}", output.stderr);
        assert!(hinted.contains(hint), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_recording_that_is_cut_is_replayed_up_to_there_and_one_that_is_none_is_refused() {
    let (folder, exchanges) = some_exchanges().await;
    let lines: Vec<String> = exchanges.iter().map(|exchange| json!(exchange).to_string() + "\n").collect();
    let stamped = || lines.iter().zip(&exchanges).filter(|(_, exchange)| exchange.plugins == ["stamp"]);
    let stamped: Vec<&str> = stamped().map(|(line, _)| line.as_str()).collect();
    let file = folder.path().join("exchanges.ndjson");
    let replay_of = async |text: &[u8]| {
        std::fs::write(&file, text).expect("it is written");
        replay(&components::plugin("stamp"), &file, &["--set", "name=x-by"]).await
    };
    let whole = stamped.concat();
    let cut = replay_of(&whole.as_bytes()[..whole.len() - 10]).await;
    assert_eq!((cut.code, cut.stdout.as_str()), (Some(0), "9 exchanges: 9 went as they did, 0 differently\n"));

    let middle = format!("{}{}\n{}", stamped[0], &stamped[1][..40], stamped[2]);
    for (text, says) in [
        (middle.as_bytes(), ":2: "),
        (b"GET / HTTP/1.1\r\n\r\n", ":1: expected"),
        (b"\xff\xfe\n", ":1: "),
        (b"[]\n", ":1: "),
        (&[b'['; 100_000], "no exchange"),
        (b"", "no exchange"),
        (b"{}\n", ":1: missing field"),
    ] {
        let output = replay_of(text).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{}", output.stderr);
        assert!(output.stderr.contains(says), "{says}: {}", output.stderr);
    }
}

#[tokio::test]
async fn whoever_has_made_a_recording_does_not_steer_the_terminal() {
    let (folder, exchanges) = some_exchanges().await;
    let stamped = exchanges.iter().find(|exchange| exchange.plugins == ["stamp"]).cloned().expect("there are ten");
    let (id, plugins) = ("\u{1b}[2J".to_owned(), vec!["\u{1b}[31mstamp".to_owned()]);
    let file = folder.path().join("exchanges.ndjson");
    std::fs::write(&file, json!(RecordedExchange { id, plugins, ..stamped }).to_string() + "\n").expect("written");
    let differs = replay(&components::plugin("stamp"), &file, &[]).await;
    assert_eq!(differs.code, Some(3), "{}", differs.stderr);
    assert!(differs.stdout.contains("(\u{fffd}[2J): ") && !differs.stdout.contains('\u{1b}'), "{}", differs.stdout);
    let another = replay(&components::plugin("stamp"), &file, &["--name", "stamp"]).await;
    assert_eq!(another.code, Some(2), "{}", another.stdout);
    assert!(another.stderr.contains("which one it was: \u{fffd}[31mstamp"), "{}", another.stderr);
    assert!(!another.stderr.contains('\u{1b}'), "{}", another.stderr);
}

#[tokio::test]
async fn the_folder_of_a_project_has_the_plugin_its_config_and_its_name() {
    let (folder, _) = some_exchanges().await;
    let project = folder.path().join("project");
    std::fs::create_dir(&project).expect("made");
    let stamp = std::fs::canonicalize(components::plugin("stamp")).expect("it is built");
    let table = format!("[[plugin]]\nname = 'stamp'\npath = '{}'\n[plugin.config]\nname = 'x-by'\n", stamp.display());
    std::fs::write(project.join("tidegate-plugin.toml"), format!("lang = 'rust'\n{table}")).expect("written");
    let output = replay(&project, &folder.path().join("recording"), &[]).await;
    let same = "10 exchanges: 10 went as they did, 0 differently\n";
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), same), "{}", output.stderr);
}

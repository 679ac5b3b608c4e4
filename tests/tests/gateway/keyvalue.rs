//! Key-value buckets: who sees what, what floods do, and what outlives what.

use std::path::Path;

use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, Signal, TestGateway, tidegate};
use tidegate_tests::nats::NatsServer;
use tidegate_tests::origin;
use tokio::task::JoinSet;

/// A plugin that does what it is told.
fn keeper(name: &str) -> PluginTable {
    PluginTable::guest("keeper").named(name).config("region = 'north'").grant("config = ['region']")
}

/// Two plugins that have been granted the bucket `main`, and one that has been granted another. Each has a route of its
/// name.
async fn config<const N: usize>(bucket: [&str; N]) -> ConfigFile {
    ConfigFile::before(origin::nobody().await)
        .bucket(bucket)
        .bucket(["name = 'other'", "kind = 'memory'"])
        .plugin(keeper("one").grant("kv = ['main']").set("instances = 4"))
        .plugin(keeper("two").grant("kv = ['main']"))
        .plugin(keeper("three").grant("kv = ['other']"))
        .route("/one", &["one"])
        .route("/two", &["two"])
        .route("/three", &["three"])
}

/// What a plugin answers when it is told to do something: the status and the text. `what` are headers without their `x-`.
async fn told(client: &Client, plugin: &str, op: &str, what: &[(&str, &str)]) -> (u16, String) {
    let names: Vec<String> = what.iter().map(|(name, _)| format!("x-{name}")).collect();
    let mut fields = vec![("x-op", op)];
    if !what.iter().any(|(name, _)| *name == "bucket") {
        fields.push(("x-bucket", "main"));
    }
    fields.extend(names.iter().zip(what).map(|(name, (_, value))| (name.as_str(), *value)));
    let answer = client.send(get(&format!("/{plugin}"), &fields)).await;
    (answer.status, answer.text())
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

const MEMORY: [&str; 2] = ["name = 'main'", "kind = 'memory'"];
const KEY: (&str, &str) = ("key", "k");

#[tokio::test]
async fn a_plugin_sees_its_own_keys_and_nobody_else_s() {
    let gateway = TestGateway::start(&config(MEMORY).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "one", "get", &[KEY]).await, said(404, ""));
    assert_eq!(told(&client, "one", "set", &[KEY, ("value", "mine")]).await, said(200, ""));
    assert_eq!(told(&client, "one", "get", &[KEY]).await, said(200, "mine"));
    assert_eq!(told(&client, "two", "get", &[KEY]).await, said(404, ""));
    assert_eq!(told(&client, "two", "keys", &[]).await, said(200, ""));
    assert_eq!(told(&client, "two", "set", &[KEY, ("value", "theirs")]).await, said(200, ""));
    assert_eq!(told(&client, "two", "delete", &[KEY]).await, said(200, ""));
    assert_eq!(told(&client, "one", "exists", &[KEY]).await, said(200, ""));
    assert_eq!(told(&client, "one", "keys", &[]).await, said(200, "k"));
}

#[tokio::test]
async fn a_shared_bucket_is_the_same_for_all() {
    let gateway = TestGateway::start(&config(["name = 'main'", "kind = 'memory'", "shared = true"]).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "one", "set", &[KEY, ("value", "ours")]).await, said(200, ""));
    assert_eq!(told(&client, "two", "get", &[KEY]).await, said(200, "ours"));
    assert_eq!(told(&client, "two", "append", &[KEY, ("value", "+")]).await, said(200, "ours+"));
    assert_eq!(told(&client, "one", "increment", &[("key", "n"), ("delta", "2")]).await, said(200, "2"));
    assert_eq!(told(&client, "two", "increment", &[("key", "n"), ("delta", "-5")]).await, said(200, "-3"));
    assert_eq!(gateway.metric("tidegate_kv_entries{bucket=\"main\",plugin=\"\"}").await, 2.0);
    assert_eq!(gateway.metric("tidegate_kv_bytes{bucket=\"main\",plugin=\"\"}").await, 9.0);
}

#[tokio::test]
async fn what_has_not_been_granted_is_denied_and_what_is_not_there_is_not() {
    let gateway = TestGateway::start(&config(MEMORY).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "three", "get", &[KEY]).await, said(409, "access-denied"));
    assert_eq!(told(&client, "one", "get", &[("bucket", "other"), KEY]).await, said(409, "access-denied"));
    assert_eq!(told(&client, "one", "get", &[("bucket", "ghost"), KEY]).await, said(409, "no-such-store"));
}

#[tokio::test]
async fn a_plugin_that_imports_a_store_without_a_grant_is_refused_with_the_key_that_allows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = ConfigFile::before(origin::nobody().await).plugin(keeper("one")).route("/", &["one"]);
    let output = tidegate(&["check", "--config", &file.written(folder.path()).display().to_string()]).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("imports `wasi:"), "{}", output.stderr);
    assert!(output.stderr.contains("under [plugin.grants]"), "{}", output.stderr);
}

#[tokio::test]
async fn a_change_that_comes_too_late_fails_and_says_what_is_there() {
    let gateway = TestGateway::start(&config(MEMORY).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "one", "late-swap", &[KEY, ("value", "late")]).await, said(200, "another"));
    assert_eq!(told(&client, "one", "get", &[KEY]).await, said(200, "another"));
    let conflicts =
        "tidegate_kv_operations_total{plugin=\"one\",bucket=\"main\",operation=\"swap\",outcome=\"conflict\"}";
    assert_eq!(gateway.metric(conflicts).await, 1.0);
}

#[tokio::test]
async fn what_is_wrong_is_told_in_words_and_changes_nothing() {
    let gateway = TestGateway::start(&config(["name = 'main'", "kind = 'memory'", "max_value = '1KiB'"]).await).await;
    let client = gateway.client();
    let long = "k".repeat(513);
    let number = i64::MAX.to_string();
    for (op, what, expected) in [
        ("get", vec![("key", "")], "other: invalid key: a key has 1 to 512 bytes, this one has 0"),
        ("set", vec![("key", &*long)], "other: invalid key: a key has 1 to 512 bytes, this one has 513"),
        ("set", vec![KEY, ("size", "1025")], "other: too large: the value has 1025 bytes, at most 1024 are taken"),
        ("increment", vec![("key", "text"), ("delta", "1")], "other: the value is not a number"),
        ("increment", vec![("key", "most"), ("delta", "1")], "other: the sum does not fit into 64 bits"),
        ("keys", vec![("cursor", "made up")], "other: invalid cursor"),
    ] {
        told(&client, "one", "set", &[("key", "text"), ("value", "three")]).await;
        told(&client, "one", "set", &[("key", "most"), ("value", &number)]).await;
        assert_eq!(told(&client, "one", op, &what).await, said(409, expected));
        assert_eq!(told(&client, "one", "get", &[("key", "most")]).await, said(200, &number));
    }
    assert_eq!(told(&client, "one", "set", &[("key", &long[1..]), ("value", "v")]).await, said(200, ""));
}

#[tokio::test]
async fn a_flood_of_keys_is_bounded_and_nobody_else_notices() {
    let bounds = ["max_entries = 2500", "max_bytes = '1MiB'", "max_value = '64KiB'"];
    let gateway = TestGateway::start(&config([MEMORY[0], MEMORY[1], bounds[0], bounds[1], bounds[2]]).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "two", "set", &[KEY, ("value", "kept")]).await, said(200, ""));
    let flood = [("key", "f"), ("value", "v"), ("count", "100000")];
    assert_eq!(told(&client, "one", "flood", &flood).await, said(200, "2500 other: the bucket is full"));
    assert_eq!(told(&client, "one", "count", &[]).await, said(200, "2500 1000"), "in pages of a thousand");
    let giants = [("key", "f"), ("size", "65536"), ("count", "100000")];
    assert_eq!(told(&client, "one", "flood", &giants).await, said(200, "15 other: the bucket is full"));
    assert_eq!(told(&client, "two", "get", &[KEY]).await, said(200, "kept"));
    assert_eq!(told(&client, "two", "set", &[("key", "more"), ("value", "v")]).await, said(200, ""));
    assert_eq!(gateway.metric("tidegate_kv_entries{bucket=\"main\",plugin=\"one\"}").await, 2500.0);
    assert!(gateway.metric("tidegate_kv_bytes{bucket=\"main\",plugin=\"one\"}").await <= 1048576.0);
    let full = "tidegate_kv_operations_total{plugin=\"one\",bucket=\"main\",operation=\"set\",outcome=\"full\"}";
    assert_eq!(gateway.metric(full).await, 2.0);
}

#[tokio::test]
async fn a_plugin_that_opens_buckets_without_end_is_stopped_and_others_serve_on() {
    let gateway = TestGateway::start(&config(MEMORY).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "two", "hoard", &[]).await.0, 503);
    assert_eq!(told(&client, "one", "set", &[KEY, ("value", "v")]).await, said(200, ""));
    assert_eq!(gateway.calls("two", "on-request", "refused").await, 1.0);
}

#[tokio::test]
async fn the_claims_that_a_plugin_holds_are_bounded_by_what_is_in_them() {
    let gateway = TestGateway::start(&config(MEMORY).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "one", "set", &[KEY, ("size", "1048576")]).await, said(200, ""));
    let held = "16 other: too many claims: the values of those that are held have 16777216 bytes";
    assert_eq!(told(&client, "one", "claim", &[KEY]).await, said(200, held));
    assert_eq!(told(&client, "one", "claim", &[KEY]).await, said(200, held), "those of the last call are gone");
    assert_eq!(told(&client, "one", "append", &[("key", "list"), ("value", ".")]).await, said(200, "."));
}

#[tokio::test]
async fn what_is_in_memory_outlives_a_reload_and_new_bounds_wait_for_a_restart() {
    let file = config(MEMORY).await;
    let gateway = TestGateway::start(&file).await;
    let client = gateway.client();
    assert_eq!(told(&client, "one", "set", &[KEY, ("value", "kept")]).await, said(200, ""));
    let changed = file.clone().plugin(keeper("four").grant("kv = ['main']")).route("/four", &["four"]);
    let replaced = changed.clone().plugin(keeper("five").grant("kv = ['main', 'other']"));
    gateway.reload(&changed).await;
    assert_eq!(told(&client, "one", "get", &[KEY]).await, said(200, "kept"));
    assert_eq!(told(&client, "four", "get", &[KEY]).await, said(404, ""));
    let answer = gateway.reload(&replaced.bucket(["name = 'third'", "kind = 'memory'"])).await;
    assert_eq!(answer["needs_restart"], serde_json::json!(["kv"]));
    assert_eq!(told(&client, "one", "get", &[KEY]).await, said(200, "kept"));
}

/// A bucket in a file of this folder.
fn in_a_file(folder: &Path) -> [String; 4] {
    let path = format!("path = '{}'", folder.join("main.db").display());
    ["name = 'main'".to_owned(), "kind = 'sqlite'".to_owned(), path, "timeout = '20s'".to_owned()]
}

#[tokio::test]
async fn what_is_in_a_file_survives_a_gateway_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = in_a_file(folder.path());
    let file = config(lines.each_ref().map(String::as_str)).await;
    let mut gateway = TestGateway::start(&file).await;
    let client = gateway.client();
    for number in 0..50 {
        assert_eq!(
            told(&client, "one", "increment", &[KEY, ("delta", "1")]).await,
            said(200, &(number + 1).to_string())
        );
    }
    gateway.signal(Signal::KILL);
    gateway.wait().await;
    let gateway = TestGateway::start(&file).await;
    let client = gateway.client();
    assert_eq!(told(&client, "one", "increment", &[KEY, ("delta", "1")]).await, said(200, "51"));
    assert_eq!(told(&client, "two", "get", &[KEY]).await, said(404, ""));
    assert_eq!(gateway.metric("tidegate_kv_entries{bucket=\"main\",plugin=\"one\"}").await, 1.0);
    assert_eq!(gateway.stop().await.code, Some(0));
    assert!(!folder.path().join("main.db-wal").exists(), "an orderly stop leaves one file");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("main.db"), "no database at all ".repeat(500)).expect("written");
    let lines = in_a_file(folder.path());
    let file = config(lines.each_ref().map(String::as_str)).await.written(folder.path());
    let output = tidegate(&["run", "--config", &file.display().to_string()]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("the bucket `main` cannot be opened"), "{}", output.stderr);
    assert!(output.stderr.contains("main.db: file is not a database"), "{}", output.stderr);
    // A check opens nothing.
    let output = tidegate(&["check", "--config", &file.display().to_string()]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

fn at(broker: &NatsServer) -> [String; 4] {
    let url = format!("url = '{}'", broker.url());
    ["name = 'main'".to_owned(), "kind = 'nats'".to_owned(), url, "timeout = '10s'".to_owned()]
}

async fn connected(gateway: &TestGateway, client: &Client) {
    gateway.until("the broker is there", async || told(client, "one", "get", &[KEY]).await.0 != 409).await;
}

#[tokio::test]
async fn two_gateways_over_one_broker_count_up_and_lose_nothing() {
    let Some(broker) = NatsServer::start().await else { return };
    let lines = at(&broker);
    let file = config(lines.each_ref().map(String::as_str)).await;
    let (first, second) = tokio::join!(TestGateway::start(&file), TestGateway::start(&file));
    let mut counting = JoinSet::new();
    for gateway in [&first, &second] {
        let client = gateway.client();
        connected(gateway, &client).await;
        for _ in 0..3 {
            let client = client.clone();
            counting.spawn(async move {
                for _ in 0..20 {
                    let (status, text) = told(&client, "one", "increment", &[("key", "n"), ("delta", "1")]).await;
                    assert_eq!(status, 200, "{text}");
                    let (status, text) = told(&client, "one", "append", &[("key", "list"), ("value", ".")]).await;
                    assert_eq!(status, 200, "{text}");
                }
            });
        }
    }
    counting.join_all().await;
    for gateway in [&first, &second] {
        let client = gateway.client();
        assert_eq!(told(&client, "one", "get", &[("key", "n")]).await, said(200, "120"));
        assert_eq!(told(&client, "one", "get", &[("key", "list")]).await, said(200, &".".repeat(120)));
        assert_eq!(told(&client, "two", "get", &[("key", "n")]).await, said(404, ""));
    }
}

#[tokio::test]
async fn a_broker_that_is_down_is_an_error_that_the_plugin_can_handle_and_back_it_serves_again() {
    let Some(mut broker) = NatsServer::start().await else { return };
    let lines = at(&broker);
    let gateway = TestGateway::start(&config(lines.each_ref().map(String::as_str)).await).await;
    let client = gateway.client();
    connected(&gateway, &client).await;
    assert_eq!(told(&client, "one", "set", &[KEY, ("value", "kept")]).await, said(200, ""));
    broker.kill();
    let away = said(409, "other: the bucket is unavailable: its broker is away");
    gateway.until("it is away", async || told(&client, "one", "get", &[KEY]).await == away).await;
    assert_eq!(told(&client, "three", "set", &[("bucket", "other"), KEY]).await, said(200, ""), "others go on");
    broker.restart().await;
    gateway.until("it is back", async || told(&client, "one", "get", &[KEY]).await == said(200, "kept")).await;
    broker.kill();
    assert_eq!(gateway.stop().await.code, Some(0), "a broker that is away holds no stop up");
}

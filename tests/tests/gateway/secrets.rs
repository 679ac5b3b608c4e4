//! Values and secrets that are asked for by name, and where secrets must not show.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway, tidegate};
use tidegate_tests::origin;

const SECRET: &str = "correct-horse-battery-staple";
const OTHER: &str = "-----BEGIN KEY-----\nMIIBVwIBADANBgkqhkiG9w0B\n-----END KEY-----";

/// A plugin with a value that it may ask for, and two secrets in files of this folder.
pub(super) async fn config(folder: &Path) -> ConfigFile {
    before(origin::nobody().await, folder)
}

/// The same before this upstream.
pub(super) fn before(origin: SocketAddr, folder: &Path) -> ConfigFile {
    std::fs::write(folder.join("token"), format!("{SECRET}\n")).expect("written");
    std::fs::write(folder.join("key"), OTHER).expect("written");
    let secret = |name: &str| format!("{{ name = '{name}', file = '{}' }}", folder.join(name).display());
    let keeper = PluginTable::guest("keeper")
        .config("region = 'north'")
        .config("limits = { rps = 5 }")
        .config("loud = true")
        .config("unnamed = 'not granted'")
        .grant("kv = ['main']")
        .grant("config = ['region', 'limits', 'loud']")
        .grant(&format!("secrets = [{}, {}]", secret("token"), secret("key")));
    ConfigFile::before(origin).bucket(["name = 'main'", "kind = 'memory'"]).plugin(keeper).route("/", &["keeper"])
}

pub(super) async fn told(client: &Client, op: &str, key: &str) -> (u16, String) {
    let answer = client.send(get("/", &[("x-op", op), ("x-key", key), ("x-bucket", "main")])).await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn values_and_secrets_are_given_by_name_and_secrets_are_not_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = TestGateway::start(&config(folder.path()).await).await;
    let client = gateway.client();
    assert_eq!(told(&client, "value", "region").await, (200, "north".to_owned()));
    assert_eq!(told(&client, "value", "limits").await, (200, "{\"rps\":5}".to_owned()));
    assert_eq!(told(&client, "value", "token").await, (200, SECRET.to_owned()), "without the line's end");
    assert_eq!(told(&client, "value", "unnamed").await, (404, String::new()));
    let all = "limits={\"rps\":5}\nloud=true\nregion=north";
    assert_eq!(told(&client, "values", "").await, (200, all.to_owned()));
}

/// As text, as it is encoded in bytes, and piece by piece: nothing of it may be anywhere.
fn forms(secret: &str) -> Vec<String> {
    let mut hex = String::new();
    for byte in secret.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    let escaped = secret.escape_default().to_string();
    let lines = secret.lines().map(str::to_owned);
    [secret.to_owned(), hex, escaped].into_iter().chain(lines).collect()
}

pub(super) fn assert_clean(what: &str, text: &str) {
    for form in forms(SECRET).into_iter().chain(forms(OTHER)) {
        assert!(!text.contains(&form), "{what} has {form}:\n{text}");
    }
    // A part at the end of a line that was cut.
    assert!(!text.contains(&SECRET[..12]), "{what} has the beginning of a secret:\n{text}");
}

#[tokio::test]
async fn a_secret_shows_nowhere_whatever_the_plugin_does_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config(folder.path()).await.log("level = 'trace'");
    let path = file.written(folder.path()).display().to_string();
    let check = tidegate(&["check", "--config", &path]).await;
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    assert_clean("check", &format!("{}{}", check.stdout, check.stderr));

    let gateway = TestGateway::start(&file).await;
    let client = gateway.client();
    for key in ["token", "key"] {
        assert_eq!(told(&client, "blab-log", key).await.0, 200);
        assert_eq!(told(&client, "blab-print", key).await.0, 200);
        let answer = told(&client, "blab-return", key).await;
        assert_eq!(answer.0, 503);
        assert_clean("the answer", &answer.1);
        let answer = told(&client, "blab-trap", key).await;
        assert_eq!(answer.0, 503);
        assert_clean("the answer", &answer.1);
        // The next instance is there when it answers.
        gateway.until("it serves again", async || told(&client, "value", "region").await.0 == 200).await;
    }
    let admin = Client::http1(gateway.admin());
    for path in ["/", "/metrics", "/v1/plugins", "/v1/plugins/keeper", "/v1/shutdown"] {
        assert_clean(path, &admin.get(path).await.text());
    }
    assert_clean("a reload", &gateway.order("/v1/reload?wait=true").await.text());
    let ended = gateway.stop().await;
    let (log, report) = (ended.log.text(), ended.report.as_ref().expect("a report").0.to_string());
    assert_clean("the log", log);
    assert_clean("the report", &report);
    // That it said something is what makes this a test.
    assert!(report.contains("stopped with [secret token]"), "{report}");
    for said in [
        "the value is [secret token], and here it is again: [secret token]",
        "\"context\":\"[secret token]\"",
        "the value is [secret key]",
        "returned an error",
        "panicked at",
    ] {
        assert!(log.contains(said), "the log has no {said}:\n{log}");
    }
}

#[tokio::test]
async fn a_secret_that_has_been_replaced_is_taken_by_a_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config(folder.path()).await;
    let gateway = TestGateway::start(&file).await;
    let client = gateway.client();
    let answer = gateway.reload(&file).await;
    assert_eq!(answer["kept"], json!(["keeper"]), "nothing has changed");
    std::fs::write(folder.path().join("token"), "another-secret").expect("written");
    let answer = gateway.reload(&file).await;
    assert_eq!(answer["started"], json!(["keeper"]));
    assert_eq!(told(&client, "value", "token").await, (200, "another-secret".to_owned()));
    // One that is gone leaves everything as it is.
    std::fs::remove_file(folder.path().join("token")).expect("it was there");
    let answer = gateway.order("/v1/reload").await;
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("the secret `token` cannot be read from the file"), "{}", answer.text());
    assert_eq!(told(&client, "value", "token").await, (200, "another-secret".to_owned()));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_refuses_the_plugin_and_says_which() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config(folder.path()).await.written(folder.path()).display().to_string();
    for (content, expected) in [
        (&b"\n"[..], "it is empty"),
        (&[b'x'; 70_000], "it is longer than 64KiB"),
        (b"correct-horse\xff", "it is not UTF-8 text"),
    ] {
        std::fs::write(folder.path().join("token"), content).expect("written");
        let output = tidegate(&["check", "--config", &file]).await;
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains("plugin `keeper`"), "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        assert!(output.stderr.contains("hint: "), "{}", output.stderr);
        assert!(!output.stderr.contains("correct-horse"), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_secret_can_come_from_the_environment() {
    let keeper = |name| {
        PluginTable::guest("keeper")
            .grant("kv = ['main']")
            .grant(&format!("secrets = [{{ name = 'token', env = '{name}' }}]"))
    };
    let file = |name| async move {
        ConfigFile::before(origin::nobody().await)
            .bucket(["name = 'main'", "kind = 'memory'"])
            .plugin(keeper(name))
            .route("/", &["keeper"])
    };
    let starting = TestGateway::spawn_as(&file("KEEPER_TOKEN").await, |mut command| {
        command.env("KEEPER_TOKEN", SECRET);
        command
    });
    let gateway = starting.ready().await;
    assert_eq!(told(&gateway.client(), "value", "token").await, (200, SECRET.to_owned()));
    let folder = tempfile::tempdir().expect("a folder");
    let unset = file("TIDEGATE_TEST_NOT_SET").await.written(folder.path()).display().to_string();
    let output = tidegate(&["check", "--config", &unset]).await;
    assert!(output.stderr.contains("the variable TIDEGATE_TEST_NOT_SET: it is not set"), "{}", output.stderr);
}

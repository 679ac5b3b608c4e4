//! `kind = "webhook"` and `kind = "nats"`: their keys, and their secrets.

use tidegate_outbox::sink::nats::{Credentials, NatsConfig, StreamConfig};
use tidegate_outbox::sink::secret::Secret;
use tidegate_outbox::sink::webhook::{SigningKey, WebhookConfig};

use super::*;

/// An outbox with one sink for `audit.*`.
fn sink(keys: &str) -> String {
    with(&format!("[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"audit.*\"\n{keys}\n"))
}

fn webhook(config: Config) -> WebhookConfig {
    match config.outbox.expect("an outbox").sinks.remove(0).kind {
        SinkKind::Webhook(webhook) => *webhook,
        other => panic!("no webhook: {other:?}"),
    }
}

fn nats(config: Config) -> NatsConfig {
    match config.outbox.expect("an outbox").sinks.remove(0).kind {
        SinkKind::Nats(nats) => *nats,
        other => panic!("no NATS: {other:?}"),
    }
}

/// What is wrong with a file that is read with the files that it names: `name = text`.
fn load(keys: &str, files: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, sink(keys)).expect("written");
    Config::load(&file).map_err(|problems| problems.to_string().replace(&folder.path().display().to_string(), ""))
}

const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

#[test]
fn a_webhook_has_the_documented_defaults() {
    let config = webhook(parse(&sink("kind = \"webhook\"\nurl = \"https://a.example/x?y=z\"")));
    let expected = WebhookConfig {
        url: "https://a.example/x?y=z".parse().expect("a URL"),
        keys: Vec::new(),
        authorization: None,
        headers: http::HeaderMap::new(),
        authorities: None,
        timeout: Duration::from_secs(30),
        concurrency: 8,
        source: String::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_of_a_webhook_is_read() {
    let keys = "kind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"keys\"\nauthorization_file = \"token\"\n\
                headers = { x-tenant = \"blue\", X-Stage = \"test\" }\ntimeout = \"2s\"\nconcurrency = 1\n\
                source = \"urn:gateway:east\"";
    let files = [("keys", &*format!("{KEY}\n\n  whsec_{}\n", "QUJD".repeat(8))), ("token", "Bearer s3cr3t\n")];
    let config = webhook(load(keys, &files).expect("the file is fine"));
    assert_eq!(config.keys.first(), SigningKey::parse(KEY).ok().as_ref());
    assert_eq!(config.keys.len(), 2);
    assert_eq!(config.authorization, Some(Secret::new("Bearer s3cr3t")));
    assert_eq!((config.timeout, config.concurrency), (Duration::from_secs(2), 1));
    assert_eq!(
        (&config.headers["x-tenant"], &config.headers["x-stage"]),
        (&"blue".parse().expect("a value"), &"test".parse().expect("a value"))
    );
    assert_eq!(config.source, "urn:gateway:east");
}

#[test]
fn what_a_webhook_cannot_be() {
    check(
        &sink(
            "kind = \"webhook\"\nurl = \"https://user:pw@a.example/\"\nsecret_file = \"a\"\nsecret_env = \"B\"\n\
             concurrency = 0\nsource = \"east\"\nsecret = \"x\"\n\
             headers = { host = \"a\", authorization = \"b\", \"x y\" = \"c\", x-a = 1, x-b = \"\\n\" }",
        ),
        "",
    );
    check(&sink("kind = \"webhook\""), "");
}

#[test]
fn secrets_that_cannot_be_read_are_named_without_showing_them() {
    let keys = "kind = \"webhook\"\nurl = \"http://a/\"\nsecret_file = \"keys\"\nauthorization_env = \"TIDEGATE_NO_SUCH\"\n\
                ca_file = \"ca\"";
    let said = load(keys, &[("keys", "whsec_c2VjcmV0\nnot base64"), ("ca", "none")]).expect_err("refused");
    same(&said, "");
    let said = load(keys, &[("keys", " \n")]).expect_err("refused");
    assert!(said.contains("it is empty") && said.contains("/ca: No such file"), "{said}");
}

#[test]
fn a_nats_sink_has_the_documented_defaults() {
    let config = nats(parse(&sink("kind = \"nats\"\nurl = \"nats://127.0.0.1:4222\"")));
    let expected = NatsConfig {
        servers: vec!["nats://127.0.0.1:4222".to_owned()],
        prefix: None,
        credentials: Credentials::None,
        authorities: None,
        stream: None,
        timeout: Duration::from_secs(30),
        source: String::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_of_a_nats_sink_is_read() {
    let keys = "kind = \"nats\"\nurl = [\"nats://a:1\", \"tls://b\"]\nprefix = \"tidegate.east\"\nstream = \"EVENTS\"\n\
                create = true\nuser = \"gateway\"\npassword_file = \"pw\"\nsource = \"https://gateway.example/\"";
    let config = nats(load(keys, &[("pw", "s3cr3t\n")]).expect("the file is fine"));
    assert_eq!(config.servers, ["nats://a:1", "tls://b"]);
    assert_eq!(config.prefix.as_deref(), Some("tidegate.east"));
    let create = vec!["tidegate.east.audit.*".to_owned()];
    assert_eq!(config.stream, Some(StreamConfig { name: "EVENTS".to_owned(), create }));
    let password = Secret::new("s3cr3t");
    assert_eq!(config.credentials, Credentials::User { user: "gateway".to_owned(), password });
    assert_eq!(config.source, "https://gateway.example");
    let keys = "kind = \"nats\"\nurl = \"nats://a:1\"\nstream = \"EVENTS\"\ntoken_file = \"token\"";
    let config = nats(load(keys, &[("token", "t0ken")]).expect("the file is fine"));
    assert_eq!(config.credentials, Credentials::Token(Secret::new("t0ken")));
    assert_eq!(config.stream, Some(StreamConfig { name: "EVENTS".to_owned(), create: Vec::new() }));
}

#[test]
fn what_a_nats_sink_cannot_be() {
    check(
        &sink(
            "kind = \"nats\"\nurl = [\"nats://user:pw@a:1\", \"http://a\"]\nprefix = \"tidegate.\"\nstream = \"a.b\"\n\
             user = \"x\"\ntoken_env = \"T\"\nstreams = 1",
        ),
        "",
    );
    check(&sink("kind = \"nats\"\ncreate = true\nuser = \"x\""), "");
}

#[test]
fn credentials_that_are_none_are_refused_without_showing_them() {
    let keys = "kind = \"nats\"\nurl = \"nats://a:1\"\ncredentials_file = \"creds\"";
    let said = load(keys, &[("creds", "-----BEGIN s3cr3t")]).expect_err("refused");
    assert!(said.contains("this is not a credentials file of NATS") && !said.contains("s3cr3t"), "{said}");
    let keys = "kind = \"nats\"\nurl = \"nats://a:1\"\npassword_file = \"pw\"";
    let said = load(keys, &[("pw", "s3cr3t")]).expect_err("refused");
    assert!(said.contains("there is a password, and nobody whose it is") && !said.contains("s3cr3t"), "{said}");
}

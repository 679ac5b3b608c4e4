//! `token-auth`: who has a good token is let in, the authorization server is asked once for each, and whatever it does,
//! nobody else gets in.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate_tests::client::{Answer, Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;
use tidegate_tests::receiver::{Receiver, Reply};

use super::local;

const ID: &str = "gate way:1";
const SECRET: &str = "hunter+2 %ü:x";
/// Both as in a form, with the colon between them.
const CREDENTIALS: &str = "gate+way%3A1:hunter%2B2+%25%C3%BC%3Ax";

/// An authorization server that knows two tokens, and one that is over.
async fn server() -> Receiver {
    let server = Receiver::start().await;
    works(&server);
    server
}

fn works(server: &Receiver) {
    server.behave(|_, asked| {
        let said = match asked.body.strip_suffix(b"&token_type_hint=access_token") {
            Some(b"token=good") => r#"{"active": true, "sub": "ada", "scope": "read orders"}"#,
            Some(b"token=narrow") => r#"{"active": true, "sub": "bob", "scope": "read"}"#,
            Some(b"token=over") => r#"{"active": true, "sub": "ada", "scope": "orders", "exp": 1}"#,
            _ => r#"{"active": false}"#,
        };
        Reply::With(200, ("content-type", "application/json".to_owned()), said.to_owned())
    });
}

/// One instance, so that there is one cache.
fn guard(folder: &Path, server: &Receiver) -> PluginTable {
    let file = folder.join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("written");
    PluginTable::example("token-auth")
        .grant(&local(server.address()))
        .grant(&format!("secrets = [{{ name = 'introspection', file = '{}' }}]", file.display()))
        .config(&format!("url = 'http://{}/introspect'", server.address()))
        .config(&format!("client_id = '{ID}'"))
        .config("scope = 'orders'")
        .config("cache = 3600")
        .config("negative_cache = 3600")
}

fn guarded(origin: &Origin, guard: PluginTable) -> ConfigFile {
    ConfigFile::before(origin.address()).plugin(guard).route("/", &["token-auth"])
}

/// Ask with a token, and claim to be somebody.
async fn ask(client: &Client, token: &str) -> Answer {
    client.send(get("/", &[("authorization", &format!("Bearer {token}")), ("x-auth-subject", "root")])).await
}

#[tokio::test]
async fn a_good_token_passes_and_all_others_are_challenged() {
    let (origin, server, folder) = (Origin::start().await, server().await, tempfile::tempdir().expect("a folder"));
    let gateway = TestGateway::start(&guarded(&origin, guard(folder.path(), &server))).await;
    let client = gateway.client();
    let passed = ask(&client, "good").await;
    assert_eq!(passed.status, 200, "{}", gateway.log().text());
    let seen = &passed.json()["headers"];
    assert_eq!((&seen["x-auth-subject"], &seen["authorization"]), (&Value::from("ada"), &Value::Null));
    for (token, status, challenge) in [
        ("bad", 401, "Bearer realm=\"api\", error=\"invalid_token\""),
        ("over", 401, "Bearer realm=\"api\", error=\"invalid_token\""),
        ("narrow", 403, "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"orders\""),
        ("two words", 401, "Bearer realm=\"api\", error=\"invalid_request\""),
    ] {
        let refused = ask(&client, token).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (status, challenge), "{token}");
    }
    let refused = client.get("/").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer realm=\"api\""));
    assert_eq!(origin.requests(), 1, "it hears of the good one alone");

    let asked = server.received();
    assert_eq!(asked.len(), 4, "what is no token is asked for nowhere");
    assert_eq!((asked[0].target.as_str(), asked[0].header("accept")), ("/introspect", "application/json"));
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn what_was_said_of_a_token_is_remembered() {
    let (origin, server, folder) = (Origin::start().await, server().await, tempfile::tempdir().expect("a folder"));
    let gateway = TestGateway::start(&guarded(&origin, guard(folder.path(), &server))).await;
    let client = gateway.client();
    for _ in 0..20 {
        assert_eq!([ask(&client, "good").await.status, ask(&client, "bad").await.status], [200, 401]);
    }
    assert_eq!(server.counts().requests, 2);
    // A server that is down is missed by those alone who are new.
    server.behave(|_, _| Reply::Status(500));
    assert_eq!([ask(&client, "good").await.status, ask(&client, "bad").await.status], [200, 401]);
    assert_eq!(ask(&client, "narrow").await.status, 503);
    // Another version remembers nothing.
    works(&server);
    gateway.reload(&guarded(&origin, guard(folder.path(), &server).config("negative_cache = 0"))).await;
    for _ in 0..3 {
        assert_eq!([ask(&client, "good").await.status, ask(&client, "bad").await.status], [200, 401]);
    }
    assert_eq!(server.counts().requests, 3 + 1 + 3, "a bad one is asked for each time");
}

#[tokio::test]
async fn whatever_is_wrong_with_the_server_nobody_gets_in_until_it_works_again() {
    let (origin, server, folder) = (Origin::start().await, server().await, tempfile::tempdir().expect("a folder"));
    let config = guarded(&origin, guard(folder.path(), &server).limit("wall = '2s'").limit("cpu = '2s'"));
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    let yes = "{\"active\": true, \"sub\": \"ada\", \"scope\": \"orders\"";
    for wrong in [
        Reply::Status(500),
        Reply::With(401, ("x", String::new()), format!("{yes}}}")),
        Reply::With(302, ("location", "/introspect".to_owned()), format!("{yes}}}")),
        Reply::With(200, ("x", String::new()), yes.to_owned()),
        Reply::With(200, ("x", String::new()), "{\"active\": \"yes\"}".to_owned()),
        Reply::With(200, ("x", String::new()), format!("{yes}}}{}", " ".repeat(64 << 10))),
        Reply::Close,
        Reply::Endless(200),
        Reply::Stall(200),
        Reply::Never,
        Reply::After(Duration::from_secs(30), Box::new(Reply::Status(200))),
    ] {
        server.behave({
            let wrong = wrong.clone();
            move |_, _| wrong.clone()
        });
        let answer = ask(&client, "good").await;
        assert_eq!(answer.status, 503, "{wrong:?}");
        assert!(!answer.text().contains(&server.address().to_string()), "{}", answer.text());
    }
    // More errors in a row than there may be faults: an error is none, so nobody has to enable the plugin again.
    server.behave(|_, _| Reply::Status(503));
    for _ in 0..30 {
        assert_eq!(ask(&client, "good").await.status, 503);
    }
    assert_eq!(origin.requests(), 0);
    works(&server);
    gateway.until("it is let in", async || ask(&client, "good").await.status == 200).await;
    assert_eq!(gateway.calls("token-auth", "on-request", "wall").await, 0.0, "the plugin keeps its own time");
}

#[tokio::test]
async fn an_operator_may_let_all_in_and_still_nobody_is_whom_he_claims_to_be() {
    let (origin, server, folder) = (Origin::start().await, server().await, tempfile::tempdir().expect("a folder"));
    server.behave(|_, _| Reply::Close);
    let lenient = guard(folder.path(), &server).set("on_failure = 'open'");
    let gateway = TestGateway::start(&guarded(&origin, lenient)).await;
    let answer = ask(&gateway.client(), "good").await;
    assert_eq!((answer.status, &answer.json()["headers"]["x-auth-subject"]), (200, &Value::Null));
}

#[tokio::test]
async fn the_secret_reaches_the_server_and_shows_nowhere_else() {
    let (origin, server, folder) = (Origin::start().await, server().await, tempfile::tempdir().expect("a folder"));
    let config = guarded(&origin, guard(folder.path(), &server)).log("level = 'trace'");
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    assert_eq!([ask(&client, "good").await.status, ask(&client, "bad").await.status], [200, 401]);
    server.behave(|_, _| Reply::Close);
    assert_eq!(ask(&client, "narrow").await.status, 503);
    let basic = STANDARD.encode(CREDENTIALS);
    assert_eq!(server.received()[0].header("authorization"), format!("Basic {basic}"));

    let admin = Client::http1(gateway.admin());
    let mut said = gateway.plugin("token-auth").await.to_string();
    said.push_str(&admin.get("/metrics").await.text());
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0));
    said.push_str(ended.log.text());
    said.push_str(&ended.report().0.to_string());
    for secret in [SECRET, "hunter", CREDENTIALS, &basic, "Bearer good", "token=good"] {
        assert!(!said.contains(secret), "{secret} is told:\n{said}");
    }
}

//! Bodies that plugins ask for: gathered, replaced, refused, and never at another request's expense.

use std::time::Duration;

use tidegate_tests::client::{Client, RawClient, post};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

/// A plugin that does with bodies what the request says.
fn config(origin: &Origin) -> ConfigFile {
    let mut plugin = PluginTable::hostile("bodies").limit("body = '64KiB'");
    for hook in ["on_request", "on_request_body", "on_response", "on_response_body"] {
        plugin = plugin.config(&format!("{hook} = 'from-header'"));
    }
    ConfigFile::before(origin.address()).plugin(plugin).route("/", &["bodies"])
}

const READ_REQUEST: (&str, &str) = ("x-misbehave", "read-body");
const READ_RESPONSE: (&str, &str) = ("x-misbehave-response", "read-body");

#[tokio::test]
async fn request_bodies_are_replaced_with_the_right_length() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    for client in [Client::http1(gateway.address()), Client::http2(gateway.address())] {
        for (how, sent, seen) in [
            ("upper", "hello, world", "HELLO, WORLD"),
            ("echo-length", "hello, world", "12"),
            ("echo-length", "", "0"),
            ("forward", "hello, world", "hello, world"),
        ] {
            let fields = [READ_REQUEST, ("x-misbehave-request-body", how)];
            let answer = client.send(post("/", &fields, sent)).await;
            let said = answer.json();
            assert_eq!((answer.status, said["body"].as_str()), (200, Some(seen)), "{how}");
            // Nobody has to say that there is nothing.
            let length = said["headers"]["content-length"].as_str().unwrap_or("0");
            assert_eq!(length, seen.len().to_string(), "{how} of {sent:?}");
            assert!(said["headers"]["transfer-encoding"].is_null(), "{how}");
        }
    }
}

#[tokio::test]
async fn response_bodies_are_replaced_with_the_right_length() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    for client in [Client::http1(gateway.address()), Client::http2(gateway.address())] {
        for (how, sent, seen) in
            [("upper", "hello, world", "HELLO, WORLD"), ("echo-length", "hello", "5"), ("forward", "hello", "hello")]
        {
            let told = format!("body={sent}");
            let fields = [READ_RESPONSE, ("x-misbehave-response-body", how), ("x-origin", &told)];
            let answer = client.send(post("/", &fields, "")).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, seen), "{how}");
            assert_eq!(answer.header("content-length"), seen.len().to_string(), "{how}");
        }
    }
}

#[tokio::test]
async fn both_bodies_of_one_exchange_are_replaced() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    let fields = [
        READ_REQUEST,
        ("x-misbehave-request-body", "upper"),
        READ_RESPONSE,
        ("x-misbehave-response-body", "echo-length"),
    ];
    let client = gateway.client();
    let unchanged = client.send(post("/", &fields[..3], "twelve bytes")).await;
    assert_eq!(unchanged.json()["body"], "TWELVE BYTES");
    let replaced = client.send(post("/", &fields, "twelve bytes")).await;
    assert!(replaced.text().parse::<usize>().is_ok_and(|length| length > 100), "{}", replaced.text());
}

#[tokio::test]
async fn a_body_over_the_cap_is_a_413_and_its_instance_serves_on() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    let client = gateway.client();
    let fields = [READ_REQUEST, ("x-misbehave-request-body", "echo-length")];
    for (length, status) in [(64 << 10, 200), ((64 << 10) + 1, 413), (8 << 20, 413), (64 << 10, 200)] {
        for client in [Client::http1(gateway.address()), Client::http2(gateway.address())] {
            // The refusal may come before all is sent; there is an answer all the same.
            let answer = client.send(post("/", &fields, vec![b'x'; length])).await;
            assert_eq!(answer.status, status, "{length} bytes");
        }
    }
    // Without a plugin that asks for it, the same body streams by.
    let answer = client.send(post("/", &[("x-origin", "body=ok")], vec![b'x'; 8 << 20])).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(gateway.metric("tidegate_plugin_instances_retired_total{plugin=\"bodies\"}").await, 0.0);
    assert_eq!(gateway.calls("bodies", "on-request-body", "ok").await, 4.0);
}

#[tokio::test]
async fn a_body_that_never_ends_holds_no_instance_and_is_a_408_when_it_stalls() {
    let origin = Origin::start().await;
    // `instances = 1`: a single one that is held would be noticed by everybody.
    let gateway = TestGateway::start(&config(&origin).server("body_timeout = '3s'")).await;
    let head = "POST /slow HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\nx-misbehave: read-body\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect(gateway.address()).await.expect("accepted");
        client.send(head).await.expect("sent");
        client.send("x").await.expect("sent");
        slow.push(client);
    }
    gateway.until("all are in flight", async || gateway.metric("tidegate_requests_in_flight").await >= 20.0).await;
    let client = gateway.client();
    for n in 0..50 {
        let fields = [READ_REQUEST, ("x-misbehave-request-body", "upper")];
        let answer = client.send(post("/", &fields, format!("body {n}"))).await;
        assert_eq!(answer.json()["body"], format!("BODY {n}"));
    }
    let busy = "tidegate_plugin_instances{plugin=\"bodies\",generation=\"1\",state=\"busy\"}";
    assert_eq!(gateway.metric(busy).await, 0.0);
    assert_eq!(gateway.metric("tidegate_plugin_calls_waiting{plugin=\"bodies\"}").await, 0.0);
    for mut client in slow {
        assert_eq!(client.reply().await.expect("an answer").status, 408);
    }
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.calls("bodies", "on-request-body", "ok").await, 50.0, "the others never had a body");
}

#[tokio::test]
async fn a_byte_now_and_then_harms_nobody_and_gets_through_in_the_end() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin)).await;
    let mut slow = RawClient::connect(gateway.address()).await.expect("accepted");
    let head = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\nx-misbehave: read-body\r\n\
                x-misbehave-request-body: upper\r\n\r\n";
    slow.send(head).await.expect("sent");
    let client = gateway.client();
    for byte in *b"abcdefghij" {
        slow.send([byte]).await.expect("sent");
        // What others ask meanwhile passes the time between two bytes.
        for _ in 0..5 {
            let answer = client.send(post("/", &[READ_REQUEST, ("x-origin", "slow=10")], "x")).await;
            assert_eq!(answer.status, 200);
        }
    }
    let reply = slow.reply().await.expect("an answer");
    assert_eq!(reply.status, 200);
    assert!(String::from_utf8_lossy(&reply.body).contains("\"body\":\"ABCDEFGHIJ\""));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_body_that_never_ends() {
    let origin = Origin::start().await;
    let config = config(&origin).shutdown("drain = '300ms'");
    let mut gateway = TestGateway::start(&config).await;
    let mut slow = RawClient::connect(gateway.address()).await.expect("accepted");
    slow.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nx-misbehave: read-body\r\n\r\nx")
        .await
        .expect("sent");
    gateway.until("it is in flight", async || gateway.metric("tidegate_requests_in_flight").await >= 1.0).await;
    gateway.terminate();
    let ended = gateway.wait().await;
    assert!(slow.reply().await.is_err());
    assert_eq!((ended.code, ended.report().outcomes("bodies")), (Some(10), vec!["completed"]));
    assert_eq!(ended.report().number("/requests/cut"), 1);
    assert!(ended.took < Duration::from_secs(8), "{:?}", ended.took);
}

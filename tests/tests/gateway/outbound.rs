//! Requests that plugins make: to where they have been granted, within their calls, and never more than the gateway can
//! bear.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::client::get;
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway, tidegate};
use tidegate_tests::origin::{Origin, nobody};
use tidegate_tests::service::{Authority, Manner, Service};

const OK: Manner = Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

/// A grant of this address of this machine.
fn local(address: SocketAddr) -> String {
    format!("{{ origin = 'http://{address}', addresses = ['127.0.0.1/32'] }}")
}

/// The plugin that makes requests, with these grants.
fn caller(grants: &[String]) -> PluginTable {
    PluginTable::guest("caller").grant(&format!("http = [{}]", grants.join(", ")))
}

fn config(origin: &Origin, plugin: PluginTable) -> ConfigFile {
    ConfigFile::before(origin.address())
        .plugin(plugin)
        .plugin(PluginTable::example("stamp"))
        .route("/", &["caller"])
        .route("/ok", &["stamp"])
}

/// Have the plugin do something, and hear what became of it.
async fn told(gateway: &TestGateway, deed: Value) -> Vec<Value> {
    let answer = gateway.client().send(get("/", &[("x-call", &deed.to_string())])).await;
    assert_eq!(answer.status, 200, "{deed}: {}\n{}", answer.text(), gateway.log().text());
    answer.json().as_array().cloned().unwrap_or_default()
}

/// Have it make one request.
async fn make(gateway: &TestGateway, call: Value) -> Value {
    told(gateway, json!({ "make": call })).await.remove(0)
}

/// Requests that have ended like this.
async fn counted(gateway: &TestGateway, outcome: &str) -> f64 {
    let labels = format!("plugin=\"caller\",outcome=\"{outcome}\"");
    gateway.metric(&format!("tidegate_outbound_requests_total{{{labels}}}")).await
}

#[tokio::test]
async fn a_granted_request_is_made_and_carries_the_trace_of_the_exchange() {
    let (origin, service) = (Origin::start().await, Origin::start().await);
    let gateway = TestGateway::start(&config(&origin, caller(&[local(service.address())]))).await;
    let url = format!("http://{}/a?b=c", service.address());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ask = async |call: Value| {
        let deed = json!({ "make": call }).to_string();
        let trace = [("traceparent", trace), ("tracestate", "a=1"), ("x-request-id", "req-1")];
        let fields = [&[("x-call", &*deed), ("cookie", "secret=1")], &trace[..]].concat();
        let answer = gateway.client().send(get("/", &fields)).await;
        let became = answer.json()[0].clone();
        assert_eq!(became["status"], 200, "{became}");
        serde_json::from_str::<Value>(became["text"].as_str().unwrap_or_default()).unwrap_or_default()
    };
    let saw = ask(json!({ "url": url, "method": "POST", "body": 1_000, "headers": { "x-own": "1" } })).await;
    assert_eq!((&saw["method"], &saw["target"]), (&json!("POST"), &json!("/a?b=c")));
    assert_eq!(saw["body"].as_str().map(str::len), Some(1_000));
    let headers = &saw["headers"];
    assert_eq!(headers["host"], service.address().to_string());
    assert_eq!((&headers["traceparent"], &headers["tracestate"]), (&json!(trace), &json!("a=1")));
    assert_eq!((&headers["x-request-id"], &headers["x-own"]), (&json!("req-1"), &json!("1")));
    assert_eq!(headers["cookie"], Value::Null, "nothing else of the exchange goes out");
    let saw = ask(json!({ "url": url, "headers": { "traceparent": "of its own" } })).await;
    assert_eq!((&saw["headers"]["traceparent"], &saw["headers"]["tracestate"]), (&json!("of its own"), &Value::Null));
    assert_eq!(counted(&gateway, "ok").await, 2.0);
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn tls_works_with_an_authority_of_ones_own_and_not_without() {
    let (origin, authority) = (Origin::start().await, Authority::new());
    let service = Service::tls(OK, &authority, "secure.test").await;
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &authority.certificate).unwrap_or_else(|error| panic!("{error}"));
    let port = service.address().port();
    let grants = ["secure", "other"]
        .map(|host| format!("{{ origin = 'https://{host}.test:{port}', addresses = ['127.0.0.1/32'] }}"));
    let distrusting = config(&origin, caller(&grants))
        .outbound("hosts = { 'SECURE.test' = ['127.0.0.1'], 'other.test' = ['127.0.0.1'] }");
    let trusting = distrusting.clone().outbound(&format!("ca_file = '{}'", ca_file.display()));
    let secure = json!({ "url": format!("https://secure.test:{port}/") });

    let gateway = TestGateway::start(&trusting).await;
    let became = make(&gateway, secure.clone()).await;
    assert_eq!((&became["status"], &became["text"]), (&json!(200), &json!("ok")), "{became}");
    // The certificate is not for this name.
    let became = make(&gateway, json!({ "url": format!("https://other.test:{port}/") })).await;
    assert_eq!(became["error"], "ErrorCode::TlsCertificateError");
    assert_eq!(counted(&gateway, "tls").await, 1.0);
    drop(gateway);

    let gateway = TestGateway::start(&distrusting).await;
    assert_eq!(make(&gateway, secure).await["error"], "ErrorCode::TlsCertificateError");
}

#[tokio::test]
async fn what_has_not_been_granted_is_refused_and_the_log_says_what_would_allow_it() {
    let (origin, service) = (Origin::start().await, Service::start(OK).await);
    let elsewhere = local(nobody().await);
    let gateway = TestGateway::start(&config(&origin, caller(&[elsewhere]))).await;
    let url = format!("http://{}/secret-path", service.address());
    for _ in 0..20 {
        assert_eq!(make(&gateway, json!({ "url": url })).await["error"], "ErrorCode::HttpRequestDenied");
    }
    let key = format!("`http = [\\\"http://{}\\\"]`", service.address());
    gateway.until("the log says so", async || gateway.log().text().contains(&key)).await;
    let lines = gateway.log().text().lines().filter(|line| line.contains(&key)).count();
    assert!(lines < 20, "a flood of denials is not a flood of lines: {lines}");
    let log = gateway.log();
    let line = log.text().lines().find(|line| line.contains(&key)).unwrap_or_default();
    assert!(line.contains("\"plugin\":\"caller\"") && line.contains("\"hook\":\"on-request\""), "{line}");
    assert!(!log.text().contains("secret-path"));
    assert_eq!((service.seen().connections, gateway.get("/ok").await.status), (0, 200));
    assert_eq!(counted(&gateway, "denied").await, 20.0);
}

#[tokio::test]
async fn a_component_that_imports_http_needs_the_grant_and_an_empty_one_refuses_every_request() {
    let origin = Origin::start().await;
    let ended = TestGateway::spawn(&config(&origin, PluginTable::guest("caller"))).wait().await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.text().contains("grant it with `http = [\"https://api.example.com\"]`"), "{}", ended.log.text());

    let service = Service::start(OK).await;
    let gateway = TestGateway::start(&config(&origin, caller(&[]))).await;
    let became = make(&gateway, json!({ "url": format!("http://{}", service.address()) })).await;
    assert_eq!((&became["error"], service.seen().connections), (&json!("ErrorCode::HttpRequestDenied"), 0));
}

#[tokio::test]
async fn a_granted_name_does_not_lead_to_addresses_that_are_not_public() {
    let (origin, service) = (Origin::start().await, Service::start(OK).await);
    let port = service.address().port();
    let names = ["inside", "metadata", "mapped"].map(|name| format!("'http://{name}.test:{port}'"));
    let hosts = "hosts = { 'inside.test' = ['127.0.0.1', '::1'], 'metadata.test' = ['169.254.169.254', 'fd00:ec2::254'], \
                 'mapped.test' = ['::ffff:127.0.0.1', '::ffff:10.0.0.1'] }";
    let gateway = TestGateway::start(&config(&origin, caller(&names)).outbound(hosts)).await;
    for name in ["inside", "metadata", "mapped"] {
        let became = make(&gateway, json!({ "url": format!("http://{name}.test:{port}/") })).await;
        assert_eq!(became["error"], "ErrorCode::DestinationIpProhibited", "{name}");
    }
    assert_eq!(service.seen().connections, 0);
    assert_eq!(counted(&gateway, "address-prohibited").await, 3.0);
}

#[tokio::test]
async fn a_redirect_is_handed_to_the_plugin_as_it_is() {
    let (origin, secret) = (Origin::start().await, Service::start(OK).await);
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n";
    let service = Service::start(Manner::Says(moved)).await;
    let gateway = TestGateway::start(&config(&origin, caller(&[local(service.address())]))).await;
    let became = make(&gateway, json!({ "url": format!("http://{}", service.address()) })).await;
    assert_eq!(
        (&became["status"], &became["headers"]["location"]),
        (&json!(302), &json!("http://169.254.169.254/latest"))
    );
    assert_eq!((service.seen().connections, secret.seen().connections), (1, 0));
}

#[tokio::test]
async fn an_answer_without_end_costs_no_more_than_its_limit() {
    const GIGABYTE: usize = 1 << 30;
    let (origin, service) = (Origin::start().await, Service::start(Manner::Floods(GIGABYTE)).await);
    let plugin = caller(&[local(service.address())]).limit("memory = '64MiB'");
    let gateway = TestGateway::start(&config(&origin, plugin)).await;
    let url = format!("http://{}", service.address());
    // One that lets go early, before memory is measured.
    let became = make(&gateway, json!({ "url": url, "read": 100 })).await;
    assert_eq!((&became["status"], &became["error"]), (&json!(200), &Value::Null));
    let before = gateway.resident();
    let became = make(&gateway, json!({ "url": url })).await;
    assert_eq!(became["error"], "ErrorCode::HttpResponseBodySize(Some(8388608))");
    assert!(became["bytes"].as_u64().is_some_and(|bytes| bytes <= 8 << 20), "{became}");
    service.is_left_alone().await;
    // What the kernel has in its buffers has been sent as well.
    assert!(service.seen().sent < 64 << 20, "{:?}", service.seen());
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "the gateway has grown by {grown} bytes");
    assert_eq!(counted(&gateway, "too-large").await, 1.0);
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    for manner in [Manner::EndlessHead, Manner::EndlessInterim] {
        let (origin, service) = (Origin::start().await, Service::start(manner).await);
        let plugin = caller(&[local(service.address())]).limit("wall = '2s'").limit("cpu = '2s'");
        let gateway = TestGateway::start(&config(&origin, plugin)).await;
        let call = json!({ "make": { "url": format!("http://{}", service.address()) } }).to_string();
        let answer = gateway.client().send(get("/", &[("x-call", &call)])).await;
        match manner {
            Manner::EndlessHead => {
                assert_eq!(answer.json()[0]["error"], "ErrorCode::HttpResponseHeaderSectionSize(Some(65536))");
            }
            // Each of them is in order; so it is the call that ends.
            _ => assert_eq!(answer.status, 503),
        }
        service.is_left_alone().await;
    }
}

#[tokio::test]
async fn a_service_that_stalls_costs_the_call_its_time_and_nobody_else_anything() {
    for manner in [Manner::Stalls, Manner::StallsInBody] {
        let (origin, service) = (Origin::start().await, Service::start(manner).await);
        let plugin = caller(&[local(service.address())]).limit("wall = '500ms'").limit("cpu = '500ms'");
        let gateway = TestGateway::start(&config(&origin, plugin)).await;
        let call = json!({ "make": { "url": format!("http://{}", service.address()) } }).to_string();
        let answer = gateway.client().send(get("/", &[("x-call", &call)])).await;
        assert_eq!(answer.status, 503);
        service.is_left_alone().await;
        assert_eq!(gateway.calls("caller", "on-request", "wall").await, 1.0);
        let retired = "tidegate_plugin_instances_retired_total{plugin=\"caller\"}";
        assert_eq!(gateway.metric(retired).await, 1.0);
        let cpu = gateway.metric("tidegate_plugin_cpu_seconds_total{plugin=\"caller\",hook=\"on-request\"}").await;
        assert!(cpu < 0.4, "waiting is no CPU time: {cpu}");
        gateway.until("the request has been given up", async || counted(&gateway, "given-up").await == 1.0).await;
        let in_flight = gateway.metric("tidegate_outbound_requests_in_flight{plugin=\"caller\"}").await;
        assert_eq!((in_flight, gateway.get("/").await.status, gateway.get("/ok").await.status), (0.0, 200, 200));
    }
}

#[tokio::test]
async fn the_time_limits_of_the_plugin_hold() {
    let (origin, stalls) = (Origin::start().await, Service::start(Manner::Stalls).await);
    let stalls_later = Service::start(Manner::StallsInBody).await;
    let grants = [local(stalls.address()), local(stalls_later.address())];
    let gateway = TestGateway::start(&config(&origin, caller(&grants))).await;
    let became = make(&gateway, json!({ "url": format!("http://{}", stalls.address()), "first_byte_ms": 50 })).await;
    assert_eq!(became["error"], "ErrorCode::HttpResponseTimeout");
    let url = format!("http://{}", stalls_later.address());
    let became = make(&gateway, json!({ "url": url, "between_bytes_ms": 50 })).await;
    assert_eq!(
        (&became["error"], &became["text"]),
        (&json!("ErrorCode::ConnectionReadTimeout"), &json!("the first piece"))
    );
    stalls.is_left_alone().await;
    stalls_later.is_left_alone().await;
    assert_eq!(counted(&gateway, "timeout").await, 2.0);
}

#[tokio::test]
async fn a_plugin_that_waits_for_a_service_while_it_is_stopped_ends_in_time() {
    let (origin, service) = (Origin::start().await, Service::start(Manner::Stalls).await);
    let shutdown = format!("shutdown = {{ url = 'http://{}' }}", service.address());
    let plugin = caller(&[local(service.address())]).config(&shutdown).limit("shutdown = '500ms'");
    let gateway = TestGateway::start(&config(&origin, plugin)).await;
    let ended = gateway.stop().await;
    assert_eq!((ended.code, ended.report().outcomes("caller")), (Some(11), vec!["overran"]), "{}", ended.log.text());
    assert!(ended.took < Duration::from_secs(15), "{:?}", ended.took);
    assert_eq!(service.seen().connections, 1);
    service.is_left_alone().await;
}

#[tokio::test]
async fn a_plugin_may_make_its_last_requests_when_it_is_stopped() {
    let (origin, service) = (Origin::start().await, Service::start(OK).await);
    let shutdown = format!("shutdown = {{ url = 'http://{}' }}", service.address());
    let plugin = caller(&[local(service.address())]).config(&shutdown);
    let ended = TestGateway::start(&config(&origin, plugin)).await.stop().await;
    assert_eq!((ended.code, service.seen().connections), (Some(0), 1), "{}", ended.log.text());
}

#[tokio::test]
async fn what_a_call_leaves_running_ends_with_it() {
    let (origin, stalls) = (Origin::start().await, Service::start(Manner::Stalls).await);
    let floods = Service::start(Manner::Floods(1 << 30)).await;
    let grants = [local(stalls.address()), local(floods.address())];
    let gateway = TestGateway::start(&config(&origin, caller(&grants))).await;
    told(&gateway, json!({ "leave-body": { "url": format!("http://{}", floods.address()) } })).await;
    floods.is_left_alone().await;
    assert_eq!(floods.seen().connections, 1);
    // A body of this length is written only once there is a connection.
    let call = json!({ "url": format!("http://{}", stalls.address()), "method": "POST", "body": 300_000 });
    told(&gateway, json!({ "leave": call })).await;
    stalls.is_left_alone().await;
    assert_eq!(stalls.seen().connections, 1);
    // The same instance goes on, and what it kept is of no use to it.
    let became = told(&gateway, json!("resume")).await;
    let errors: Vec<&Value> = became.iter().map(|became| &became["error"]).collect();
    assert_eq!(errors, ["ErrorCode::ConnectionTerminated"; 2], "{became:?}");
    assert_eq!(counted(&gateway, "given-up").await, 2.0);
    assert!(floods.seen().sent < 32 << 20, "{:?}", floods.seen());
}

#[tokio::test]
async fn a_flood_of_requests_is_bounded() {
    let (origin, stalls) = (Origin::start().await, Service::start(Manner::Stalls).await);
    let fast = Service::start(OK).await;
    let plugin = caller(&[local(stalls.address()), local(fast.address())]).limit("wall = '2s'").limit("cpu = '2s'");
    let gateway = TestGateway::start(&config(&origin, plugin)).await;
    let url = format!("http://{}", stalls.address());
    let became = told(&gateway, json!({ "at-once": [50, { "url": url, "first_byte_ms": 300 }] })).await;
    let ended = |code: &str| became.iter().filter(|became| became["error"] == code).count();
    let (limit, timeout) = (ended("ErrorCode::ConnectionLimitReached"), ended("ErrorCode::HttpResponseTimeout"));
    assert_eq!((limit, timeout, stalls.seen().connections), (42, 8, 8), "{became:?}");
    // One after the other until its time is up: on few connections, and others are served.
    let call = json!({ "forever": { "url": format!("http://{}", fast.address()) } }).to_string();
    let client = gateway.client();
    let (answer, ok) = tokio::join!(client.send(get("/", &[("x-call", &call)])), gateway.get("/ok"));
    assert_eq!((answer.status, ok.status), (503, 200));
    assert!(fast.seen().connections <= 64, "{:?}", fast.seen());
    assert!(counted(&gateway, "ok").await > 1.0);
}

#[tokio::test]
async fn connections_of_all_calls_together_are_bounded() {
    let (origin, stalls) = (Origin::start().await, Service::start(Manner::Stalls).await);
    let plugin = caller(&[local(stalls.address())]).set("instances = 4");
    let gateway = TestGateway::start(&config(&origin, plugin).outbound("max_connections = 2")).await;
    let call = json!({ "url": format!("http://{}", stalls.address()), "first_byte_ms": 2_000 });
    let both = json!({ "at-once": [2, call] });
    let held = told(&gateway, both);
    let third = async {
        stalls.until("two are held", |seen| seen.open == 2).await;
        make(&gateway, call.clone()).await
    };
    let (held, third) = tokio::join!(held, third);
    assert_eq!(third["error"], "ErrorCode::ConnectionLimitReached");
    assert!(held.iter().all(|became| became["error"] == "ErrorCode::HttpResponseTimeout"), "{held:?}");
}

#[tokio::test]
async fn a_body_that_nobody_takes_does_not_pile_up() {
    let (origin, stalls) = (Origin::start().await, Service::start(Manner::Stalls).await);
    let plugin = caller(&[local(stalls.address())]).limit("wall = '1s'").limit("cpu = '1s'");
    let gateway = TestGateway::start(&config(&origin, plugin)).await;
    let before = gateway.resident();
    let call = json!({ "make": { "url": format!("http://{}", stalls.address()), "method": "POST", "body": 1 << 30 } });
    let answer = gateway.client().send(get("/", &[("x-call", &call.to_string())])).await;
    assert_eq!(answer.status, 503);
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "the gateway has grown by {grown} bytes");
    stalls.is_left_alone().await;
}

#[tokio::test]
async fn nobody_listening_is_a_refused_connection_and_nonsense_is_not_http() {
    let (origin, silent) = (Origin::start().await, nobody().await);
    let nonsense = Service::start(Manner::Says("SSH-2.0-OpenSSH_9.6\r\n\r\n")).await;
    let gateway = TestGateway::start(&config(&origin, caller(&[local(silent), local(nonsense.address())]))).await;
    let became = make(&gateway, json!({ "url": format!("http://{silent}") })).await;
    assert_eq!(became["error"], "ErrorCode::ConnectionRefused");
    let became = make(&gateway, json!({ "url": format!("http://{}", nonsense.address()) })).await;
    assert_eq!(became["error"], "ErrorCode::HttpProtocolError");
    // Fields that are about the connection are the host's.
    for name in ["host", "connection", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive"] {
        let became = make(&gateway, json!({ "url": format!("http://{silent}"), "headers": { name: "x" } })).await;
        assert_eq!(became["error"], "HeaderError::Forbidden", "{name}");
    }
    let long = json!({ "make": { "url": format!("http://{silent}"), "field": 70_000 } }).to_string();
    assert_eq!(gateway.client().send(get("/", &[("x-call", &long)])).await.status, 503);
    assert_eq!(gateway.calls("caller", "on-request", "refused").await, 1.0);
    for url in ["http://me:secret@127.0.0.1/", "gopher://127.0.0.1/"] {
        let became = make(&gateway, json!({ "url": url })).await;
        assert!(became["error"].as_str().is_some_and(|error| error.starts_with("ErrorCode::Http")), "{url}: {became}");
    }
}

#[tokio::test]
async fn a_check_makes_no_request() {
    let (origin, service) = (Origin::start().await, Service::start(OK).await);
    let configure = format!("configure = {{ url = 'http://{}' }}", service.address());
    let plugin = caller(&[local(service.address())]).config(&configure);
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let file = config(&origin, plugin.clone()).written(folder.path());
    let output = tidegate(&["check", "--config", &file.display().to_string()]).await;
    assert_eq!((output.code, service.seen().connections), (Some(2), 0));
    assert!(output.stderr.contains("HttpRequestDenied"), "{}", output.stderr);
    // And a gateway that starts does.
    let gateway = TestGateway::start(&config(&origin, plugin)).await;
    assert_eq!(service.seen().connections, 1);
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn grants_change_with_the_plugin_and_what_is_for_all_of_them_needs_a_restart() {
    let (origin, first) = (Origin::start().await, Service::start(OK).await);
    let second = Service::start(OK).await;
    let gateway = TestGateway::start(&config(&origin, caller(&[local(first.address())]))).await;
    let (to_first, to_second) = (format!("http://{}", first.address()), format!("http://{}", second.address()));
    assert_eq!(make(&gateway, json!({ "url": to_first })).await["text"], "ok");
    let changed = config(&origin, caller(&[local(second.address())])).outbound("max_requests = 4");
    let reloaded = gateway.reload(&changed).await;
    assert_eq!((&reloaded["started"], &reloaded["needs_restart"]), (&json!(["caller"]), &json!(["outbound"])));
    // Its connections went with the former version.
    first.is_left_alone().await;
    assert_eq!(make(&gateway, json!({ "url": to_first })).await["error"], "ErrorCode::HttpRequestDenied");
    assert_eq!(make(&gateway, json!({ "url": to_second })).await["text"], "ok");
    assert_eq!(counted(&gateway, "ok").await, 2.0, "versions are counted together");
}

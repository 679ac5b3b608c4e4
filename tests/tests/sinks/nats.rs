//! NATS, by servers of the tests' own.

use std::sync::Arc;
use std::time::Duration;

use tidegate_outbox::event::Event;
use tidegate_outbox::sink::Problem;
use tidegate_outbox::sink::nats::{Credentials, Nats, NatsConfig, StreamConfig};
use tidegate_outbox::sink::secret::Secret;
use tidegate_outbox::sink::tls::Authorities;
use tidegate_tests::nats::{NatsServer, Way, header};
use tidegate_tests::receiver::certificates;

use crate::{AMPLE, SHORT, absence, deliver, event, events, fails, refusal};

fn config(url: &str) -> NatsConfig {
    NatsConfig {
        servers: vec![url.to_owned()],
        prefix: None,
        credentials: Credentials::None,
        authorities: None,
        stream: None,
        timeout: AMPLE,
        source: String::new(),
    }
}

fn sink(config: NatsConfig) -> Nats {
    Nats::new(config).unwrap_or_else(|error| panic!("{error}"))
}

fn stream(name: &str, create: &[&str]) -> Option<StreamConfig> {
    Some(StreamConfig { name: name.to_owned(), create: create.iter().map(|subject| (*subject).to_owned()).collect() })
}

/// Deliver these, with as many attempts as it takes: a server that is busy answers later than a sink waits which waits for
/// as short a time as a test does.
async fn deliver_at_last(sink: &Nats, events: &[Arc<Event>]) {
    let delivered = async { while deliver(sink, events).await.is_err() {} };
    tokio::time::timeout(AMPLE, delivered).await.unwrap_or_else(|_| panic!("it is never delivered"));
}

/// What is said at last of these, which are never delivered: the same.
async fn absence_at_last(sink: &Nats, events: &[Arc<Event>], says: &[&str]) -> String {
    let absence = async {
        loop {
            let said = absence(sink, events).await;
            if says.iter().all(|text| said.contains(text)) {
                break said;
            }
        }
    };
    tokio::time::timeout(AMPLE, absence).await.unwrap_or_else(|_| panic!("none says {says:?}"))
}

/// The ids in a stream, in its order: the numbers of the events.
async fn ids(server: &NatsServer, stream: &str) -> Vec<u128> {
    let id = |message: &_| header(message, "Nats-Msg-Id").parse::<uuid::Uuid>().map(|id| id.as_u128());
    server.stored(stream).await.iter().map(|message| id(message).unwrap_or(u128::MAX)).collect()
}

#[tokio::test]
async fn an_event_is_stored_with_its_id_and_the_headers_of_a_cloud_event() {
    let Some(server) = NatsServer::start().await else { return };
    server.make_stream("EVENTS", &["tidegate.>"]).await;
    let sink = sink(NatsConfig { prefix: Some("tidegate".into()), ..config(&server.url()) });
    deliver(&sink, &events(&[Some("käthe")])).await.unwrap_or_else(|error| panic!("{error}"));
    let [stored] = server.stored("EVENTS").await.try_into().unwrap_or_else(|all| panic!("{all:?}"));
    assert_eq!(stored.subject.as_str(), "tidegate.audit.login");
    assert_eq!(stored.payload, "{\"number\":0}");
    for (name, value) in [
        ("Nats-Msg-Id", "00000000-0000-0000-0000-000000000000"),
        ("ce-specversion", "1.0"),
        ("ce-id", "00000000-0000-0000-0000-000000000000"),
        ("ce-source", "/plugins/audit"),
        ("ce-type", "audit.login"),
        ("ce-subject", "k%C3%A4the"),
        ("ce-time", "2026-09-21T14:13:20.123000Z"),
        ("ce-tenant", "blue%20%221%22"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(header(&stored, name), value, "{name}");
    }
    // Sent again, as after a crash: the stream knows the id.
    deliver(&sink, &events(&[Some("käthe")])).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&server, "EVENTS").await, [0]);
}

#[tokio::test]
async fn a_stream_is_made_if_that_was_asked_for_and_made_again_if_it_goes() {
    let Some(server) = NatsServer::start().await else { return };
    let sink = sink(NatsConfig { stream: stream("EVENTS", &["audit.>"]), ..config(&server.url()) });
    deliver(&sink, &events(&[None])).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&server, "EVENTS").await, [0]);
    let context = server.jetstream().await;
    let made = context.get_stream("EVENTS").await.unwrap_or_else(|error| panic!("{error}"));
    let config = &made.cached_info().config;
    assert_eq!(config.storage, async_nats::jetstream::stream::StorageType::File);
    assert_eq!(config.duplicate_window, Duration::from_secs(600));
    context.delete_stream("EVENTS").await.unwrap_or_else(|error| panic!("{error}"));
    let said = absence(&sink, &events(&[None])).await;
    assert!(said.contains("no stream takes the subject `audit.login`"), "{said}");
    deliver(&sink, &events(&[None])).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&server, "EVENTS").await, [0]);
}

#[tokio::test]
async fn without_a_stream_for_the_subject_the_error_says_what_to_do() {
    let Some(server) = NatsServer::start().await else { return };
    let one = events(&[None]);
    let said = absence(&sink(config(&server.url())), &one).await;
    assert!(said.contains("no stream takes the subject `audit.login`") && said.contains("create = true"), "{said}");
    server.make_stream("OTHER", &["audit.*"]).await;
    let expecting = sink(NatsConfig { stream: stream("EVENTS", &[]), ..config(&server.url()) });
    let said = absence(&expecting, &one).await;
    assert!(said.contains("another stream than `EVENTS` takes the subject `audit.login`"), "{said}");
    let clashing = sink(NatsConfig { stream: stream("EVENTS", &["audit.>"]), ..config(&server.url()) });
    let said = absence(&clashing, &one).await;
    assert!(said.contains("the stream `EVENTS` cannot be made") && said.contains("overlap"), "{said}");
    let name = "no.such.name";
    let misnamed = sink(NatsConfig { stream: stream(name, &["x.>"]), ..config(&server.url()) });
    let said = absence(&misnamed, &one).await;
    assert!(said.contains(name), "{said}");
}

#[tokio::test]
async fn a_server_that_comes_back_gets_what_was_missing_in_order_and_once() {
    let Some(mut server) = NatsServer::start().await else { return };
    let sink =
        sink(NatsConfig { stream: stream("EVENTS", &["audit.>"]), timeout: SHORT * 10, ..config(&server.url()) });
    let all = events(&[Some("a"); 40]);
    let (before, after) = all.split_at(10);
    deliver(&sink, before).await.unwrap_or_else(|error| panic!("{error}"));
    server.kill();
    let said = absence(&sink, after).await;
    assert!(said.contains("no connection to the server") || said.contains("no acknowledgement"), "{said}");
    server.restart().await;
    // What was sent and not acknowledged goes again.
    deliver_at_last(&sink, all.get(8..).unwrap_or_default()).await;
    assert_eq!(ids(&server, "EVENTS").await, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn acknowledgements_that_do_not_come_are_waited_for_no_longer_than_said() {
    let Some(server) = NatsServer::start().await else { return };
    let sink = sink(NatsConfig { stream: stream("EVENTS", &["audit.>"]), timeout: SHORT, ..config(&server.url()) });
    let some = events(&[Some("a"), Some("b"), Some("a")]);
    deliver_at_last(&sink, some.get(..1).unwrap_or_default()).await;
    server.freeze();
    let (delivered, problem) = fails(&sink, some.get(1..).unwrap_or_default()).await;
    assert_eq!((delivered, problem), (0, Problem::Unreachable("no acknowledgement".into())));
    server.thaw();
    deliver_at_last(&sink, some.get(1..).unwrap_or_default()).await;
    assert_eq!(ids(&server, "EVENTS").await.len(), 3);
}

#[tokio::test]
async fn many_events_of_few_keys_keep_the_order_of_each_key() {
    let Some(server) = NatsServer::start().await else { return };
    let sink = sink(NatsConfig { stream: stream("EVENTS", &["audit.>"]), ..config(&server.url()) });
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let keys: Vec<_> = (0..600).map(|number: usize| names.get(number * number % names.len()).copied()).collect();
    deliver(&sink, &events(&keys)).await.unwrap_or_else(|error| panic!("{error}"));
    let stored = server.stored("EVENTS").await;
    assert_eq!(stored.len(), 600);
    for key in names {
        let of_key = stored.iter().filter(|message| header(message, "ce-subject") == key);
        let ids: Vec<_> = of_key.map(|message| header(message, "ce-id").to_owned()).collect();
        assert!(ids.is_sorted(), "{key}: {ids:?}");
    }
}

#[tokio::test]
async fn what_the_server_does_not_take_is_refused_and_nothing_else() {
    let Some(server) = NatsServer::start_with(Way::of("max_payload: 2000\n")).await else { return };
    let sink = sink(NatsConfig { stream: stream("EVENTS", &["audit.>"]), ..config(&server.url()) });
    deliver(&sink, &events(&[None])).await.unwrap_or_else(|error| panic!("{error}"));
    let long = Event { body: vec![b'x'; 3_000].into(), ..event(7, None) };
    assert_eq!(refusal(&sink, &[long.into()]).await, "longer than the server's `max_payload`");
    let injected = Event { content_type: Some("a\r\nNats-Expected-Stream: OTHER".into()), ..event(8, None) };
    let said = refusal(&sink, &[injected.into()]).await;
    assert!(said.contains("content-type"), "{said}");
    deliver(&sink, &events(&[None, None])).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&server, "EVENTS").await, [0, 1]);
}

#[tokio::test]
async fn a_full_stream_makes_events_wait() {
    let Some(server) = NatsServer::start().await else { return };
    let config_of_stream = async_nats::jetstream::stream::Config {
        name: "EVENTS".into(),
        subjects: vec!["audit.>".into()],
        max_messages: 2,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        ..Default::default()
    };
    let made = server.jetstream().await.create_stream(config_of_stream).await;
    made.unwrap_or_else(|error| panic!("{error}"));
    let sink = sink(config(&server.url()));
    let (delivered, problem) = fails(&sink, &events(&[Some("a"); 4])).await;
    assert_eq!(delivered, 2);
    assert!(
        matches!(&problem, Problem::Unreachable(said) if said.contains("maximum messages exceeded")),
        "{problem:?}"
    );
}

#[tokio::test]
async fn passwords_and_tokens_let_in_and_the_server_says_who_is_not() {
    for (lines, right, wrong) in [
        (
            "authorization: { user: gateway, password: s3cr3t }\n",
            Credentials::User { user: "gateway".into(), password: Secret::new("s3cr3t") },
            Credentials::User { user: "gateway".into(), password: Secret::new("wr0ng") },
        ),
        ("authorization: { token: s3cr3t }\n", Credentials::Token(Secret::new("s3cr3t")), Credentials::None),
    ] {
        let Some(server) = NatsServer::start_with(Way::of(lines)).await else { return };
        let with = |credentials, timeout| {
            let stream = stream("EVENTS", &["audit.>"]);
            sink(NatsConfig { credentials, stream, timeout, ..config(&server.url()) })
        };
        deliver(&with(right, AMPLE), &events(&[None])).await.unwrap_or_else(|error| panic!("{error}"));
        let says = ["no connection to the server: ", "authorization violation"];
        let said = absence_at_last(&with(wrong, SHORT), &events(&[None]), &says).await;
        assert!(!said.contains("s3cr3t") && !said.contains("wr0ng"), "{said}");
    }
}

#[tokio::test]
async fn a_subject_that_is_not_permitted_is_named() {
    let lines = "authorization: { users: [
        { user: gateway, password: pw, permissions: { publish: { deny: \"audit.>\" } } },
        { user: admin, password: pw } ] }\n";
    let Some(server) = NatsServer::start_with(Way::of(lines)).await else { return };
    let credentials = Credentials::User { user: "gateway".into(), password: Secret::new("pw") };
    let sink = sink(NatsConfig { credentials, timeout: SHORT, ..config(&server.url()) });
    absence_at_last(&sink, &events(&[None]), &["Permissions Violation", "audit.login"]).await;
}

#[tokio::test]
async fn over_tls_the_named_authority_alone_is_trusted() {
    let certificates = certificates();
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{error}"));
        file.display().to_string()
    };
    let (certificate, key) = (file("cert", &certificates.certificate_pem), file("key", &certificates.key_pem));
    let lines = format!("tls: {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}\n");
    let Some(server) = NatsServer::start_with(Way::of(&lines)).await else { return };
    let with = |pem: &str, timeout| {
        let authorities = Authorities::from_pem(pem.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        sink(NatsConfig {
            authorities: Some(authorities),
            timeout,
            stream: stream("EVENTS", &["audit.>"]),
            ..config(&server.url())
        })
    };
    deliver(&with(&certificates.authority, AMPLE), &events(&[None])).await.unwrap_or_else(|error| panic!("{error}"));
    let another = tidegate_tests::receiver::certificates().authority;
    let said = absence(&with(&another, SHORT), &events(&[None])).await;
    assert!(said.contains("no connection to the server"), "{said}");
}

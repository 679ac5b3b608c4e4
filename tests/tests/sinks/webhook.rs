//! Webhooks, over TCP and TLS.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use tidegate_outbox::event::Event;
use tidegate_outbox::sink::Problem;
use tidegate_outbox::sink::secret::Secret;
use tidegate_outbox::sink::tls::Authorities;
use tidegate_outbox::sink::webhook::{SigningKey, Webhook, WebhookConfig};
use tidegate_tests::origin::nobody;
use tidegate_tests::receiver::{Received, Receiver, Reply, certificates};

use crate::{AMPLE, SHORT, absence, deliver, event, events, fails, refusal};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
const OTHER_KEY: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4";

fn config(url: &str) -> WebhookConfig {
    WebhookConfig {
        url: url.parse().unwrap_or_else(|error| panic!("{url}: {error}")),
        keys: Vec::new(),
        authorization: None,
        headers: HeaderMap::new(),
        authorities: None,
        timeout: AMPLE,
        concurrency: 4,
        source: String::new(),
    }
}

fn sink(config: WebhookConfig) -> Webhook {
    Webhook::new(config).unwrap_or_else(|error| panic!("{error}"))
}

fn key(text: &str) -> SigningKey {
    SigningKey::parse(&format!("whsec_{text}")).unwrap_or_else(|error| panic!("{error}"))
}

/// The numbers of the events, in the order in which they came.
fn numbers(received: &[Received]) -> Vec<u64> {
    let number =
        |received: &Received| serde_json::from_slice::<serde_json::Value>(&received.body).ok()?["number"].as_u64();
    received.iter().map(|received| number(received).unwrap_or(u64::MAX)).collect()
}

#[tokio::test]
async fn an_event_arrives_as_a_cloud_event_with_signatures_of_every_key() {
    let receiver = Receiver::start().await;
    let mut config = WebhookConfig {
        keys: vec![key(KEY), key(OTHER_KEY)],
        authorization: Some(Secret::new("Bearer s3cr3t")),
        source: "https://gateway.example".into(),
        ..config(&receiver.url())
    };
    config.headers.insert("x-tenant", "blue".parse().unwrap_or_else(|error| panic!("{error}")));
    let sink = sink(config);
    deliver(&sink, &events(&[Some("käthe")])).await.unwrap_or_else(|error| panic!("{error}"));
    let [received] = receiver.received().try_into().unwrap_or_else(|all| panic!("{all:?}"));
    assert_eq!(received.target, "/events");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "00000000-0000-0000-0000-000000000000"),
        ("ce-source", "https://gateway.example/plugins/audit"),
        ("ce-type", "audit.login"),
        ("ce-subject", "k%C3%A4the"),
        ("ce-time", "2026-09-21T14:13:20.123000Z"),
        ("ce-tenant", "blue%20%221%22"),
        ("content-type", "application/json"),
        ("authorization", "Bearer s3cr3t"),
        ("x-tenant", "blue"),
        ("webhook-id", "00000000-0000-0000-0000-000000000000"),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    assert_eq!(received.body, "{\"number\":0}");
    assert!(received.is_signed_with(KEY) && received.is_signed_with(OTHER_KEY), "{received:?}");
    assert!(!received.is_signed_with("d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmct"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs()).unwrap_or_default();
    let signed: u64 = received.header("webhook-timestamp").parse().unwrap_or_else(|error| panic!("{error}"));
    assert!(now.abs_diff(signed) < 300, "libraries refuse what is older or newer than five minutes");
}

#[tokio::test]
async fn a_bare_event_has_no_fields_that_nobody_gave_it() {
    let receiver = Receiver::start().await;
    let bare = Event { key: None, content_type: None, attributes: Vec::new(), ..event(1, None) };
    deliver(&sink(config(&receiver.url())), &[bare.into()]).await.unwrap_or_else(|error| panic!("{error}"));
    let [received] = receiver.received().try_into().unwrap_or_else(|all| panic!("{all:?}"));
    for name in ["content-type", "ce-subject", "authorization", "webhook-id", "webhook-signature"] {
        assert_eq!(received.header(name), "", "{name}");
    }
    assert_eq!(received.header("ce-source"), "/plugins/audit");
}

#[tokio::test]
async fn a_certificate_is_accepted_of_the_named_authority_alone() {
    let receiver = Receiver::start_tls().await;
    let trusting = |pem: &str| Some(Authorities::from_pem(pem.as_bytes()).unwrap_or_else(|error| panic!("{error}")));
    let right = sink(WebhookConfig { authorities: trusting(receiver.authority()), ..config(&receiver.url()) });
    deliver(&right, &events(&[None, None])).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(receiver.counts().requests, 2);
    let another = certificates().authority;
    for authorities in [trusting(&another), None] {
        let wrong = sink(WebhookConfig { authorities, ..config(&receiver.url()) });
        let said = absence(&wrong, &events(&[None])).await;
        assert!(said.contains("certificate"), "{said}");
    }
    assert_eq!(receiver.counts().requests, 2);
}

#[tokio::test]
async fn events_of_a_key_arrive_one_after_the_other_and_keys_side_by_side() {
    let receiver = Receiver::start().await;
    // The first of each key take longest, so that whoever does not wait overtakes.
    receiver
        .behave(|before, _| Reply::After(Duration::from_millis(40 / (before as u64 + 1)), Reply::Status(200).into()));
    let sink = sink(config(&receiver.url()));
    let keys = ["a", "b", "a", "c", "b", "a", "a", "c", "b", "d", "e", "f"].map(Some);
    deliver(&sink, &events(&keys)).await.unwrap_or_else(|error| panic!("{error}"));
    let received = receiver.received();
    for key in ["a", "b", "c"] {
        let of_key: Vec<_> = received.iter().filter(|one| one.header("ce-subject") == key).cloned().collect();
        assert!(numbers(&of_key).is_sorted(), "{key}: {:?}", numbers(&of_key));
    }
    let counts = receiver.counts();
    assert_eq!(counts.requests, keys.len());
    assert!((2..=4).contains(&counts.most_under_way), "{counts:?}");
    assert!(counts.connections <= 4, "connections are used again: {counts:?}");
}

#[tokio::test]
async fn a_status_says_whether_the_event_or_the_receiver_is_the_matter() {
    let receiver = Receiver::start().await;
    let sink = sink(config(&receiver.url()));
    let one = events(&[None]);
    for status in [200, 201, 202, 204, 299] {
        receiver.behave(move |_, _| Reply::Status(status));
        deliver(&sink, &one).await.unwrap_or_else(|error| panic!("{status}: {error}"));
    }
    for status in [400, 401, 403, 404, 409, 410, 413, 422] {
        receiver.behave(move |_, _| {
            Reply::With(status, ("x-any", "thing".into()), "number is\r\n no number\x1b[31m".into())
        });
        let said = refusal(&sink, &one).await;
        assert!(said.starts_with(&format!("answered {status}")), "{said}");
        assert!(said.ends_with(": number is no number [31m"), "{said}");
    }
    for status in [408, 425, 429, 500, 502, 503, 504] {
        receiver.behave(move |_, _| Reply::Status(status));
        let said = absence(&sink, &one).await;
        assert!(said.starts_with(&format!("answered {status}")), "{said}");
    }
    receiver.behave(|_, _| Reply::With(503, ("retry-after", "7".into()), String::new()));
    let (_, problem) = fails(&sink, &one).await;
    let seven = Duration::from_secs(7);
    assert!(matches!(&problem, Problem::Later { after, .. } if *after == seven), "{problem:?}");
    // A receiver that would never be asked again.
    receiver.behave(|_, _| Reply::With(429, ("retry-after", "31536000".into()), String::new()));
    let (_, problem) = fails(&sink, &one).await;
    assert!(matches!(&problem, Problem::Later { after, .. } if *after == Duration::from_secs(600)), "{problem:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let location = elsewhere.url();
    receiver.behave(move |_, _| Reply::With(307, ("location", location.clone()), String::new()));
    let said = refusal(&sink(config(&receiver.url())), &events(&[None])).await;
    assert!(said.contains("redirects are not followed") && said.contains(&elsewhere.url()), "{said}");
    assert_eq!(elsewhere.counts().requests, 0);
}

#[tokio::test]
async fn who_is_not_there_or_too_slow_is_unreachable() {
    let one = events(&[None]);
    let gone = sink(config(&format!("http://{}/", nobody().await)));
    let said = absence(&gone, &one).await;
    assert!(said.contains("refused"), "{said}");
    let receiver = Receiver::start().await;
    let sink = sink(WebhookConfig { timeout: SHORT, ..config(&format!("{}?token=s3cr3t", receiver.url())) });
    receiver.behave(|_, _| Reply::Never);
    let said = absence(&sink, &one).await;
    assert_eq!(said, "no answer within 300ms");
    receiver.behave(|_, _| Reply::Close);
    let said = absence(&sink, &one).await;
    assert!(!said.contains("s3cr3t"), "{said}");
}

#[tokio::test]
async fn an_answer_without_an_end_costs_neither_memory_nor_time() {
    let receiver = Receiver::start().await;
    let sink = sink(config(&receiver.url()));
    let some = events(&[Some("a"), Some("a"), Some("a")]);
    for reply in [Reply::Endless(200), Reply::Stall(200)] {
        receiver.behave(move |_, _| reply.clone());
        deliver(&sink, &some).await.unwrap_or_else(|error| panic!("{error}"));
    }
    receiver.behave(move |_, _| Reply::Endless(422));
    let said = refusal(&sink, &some).await;
    assert!(said.len() < 300 && said.ends_with("xxx..."), "{said}");
    receiver.behave(|_, received| {
        let echo = format!("you sent {}", received.header("authorization"));
        Reply::With(400, ("x-any", "thing".into()), echo)
    });
    let sink =
        self::sink(WebhookConfig { authorization: Some(Secret::new("Bearer s3cr3t")), ..config(&receiver.url()) });
    let said = refusal(&sink, &some).await;
    assert!(said.ends_with("you sent .."), "{said}");
}

#[tokio::test]
async fn after_a_problem_only_what_has_not_arrived_is_sent_again() {
    let receiver = Receiver::start().await;
    let sink = sink(config(&receiver.url()));
    receiver.behave(|_, received| match received.header("ce-id") {
        id if id.ends_with('2') => Reply::Status(503),
        _ => Reply::Status(200),
    });
    let some = events(&[None, Some("a"), Some("b"), Some("a"), Some("b"), Some("c")]);
    let (delivered, _) = fails(&sink, &some).await;
    assert_eq!(delivered, 2);
    let first = receiver.received().len();
    receiver.behave(|_, _| Reply::Status(200));
    deliver(&sink, some.get(delivered..).unwrap_or_default()).await.unwrap_or_else(|error| panic!("{error}"));
    let mut arrived = numbers(&receiver.received());
    let of_b: Vec<_> = arrived.iter().copied().filter(|number| [2, 4].contains(number)).collect();
    assert_eq!(of_b, [2, 2, 4], "what has the same key waits");
    assert!(first < 6, "nothing more is begun after a problem");
    arrived.sort_unstable();
    assert_eq!(arrived, [0, 1, 2, 2, 3, 4, 5], "the one with the problem twice, the others once");
}

#[tokio::test]
async fn an_event_that_http_cannot_carry_is_refused() {
    let receiver = Receiver::start().await;
    let sink = sink(config(&receiver.url()));
    let with = |content_type: &str| [Event { content_type: Some(content_type.into()), ..event(1, None) }.into()];
    let said = refusal(&sink, &with("a\r\nx-injected: yes")).await;
    assert!(said.contains("content-type"), "{said}");
    let said = refusal(&sink, &with("application/cloudevents+json")).await;
    assert!(said.contains("structured mode"), "{said}");
    assert_eq!(receiver.counts().requests, 0);
}

//! What a gateway has recorded goes through a plugin once more.

use std::time::Duration;

use tidegate_testing::recording::{
    self, Content, RecordedBody, RecordedExchange, RecordedRequest, RecordedResponse, RecordingError,
};
use tidegate_testing::{Request, Setup};
use tidegate_tests::components;

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn field(name: &str, value: &str) -> (String, Content) {
    (name.to_owned(), text(value))
}

/// An exchange of the plugin `stamp`, as it goes now.
fn exchange(number: u64) -> RecordedExchange {
    let upstream = RecordedResponse {
        status: 200,
        headers: vec![field("content-type", "text/plain")],
        body: RecordedBody { content: text("hello"), ..RecordedBody::default() },
    };
    let mut plugin = stamp()
        .upstream({
            let upstream = upstream.response().expect("it is one");
            move |_| upstream.clone()
        })
        .load()
        .expect("it loads");
    let answer = plugin.send(Request::get(&format!("/{number}")));
    RecordedExchange {
        schema: recording::SCHEMA,
        id: format!("request-{number}"),
        plugins: vec!["stamp".to_owned()],
        refused: None,
        at_ms: 1_800_000_000_000 + number * 1_000,
        request: RecordedRequest {
            method: "GET".to_owned(),
            target: format!("/{number}"),
            headers: vec![field("cookie", recording::REDACTED)],
            body: RecordedBody::default(),
        },
        upstream: Some(upstream),
        answer: RecordedResponse {
            status: answer.status.as_u16(),
            headers: recording::record_fields(&answer.headers, &[]),
            body: RecordedBody { content: Content::from(&*answer.body), ..RecordedBody::default() },
        },
    }
}

fn stamp() -> Setup {
    Setup::new(components::plugin("stamp"))
}

#[test]
fn what_goes_as_it_went_has_no_differences_and_takes_the_time_it_took() {
    let exchanges: Vec<_> = (0..5).map(exchange).collect();
    let replayed = stamp().replay(&exchanges).expect("it loads");
    assert_eq!((replayed.exchanges, replayed.differences), (5, vec![]));
    assert!(replayed.plugin.now() >= Duration::from_secs(4), "{:?}", replayed.plugin.now());
}

#[test]
fn what_goes_differently_is_told_field_by_field() {
    let mut exchanges: Vec<_> = (0..2).map(exchange).collect();
    let answer = &mut exchanges[1].answer;
    answer.status = 201;
    answer.headers.push(field("x-before", "yes"));
    answer.headers.push(field("set-cookie", recording::REDACTED));
    answer.body.content = text("bye");
    let replayed = stamp().replay(&exchanges).expect("it loads");
    let [difference] = &*replayed.differences else { panic!("{:?}", replayed.differences) };
    let said = difference.to_string();
    assert_eq!(
        said,
        "GET /1 (request-1): status 200, and was 201; x-before is absent, and was yes; \
         a body of 5 bytes, and was another of 3"
    );
}

#[test]
fn a_recording_comes_back_as_it_was_written_and_one_that_is_broken_off_ends_before_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let exchanges: Vec<_> = (0..3).map(exchange).collect();
    let lines: Vec<String> =
        exchanges.iter().map(|exchange| serde_json::to_string(exchange).expect("it is JSON") + "\n").collect();
    std::fs::write(folder.path().join("exchanges-2.ndjson"), &lines[2]).expect("it is written");
    std::fs::write(folder.path().join("exchanges-1.ndjson"), lines[..2].concat() + &lines[2][..40]).expect("written");
    assert_eq!(recording::read(folder.path()).expect("it is read"), exchanges);
    let bytes = Content::from(&[0xff, 0x00, 0x41][..]);
    assert_eq!((&bytes, bytes.bytes()), (&Content::Hex("ff0041".to_owned()), Ok(vec![0xff, 0x00, 0x41])));
}

#[test]
fn a_line_without_an_end_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("exchanges-1.ndjson");
    let good = serde_json::to_string(&exchange(0)).expect("it is JSON") + "\n";
    std::fs::write(&file, &good).expect("it is written");
    // It has a hole: on the disk there is nothing of it.
    let hole = std::fs::OpenOptions::new().write(true).open(&file).expect("it is there");
    hole.set_len(1 << 36).expect("64 GiB of nothing");
    let said = recording::read(&file).expect_err("it is too long").to_string();
    assert!(said.ends_with("exchanges-1.ndjson:2: longer than 64 MiB"), "{said}");
}

#[test]
fn what_is_no_recording_is_an_error_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = recording::read(folder.path()).expect_err("there is nothing");
    assert!(matches!(error, RecordingError::Empty(_)), "{error}");
    let file = folder.path().join("exchanges-1.ndjson");
    let good = serde_json::to_string(&exchange(0)).expect("it is JSON");
    for (bad, says) in [
        ("{}", "missing field"),
        ("nonsense", "expected"),
        (&*good.replace("\"schema\":1", "\"schema\":9"), "schema 9"),
        (&*good.replace("\"method\":\"GET\"", "\"method\":\"G T\""), "method"),
        (&*good.replace("\"target\":\"/0\"", "\"target\":\"no path\""), "target"),
    ] {
        std::fs::write(&file, format!("{good}\n{bad}\n")).expect("it is written");
        let said = recording::read(&file).expect_err(bad).to_string();
        assert!(said.contains(":2: ") && said.contains(says), "{said}");
    }
}

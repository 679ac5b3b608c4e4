//! What a gateway keeps of its exchanges with `--record`, and what it does not keep.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tempfile::TempDir;
use tidegate_testing::recording::{self, BodyEnd, Content, REDACTED, RecordedExchange, Refused};
use tidegate_tests::client::{Client, get, post};
use tidegate_tests::gateway::{ConfigFile, PluginTable, Signal, StartingGateway, TestGateway};
use tidegate_tests::origin::{self, Origin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::secrets;

/// A gateway that records, and where.
pub(super) struct Recorded {
    pub(super) gateway: TestGateway,
    folder: TempDir,
}

impl Recorded {
    pub(super) async fn start(config: &ConfigFile, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let gateway = spawn(config, &folder.path().join("recording"), arguments).ready().await;
        Self { gateway, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("recording")
    }

    /// Stop it, and read what it has kept.
    async fn exchanges(self) -> Vec<RecordedExchange> {
        self.stop().await.1
    }

    /// The same, and where it is.
    pub(super) async fn stop(self) -> (TempDir, Vec<RecordedExchange>) {
        let path = self.path();
        let ended = self.gateway.stop().await;
        let exchanges = recording::read(path).expect("it can be read");
        let [said] = &ended.log.with(&[("message", "recording ended")])[..] else { panic!("{}", ended.log.text()) };
        assert_eq!(said["recorded"], exchanges.len(), "{said}");
        (self.folder, exchanges)
    }
}

fn spawn(config: &ConfigFile, folder: &Path, arguments: &[&str]) -> StartingGateway {
    TestGateway::spawn_as(config, |mut command| {
        command.arg("--record").arg(folder).args(arguments);
        command
    })
}

fn text(content: &Content) -> String {
    String::from_utf8(content.bytes().expect("it is well-formed")).expect("it is text")
}

fn field(headers: &[(String, Content)], name: &str) -> Option<String> {
    headers.iter().find(|(field, _)| field == name).map(|(_, value)| text(value))
}

/// Everything in the files of a folder.
fn written(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("it is read").path());
    // One that goes meanwhile is not there any more.
    files.map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect()
}

async fn through_stamp(origin: &Origin) -> ConfigFile {
    ConfigFile::before(origin.address()).plugin(PluginTable::example("stamp")).route("/", &["stamp"])
}

#[tokio::test]
async fn what_the_client_sent_what_the_upstream_answered_and_what_the_client_got_are_kept() {
    let origin = Origin::start().await;
    let recorded = Recorded::start(&through_stamp(&origin).await, &[]).await;
    let client = recorded.gateway.client();
    client.send(get("/a?b=c", &[("x-origin", "body=hello"), ("x-one", "1")])).await;
    client.send(post("/post", &[("x-origin", "body=thanks")], "some text")).await;
    client.send(post("/bytes", &[], &b"\xff\x00\xfe"[..])).await;
    let http2 = Client::http2(recorded.gateway.address());
    http2.send(post("/two", &[("x-origin", "body=two")], "over h2")).await;

    let exchanges = recorded.exchanges().await;
    let [plain, posted, bytes, two] = &exchanges[..] else { panic!("four: {exchanges:#?}") };
    assert_eq!((plain.request.method.as_str(), plain.request.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(plain.plugins, ["stamp"]);
    assert_eq!(field(&plain.request.headers, "x-one").as_deref(), Some("1"));
    assert_eq!(field(&plain.request.headers, "x-stamped-by"), None, "as the first plugin saw it");
    assert_eq!(field(&plain.request.headers, "x-request-id"), Some(plain.id.clone()));
    let upstream = plain.upstream.as_ref().expect("it was asked");
    assert_eq!((upstream.status, text(&upstream.body.content)), (200, "hello".to_owned()));
    assert_eq!(field(&upstream.headers, "x-stamped-by"), None, "as the upstream sent it");
    assert_eq!((plain.answer.status, text(&plain.answer.body.content)), (200, "hello".to_owned()));
    assert_eq!(field(&plain.answer.headers, "x-stamped-by").as_deref(), Some("tidegate"));
    assert_eq!(plain.refused, None);

    for (exchange, sent, got) in [(posted, "some text", "thanks"), (two, "over h2", "two")] {
        assert_eq!(exchange.request.method, "POST");
        let (request, answer) = (&exchange.request.body, &exchange.answer.body);
        assert_eq!((text(&request.content), text(&answer.content)), (sent.to_owned(), got.to_owned()));
        assert!(request.is_whole() && answer.is_whole(), "{exchange:#?}");
    }
    assert_eq!(bytes.request.body.content, Content::Hex("ff00fe".to_owned()));
}

#[tokio::test]
async fn of_a_long_body_the_beginning_is_kept_and_all_of_it_passes() {
    let origin = Origin::start().await;
    let recorded = Recorded::start(&through_stamp(&origin).await, &["--record-body", "16B"]).await;
    let long = "0123456789".repeat(100_000);
    let answer = recorded.gateway.client().send(post("/", &[], long.clone())).await;
    assert_eq!(answer.json()["body"], *long);
    let length = answer.body.len() as u64;

    let exchanges = recorded.exchanges().await;
    let [exchange] = &exchanges[..] else { panic!("one: {exchanges:#?}") };
    let body = &exchange.request.body;
    assert_eq!((text(&body.content).as_str(), body.length), ("0123456789012345", Some(1_000_000)));
    assert_eq!(body.end, BodyEnd::Reached);
    let bodies = [&exchange.upstream.as_ref().expect("it was asked").body, &exchange.answer.body];
    assert!(bodies.into_iter().all(|body| body.length == Some(length) && text(&body.content).len() == 16));
}

#[tokio::test]
async fn values_of_fields_that_are_not_to_be_kept_are_nowhere() {
    const SECRET: &str = "nobody-may-read-this";
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let recorded =
        Recorded::start(&config, &["--record-redact", "X-Session", "--record-redact", "x-more", "--record-body", "0B"])
            .await;
    let names = ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-session", "x-more", "set-cookie"];
    let fields: Vec<(&str, &str)> = names.into_iter().map(|name| (name, SECRET)).collect();
    recorded.gateway.client().send(get("/", &fields)).await;

    let (folder, exchanges) = recorded.stop().await;
    for name in names {
        assert_eq!(field(&exchanges[0].request.headers, name).as_deref(), Some(REDACTED), "{name}");
    }
    assert!(!written(&folder.path().join("recording")).contains(SECRET));
}

#[tokio::test]
async fn secrets_of_plugins_are_nowhere_whoever_sends_them() {
    let files = tempfile::tempdir().expect("a folder");
    let config = secrets::config(files.path()).await;
    let recorded = Recorded::start(&config, &[]).await;
    let client = recorded.gateway.client();
    for key in ["token", "key"] {
        assert_eq!(secrets::told(&client, "value", key).await.0, 200, "the answer has the secret");
    }
    let token = secrets::told(&client, "value", "token").await.1;
    let target = format!("/?token={token}");
    client.send(get(&target, &[("x-op", "value"), ("x-key", &token), ("x-bucket", "main")])).await;

    // What a reload brings is a secret from then on.
    const NEW: &str = "wrong-mule-capacitor-nail";
    std::fs::write(files.path().join("token"), NEW).expect("written");
    recorded.gateway.reload(&config).await;
    assert_eq!(secrets::told(&client, "value", "token").await, (200, NEW.to_owned()));

    let (folder, exchanges) = recorded.stop().await;
    assert!(!written(&folder.path().join("recording")).contains(NEW));
    assert_eq!(text(&exchanges[4].answer.body.content), "[secret token]");
    secrets::assert_clean("the recording", &written(&folder.path().join("recording")));
    assert_eq!(text(&exchanges[0].answer.body.content), "[secret token]");
    assert_eq!(exchanges[3].request.target, "/?token=[secret%20token]");
    assert_eq!(field(&exchanges[3].request.headers, "x-key").as_deref(), Some("[secret token]"));
}

#[tokio::test]
async fn a_plugin_s_reply_has_no_upstream_and_a_refusal_says_whose_it_is() {
    let config = ConfigFile::before(origin::nobody().await)
        .plugin(PluginTable::example("api-key").config("keys = ['sesame']"))
        .plugin(PluginTable::hostile("failing").config("on_request = 'from-header'"))
        .route("/keyed", &["api-key"])
        .route("/fails", &["failing"])
        .route("/", &[]);
    let recorded = Recorded::start(&config, &[]).await;
    let client = recorded.gateway.client();
    assert_eq!(client.send(post("/keyed", &[], "unread")).await.status, 401);
    assert_eq!(client.get("/down").await.status, 502);
    assert_eq!(client.send(get("/fails", &[("x-misbehave", "trap")])).await.status, 503);

    let exchanges = recorded.exchanges().await;
    let [replied, down, failed] = &exchanges[..] else { panic!("three: {exchanges:#?}") };
    assert_eq!((replied.answer.status, &replied.upstream, replied.refused), (401, &None, None));
    assert!(text(&replied.answer.body.content).contains("Unauthorized"));
    assert_eq!(replied.request.body.end, BodyEnd::NotReached, "nobody asked for it");
    assert_eq!((down.answer.status, &down.upstream, down.refused), (502, &None, Some(Refused::Upstream)));
    assert!(down.plugins.is_empty(), "{down:#?}");
    assert_eq!((failed.answer.status, &failed.upstream, failed.refused), (503, &None, Some(Refused::Plugin)));
}

#[tokio::test]
async fn the_oldest_exchanges_go_when_the_folder_is_full() {
    const LIMIT: u64 = 64 << 10;
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let recorded = Recorded::start(&config, &["--record-limit", "64KiB"]).await;
    let (client, path) = (recorded.gateway.client(), recorded.path());
    for number in 0..200 {
        client.send(get(&format!("/{number}"), &[("x-origin", "body=x")])).await;
        let files = std::fs::read_dir(&path).expect("the folder is there");
        let lengths = files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |about| about.len()));
        let bytes: u64 = lengths.sum();
        assert!(bytes <= LIMIT, "{bytes} bytes after {number}");
    }
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in std::fs::read_dir(&path).expect("the folder is there") {
        assert_eq!(mode(&file.expect("it is there").path()), 0o600);
    }
    let ended = recorded.gateway.stop().await;
    assert_eq!(ended.log.with(&[("message", "recording ended")])[0]["recorded"], 200);
    let kept = recording::read(&path).expect("it can be read");
    let targets: Vec<&str> = kept.iter().map(|exchange| exchange.request.target.as_str()).collect();
    let last: Vec<String> = (200 - kept.len()..200).map(|number| format!("/{number}")).collect();
    assert_eq!(targets, last);
    assert!(kept.len() > 20, "{}", kept.len());
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_of_at_the_start() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let refused = |folder: PathBuf| {
        let starting = spawn(&config, &folder, &[]);
        async move {
            let Err(ended) = starting.ready_or_ended().await else { panic!("it serves") };
            assert_eq!(ended.code, Some(2), "{}", ended.log.text());
            ended.log.text().to_owned()
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("it is written");
    let said = refused(file.join("recording")).await;
    assert!(said.contains("error: nothing can be recorded in ") && said.contains("hint: "), "{said}");

    let taken = folder.path().join("taken");
    let _first = spawn(&config, &taken, &[]).ready().await;
    let said = refused(taken).await;
    assert!(said.contains("error: another gateway records in ") && said.contains("hint: "), "{said}");
}

/// A file system of its own; `None`, with a reason on stdout, where there can be none.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("mount");
        let mounted = command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tidegate-test"]).arg(folder.path());
        match mounted.output() {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                println!("skipped: no small disk can be mounted here: {other:?}");
                None
            }
        }
    }

    fn resize(&self, size: &str) {
        let mut command = Command::new("mount");
        let status = command.args(["-o", &format!("remount,size={size}")]).arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "a mounted disk can be made larger");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_exchanges_are_dropped_and_counted_and_the_gateway_goes_on() {
    let Some(disk) = SmallDisk::mount("128k") else { return };
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let folder = disk.0.path().join("recording");
    let gateway = spawn(&config, &folder, &[]).ready().await;
    let client = gateway.client();
    let body = "x".repeat(20_000);
    let lost = async || gateway.metric("tidegate_unrecorded_exchanges_total{reason=\"disk\"}").await;
    gateway
        .until("the disk is full", async || {
            assert_eq!(client.send(post("/", &[("x-origin", "body=x")], body.clone())).await.status, 200);
            lost().await > 0.0
        })
        .await;
    let kept = async || gateway.metric("tidegate_recorded_exchanges_total").await;
    let before = kept().await;
    assert!(before >= 2.0, "{before}");
    disk.resize("8m");
    gateway
        .until("it records again", async || {
            assert_eq!(client.send(get("/again", &[("x-origin", "body=x")])).await.status, 200);
            kept().await > before
        })
        .await;
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    let [said] = &ended.log.with(&[("message", "exchanges are not recorded")])[..] else {
        panic!("told once, and not for every one:\n{}", ended.log.text())
    };
    assert_eq!(
        (&said["reason"], said["error"].as_str().is_some_and(|error| !error.is_empty())),
        (&json!("disk"), true)
    );
    let said = &ended.log.with(&[("message", "recording ended")])[0];
    let kept = recording::read(&folder).expect("no line is broken off");
    assert_eq!(said["recorded"], kept.len(), "{said}");
    assert!(said["dropped"].as_u64().is_some_and(|dropped| dropped > 0), "{said}");
    assert_eq!(kept.last().expect("some").request.target, "/again");
}

#[tokio::test]
async fn a_thousand_exchanges_at_the_same_time_are_all_kept() {
    let origin = Origin::start().await;
    let recorded = Recorded::start(&through_stamp(&origin).await, &[]).await;
    let client = Client::http2(recorded.gateway.address());
    let send = |number: usize| {
        let client = client.clone();
        async move { client.send(post(&format!("/{number}"), &[("x-origin", "hold")], number.to_string())).await }
    };
    // As many at a time as a client of HTTP/2 may have, all the time.
    let all = (0..1_000).map(send);
    let asking = tokio::spawn(futures_util::future::join_all(all));
    origin.holds(50).await;
    origin.release();
    let answers = asking.await.expect("it does not panic");
    assert!(answers.iter().all(|answer| answer.status == 200));

    let exchanges = recorded.exchanges().await;
    let mut numbers: Vec<usize> = Vec::new();
    for exchange in &exchanges {
        let number = exchange.request.target.trim_start_matches('/');
        assert_eq!(text(&exchange.request.body.content), number);
        assert!(text(&exchange.answer.body.content).contains(&format!("\"body\":\"{number}\"")));
        numbers.push(number.parse().expect("a number"));
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..1_000));
}

#[tokio::test]
async fn an_exchange_whose_client_goes_away_before_the_answer_is_left_out_and_counted() {
    let origin = Origin::start().await;
    let recorded = Recorded::start(&through_stamp(&origin).await, &[]).await;
    let client = recorded.gateway.client();
    let gone = tokio::spawn(async move { client.try_send(get("/gone", &[("x-origin", "hold")])).await });
    origin.holds(1).await;
    gone.abort();
    let counted = async || {
        let series = "tidegate_unrecorded_exchanges_total{reason=\"unanswered\"}";
        recorded.gateway.metric(series).await >= 1.0
    };
    recorded.gateway.until("it is counted", counted).await;
    recorded.gateway.client().send(get("/stays", &[("x-origin", "body=x")])).await;
    let exchanges = recorded.exchanges().await;
    assert_eq!(exchanges.iter().map(|exchange| &*exchange.request.target).collect::<Vec<_>>(), ["/stays"]);
}

#[tokio::test]
async fn of_an_exchange_whose_client_goes_away_in_the_middle_there_is_what_it_had() {
    let origin = Origin::start().await;
    let recorded = Recorded::start(&through_stamp(&origin).await, &[]).await;
    // More than fits between the gateway and a client that does not read.
    let length = 32 << 20;
    let mut client = TcpStream::connect(recorded.gateway.address()).await.expect("it listens");
    let head = format!("POST /middle HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("it reads");
    client.write_all(&vec![b'x'; length]).await.expect("it reads");
    let mut some = [0; 100];
    client.read_exact(&mut some).await.expect("it answers");
    drop(client);
    let kept = async || recorded.gateway.metric("tidegate_recorded_exchanges_total").await >= 1.0;
    recorded.gateway.until("it is kept", kept).await;

    let exchanges = recorded.exchanges().await;
    let [exchange] = &exchanges[..] else { panic!("one: {exchanges:#?}") };
    let (request, answer) = (&exchange.request.body, &exchange.answer.body);
    assert_eq!((request.end, request.length), (BodyEnd::Reached, Some(length as u64)));
    assert_eq!((exchange.answer.status, answer.end), (200, BodyEnd::NotReached));
    // How far it had come is the machine's business.
    let (sent, had) = (&exchange.upstream.as_ref().expect("it was asked").body, text(&answer.content));
    assert!(!had.is_empty() && text(&sent.content).starts_with(&had), "{} bytes", had.len());
}

/// Clients that ask for paths of their own, one after the other, until the gateway takes nothing more.
struct Crowd {
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Crowd {
    fn ask(gateway: &TestGateway) -> Self {
        let (answered, mut clients) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for number in 0..8 {
            let (client, answered) = (gateway.client(), Arc::clone(&answered));
            clients.spawn(async move {
                let mut had = Vec::new();
                loop {
                    let target = format!("/{number}/{}", had.len());
                    match client.try_send(get(&target, &[("x-origin", "body=hello")])).await {
                        Ok(answer) if answer.status == 200 => had.push(target),
                        _ => return had,
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { answered, clients }
    }

    /// They are well under way.
    async fn is_busy(&self, gateway: &TestGateway) {
        let busy = async || self.answered.load(Ordering::Relaxed) >= 500;
        gateway.until("they have had answers", busy).await;
    }

    /// What has been answered.
    async fn had(self) -> BTreeSet<String> {
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

fn targets(exchanges: &[RecordedExchange]) -> BTreeSet<String> {
    exchanges.iter().map(|exchange| exchange.request.target.clone()).collect()
}

#[tokio::test]
async fn one_that_is_stopped_under_load_leaves_whole_lines_with_every_answer_that_somebody_had() {
    let origin = Origin::start().await;
    let recorded = Recorded::start(&through_stamp(&origin).await, &[]).await;
    let crowd = Crowd::ask(&recorded.gateway);
    crowd.is_busy(&recorded.gateway).await;
    let path = recorded.path();
    let ended = recorded.gateway.stop().await;
    let text = written(&path);
    assert!(text.ends_with("}\n"), "the end: {:?}", &text[text.len() - 50..]);
    let exchanges = recording::read(&path).expect("it can be read");
    assert!(crowd.had().await.is_subset(&targets(&exchanges)));
    let said = &ended.log.with(&[("message", "recording ended")])[0];
    assert_eq!(
        (&said["recorded"], &said["dropped"], &said["unwritten"]),
        (&json!(exchanges.len()), &json!(0), &json!(0))
    );
}

#[tokio::test]
async fn one_that_is_killed_leaves_whole_lines_but_for_the_last_and_the_next_one_goes_on_beside_them() {
    let origin = Origin::start().await;
    let config = through_stamp(&origin).await;
    let mut recorded = Recorded::start(&config, &[]).await;
    let crowd = Crowd::ask(&recorded.gateway);
    crowd.is_busy(&recorded.gateway).await;
    let path = recorded.path();
    recorded.gateway.signal(Signal::KILL);
    recorded.gateway.wait().await;
    let had = crowd.had().await;
    let before = recording::read(&path).expect("but for the last, its lines are whole");
    // What waited to be written is lost; what was written is not.
    assert!(!before.is_empty() && !had.is_empty());

    let next = spawn(&config, &path, &[]).ready().await;
    next.client().send(get("/next", &[("x-origin", "body=x")])).await;
    next.stop().await;
    let after = recording::read(&path).expect("it can be read");
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after.last().map(|last| last.request.target.as_str()), Some("/next"));
}

//! The notifier against a socket of the test's own.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::mpsc;

use tempfile::TempDir;

use super::*;

/// No message takes longer.
const HANGS: Duration = Duration::from_secs(60);

/// As a supervisor has it.
struct Supervisor {
    socket: UnixDatagram,
    address: PathBuf,
    _folder: TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = folder.path().join("notify");
        let socket = UnixDatagram::bind(&address).expect("a socket");
        socket.set_read_timeout(Some(HANGS)).expect("a time limit");
        Self { socket, address, _folder: folder }
    }

    fn notifier(&self, watchdog: Option<&str>) -> Notifier {
        Notifier::new(Some(self.address.clone().into()), [watchdog.map(Into::into), None], 7)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()
    }

    fn has_none(&self) -> bool {
        self.socket.set_nonblocking(true).expect("nonblocking");
        let received = self.socket.recv(&mut [0; 16]);
        self.socket.set_nonblocking(false).expect("blocking");
        received.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[test]
fn each_state_is_told_in_the_words_of_the_protocol() {
    let supervisor = Supervisor::new();
    let notifier = supervisor.notifier(None);
    notifier.ready("listening\non 80");
    assert_eq!(supervisor.next(), "READY=1\nSTATUS=listening on 80");
    notifier.stopping();
    assert_eq!(supervisor.next(), "STOPPING=1\nSTATUS=stopping");
    notifier.extend(Duration::from_millis(1500));
    assert_eq!(supervisor.next(), "EXTEND_TIMEOUT_USEC=1500000");
    notifier.status("half way");
    assert_eq!(supervisor.next(), "STATUS=half way");
}

#[test]
fn a_reload_is_dated_by_the_clock_that_the_supervisor_looks_at() {
    let supervisor = Supervisor::new();
    let notifier = supervisor.notifier(None);
    let micros = || {
        notifier.reloading();
        let message = supervisor.next();
        let [reloading, dated, _] = message.lines().collect::<Vec<_>>()[..] else { panic!("{message}") };
        assert_eq!(reloading, "RELOADING=1");
        dated.strip_prefix("MONOTONIC_USEC=").and_then(|micros| micros.parse::<u64>().ok()).expect("a time")
    };
    let since_boot = |text: String| text.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
    let (first, second) = (micros(), micros());
    assert!(first <= second);
    // The uptime counts a suspended machine's sleep, too.
    let uptime = std::fs::read_to_string("/proc/uptime").ok().and_then(since_boot).expect("an uptime");
    assert!(first / 1_000_000 <= uptime + 1, "{first} us, up for {uptime} s");
}

#[test]
fn an_abstract_address_begins_with_an_at_sign() {
    let name = format!("tidegate-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    Notifier::new(Some(format!("@{name}").into()), [None, None], 7).stopping();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("a message");
    assert!(buffer.get(..length).is_some_and(|message| message.starts_with(b"STOPPING=1")));
}

#[test]
fn without_an_address_that_can_be_used_nothing_happens() {
    let endless = "/".repeat(300);
    for address in [None, Some(""), Some("notify"), Some("vsock:2:1234"), Some(endless.as_str()), Some("/nowhere")] {
        let notifier = Notifier::new(address.map(OsString::from), [None, None], 7);
        notifier.ready("ready");
        notifier.extend(HANGS);
    }
}

#[test]
fn signs_of_life_are_for_the_process_that_they_are_asked_of() {
    let beat = |every: &str, pid: Option<&str>| beat(Some(every.into()), pid.map(Into::into), 7);
    assert_eq!(beat("3000000", Some("7")), Some(Duration::from_millis(1500)));
    assert_eq!(beat("3000000", None), Some(Duration::from_millis(1500)));
    assert_eq!(beat("3000000", Some("8")), None);
    assert_eq!(beat("1", None), Some(SHORTEST_BEAT));
    for nonsense in ["0", "", "-1", "soon"] {
        assert_eq!(beat(nonsense, None), None, "{nonsense}");
    }
}

#[test]
fn a_stop_asks_for_no_more_time_than_it_may_take() {
    assert_eq!(extension(Duration::from_secs(30)), Some(EXTENSION));
    assert_eq!(extension(Duration::from_millis(500)), Some(Duration::from_millis(500) + EXIT));
    assert_eq!(extension(Duration::ZERO), None);
    // Each request lasts beyond the next one.
    assert!(extension(RENEWAL).is_some_and(|by| by > RENEWAL));
}

#[tokio::test]
async fn what_must_arrive_waits_for_a_supervisor_that_is_slow() {
    let supervisor = Supervisor::new();
    let notifier = supervisor.notifier(None);
    // One sender alone may be at its own limit before the queue is full.
    let flood = || {
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.set_nonblocking(true).expect("nonblocking");
        let sent = std::iter::repeat_with(|| socket.send_to(b"flood", &supervisor.address)).take_while(Result::is_ok);
        Some(sent.count()).filter(|sent| *sent > 0)
    };
    let sent: usize = std::iter::from_fn(flood).sum();
    notifier.ready("first");
    notifier.extend(HANGS);
    notifier.stopping();
    let _pulse = notifier.pulse();
    let received = tokio::task::spawn_blocking(move || {
        let messages: Vec<String> = (0..sent + 2).map(|_| supervisor.next()).collect();
        (messages, supervisor.has_none())
    });
    let (messages, nothing_more) = received.await.expect("received");
    let kept: Vec<&String> = messages.iter().filter(|message| *message != "flood").collect();
    assert_eq!(kept, ["READY=1\nSTATUS=first", "STOPPING=1\nSTATUS=stopping"]);
    assert!(nothing_more, "what is said again and again is not kept");
}

#[test]
fn when_the_worker_threads_are_stuck_the_signs_of_life_cease() {
    let supervisor = Supervisor::new();
    let notifier = supervisor.notifier(Some("20000"));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
    let _pulse = tokio.block_on(async { notifier.pulse() });
    for _ in 0..5 {
        assert_eq!(supervisor.next(), "WATCHDOG=1");
    }
    let (stuck, is_stuck) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    tokio.spawn(async move {
        let _ = stuck.send(());
        let _ = released.recv();
    });
    is_stuck.recv().expect("the only worker has begun the task");
    while !supervisor.has_none() {}
    supervisor.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit");
    assert!(supervisor.socket.recv(&mut [0; 16]).is_err());
    drop(release);
    supervisor.socket.set_read_timeout(Some(HANGS)).expect("a time limit");
    assert_eq!(supervisor.next(), "WATCHDOG=1");
}

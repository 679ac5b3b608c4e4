//! What the supervisor is told, and when.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, HANGS, PluginTable, Signal, StartingGateway, TestGateway};
use tidegate_tests::origin::Origin;
use tokio::net::UnixDatagram;

/// Of the gateway that overruns it.
const GRACE: Duration = Duration::from_millis(3500);

/// What the gateway may ask for beyond its grace period, and what a message may take to get here.
const EXIT: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_millis(500);

/// The supervisor's end of the notification socket.
struct Supervisor {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { socket, folder }
    }

    fn start(&self, config: &ConfigFile, variables: &[(&str, &str)]) -> StartingGateway {
        TestGateway::spawn_as(config, |mut command: Command| {
            command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).envs(variables.iter().copied());
            command
        })
    }

    /// The next message.
    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let received = tokio::time::timeout(HANGS, self.socket.recv(&mut buffer)).await;
        let length = received.expect("a message comes").expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next message with this in a line of it, and those before it.
    async fn hears(&self, field: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message.lines().any(|line| line.starts_with(field)) {
                return (message, before);
            }
            before.push(message);
        }
    }

    /// What comes while something else is done, and when.
    async fn hears_during<T>(&self, work: impl Future<Output = T>) -> (Vec<(Instant, String)>, T) {
        const END: &str = "this is the end";
        let reading = async {
            let mut heard = Vec::new();
            loop {
                match self.next().await {
                    end if end == END => return heard,
                    message => heard.push((Instant::now(), message)),
                }
            }
        };
        let working = async {
            let done = work.await;
            let own_end = UnixDatagram::unbound().expect("a socket");
            own_end.send_to(END.as_bytes(), self.folder.path().join("notify")).await.expect("sent");
            done
        };
        tokio::join!(reading, working)
    }

    /// What has come and has not been read.
    fn rest(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next = || {
            let length = self.socket.try_recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        std::iter::from_fn(next).collect()
    }
}

fn field(message: &str, name: &str) -> Option<u64> {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

#[tokio::test]
async fn ready_is_said_when_the_gateway_serves() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let config = ConfigFile::before(origin.address()).plugin(PluginTable::example("stamp")).route("/", &["stamp"]);
    let starting = supervisor.start(&config, &[]);
    let (ready, before) = supervisor.hears("READY=1").await;
    // The message is all that this client knows.
    let mut addresses = ready.split([' ', ',']).filter_map(|word| word.parse::<SocketAddr>().ok());
    let [address, admin] = [addresses.next(), addresses.next()].map(|address| address.expect("an address"));
    assert_eq!(Client::http1(address).get("/").await.status, 200);
    assert_eq!(Client::http1(admin).get("/readyz").await.status, 200);
    assert_eq!(before, ["STATUS=starting: plugin stamp is loaded"]);
    assert_eq!(starting.ready().await.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_gateway_that_cannot_serve_never_says_that_it_is_ready() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let sound = ConfigFile::before(origin.address()).route("/", &[]);
    let no_plugin = sound.clone().plugin(PluginTable::guest("wrong-world"));
    let taken = sound.server(&format!("listen = '{}'", origin.address()));
    for (config, code) in [(no_plugin, 2), (taken, 1)] {
        let ended = supervisor.start(&config, &[("WATCHDOG_USEC", "10000000")]).wait().await;
        assert_eq!(ended.code, Some(code), "{}", ended.log.text());
        let told = supervisor.rest();
        assert!(!told.iter().any(|message| message.contains("READY=1")), "{told:?}");
    }
}

#[tokio::test]
async fn a_stop_is_announced_and_asks_for_time_until_it_is_over() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let mut gateway = supervisor.start(&config, &[]).ready().await;
    supervisor.hears("READY=1").await;
    let client = gateway.client();
    let request = client.send(get("/", &[("x-origin", "hold")]));
    let stop = async {
        origin.holds(1).await;
        gateway.terminate();
        let (stopping, before) = supervisor.hears("STOPPING=1").await;
        assert_eq!((stopping.as_str(), before.len()), ("STOPPING=1\nSTATUS=stopping", 0));
        for _ in 0..3 {
            let message = supervisor.next().await;
            assert_eq!(message, "EXTEND_TIMEOUT_USEC=5000000", "20 s of grace are far away");
        }
        origin.release();
        gateway.wait().await
    };
    let (answer, ended) = tokio::join!(request, stop);
    assert_eq!((answer.status, ended.code), (200, Some(0)));
    let rest = supervisor.rest();
    assert!(rest.iter().all(|message| field(message, "EXTEND_TIMEOUT_USEC").is_some()), "{rest:?}");
    assert!(rest.len() <= 3, "the drain was over a moment after the release: {rest:?}");
}

#[tokio::test]
async fn no_stop_asks_for_more_time_than_its_grace_period_and_the_exit_take() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let config = ConfigFile::before(origin.address())
        .shutdown("grace = '3500ms'")
        .shutdown("drain = '100ms'")
        .shutdown("flush = '100ms'")
        .plugin(PluginTable::hostile("spins").config("shutdown = 'spin'").limit("shutdown = '3s'"))
        .route("/", &[]);
    let mut gateway = supervisor.start(&config, &[]).ready().await;
    supervisor.hears("READY=1").await;
    let began = Instant::now();
    gateway.terminate();
    let (told, ended) = supervisor.hears_during(gateway.wait()).await;
    assert_eq!(ended.code, Some(11), "{}", ended.log.text());
    let asked = told.iter().filter_map(|(when, message)| {
        let by = Duration::from_micros(field(message, "EXTEND_TIMEOUT_USEC")?);
        Some((when.duration_since(began), by))
    });
    let asked: Vec<(Duration, Duration)> = asked.collect();
    assert!(asked.len() >= 3, "{told:?}");
    for (when, by) in &asked {
        assert!(*when <= GRACE + SLACK && *when + *by <= GRACE + EXIT + SLACK, "{asked:?}");
    }
    let last = asked.last().expect("one");
    assert!(last.0 + last.1 >= ended.took, "the exit was within what was asked for: {asked:?}, {:?}", ended.took);
}

#[tokio::test]
async fn signs_of_life_come_at_half_the_time_that_is_asked_for_and_go_on_during_the_stop() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let mut gateway = supervisor.start(&config, &[("WATCHDOG_USEC", "2000000")]).ready().await;
    let mut beats = Vec::new();
    for _ in 0..4 {
        let (message, _) = supervisor.hears("WATCHDOG=1").await;
        assert_eq!(message, "WATCHDOG=1");
        beats.push(Instant::now());
    }
    let pauses: Vec<Duration> = beats.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(2)), "the supervisor would have killed: {pauses:?}");
    assert!(beats[3] - beats[0] > Duration::from_secs(3) - SLACK, "{pauses:?}");
    let client = gateway.client();
    let request = client.send(get("/", &[("x-origin", "hold")]));
    let stop = async {
        origin.holds(1).await;
        gateway.terminate();
        supervisor.hears("STOPPING=1").await;
        for _ in 0..2 {
            supervisor.hears("WATCHDOG=1").await;
        }
        origin.release();
        gateway.wait().await
    };
    let (answer, ended) = tokio::join!(request, stop);
    assert_eq!((answer.status, ended.code), (200, Some(0)));
}

#[tokio::test]
async fn signs_of_life_that_are_asked_of_another_process_are_not_sent() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    let gateway = supervisor.start(&config, &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]).ready().await;
    assert_eq!(gateway.stop().await.code, Some(0));
    let told = supervisor.rest();
    assert!(!told.iter().any(|message| message.contains("WATCHDOG")), "{told:?}");
}

#[tokio::test]
async fn a_supervisor_that_cannot_be_reached_is_no_reason_not_to_serve() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).route("/", &[]);
    for (address, complaint) in [
        ("/nowhere/notify", "the supervisor cannot be notified; further failures are debug messages"),
        ("notify", "NOTIFY_SOCKET is of no use; nobody is notified"),
    ] {
        let gateway = TestGateway::spawn_as(&config, |mut command| {
            command.env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "100000");
            command
        });
        let gateway = gateway.ready().await;
        assert_eq!(gateway.get("/").await.status, 200);
        let ended = gateway.stop().await;
        assert_eq!(ended.code, Some(0));
        let complaints = ended.log.with(&[("message", complaint), ("level", "WARN")]);
        assert_eq!(complaints.len(), 1, "{}", ended.log.text());
    }
}

#[tokio::test]
async fn a_signal_before_the_gateway_is_ready_is_a_stop_like_any_other() {
    let (origin, supervisor) = (Origin::start().await, Supervisor::new());
    let slow = PluginTable::hostile("slow").config("configure = 'sleep=60000'").limit("configure = '60s'");
    let config =
        ConfigFile::before(origin.address()).plugin(PluginTable::example("stamp")).plugin(slow).route("/", &["stamp"]);
    let mut starting = supervisor.start(&config, &[]);
    supervisor.hears("STATUS=starting").await;
    starting.signal(Signal::TERM);
    let ended = starting.wait().await;
    supervisor.hears("STOPPING=1").await;
    assert_eq!((ended.code, supervisor.rest().len()), (Some(0), 0), "{}", ended.log.text());
}

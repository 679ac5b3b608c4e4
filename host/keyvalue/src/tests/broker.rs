//! A real nats-server, and what becomes of a bucket when it is away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::HANGS;
use crate::error::StoreError;
use crate::{Credentials, Nats, NatsConfig, Storage, Store};

/// Set where there is no NATS server and none can be had; says why. Tests that need one are skipped then.
const WITHOUT: &str = "TIDEGATE_TEST_WITHOUT_NATS";

/// A server with JetStream on a port that the system has given it. Dropped, it is killed.
pub(super) struct Broker {
    binary: PathBuf,
    process: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Broker {
    /// Start one. `None` where there can be none, which is said.
    #[expect(clippy::print_stderr, reason = "whoever reads the tests' output has to see what was not tested")]
    pub(super) async fn start() -> Option<Self> {
        if let Some(why) = std::env::var_os(WITHOUT) {
            eprintln!("SKIPPED, there is no nats-server: {}", why.to_string_lossy());
            return None;
        }
        let binary = installed().expect("nats-server is installed: `cargo xtask test` does that, where it can");
        let folder = tempfile::tempdir().expect("a folder");
        let process = spawn(&binary, folder.path(), "-1");
        let mut broker = Self { binary, process, folder, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        broker.listens().await;
        Some(broker)
    }

    /// Wait until it says where it listens, which it writes into a file.
    async fn listens(&mut self) {
        let ports = self.folder.path().join(format!("nats-server_{}.ports", self.process.id()));
        let starting = async {
            loop {
                match address_in(&ports) {
                    Some(address) => break address,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
                let ended = self.process.try_wait().expect("it is ours");
                assert!(ended.is_none(), "nats-server has ended: {ended:?}");
            }
        };
        self.address = tokio::time::timeout(HANGS, starting).await.expect("nats-server starts");
    }

    fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is gone");
    }

    async fn again(&mut self) {
        self.process = spawn(&self.binary, self.folder.path(), &self.address.port().to_string());
        self.listens().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fails if it is gone, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's program, if it is installed.
fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has it where the PATH of ordinary users does not look.
    let others = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(others).map(|folder| folder.join("nats-server")).find(|file| file.is_file())
}

fn spawn(binary: &Path, folder: &Path, port: &str) -> Child {
    Command::new(binary)
        .args(["-js", "-a", "127.0.0.1", "-p", port, "-sd"])
        .arg(folder)
        .arg("--ports_file_dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server can be run")
}

/// The address in a file that says where a server listens: `{"nats":["nats://127.0.0.1:4222"], ..}`.
fn address_in(file: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(file).ok()?;
    let (_, rest) = text.split_once("nats://")?;
    let (address, _) = rest.split_once('"')?;
    address.parse().ok()
}

fn config(broker: &Broker, bucket: &str) -> NatsConfig {
    NatsConfig {
        name: Arc::from("test"),
        urls: vec![format!("nats://{}", broker.address)],
        bucket: bucket.to_owned(),
        credentials: Credentials::None,
        ca: None,
        timeout: Duration::from_secs(10),
        ttl: None,
        max_bytes: 64 << 20,
        max_value: 1 << 20,
        history: 1,
        replicas: 1,
        storage: Storage::File,
    }
}

/// Buckets at this server, connected.
pub(super) async fn nats(broker: &Broker, bucket: &str) -> Nats {
    let nats = Nats::connect(config(broker, bucket)).await.expect("it can be used");
    works(&nats).await;
    nats
}

/// Wait until the server is there.
async fn works(nats: &Nats) {
    let namespace = nats.namespace(Some("probe"));
    let asking = async {
        while namespace.get("key".to_owned()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANGS, asking).await.expect("the broker answers");
}

#[tokio::test]
async fn a_broker_that_is_away_is_an_error_at_once_and_back_it_serves_again() {
    let Some(mut broker) = Broker::start().await else { return };
    let nats = nats(&broker, "away").await;
    let namespace = nats.namespace(Some("one"));
    namespace.set("key".to_owned(), b"kept".to_vec()).await.expect("it works");
    broker.kill();
    let refused = async {
        // Until the client has noticed, an operation waits for its time at most.
        while namespace.get("key".to_owned()).await != Err(StoreError::Unavailable("its broker is away")) {}
    };
    tokio::time::timeout(HANGS, refused).await.expect("it says so");
    let away = Err(StoreError::Unavailable("its broker is away"));
    assert_eq!(namespace.increment("key".to_owned(), 1).await, away);
    broker.again().await;
    works(&nats).await;
    let found = namespace.get("key".to_owned()).await.expect("it works again").expect("it is there");
    assert_eq!(found.value, b"kept");
    nats.close();
    assert!(namespace.get("key".to_owned()).await.is_err(), "it is closed");
}

#[tokio::test]
async fn a_bucket_is_made_when_the_broker_comes_later() {
    let Some(mut broker) = Broker::start().await else { return };
    broker.kill();
    let nats = Nats::connect(config(&broker, "later")).await.expect("it can be used");
    let namespace = nats.namespace(None);
    assert_eq!(namespace.get("key".to_owned()).await, Err(StoreError::Unavailable("its broker is away")));
    broker.again().await;
    works(&nats).await;
    assert_eq!(namespace.set("key".to_owned(), b"value".to_vec()).await, Ok(()));
}

#[tokio::test]
async fn a_bucket_that_somebody_has_removed_is_made_again() {
    let Some(broker) = Broker::start().await else { return };
    let nats = nats(&broker, "removed").await;
    let namespace = nats.namespace(None);
    namespace.set("key".to_owned(), b"value".to_vec()).await.expect("it works");
    let client = async_nats::connect(broker.address.to_string()).await.expect("it is there");
    async_nats::jetstream::new(client).delete_key_value("removed").await.expect("it is removed");
    let asking = async { while namespace.set("key".to_owned(), b"again".to_vec()).await.is_err() {} };
    tokio::time::timeout(HANGS, asking).await.expect("it is made again");
}

#[tokio::test]
async fn what_the_broker_has_no_room_for_is_refused_and_what_is_too_long_for_it_too() {
    let Some(broker) = Broker::start().await else { return };
    let small = NatsConfig { max_bytes: 10_000, max_value: 4 << 20, ..config(&broker, "small") };
    let nats = Nats::connect(small).await.expect("it can be used");
    works(&nats).await;
    let store = Store::Nats(Box::new(nats));
    let (namespace, other) = (store.namespace(Some("one")), store.namespace(Some("other")));
    let mut refused = None;
    for number in 0..100 {
        if let Err(error) = namespace.set(format!("key-{number}"), vec![b'x'; 500]).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(StoreError::Full));
    assert_eq!(other.set("key".to_owned(), vec![b'x'; 500]).await, Ok(()), "another plugin has room of its own");
    // The server takes messages of 1 MiB.
    let long = namespace.set("long".to_owned(), vec![b'x'; 2 << 20]).await;
    assert!(matches!(long, Err(StoreError::TooLarge { .. })), "{long:?}");
    assert!(namespace.get("key-0".to_owned()).await.expect("it still works").is_some());
}

#[tokio::test]
async fn a_time_to_live_is_the_server_s() {
    let Some(broker) = Broker::start().await else { return };
    let short = NatsConfig { ttl: Some(Duration::from_millis(200)), ..config(&broker, "short") };
    let nats = Nats::connect(short).await.expect("it can be used");
    works(&nats).await;
    let namespace = nats.namespace(None);
    namespace.set("key".to_owned(), b"value".to_vec()).await.expect("it works");
    let expiring = async {
        while namespace.get("key".to_owned()).await.expect("it works").is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HANGS, expiring).await.expect("it expires");
}

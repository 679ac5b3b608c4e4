//! How long operations take: `cargo test --workspace --lib kv_figures -- --ignored --nocapture`, in a profile that optimises
//! this crate. Nothing is asserted.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_runtime::environment::{Clock as _, SystemClock};

use super::broker::{Broker, nats};
use super::{HANGS, roomy};
use crate::store::{Bounds, Namespace, WhenFull};
use crate::{Memory, Sqlite, SqliteConfig, Store};

/// The mean CPU time of this thread (for memory, all there is), and the mean time, of a `get` and a `set` over so many keys with values of 100 bytes.
async fn measure(what: &str, namespace: &dyn Namespace, keys: u32, rounds: u32) {
    let key = |number: u32| format!("session/{number:08}");
    for number in 0..keys {
        namespace.set(key(number), vec![b'x'; 100]).await.expect("there is room");
    }
    // Far apart, so that no cache helps.
    let mut far = (0..rounds).map(|round| key(round.wrapping_mul(2_654_435_761) % keys)).collect::<Vec<_>>();
    let clock = SystemClock::default();
    let per = |(cpu, began): (Duration, Instant)| ((clock.thread_cpu() - cpu) / rounds, began.elapsed() / rounds);
    let again = far.clone();
    let began = (clock.thread_cpu(), Instant::now());
    for key in far.drain(..) {
        namespace.get(key).await.expect("it works");
    }
    let get = per(began);
    let began = (clock.thread_cpu(), Instant::now());
    for key in again {
        namespace.set(key, vec![b'y'; 100]).await.expect("there is room");
    }
    println!("{what}: CPU time and time of get {get:?}, of set {:?}, {keys} keys", per(began));
}

#[tokio::test]
#[ignore = "measures"]
async fn kv_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let evict = Bounds { when_full: WhenFull::Evict, ttl: Some(Duration::from_secs(3600)), ..roomy() };
    let config =
        SqliteConfig { name: Arc::from("test"), path: folder.path().join("kv.db"), bounds: roomy(), timeout: HANGS };
    let memory = Store::Memory(Memory::new(roomy()));
    measure("memory", &*memory.namespace(None), 100_000, 1_000_000).await;
    let memory = Store::Memory(Memory::new(evict));
    measure("memory, evict and ttl", &*memory.namespace(None), 100_000, 1_000_000).await;
    let sqlite = Store::Sqlite(Sqlite::open(config).expect("it opens"));
    measure("sqlite", &*sqlite.namespace(None), 10_000, 20_000).await;
    let Some(broker) = Broker::start().await else { return };
    let nats = Store::Nats(Box::new(nats(&broker, "figures").await));
    measure("nats on the same machine", &*nats.namespace(None), 1_000, 5_000).await;
}

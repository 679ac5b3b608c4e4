//! Many tasks on one key: no change is lost.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::broker::{Broker, nats};
use super::{HANGS, roomy};
use crate::store::Namespace;
use crate::{Memory, Sqlite, SqliteConfig, Store};

const TASKS: usize = 8;

/// Each task counts up, and appends its mark to a list with compare-and-set, through a namespace of its own choice.
async fn fight(namespaces: &[Arc<dyn Namespace>], rounds: usize) {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let namespace = Arc::clone(&namespaces[task % namespaces.len()]);
        tasks.spawn(async move {
            let mark = b'a' + u8::try_from(task).expect("a few");
            for _ in 0..rounds {
                namespace.increment("count".to_owned(), 1).await.expect("it is counted");
                loop {
                    let seen = namespace.get("list".to_owned()).await.expect("it is read");
                    let revision = seen.as_ref().map(|seen| seen.revision);
                    let mut value = seen.map(|seen| seen.value).unwrap_or_default();
                    value.push(mark);
                    if namespace.swap("list".to_owned(), revision, value).await.expect("it is swapped or not") {
                        break;
                    }
                }
            }
        });
    }
    tokio::time::timeout(HANGS * 2, tasks.join_all()).await.expect("it hangs");
    let all = TASKS * rounds;
    assert_eq!(namespaces[0].increment("count".to_owned(), 0).await, Ok(i64::try_from(all).expect("a few")));
    let list = namespaces[0].get("list".to_owned()).await.expect("it is read").expect("it is there").value;
    assert_eq!(list.len(), all);
    for task in 0..TASKS {
        let mark = b'a' + u8::try_from(task).expect("a few");
        assert_eq!(list.iter().filter(|byte| **byte == mark).count(), rounds);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_in_memory() {
    let store = Store::Memory(Memory::new(roomy()));
    fight(&[store.namespace(None)], 500).await;
}

/// Two processes over one file do the same as two stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_in_a_file_that_two_have_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        let config = SqliteConfig {
            name: Arc::from("test"),
            path: folder.path().join("kv.db"),
            bounds: roomy(),
            timeout: HANGS,
        };
        Store::Sqlite(Sqlite::open(config).expect("it opens"))
    };
    let (one, two) = (open(), open());
    fight(&[one.namespace(None), two.namespace(None)], 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_at_a_broker_that_two_are_connected_to() {
    let Some(broker) = Broker::start().await else { return };
    let (one, two) =
        (Store::Nats(Box::new(nats(&broker, "fight").await)), Store::Nats(Box::new(nats(&broker, "fight").await)));
    fight(&[one.namespace(None), two.namespace(None)], 25).await;
}

//! What can happen to a file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{HANGS, TestClock, clock, roomy};
use crate::error::{OpenError, StoreError};
use crate::store::Bounds;
use crate::{Sqlite, SqliteConfig};

fn config(path: &Path) -> SqliteConfig {
    SqliteConfig { name: Arc::from("test"), path: path.to_owned(), bounds: roomy(), timeout: HANGS }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_time_goes_on_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, clock) = (folder.path().join("kv.db"), clock());
    let open = |clock: &Arc<TestClock>| {
        let bounds = Bounds { ttl: Some(Duration::from_secs(10)), ..roomy() };
        Sqlite::open_on(SqliteConfig { bounds, ..config(&path) }, Arc::clone(clock) as Arc<_>).expect("it opens")
    };
    let first = open(&clock);
    first.namespace(Some("one")).set("key".to_owned(), b"value".to_vec()).await.expect("there is room");
    first.close().await;
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(!path.with_extension("db-wal").exists(), "closed, it is one file");
    assert!(first.namespace(None).get("key".to_owned()).await.is_err(), "it is closed");
    clock.advance(Duration::from_secs(9));
    let second = open(&clock);
    let found = second.namespace(Some("one")).get("key".to_owned()).await.expect("it is read");
    assert_eq!(found.map(|entry| entry.value), Some(b"value".to_vec()));
    assert_eq!(second.namespace(Some("two")).get("key".to_owned()).await, Ok(None), "it is another's");
    clock.advance(Duration::from_secs(1));
    assert_eq!(second.namespace(Some("one")).get("key".to_owned()).await, Ok(None));
}

#[test]
fn a_file_that_is_no_database_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |path: &Path| Sqlite::open(config(path)).err().map(|error| error.to_string()).unwrap_or_default();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "this is no database, and it is long enough to be one".repeat(100)).expect("written");
    assert!(refused(&garbage).contains("garbage.db: file is not a database"), "{}", refused(&garbage));
    assert!(refused(folder.path()).contains("unable to open"), "{}", refused(folder.path()));
    assert!(refused(&folder.path().join("nowhere/kv.db")).contains("unable to open"));
    let newer = folder.path().join("newer.db");
    rusqlite::Connection::open(&newer).and_then(|file| file.pragma_update(None, "user_version", 7)).expect("written");
    assert!(matches!(Sqlite::open(config(&newer)), Err(OpenError::Format { found: 7, known: 1, .. })));
}

#[tokio::test]
async fn a_file_that_is_damaged_while_it_is_open_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kv.db");
    let store = Sqlite::open(config(&path)).expect("it opens");
    let namespace = store.namespace(None);
    for number in 0..200 {
        namespace.set(format!("key {number}"), vec![b'x'; 2_000]).await.expect("there is room");
    }
    store.close().await;
    let mut bytes = std::fs::read(&path).expect("it is there");
    // All but the first page, which says what kind of file it is.
    bytes[4096..].fill(0xA5);
    std::fs::write(&path, bytes).expect("written");
    let damaged = match Sqlite::open(config(&path)) {
        Ok(store) => store.namespace(None).set("key 1".to_owned(), b"new".to_vec()).await.expect_err("it is damaged"),
        // Found when it is opened is as good.
        Err(OpenError::File { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(damaged, StoreError::Unavailable("its file is damaged"));
}

#[tokio::test]
async fn a_disk_that_is_full_is_an_error_and_costs_nothing_that_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kv.db");
    let store = Sqlite::open(config(&path)).expect("it opens");
    let namespace = store.namespace(None);
    namespace.set("kept".to_owned(), b"value".to_vec()).await.expect("there is room");
    // SQLite reports the end of its pages as it reports the end of the disk.
    store.tamper("PRAGMA max_page_count = 20").await;
    let mut refused = None;
    for number in 0..100 {
        if let Err(error) = namespace.set(format!("key {number}"), vec![b'x'; 4_000]).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(StoreError::Unavailable("its disk is full")));
    assert!(namespace.get("kept".to_owned()).await.expect("it is read").is_some());
    store.tamper("PRAGMA max_page_count = 100000").await;
    assert_eq!(namespace.set("more".to_owned(), vec![b'x'; 4_000]).await, Ok(()), "there is room again");
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kv.db");
    let store = Sqlite::open(config(&path)).expect("it opens");
    store.tamper("PRAGMA query_only = 1").await;
    let refused = store.namespace(None).set("key".to_owned(), b"value".to_vec()).await;
    assert_eq!(refused, Err(StoreError::Unavailable("its file is read-only")));
    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("it is ours");
    // Root is refused nothing.
    if std::fs::File::options().write(true).open(&path).is_err() {
        assert!(matches!(Sqlite::open(config(&path)), Err(OpenError::File { .. })));
    }
}

#[tokio::test]
async fn who_waits_for_a_file_that_another_holds_waits_no_longer_than_an_operation_may_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kv.db");
    let store = Sqlite::open(SqliteConfig { timeout: Duration::from_millis(50), ..config(&path) }).expect("it opens");
    let holder = rusqlite::Connection::open(&path).expect("it opens");
    holder.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    let namespace = store.namespace(None);
    assert_eq!(namespace.set("key".to_owned(), b"late".to_vec()).await, Err(StoreError::TimedOut));
    holder.execute_batch("COMMIT").expect("it was held");
    let asking = async { while namespace.set("other".to_owned(), b"value".to_vec()).await.is_err() {} };
    tokio::time::timeout(HANGS, asking).await.expect("it is free again");
}

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::params;
use uuid::Uuid;

use super::read::{event_after, waiting};
use super::write::{Accepted, Outcome, Settled};
use super::*;
use crate::event::Event;

fn event(number: u128) -> Event {
    Event {
        id: Uuid::from_u128(number),
        source: Arc::from("source"),
        topic: Arc::from("topic"),
        key: Some("key".to_owned()),
        content_type: Some("text/plain".to_owned()),
        attributes: vec![("name".to_owned(), "value".to_owned())],
        accepted: std::time::Duration::from_micros(1_700_000_000_000_000),
        body: Bytes::from_static(b"body"),
    }
}

fn store(folder: &Path) -> Store {
    Store::open(&folder.join("outbox.db"), Durability::Process).expect("it opens")
}

fn accept(store: &mut Store, seq: i64, sinks: &[i64]) {
    let accepted = Accepted { seq, event: Arc::new(event(7)), size: 30 };
    store.commit(std::iter::once((&accepted, sinks)), &[]).expect("committed");
}

fn change(store: &Store, sql: &str, value: impl rusqlite::ToSql) {
    assert_eq!(store.connection.execute(sql, params![value]).expect("changed"), 1);
}

fn is_damaged(store: &Store) -> bool {
    event_after(&store.connection, 0).expect("read").expect("it is there").1.is_err()
}

#[test]
fn a_row_is_the_event_it_was_made_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path());
    accept(&mut store, 3, &[1]);
    assert_eq!(event_after(&store.connection, 0).expect("read"), Some((3, Ok(event(7)))));
    assert_eq!(event_after(&store.connection, 3).expect("read"), None);
}

#[test]
fn a_change_of_any_part_of_an_event_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path());
    accept(&mut store, 1, &[1]);
    for (column, wrong, right) in [
        ("source", "sourcf", "source"),
        ("topic", "topid", "topic"),
        ("key", "kez", "key"),
        ("content_type", "text/plaim", "text/plain"),
        ("attributes", "[[\"name\",\"valuf\"]]", "[[\"name\",\"value\"]]"),
        ("attributes", "[[", "[[\"name\",\"value\"]]"),
    ] {
        let sql = format!("UPDATE event SET {column} = ?");
        change(&store, &sql, wrong);
        assert!(is_damaged(&store), "{column}");
        change(&store, &sql, right);
        assert!(!is_damaged(&store), "{column}");
    }
    change(&store, "UPDATE event SET key = ?", None::<String>);
    assert!(is_damaged(&store), "a key that is gone");
    change(&store, "UPDATE event SET key = ?", "key");
    change(&store, "UPDATE event SET accepted = ?", 1);
    assert!(is_damaged(&store), "its time");
    change(&store, "UPDATE event SET accepted = ?", 1_700_000_000_000_000_i64);
    change(&store, "UPDATE event SET id = ?", Uuid::from_u128(8).as_bytes().as_slice());
    assert!(is_damaged(&store), "its id");
    change(&store, "UPDATE event SET id = ?", Uuid::from_u128(7).as_bytes().as_slice());
    change(&store, "UPDATE event SET checksum = ?", [0_u8; 16].as_slice());
    assert!(is_damaged(&store), "its checksum");
}

#[test]
fn an_event_that_has_changed_its_place_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path());
    accept(&mut store, 1, &[1]);
    change(&store, "UPDATE event SET seq = ?", 2);
    assert!(is_damaged(&store));
}

#[test]
fn an_event_without_a_delivery_or_the_other_way_round_is_found_when_the_file_is_opened() {
    for deed in ["DELETE FROM delivery", "DELETE FROM event"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = store(folder.path());
        accept(&mut store, 1, &[1]);
        store.connection.execute(deed, []).expect("done");
        let path = store.path().to_owned();
        drop(store);
        let error = Store::open(&path, Durability::Process).expect_err("damaged");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[test]
fn an_event_leaves_the_file_with_its_last_delivery() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path());
    accept(&mut store, 1, &[1, 2]);
    let settle = |store: &mut Store, sink, outcome| {
        store.commit(std::iter::empty(), &[Settled { seq: 1, sink, outcome }]).expect("committed")
    };
    assert_eq!(settle(&mut store, 1, Outcome::Delivered), []);
    assert_eq!(settle(&mut store, 1, Outcome::Delivered), [], "told twice");
    assert_eq!(settle(&mut store, 2, Outcome::Failed { attempts: 3, problem: "no".to_owned() }), []);
    assert_eq!(waiting(&store.connection, 2, 0, 9, 99).expect("read").first().map(|waiting| waiting.attempts), Some(3));
    let freed = settle(&mut store, 2, Outcome::Delivered);
    assert_eq!(freed, [(Arc::from("source"), crate::account::Usage { events: 1, bytes: 30 })]);
    assert_eq!(event_after(&store.connection, 0).expect("read"), None);
}

#[test]
fn a_transaction_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path());
    accept(&mut store, 2, &[1]);
    let both = [1, 2].map(|seq| Accepted { seq, event: Arc::new(event(7)), size: 30 });
    // The second place is taken.
    let rows = both.iter().map(|accepted| (accepted, [1_i64].as_slice()));
    assert!(store.commit(rows, &[]).is_err());
    assert_eq!(event_after(&store.connection, 0).expect("read").map(|(seq, _)| seq), Some(2));
}

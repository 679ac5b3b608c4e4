//! Histories of operations on the backends and on a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::broker::{Broker, nats};
use super::{HANGS, TestClock, clock, roomy};
use crate::error::StoreError;
use crate::store::{Bounds, Namespace, WhenFull};
use crate::{Memory, Sqlite, SqliteConfig, Store};

/// What can be done.
#[derive(Debug, Clone)]
enum Step {
    Get(String),
    Set(String, Vec<u8>),
    Delete(String),
    Increment(String, i64),
    /// Remember the revision of a key.
    Look(String),
    /// Swap by what was remembered last.
    Swap(Vec<u8>),
    /// Compare all keys.
    List,
    /// Let time pass, in milliseconds.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || prop_oneof!["[a-e]", Just("ä.*>".to_owned()), Just(".".to_owned()), Just("a b".to_owned())];
    let value = || {
        prop_oneof![
            "[0-9]{1,3}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
            Just(i64::MAX.to_string().into_bytes()),
        ]
    };
    let step = prop_oneof![
        3 => key().prop_map(Step::Get),
        4 => (key(), value()).prop_map(|(key, value)| Step::Set(key, value)),
        1 => key().prop_map(Step::Delete),
        2 => (key(), -3i64..5).prop_map(|(key, delta)| Step::Increment(key, delta)),
        2 => key().prop_map(Step::Look),
        2 => value().prop_map(Step::Swap),
        1 => Just(Step::List),
        1 => (0u64..700).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

/// Who goes when there is no room.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goes {
    Nobody,
    LeastRecentlyUsed,
    LeastRecentlyWritten,
}

struct Held {
    value: Vec<u8>,
    written: u64,
    used: u64,
    expires: u64,
}

/// A map, and the rules.
struct Model {
    bounds: Bounds,
    goes: Goes,
    now: u64,
    ticks: u64,
    held: BTreeMap<String, Held>,
}

impl Model {
    fn live(&mut self) -> &mut BTreeMap<String, Held> {
        let now = self.now;
        self.held.retain(|_, held| held.expires > now);
        &mut self.held
    }

    fn get(&mut self, key: &str) -> Option<(Vec<u8>, u64)> {
        self.ticks += 1;
        let ticks = self.ticks;
        let held = self.live().get_mut(key)?;
        held.used = ticks;
        Some((held.value.clone(), held.written))
    }

    fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let size = key.len() + value.len();
        let bounds = self.bounds;
        if size > bounds.max_bytes {
            return Err(StoreError::Full);
        }
        let own = self.live().remove(key);
        let fits = |held: &BTreeMap<String, Held>| {
            let bytes: usize = held.iter().map(|(key, held)| key.len() + held.value.len()).sum();
            held.len() < bounds.max_entries && bytes + size <= bounds.max_bytes
        };
        while !fits(&self.held) {
            let all = self.held.iter();
            let oldest = match self.goes {
                Goes::Nobody => {
                    self.held.extend(own.map(|own| (key.to_owned(), own)));
                    return Err(StoreError::Full);
                }
                Goes::LeastRecentlyUsed => all.min_by_key(|(_, held)| held.used),
                Goes::LeastRecentlyWritten => all.min_by_key(|(_, held)| held.written),
            };
            let oldest = oldest.map(|(key, _)| key.clone()).expect("one entry alone fits");
            self.held.remove(&oldest);
        }
        self.ticks += 1;
        let expires = bounds.ttl.map_or(u64::MAX, |ttl| self.now + ttl.as_millis() as u64);
        self.held.insert(key.to_owned(), Held { value, written: self.ticks, used: self.ticks, expires });
        Ok(())
    }

    /// Without using the key.
    fn value(&mut self, key: &str) -> Option<Vec<u8>> {
        self.live().get(key).map(|held| held.value.clone())
    }

    fn written(&mut self, key: &str) -> Option<u64> {
        self.live().get(key).map(|held| held.written)
    }

    fn increment(&mut self, key: &str, delta: i64) -> Result<i64, StoreError> {
        let number = match self.value(key) {
            None => 0,
            Some(value) => {
                String::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(StoreError::NotANumber)?
            }
        };
        let sum = i64::checked_add(number, delta).ok_or(StoreError::Overflow)?;
        self.put(key, sum.to_string().into_bytes())?;
        Ok(sum)
    }
}

/// Run a history on both, and compare whatever can be seen.
async fn run(namespace: &dyn Namespace, clock: &TestClock, bounds: Bounds, goes: Goes, steps: Vec<Step>) {
    let mut model = Model { bounds, goes, now: clock.millis(), ticks: 0, held: BTreeMap::new() };
    // A key, what the store said its revision was, and when the model had it written.
    let mut seen: Option<(String, Option<u64>, Option<u64>)> = None;
    for step in steps {
        match step.clone() {
            Step::Get(key) => {
                let found = namespace.get(key.clone()).await.expect("reading works").map(|entry| entry.value);
                assert_eq!(found, model.get(&key).map(|(value, _)| value), "{step:?}");
            }
            Step::Set(key, value) => {
                assert_eq!(namespace.set(key.clone(), value.clone()).await, model.put(&key, value), "{step:?}");
            }
            Step::Delete(key) => {
                assert_eq!(namespace.delete(key.clone()).await, Ok(()), "{step:?}");
                model.held.remove(&key);
            }
            Step::Increment(key, delta) => {
                let sum = namespace.increment(key.clone(), delta).await;
                assert_eq!(sum, model.increment(&key, delta), "{step:?}");
            }
            Step::Look(key) => {
                let found = namespace.get(key.clone()).await.expect("reading works");
                let written = model.get(&key).map(|(_, written)| written);
                assert_eq!(found.is_some(), written.is_some(), "{step:?}");
                seen = Some((key, found.map(|entry| entry.revision), written));
            }
            Step::Swap(value) => {
                let Some((key, revision, written)) = seen.take() else { continue };
                let swapped = namespace.swap(key.clone(), revision, value.clone()).await;
                let is_same = model.written(&key) == written;
                let expected = if is_same { model.put(&key, value).map(|()| true) } else { Ok(false) };
                assert_eq!(swapped, expected, "{step:?} {key}");
            }
            Step::List => {}
            Step::Pass(millis) => {
                clock.advance(Duration::from_millis(millis));
                model.now += millis;
            }
        }
        if matches!(step, Step::List) {
            let page = namespace.page(None).await.expect("listing works");
            let keys: Vec<String> = model.live().keys().cloned().collect();
            assert_eq!((page.keys, page.next), (keys, None));
        }
    }
    let page = namespace.page(None).await.expect("listing works");
    let keys: Vec<String> = model.live().keys().cloned().collect();
    assert_eq!((page.keys, page.next), (keys, None));
    if let Some(usage) = namespace.usage() {
        assert!(usage.entries <= bounds.max_entries && usage.bytes <= bounds.max_bytes, "{usage:?}");
    }
}

fn tight() -> impl Strategy<Value = Bounds> {
    let ttl = prop_oneof![Just(None), (1u64..1500).prop_map(|millis| Some(Duration::from_millis(millis)))];
    let when_full = prop_oneof![Just(WhenFull::Refuse), Just(WhenFull::Evict)];
    (1usize..8, 10usize..150, ttl, when_full).prop_map(|(max_entries, max_bytes, ttl, when_full)| Bounds {
        max_entries,
        max_bytes,
        max_value: max_bytes,
        ttl,
        when_full,
    })
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("it hangs") });
}

proptest! {
    #[test]
    fn memory_does_what_the_model_does(bounds in tight(), steps in steps()) {
        let clock = clock();
        let store = Store::Memory(Memory::on(bounds, clock.clone()));
        let goes = match bounds.when_full {
            WhenFull::Refuse => Goes::Nobody,
            WhenFull::Evict => Goes::LeastRecentlyUsed,
        };
        // What another plugin has does not matter.
        let (namespace, other) = (store.namespace(Some("one")), store.namespace(Some("other")));
        block_on(async {
            other.set("k".to_owned(), b"1".to_vec()).await.expect("there is room");
            run(&*namespace, &clock, bounds, goes, steps).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(64)))]

    #[test]
    fn a_file_does_what_the_model_does(bounds in tight(), steps in steps()) {
        let (clock, folder) = (clock(), tempfile::tempdir().expect("a folder"));
        let config = SqliteConfig {
            name: Arc::from("test"),
            path: folder.path().join("kv.db"),
            bounds,
            timeout: HANGS,
        };
        let goes = match bounds.when_full {
            WhenFull::Refuse => Goes::Nobody,
            WhenFull::Evict => Goes::LeastRecentlyWritten,
        };
        let store = Store::Sqlite(Sqlite::open_on(config, clock.clone()).expect("it opens"));
        let (namespace, other) = (store.namespace(Some("one")), store.namespace(Some("other")));
        block_on(async {
            other.set("k".to_owned(), b"1".to_vec()).await.expect("there is room");
            run(&*namespace, &clock, bounds, goes, steps).await;
            store.close().await;
        });
    }
}

/// The same histories at a real server, one bucket each; without bounds and time, which are the server's.
#[test]
fn a_broker_does_what_the_model_does() {
    block_on(async {
        let Some(broker) = Broker::start().await else { return };
        let store = Store::Nats(Box::new(nats(&broker, "model").await));
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for number in 0..24 {
            let steps = steps().new_tree(&mut runner).expect("a history").current();
            let namespace = store.namespace(Some(&format!("history-{number}")));
            run(&*namespace, &clock(), roomy(), Goes::Nobody, steps).await;
        }
    });
}

/// Listings of more than a page: every key once, in order, and no page longer than it may be.
async fn pages(store: &Store, count: usize) {
    let (namespace, other) = (store.namespace(Some("one")), store.namespace(Some("other")));
    other.set("theirs".to_owned(), Vec::new()).await.expect("there is room");
    let mut expected: Vec<String> = (0..count).map(|number| format!("key {number}")).collect();
    for key in &expected {
        namespace.set(key.clone(), b"v".to_vec()).await.expect("there is room");
    }
    expected.sort();
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = namespace.page(after).await.expect("listing works");
        assert!(page.keys.len() <= crate::PAGE);
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(keys, expected);
}

#[test]
fn a_listing_has_every_key_once() {
    block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let config = SqliteConfig {
            name: Arc::from("test"),
            path: folder.path().join("kv.db"),
            bounds: roomy(),
            timeout: HANGS,
        };
        pages(&Store::Memory(Memory::new(roomy())), 2_500).await;
        pages(&Store::Sqlite(Sqlite::open(config).expect("it opens")), 2_500).await;
        let Some(broker) = Broker::start().await else { return };
        pages(&Store::Nats(Box::new(nats(&broker, "pages").await)), 2_100).await;
    });
}

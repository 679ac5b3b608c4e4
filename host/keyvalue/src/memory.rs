//! Buckets in this process. They outlive plugins and reloads, and are gone with the process.
//!
//! An operation holds the lock of its namespace for as long as it takes to touch a few trees; values are copied outside
//! of it. What has expired is never seen again from that moment on; it is swept by later operations, a few entries at a
//! time, and at once where its room is needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use tidegate_runtime::environment::{Clock, Moment, SystemClock};
use tidegate_runtime::grants::Entry;

use crate::bucket::PAGE;
use crate::error::StoreError;
use crate::store::{Bounds, Namespace, Page, Usage, WhenFull, sum};

/// Expired entries that an operation sweeps on its way.
const SWEEP: usize = 64;

/// Keys that one page of a listing looks at, those that have expired included.
const LOOK: usize = 4 * PAGE;

/// A bucket in memory.
pub struct Memory {
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    namespaces: Mutex<BTreeMap<Option<String>, Arc<Space>>>,
}

impl Memory {
    /// An empty bucket.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self::on(bounds, Arc::new(SystemClock::default()))
    }

    /// The same on another clock than the system's.
    #[must_use]
    pub fn on(bounds: Bounds, clock: Arc<dyn Clock>) -> Self {
        Self { bounds, clock, namespaces: Mutex::default() }
    }

    pub(crate) fn namespace(&self, owner: Option<&str>) -> Arc<dyn Namespace> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = namespaces.entry(owner.map(str::to_owned)).or_insert_with(|| {
            Arc::new(Space { bounds: self.bounds, clock: Arc::clone(&self.clock), held: Mutex::default() })
        });
        Arc::clone(space) as Arc<dyn Namespace>
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// One namespace.
struct Space {
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

/// The entries and their orders. Each order has every entry, or none where nobody needs it.
#[derive(Default)]
struct Held {
    entries: HashMap<Arc<str>, Slot>,
    /// For listings.
    by_key: BTreeSet<Arc<str>>,
    /// By revision, with a time to live: all live equally long, so the first expires first.
    by_write: BTreeMap<u64, Arc<str>>,
    /// By the last use, where the least recently used has to go.
    by_use: BTreeMap<u64, Arc<str>>,
    /// Of keys and values.
    bytes: usize,
    /// Counts writes and uses.
    last: u64,
}

struct Slot {
    value: Bytes,
    revision: u64,
    used: u64,
    expires: Moment,
}

impl Held {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn remove(&mut self, key: &str) {
        if let Some(slot) = self.entries.remove(key) {
            self.bytes -= key.len() + slot.value.len();
            self.by_key.remove(key);
            self.by_write.remove(&slot.revision);
            self.by_use.remove(&slot.used);
        }
    }

    /// Sweep the entry that expires first, if it has.
    fn sweep_one(&mut self, now: Moment) -> bool {
        let Some(first) = self.by_write.values().next().cloned() else { return false };
        let expired = self.entries.get(&first).is_some_and(|slot| slot.expires <= now);
        if expired {
            self.remove(&first);
        }
        expired
    }

    fn sweep(&mut self, now: Moment) {
        for _ in 0..SWEEP {
            if !self.sweep_one(now) {
                break;
            }
        }
    }

    /// The entry of a key, if it is there and has not expired.
    fn live(&mut self, key: &str, now: Moment) -> Option<&mut Slot> {
        if self.entries.get(key).is_some_and(|slot| slot.expires <= now) {
            self.remove(key);
        }
        self.entries.get_mut(key)
    }

    fn put(&mut self, key: &str, value: Bytes, bounds: &Bounds, now: Moment) -> Result<(), StoreError> {
        let size = key.len() + value.len();
        if size > bounds.max_bytes {
            return Err(StoreError::Full);
        }
        self.sweep(now);
        let old = self.live(key, now).map(|slot| slot.value.len() + key.len());
        let fits = |held: &Self| {
            held.entries.len() - usize::from(old.is_some()) < bounds.max_entries
                && held.bytes - old.unwrap_or(0) + size <= bounds.max_bytes
        };
        while !fits(self) {
            if self.sweep_one(now) {
                continue;
            }
            // The key's own entry makes room already.
            let idle = self.by_use.values().find(|used| ***used != *key).cloned();
            match idle.filter(|_| bounds.when_full == WhenFull::Evict) {
                Some(idle) => self.remove(&idle),
                None => return Err(StoreError::Full),
            }
        }
        self.remove(key);
        let (revision, key) = (self.next(), Arc::<str>::from(key));
        let expires = bounds.ttl.map_or(Moment::NEVER, |ttl| now + ttl);
        if bounds.ttl.is_some() {
            self.by_write.insert(revision, Arc::clone(&key));
        }
        if bounds.when_full == WhenFull::Evict {
            self.by_use.insert(revision, Arc::clone(&key));
        }
        self.by_key.insert(Arc::clone(&key));
        self.bytes += size;
        self.entries.insert(key, Slot { value, revision, used: revision, expires });
        Ok(())
    }
}

impl Space {
    // A panic in here would be a bug of ours; the worst it leaves behind is an order that misses an entry.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, key: &str) -> Option<(Bytes, u64)> {
        let now = self.clock.now();
        let mut held = self.held();
        let used = held.next();
        // Looked up once: a read is what there is most of.
        let slot = held.entries.get_mut(key)?;
        if slot.expires <= now {
            held.remove(key);
            return None;
        }
        let found = (slot.value.clone(), slot.revision);
        if self.bounds.when_full == WhenFull::Evict {
            let before = std::mem::replace(&mut slot.used, used);
            if let Some(key) = held.by_use.remove(&before) {
                held.by_use.insert(used, key);
            }
        }
        Some(found)
    }

    fn list(&self, after: Option<String>) -> Page {
        let now = self.clock.now();
        let mut held = self.held();
        held.sweep(now);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = held.by_key.range::<str, _>((from, Bound::Unbounded));
        let mut page = Page::default();
        let mut last = None;
        for key in rest.by_ref().take(LOOK) {
            last = Some(key);
            if held.entries.get(key).is_some_and(|slot| slot.expires > now) {
                page.keys.push(key.to_string());
            }
            if page.keys.len() == PAGE {
                break;
            }
        }
        if rest.next().is_some() {
            page.next = last.map(ToString::to_string);
        }
        page
    }
}

impl Namespace for Space {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, StoreError>> {
        let found = self.read(&key).map(|(value, revision)| Entry { value: value.to_vec(), revision });
        Box::pin(ready(Ok(found)))
    }

    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        let now = self.clock.now();
        Box::pin(ready(self.held().put(&key, value.into(), &self.bounds, now)))
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.held().remove(&key);
        Box::pin(ready(Ok(())))
    }

    fn page(&self, after: Option<String>) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(ready(Ok(self.list(after))))
    }

    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, StoreError>> {
        let now = self.clock.now();
        let mut held = self.held();
        let is_same = held.live(&key, now).map(|slot| slot.revision) == revision;
        let swapped = if is_same { held.put(&key, value.into(), &self.bounds, now).map(|()| true) } else { Ok(false) };
        Box::pin(ready(swapped))
    }

    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, StoreError>> {
        let now = self.clock.now();
        let mut held = self.held();
        let sum = sum(held.live(&key, now).map(|slot| &*slot.value), delta).and_then(|sum| {
            held.put(&key, sum.to_string().into(), &self.bounds, now)?;
            Ok(sum)
        });
        Box::pin(ready(sum))
    }

    fn usage(&self) -> Option<Usage> {
        let mut held = self.held();
        held.sweep(self.clock.now());
        Some(Usage { entries: held.entries.len(), bytes: held.bytes })
    }
}

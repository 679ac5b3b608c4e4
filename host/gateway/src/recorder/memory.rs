//! How much memory recording takes, and that it takes no more than it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What there is for all exchanges together.
#[derive(Debug)]
pub(super) struct Memory {
    taken: AtomicUsize,
    limit: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), limit })
    }
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

/// There is not as much memory left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Share {
    /// Nothing yet.
    pub(super) fn of(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
    }

    /// So many bytes more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let before = self.memory.taken.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.memory.limit {
            self.memory.taken.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exhausted);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_what_is_dropped_is_there_again() {
        let memory = Memory::new(10);
        let (mut one, mut other) = (Share::of(&memory), Share::of(&memory));
        assert_eq!((one.grow(6), other.grow(5), other.grow(4)), (Ok(()), Err(Exhausted), Ok(())));
        assert_eq!(other.grow(1), Err(Exhausted));
        drop(one);
        assert_eq!((other.grow(6), other.grow(usize::MAX)), (Ok(()), Err(Exhausted)));
        drop(other);
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
    }
}

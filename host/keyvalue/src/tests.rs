//! Every backend against one simple model, and many tasks at a time against each of them.
#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

mod broker;
mod contention;
mod figures;
mod model;
mod sqlite;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Moment, Sleep};

use crate::store::{Bounds, WhenFull};

/// No operation takes longer, on however busy a machine.
const HANGS: Duration = Duration::from_secs(30);

/// A clock that a test moves.
#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl TestClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).expect("not for ever"), Ordering::SeqCst);
    }

    fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.millis() * 1_000_000)
    }

    fn thread_cpu(&self) -> Duration {
        Duration::ZERO
    }

    fn unix(&self) -> Duration {
        Duration::from_millis(self.millis())
    }

    fn sleep_until(&self, _: Moment) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// A clock that stands still until a test moves it.
fn clock() -> Arc<TestClock> {
    Arc::default()
}

/// Bounds that are not met by chance.
fn roomy() -> Bounds {
    Bounds { max_entries: 100_000, max_bytes: 64 << 20, max_value: 1 << 20, ttl: None, when_full: WhenFull::Refuse }
}

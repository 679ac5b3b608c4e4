//! Where threads meet: the lock of a pool, and tasks that go on beside their caller.
//!
//! They are std's and tokio's. In this crate's own tests they are also shuttle's, for an execution that shuttle drives:
//! there each lock that is about to be taken and each task that is begun is a point at which any other task may run first.
//! (Shuttle runs them all on one thread, so what happens under a lock is one step, and the lock itself is always free.)

#[cfg(not(test))]
pub(crate) use std::sync::Mutex;
#[cfg(not(test))]
pub(crate) use tokio_util::task::TaskTracker as Tasks;

#[cfg(test)]
pub(crate) use explored::{Mutex, Tasks};

/// Whether a task can be begun here. Not so where everything is torn down.
pub(crate) fn can_spawn() -> bool {
    #[cfg(test)]
    if explored::by_shuttle() {
        return true;
    }
    tokio::runtime::Handle::try_current().is_ok()
}

/// A point at which any other task may run first, beside those at locks and awaits: before a step that others see without
/// a lock. In an execution that shuttle drives; elsewhere it is nothing.
pub(crate) fn point() {
    #[cfg(test)]
    explored::point();
}

#[cfg(test)]
mod explored {
    use std::sync::{LockResult, MutexGuard};

    use tokio_util::task::TaskTracker;

    /// Whether shuttle drives this execution.
    pub(super) fn by_shuttle() -> bool {
        shuttle::current::try_get_current_task().is_some()
    }

    pub(super) fn point() {
        if by_shuttle() && !std::thread::panicking() {
            // A choice for the scheduler that, unlike a yield, asks for nothing.
            shuttle::sync::atomic::AtomicBool::new(false).load(std::sync::atomic::Ordering::SeqCst);
        }
    }

    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            point();
            self.0.lock()
        }
    }

    #[derive(Clone)]
    pub(crate) struct Tasks(TaskTracker);

    impl Tasks {
        pub(crate) fn new() -> Self {
            Self(TaskTracker::new())
        }

        pub(crate) fn spawn(&self, task: impl Future<Output: Send + 'static> + Send + 'static) {
            if by_shuttle() {
                drop(shuttle::future::spawn(self.0.track_future(task)));
            } else {
                drop(self.0.spawn(task));
            }
        }

        /// Wait until every task has come to its end.
        pub(crate) async fn all_done(&self) {
            self.0.close();
            self.0.wait().await;
        }
    }
}

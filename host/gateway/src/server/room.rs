//! Room for connections: one permit for each, and a number of permits that a reload can change.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Room for so many connections.
#[derive(Debug)]
pub(super) struct Room {
    permits: Arc<Semaphore>,
    size: Mutex<usize>,
    tasks: TaskTracker,
}

impl Room {
    pub(super) fn new(size: usize, tasks: &TaskTracker) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(size)), size: Mutex::new(size), tasks: tasks.clone() }
    }

    /// Wait for room. `None` never comes about: nobody closes the room.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Have room for another number of connections. If more are open now, none comes in until fewer are.
    pub(super) fn resize(&self, size: usize) {
        let size = size.min(Semaphore::MAX_PERMITS);
        let mut now = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size >= *now {
            self.permits.add_permits(size - *now);
        } else {
            let excess = *now - size;
            let owed = excess - self.permits.forget_permits(excess);
            // What is taken is paid back as connections end, before anyone else gets a permit: the queue is in order.
            if let Ok(owed) = u32::try_from(owed)
                && owed > 0
            {
                let permits = Arc::clone(&self.permits);
                self.tasks.spawn(async move {
                    if let Ok(paid) = permits.acquire_many_owned(owed).await {
                        paid.forget();
                    }
                });
            }
        }
        *now = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_room_that_shrinks_lets_nobody_in_until_enough_have_left() {
        let room = Room::new(3, &TaskTracker::new());
        let mut inside = Vec::new();
        for _ in 0..3 {
            inside.push(room.enter().await.expect("room"));
        }
        room.resize(1);
        let mut next = std::pin::pin!(room.enter());
        for _ in 0..2 {
            tokio::task::yield_now().await;
            assert!(futures_util::poll!(next.as_mut()).is_pending());
            drop(inside.pop());
        }
        tokio::task::yield_now().await;
        assert!(futures_util::poll!(next.as_mut()).is_pending(), "one is still inside");
        drop(inside.pop());
        assert!(next.await.is_some());
    }

    #[tokio::test]
    async fn a_room_that_grows_lets_in_who_waits() {
        let room = Room::new(1, &TaskTracker::new());
        let _first = room.enter().await.expect("room");
        let mut second = std::pin::pin!(room.enter());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        room.resize(2);
        assert!(second.await.is_some());
    }
}

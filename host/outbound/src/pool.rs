//! The connections of one plugin, as its configuration was when it was loaded.
//!
//! No connection is ever used by another plugin, or by a version with other grants: each has a pool of its own. One that
//! nobody uses is kept for [`IDLE`]; if a new one is needed and there are as many as there may be, the one that has been
//! unused for longest makes room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tidegate_runtime::outbound::OutboundError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::connect::Connection;
use crate::origin::Target;

/// For how long a connection is kept that nobody uses.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// How often those that are older are looked for.
const SWEEP: Duration = Duration::from_secs(5);

pub(crate) struct Pool {
    /// Those that are free, the one that was used last at the end.
    idle: Mutex<VecDeque<Idle>>,
    places: Arc<Semaphore>,
    sweeper: OnceLock<AbortOnDropHandle<()>>,
}

struct Idle {
    target: Target,
    connection: Connection,
    since: Instant,
}

impl Idle {
    fn is_over(&self) -> bool {
        self.connection.sender.is_closed() || self.since.elapsed() >= IDLE
    }
}

impl Pool {
    /// For so many connections, idle ones included.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            sweeper: OnceLock::new(),
        })
    }

    // Each step leaves the list sound.
    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a connection that can be used now.
    pub(crate) fn take(&self, target: &Target) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|idle| !idle.is_over());
        let found = idle.iter().rposition(|idle| idle.target == *target && idle.connection.sender.is_ready())?;
        idle.remove(found).map(|idle| idle.connection)
    }

    /// The right to make one more.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, OutboundError> {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return Ok(place);
            }
            let oldest = self.idle().pop_front();
            if oldest.is_none() {
                return Err(OutboundError::Limit);
            }
        }
    }

    /// Keep a connection whose request is done.
    pub(crate) fn give_back(self: &Arc<Self>, target: Target, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        self.idle().push_back(Idle { target, connection, since: Instant::now() });
        self.sweeper.get_or_init(|| {
            // It ends with the pool, which has its handle.
            AbortOnDropHandle::new(tokio::spawn(sweep(Arc::downgrade(self))))
        });
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle().retain(|idle| !idle.is_over());
    }
}

//! Datagrams to the supervisor. It may be slow, gone or never have been there: nothing here waits for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The pause before a supervisor whose queue was full is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Messages that wait for it at most. More than a start, a reload and a stop make.
const LONGEST_WAIT: usize = 64;

/// Sends datagrams to one address.
#[derive(Debug)]
pub(super) struct Courier {
    socket: UnixDatagram,
    to: SocketAddr,
    /// What must arrive and did not fit into the supervisor's queue, in order.
    waiting: Mutex<VecDeque<String>>,
    full: Notify,
    complained: AtomicBool,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// Sent, or lost for good.
    Done,
    /// The queue is full; later there may be room.
    Full,
}

impl Courier {
    /// One that sends to a path, or to an abstract address, which begins with `@`. The address need not be there yet.
    pub(super) fn to(address: &OsStr) -> io::Result<Self> {
        let to = match address.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            [b'@', name @ ..] => abstract_address(name)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is neither a path from / nor @ and a name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let (waiting, full) = (Mutex::default(), Notify::new());
        Ok(Self { socket, to, waiting, full, complained: AtomicBool::new(false) })
    }

    /// Send it now if there is room, and otherwise not at all: the next one says the same.
    pub(super) fn in_passing(&self, message: &str) {
        if self.waiting().is_empty() {
            self.deliver(message);
        }
    }

    /// Send it after all that wait, now or as soon as there is room and [`Courier::retry`] runs.
    pub(super) fn must_arrive(&self, message: String) {
        let mut waiting = self.waiting();
        if waiting.is_empty() && self.deliver(&message) == Delivery::Done {
            return;
        }
        if waiting.len() < LONGEST_WAIT {
            waiting.push_back(message);
        }
        self.full.notify_one();
    }

    /// Send what waits, for as long as it is polled.
    pub(super) async fn retry(&self) -> Infallible {
        loop {
            self.full.notified().await;
            while !self.waiting().is_empty() {
                tokio::time::sleep(RETRY).await;
                self.send_waiting();
            }
        }
    }

    fn send_waiting(&self) {
        let mut waiting = self.waiting();
        while waiting.front().is_some_and(|message| self.deliver(message) == Delivery::Done) {
            waiting.pop_front();
        }
    }

    fn deliver(&self, message: &str) -> Delivery {
        match self.socket.send_to_addr(message.as_bytes(), &self.to) {
            Ok(_) => Delivery::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Delivery::Full,
            Err(error) if self.complained.swap(true, Ordering::Relaxed) => {
                tracing::debug!(%error, notification = message, "the supervisor cannot be notified");
                Delivery::Done
            }
            Err(error) => {
                tracing::warn!(%error, notification = message, "the supervisor cannot be notified; further failures are debug messages");
                Delivery::Done
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<String>> {
        // Messages are put in and taken out whole: a poisoned queue is as good as a sound one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no abstract addresses"))
}

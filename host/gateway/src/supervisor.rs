//! Whoever watches over the process: what it is told (systemd's notification protocol, which other supervisors speak,
//! too), and the sockets it hands over.
//!
//! | module | owns |
//! |---|---|
//! | `courier` | one datagram after the other to the supervisor, without ever waiting for it |
//! | `sockets` | listening sockets that were there before the process |
//!
//! The variables are read and left as they are: to unset them is unsound once there are threads, and the gateway has no
//! child processes that could take them for theirs.

mod courier;
pub mod sockets;

use std::convert::Infallible;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use self::courier::Courier;

/// How often a stop asks for more time, and for how much: if one message is lost, the next one is in time.
const RENEWAL: Duration = Duration::from_secs(1);
const EXTENSION: Duration = Duration::from_secs(5);

/// Asked for beyond the grace period: for the report, and for the exit itself.
const EXIT: Duration = Duration::from_secs(2);

/// The shortest pause between two signs of life. A supervisor that wants more of them is not believed.
const SHORTEST_BEAT: Duration = Duration::from_millis(1);

/// Tells the supervisor how the process does. Without a supervisor that wants to know, it is silent. No method waits,
/// and none can fail: what cannot be told is logged.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    courier: Option<Arc<Courier>>,
    /// Half the time after which the supervisor takes silence for death.
    beat: Option<Duration>,
}

impl Notifier {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say. What makes no sense in them is logged, so call it
    /// once there is a log.
    #[must_use]
    pub fn from_environment() -> Self {
        let watchdog = [std::env::var_os("WATCHDOG_USEC"), std::env::var_os("WATCHDOG_PID")];
        Self::new(std::env::var_os("NOTIFY_SOCKET"), watchdog, std::process::id())
    }

    fn new(socket: Option<OsString>, [every, pid]: [Option<OsString>; 2], own_pid: u32) -> Self {
        let courier = socket.and_then(|socket| {
            let failed = |error| tracing::warn!(%error, ?socket, "NOTIFY_SOCKET is of no use; nobody is notified");
            Courier::to(&socket).map_err(failed).ok()
        });
        Self { courier: courier.map(Arc::new), beat: beat(every, pid, own_pid) }
    }

    /// The gateway serves, from the start or again after [`Notifier::reloading`].
    pub fn ready(&self, status: &str) {
        self.state(format!("READY=1\nSTATUS={}", line(status)));
    }

    /// A new configuration is being loaded. [`Notifier::ready`] says when that is done, whether it was taken or not.
    pub fn reloading(&self) {
        // The supervisor compares it with the moment at which it sent the signal, to tell this reload from an earlier
        // one: `Type=notify-reload` in systemd.service(5).
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.state(format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }

    /// The stop has begun.
    pub fn stopping(&self) {
        self.state("STOPPING=1\nSTATUS=stopping".to_owned());
    }

    /// A line for people, as in `systemctl status`.
    pub fn status(&self, text: &str) {
        self.state(format!("STATUS={}", line(text)));
    }

    /// Whatever the gateway is doing: another message follows within this time, or something is wrong.
    pub fn extend(&self, by: Duration) {
        if let Some(courier) = &self.courier {
            courier.in_passing(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
        }
    }

    /// Do the work of a stop that is over by `until`, and ask for more time as long as it goes on; never for more than
    /// it may take. So a supervisor whose own limit is too short does not kill a stop that is on schedule. The work is
    /// polled in turn with the asking: a stop that hangs asks for nothing.
    pub async fn extending<T>(&self, until: Instant, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep_extending(until) => match never {},
        }
    }

    async fn keep_extending(&self, until: Instant) -> Infallible {
        let mut renewals = interval(RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.courier.is_some() {
            renewals.tick().await;
            match extension(until.saturating_duration_since(Instant::now())) {
                Some(by) => self.extend(by),
                None => break,
            }
        }
        std::future::pending().await
    }

    /// Begin to send signs of life, if the supervisor wants them, until the pulse is dropped. They come from a task
    /// like those that serve: when no worker thread gets to its tasks any more, they cease. Call it inside a tokio
    /// runtime.
    pub fn pulse(&self) -> Pulse {
        let task = self.courier.clone().map(|courier| {
            let beat = self.beat;
            AbortOnDropHandle::new(tokio::spawn(async move { tokio::join!(courier.retry(), live(&courier, beat)) }))
        });
        Pulse { _task: task }
    }

    fn state(&self, message: String) {
        if let Some(courier) = &self.courier {
            courier.must_arrive(message);
        }
    }
}

/// What to ask for when a stop may take this much longer; nothing when its time is up.
fn extension(left: Duration) -> Option<Duration> {
    (!left.is_zero()).then(|| EXTENSION.min(left + EXIT))
}

/// Signs of life are sent until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, the signs of life cease"]
pub struct Pulse {
    _task: Option<AbortOnDropHandle<(Infallible, Infallible)>>,
}

async fn live(courier: &Courier, beat: Option<Duration>) -> Infallible {
    let Some(beat) = beat else { return std::future::pending().await };
    let mut beats = interval(beat);
    // Once late, the next one counts from now: two in a row prove no more than one.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        courier.in_passing("WATCHDOG=1");
    }
}

/// Half of what `WATCHDOG_USEC` says, if it is meant for this process.
fn beat(every: Option<OsString>, pid: Option<OsString>, own_pid: u32) -> Option<Duration> {
    let number = |text: &OsString| text.to_str()?.parse::<u64>().ok();
    let every = every?;
    if pid.is_some_and(|pid| number(&pid) != Some(u64::from(own_pid))) {
        return None;
    }
    let micros = number(&every).filter(|micros| *micros > 0);
    if micros.is_none() {
        tracing::warn!(value = ?every, "WATCHDOG_USEC is no time; no signs of life are sent");
    }
    micros.map(|micros| (Duration::from_micros(micros) / 2).max(SHORTEST_BEAT))
}

/// What is sent has a field in each line.
fn line(text: &str) -> String {
    text.trim().replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests;

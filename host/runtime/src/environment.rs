//! The seam through which time and randomness enter the runtime.
//!
//! Everything else in this crate asks an [`Environment`]; nothing reads a clock or the system's entropy by itself. A
//! test harness can therefore run the very same code in virtual time, by passing a clock of its own, seeding the random
//! numbers, and letting time pass, and the epoch go on, with what guests compute ([`Gauge`]).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::contract::Hook;

/// A point in time: nanoseconds since the origin of the [`Clock`] that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Later than every other moment.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment so many nanoseconds after the clock's origin.
    #[must_use]
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` until this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A pinned future of a sleep.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The clocks that budgets are measured on.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time. Read several times per hook call: it has to be cheap.
    fn now(&self) -> Moment;

    /// CPU time of the calling thread. Read once or twice per tick of a guest that computes for long.
    fn thread_cpu(&self) -> Duration;

    /// Wall-clock time since the Unix epoch, for guests.
    fn unix(&self) -> Duration;

    /// A future that is ready once `now() >= moment`.
    fn sleep_until(&self, moment: Moment) -> Sleep;
}

/// Who advances the engine's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticks {
    /// An OS thread of the runtime, once per period.
    Every(Duration),
    /// Whoever holds the runtime, by calling [`crate::Runtime::tick`]; and with a [`Gauge`], what guests compute.
    Manual,
}

/// Where guests' random numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Randomness {
    /// The operating system.
    System,
    /// A generator seeded by this and the number of the instance.
    Seeded(u64),
}

/// Watches guests that count what they compute: one unit of fuel for nearly every instruction.
///
/// Counting makes guests up to three times as slow, and gives other machine code; it is for a harness. What a guest
/// burns is the same on every machine, so a clock that this advances stops it at the same instruction every time.
pub trait Gauge: Send + Sync + 'static {
    /// A call begins: the fuel that it may burn. Without any left the guest traps.
    fn begin(&self, call: &GaugedCall<'_>) -> u64;

    /// A call has burned so much more.
    fn burn(&self, call: &GaugedCall<'_>, fuel: u64);

    /// A call asks the host for something that has an effect, and has not had it yet; for the how manieth time, from 1.
    fn host_call(&self, nth: u64);

    /// A call is over, or the guest is given up.
    fn end(&self, call: &GaugedCall<'_>, used: &Used);

    /// Units of fuel after which it wants to know where the guest is; `None` for never. Read when an instance is made.
    fn sampling(&self) -> Option<u64> {
        None
    }

    /// The guest is in these functions, the outermost first. It is told of where it calls a function or begins a turn of a
    /// loop, which is where it can be interrupted.
    fn sample(&self, _stack: &[String]) {}
}

/// What a call has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Fuel.
    pub fuel: u64,
    /// Requests to the host that have an effect.
    pub host_calls: u64,
    /// Bytes of the instance's linear memories, which never shrink.
    pub memory: usize,
}

/// Units of fuel after which a guest lets the clock go on: how exact time is within a call.
pub const FUEL_SLICE: u64 = 1_000;

/// Which call a [`Gauge`] is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaugedCall<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// The number of the instance.
    pub instance: u64,
    /// The hook; for what runs when an instance is made it is `configure`.
    pub hook: Hook,
}

/// What surrounds the runtime.
#[derive(Clone)]
pub struct Environment {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The epoch.
    pub ticks: Ticks,
    /// The entropy.
    pub randomness: Randomness,
    /// Who watches what guests compute. Without one it is not counted.
    pub gauge: Option<Arc<dyn Gauge>>,
}

impl Environment {
    /// Real time, real randomness, and an epoch tick per `tick`.
    #[must_use]
    pub fn real(tick: Duration) -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            ticks: Ticks::Every(tick),
            randomness: Randomness::System,
            gauge: None,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("ticks", &self.ticks)
            .field("randomness", &self.randomness)
            .finish_non_exhaustive()
    }
}

/// The operating system's clocks and tokio's timer.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(0) + self.origin.elapsed()
    }

    fn thread_cpu(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        // A moment too far away for `Instant` is one that never comes.
        match self.origin.checked_add(Duration::from_nanos(moment.0)) {
            Some(at) if moment != Moment::NEVER => Box::pin(tokio::time::sleep_until(at.into())),
            _ => Box::pin(std::future::pending()),
        }
    }
}

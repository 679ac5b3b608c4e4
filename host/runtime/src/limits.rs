//! The budgets of a plugin. Every field is enforced; the defaults are those of the configuration's reference.

use std::time::Duration;

/// What one plugin may use. Durations are per call, sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall and CPU time of `configure`, start functions included.
    pub configure: Duration,
    /// CPU time of one call of a request or response hook: for how long it keeps a thread busy, in the guest and in the
    /// host on its behalf. Waiting does not count.
    pub cpu: Duration,
    /// Time of the whole call, waiting for an instance and for host calls included.
    pub wall: Duration,
    /// Wall and CPU time of `shutdown`, if the stop has that much left.
    pub shutdown: Duration,
    /// Linear memory of one instance, all its memories together.
    pub memory: usize,
    /// Calls that may wait for an instance at a time; one more is refused as overloaded.
    pub queue: usize,
    /// The longest body handed to a body hook, and the longest one a plugin may answer with.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            configure: Duration::from_secs(1),
            cpu: Duration::from_millis(10),
            wall: Duration::from_millis(100),
            shutdown: Duration::from_secs(5),
            memory: 32 << 20,
            queue: 1024,
            body: 1 << 20,
        }
    }
}

/// How many instances a plugin has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// Ready from the start, and kept up.
    pub min: usize,
    /// Never exceeded; instances beyond `min` come up when calls would otherwise wait.
    pub max: usize,
}

/// What state outlives a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Instances live on and keep their memory between calls.
    #[default]
    Warm,
    /// Each hook call gets an instance of its own, dropped afterwards. `Instances::max` bounds how many live at a
    /// time. Nothing is left to shut down when such a plugin stops.
    Fresh,
}

//! How long the current call may still take.

use std::time::Duration;

/// The time by which the current call has to be over.
///
/// On WebAssembly the host is asked, so that it needs no clock and works on `wasm32-unknown-unknown`, too. When the
/// time is up the host stops the instance wherever it is; a loop that looks at [`expired`](Self::expired) can stop in
/// time and say what is left.
///
/// ```
/// use tidegate_sdk::{Deadline, Result};
///
/// fn flush(queue: &mut Vec<String>, deadline: Deadline) -> Result<()> {
///     while let Some(event) = queue.pop() {
///         if deadline.expired() {
///             return Err(format!("{} events were not sent", queue.len() + 1).into());
///         }
///         log::info!("{event}");
///     }
///     Ok(())
/// }
///
/// assert!(flush(&mut vec!["a".into()], Deadline::never()).is_ok());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    clock: Clock,
    /// By how much it is earlier than the clock's.
    reserve: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    #[cfg(target_arch = "wasm32")]
    Host,
    #[cfg(not(target_arch = "wasm32"))]
    Until(Option<std::time::Instant>),
}

#[cfg(target_arch = "wasm32")]
impl Deadline {
    /// The deadline of the call that is running, whichever hook it is.
    #[must_use]
    pub fn of_this_call() -> Self {
        Self { clock: Clock::Host, reserve: Duration::ZERO }
    }

    /// The time left, rounded down to milliseconds; zero when it is up.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let Clock::Host = self.clock;
        let left = Duration::from_millis(crate::bindings::imports::tidegate::plugin::lifecycle::remaining_ms());
        left.saturating_sub(self.reserve)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Deadline {
    /// The deadline of the call that is running, whichever hook it is; in a native test, none.
    #[must_use]
    pub fn of_this_call() -> Self {
        Self::never()
    }

    /// A deadline for a test: `time` from now. Not there in a build for WebAssembly.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { clock: Clock::Until(std::time::Instant::now().checked_add(time)), reserve: Duration::ZERO }
    }

    /// A deadline for a test that never comes. Not there in a build for WebAssembly.
    #[must_use]
    pub fn never() -> Self {
        Self { clock: Clock::Until(None), reserve: Duration::ZERO }
    }

    /// The time left; zero when it is up.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let Clock::Until(end) = self.clock;
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(std::time::Instant::now()));
        left.saturating_sub(self.reserve)
    }
}

impl Deadline {
    /// A deadline that is so much earlier, for a step that others follow.
    #[must_use]
    pub fn earlier_by(self, reserve: Duration) -> Self {
        Self { reserve: self.reserve.saturating_add(reserve), ..self }
    }

    /// Whether the time is up.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.remaining().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_expires_when_its_time_is_up_and_not_before() {
        assert!(Deadline::after(Duration::ZERO).expired());
        assert!(!Deadline::after(Duration::from_secs(3600)).expired());
        assert!(Deadline::after(Duration::from_secs(3600)).remaining() > Duration::from_secs(3000));
        assert!(!Deadline::never().expired());
    }

    #[test]
    fn an_earlier_deadline_leaves_time_for_what_follows() {
        let deadline = Deadline::after(Duration::from_secs(3600)).earlier_by(Duration::from_secs(1800));
        assert!((1700..=1800).contains(&deadline.remaining().as_secs()));
        assert!(deadline.earlier_by(Duration::from_secs(1800)).expired());
    }
}

//! The phase of the process. One [`PhaseOwner`] moves it, forward only; everyone else holds a [`PhaseView`].

use std::fmt;

use tokio::sync::watch;

/// Where the process is in its life. The order is the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Plugins are loaded, listeners bound; nothing is accepted yet.
    Starting,
    /// Serving.
    Ready,
    /// A stop was asked for: readiness answers 503, requests are still accepted, connections are asked to close.
    LameDuck,
    /// Listeners close, running exchanges go on.
    Draining,
    /// Plugins are told to stop.
    Stopping,
    /// Logs and the report are written.
    Flushing,
    /// Nothing runs any more.
    Stopped,
}

impl Phase {
    /// As in the report and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::LameDuck => "lame-duck",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Flushing => "flushing",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Moves the phase. There is one per process.
#[derive(Debug)]
pub struct PhaseOwner(watch::Sender<Phase>);

impl Default for PhaseOwner {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl PhaseOwner {
    /// Enter a later phase. Going back, or staying, changes nothing.
    pub fn enter(&self, next: Phase) {
        self.0.send_if_modified(|now| {
            let later = next > *now;
            if later {
                *now = next;
            }
            later
        });
    }

    /// A view that follows this owner.
    #[must_use]
    pub fn view(&self) -> PhaseView {
        PhaseView(self.0.subscribe())
    }
}

/// Reads the phase and waits for it.
#[derive(Debug, Clone)]
pub struct PhaseView(watch::Receiver<Phase>);

impl PhaseView {
    /// The phase now.
    #[must_use]
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Wait until `phase` or a later one has begun. Returns at once if the owner is gone: then everything is over.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_never_goes_back() {
        let owner = PhaseOwner::default();
        let mut view = owner.view();
        owner.enter(Phase::Draining);
        owner.enter(Phase::Ready);
        assert_eq!(view.now(), Phase::Draining);
        view.reached(Phase::LameDuck).await;
    }
}

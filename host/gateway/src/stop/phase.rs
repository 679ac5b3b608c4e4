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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use proptest::prelude::*;

    use super::*;

    const PHASES: [Phase; 7] = [
        Phase::Starting,
        Phase::Ready,
        Phase::LameDuck,
        Phase::Draining,
        Phase::Stopping,
        Phase::Flushing,
        Phase::Stopped,
    ];

    /// What can happen to a phase.
    #[derive(Debug, Clone)]
    enum Event {
        Enter(Phase),
        /// Somebody begins to wait.
        Await(Phase),
        /// One of those who wait gives up.
        GiveUp(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        let phase = || prop::sample::select(&PHASES[..]);
        prop_oneof![phase().prop_map(Event::Enter), phase().prop_map(Event::Await), (0..8usize).prop_map(Event::GiveUp)]
    }

    /// Somebody who waits for a phase, and looks again only when woken.
    struct Waiter {
        phase: Phase,
        reached: BoxFuture<'static, ()>,
        woken: Arc<Woken>,
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Waiter {
        fn new(mut view: PhaseView, phase: Phase) -> Self {
            let reached = async move { view.reached(phase).await }.boxed();
            Self { phase, reached, woken: Arc::new(Woken(AtomicBool::new(true))) }
        }

        /// Whether it has what it waits for, as far as it has been told.
        fn is_done(&mut self) -> bool {
            let woken = self.woken.0.swap(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&self.woken));
            woken && self.reached.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        }
    }

    proptest! {
        #[test]
        fn it_only_goes_forward_and_whoever_waits_is_told_in_time(events in prop::collection::vec(event(), 0..40)) {
            let owner = PhaseOwner::default();
            let (early, mut now) = (owner.view(), Phase::Starting);
            let mut waiters: Vec<Waiter> = Vec::new();
            for event in events {
                match event {
                    Event::Enter(next) => {
                        owner.enter(next);
                        now = now.max(next);
                    }
                    Event::Await(phase) => waiters.push(Waiter::new(early.clone(), phase)),
                    Event::GiveUp(which) if !waiters.is_empty() => {
                        waiters.swap_remove(which % waiters.len());
                    }
                    Event::GiveUp(_) => {}
                }
                prop_assert_eq!([early.now(), owner.view().now()], [now, now]);
                let (due, left): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|waiter| waiter.phase <= now);
                waiters = left;
                for mut waiter in due {
                    prop_assert!(waiter.is_done(), "{} was reached, and nobody told", waiter.phase);
                }
                for waiter in &mut waiters {
                    prop_assert!(!waiter.is_done(), "{} has not been reached at {now}", waiter.phase);
                }
            }
            drop(owner);
            prop_assert!(waiters.iter_mut().all(Waiter::is_done), "nobody waits for a phase that never comes");
        }
    }
}

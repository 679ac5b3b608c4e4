//! The signals that end the process.

use std::fmt;
use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A signal that asks the gateway to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// From a supervisor.
    Terminate,
    /// From a terminal.
    Interrupt,
}

impl StopSignal {
    /// As in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// Its number (POSIX), for exit codes of 128 and more.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Terminate => 15,
            Self::Interrupt => 2,
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the gateway stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// A signal.
    Signal(StopSignal),
    /// Somebody asked for it through the admin API.
    Admin,
}

impl StopCause {
    /// The signal, if it was one.
    #[must_use]
    pub fn signal(self) -> Option<StopSignal> {
        match self {
            Self::Signal(signal) => Some(signal),
            Self::Admin => None,
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// Hears SIGHUP, which asks for a reload, from the moment it is made. Those that come while nobody listens count as one.
#[derive(Debug)]
pub struct ReloadSignals(unix::Signal);

impl ReloadSignals {
    /// Begin to listen. Call inside a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(unix::signal(SignalKind::hangup())?))
    }

    /// The next one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The stream ends only with the tokio runtime.
            std::future::pending().await
        }
    }
}

/// Hears the signals from the moment it is made: none that comes later ends the process by itself.
#[derive(Debug)]
pub struct StopSignals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl StopSignals {
    /// Begin to listen. Call inside a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            Some(()) = self.terminate.recv() => StopSignal::Terminate,
            Some(()) = self.interrupt.recv() => StopSignal::Interrupt,
            // Both streams end only with the tokio runtime.
            else => std::future::pending().await,
        }
    }
}

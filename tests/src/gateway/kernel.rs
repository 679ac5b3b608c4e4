//! What the kernel knows of a process.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{HANGS, Process, Signal, StartingGateway, TestGateway};

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub struct Holdings {
    /// Resident memory in bytes.
    pub resident: usize,
    /// Open file descriptors.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

impl TestGateway {
    /// What the process holds now.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let entries = |folder: &str| {
            let folder = self.process.in_proc(folder);
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).count()
        };
        Holdings { resident: self.resident(), files: entries("fd"), threads: entries("task") }
    }
}

impl StartingGateway {
    /// Wait until the process hears this signal instead of being ended by it. It has looked at its config then, and
    /// loaded nothing yet.
    ///
    /// # Panics
    /// If that never comes.
    pub async fn hears(&self, signal: Signal) {
        let mask = 1_u64 << (signal.as_raw() - 1);
        let heard = async {
            while self.process.caught_signals() & mask == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let heard = tokio::time::timeout(HANGS, heard).await;
        assert!(heard.is_ok(), "{signal:?} is never heard\n{}", self.process.log().text());
    }
}

impl Process {
    fn in_proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid().as_raw_nonzero()))
    }

    /// A bit per signal, from 1. No bits if the process is gone.
    fn caught_signals(&self) -> u64 {
        let status = fs::read_to_string(self.in_proc("status")).unwrap_or_default();
        let mask = |line: &str| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok();
        status.lines().find_map(mask).unwrap_or_default()
    }
}

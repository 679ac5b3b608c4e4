//! Says in the log when a file stops working, and when it works again: once each, however many operations meet it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::database::Failure;

/// How a file does.
pub(super) struct Health {
    bucket: Arc<str>,
    path: PathBuf,
    is_broken: AtomicBool,
}

impl Health {
    pub(super) fn new(bucket: Arc<str>, path: PathBuf) -> Self {
        Self { bucket, path, is_broken: AtomicBool::new(false) }
    }

    /// An operation has ended like this.
    pub(super) fn saw<T>(&self, result: &Result<T, Failure>) {
        let (bucket, path) = (&*self.bucket, self.path.display());
        match result {
            Err(Failure::Database(error)) => {
                if !self.is_broken.swap(true, Ordering::Relaxed) {
                    tracing::error!(bucket, %path, %error, "the file of a bucket does not work");
                }
            }
            // What the store refuses, it refuses because it works.
            Ok(_) | Err(Failure::Refused(_)) => {
                if self.is_broken.swap(false, Ordering::Relaxed) {
                    tracing::info!(bucket, %path, "the file of a bucket works again");
                }
            }
        }
    }
}

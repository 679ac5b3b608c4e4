//! Watches the config file and the plugins' files, if `[reload] watch` asks for it, and reloads when they have changed.
//!
//! It looks at them at intervals instead of asking the kernel for events: it is a handful of files, each may be a
//! link that is switched over (Kubernetes mounts configuration that way) or lie on a network, and a look costs
//! microseconds. A reload begins when two looks in a row have found the same change, so that a file that is still being
//! written is not read; one that is read half-written after all is refused, and looked at again when it is whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::Instrument as _;

use super::Control;
use crate::config::Config;

/// The files of the config that was read last, in force or refused, and what they were like then.
#[derive(Debug)]
pub(super) struct Watched {
    file: PathBuf,
    seen: Mutex<Vec<(PathBuf, Look)>>,
}

/// Device, inode, length, and time of the last change of a file; `None` if it is not there.
type Look = Option<(u64, u64, u64, i64, i64)>;

impl Watched {
    pub(super) fn new(file: &Path, config: &Config) -> Self {
        let paths = std::iter::once(file.to_owned()).chain(plugins(config)).collect();
        Self { file: file.to_owned(), seen: Mutex::new(look_at(paths)) }
    }

    /// The config file is about to be read: remember what the files are like.
    pub(super) async fn before_reading(&self) {
        let now = self.now().await;
        *self.seen() = now;
    }

    /// The config file has been read, and its plugins are about to be.
    pub(super) async fn before_loading(&self, config: &Config) {
        let plugins = look(plugins(config).collect()).await;
        let mut seen = self.seen();
        // The config file stays what it was before it was read.
        seen.retain(|(path, _)| *path == self.file);
        seen.extend(plugins);
    }

    /// What the files are like now, if that is not what they were like when they were read.
    async fn changed(&self) -> Option<Vec<(PathBuf, Look)>> {
        let now = self.now().await;
        (now != *self.seen()).then_some(now)
    }

    async fn now(&self) -> Vec<(PathBuf, Look)> {
        let paths = self.seen().iter().map(|(path, _)| path.clone()).collect();
        look(paths).await
    }

    fn seen(&self) -> MutexGuard<'_, Vec<(PathBuf, Look)>> {
        // Looks are replaced whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plugins(config: &Config) -> impl Iterator<Item = PathBuf> {
    config.plugins.iter().map(|plugin| plugin.path.clone())
}

/// A file system may let us wait.
async fn look(paths: Vec<PathBuf>) -> Vec<(PathBuf, Look)> {
    match tokio::task::spawn_blocking(move || look_at(paths)).await {
        Ok(looks) => looks,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn look_at(paths: Vec<PathBuf>) -> Vec<(PathBuf, Look)> {
    let look = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let look = metadata.map(|file| (file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()));
        (path, look)
    };
    paths.into_iter().map(look).collect()
}

impl Control {
    /// Watch the files for as long as the process serves.
    pub(super) fn watch_files(&self) {
        let (control, closing) = (self.clone(), self.shared.closing.clone());
        let task = async move {
            closing.run_until_cancelled(control.watch_files_on()).await;
        };
        self.shared.tasks.spawn(task.instrument(tracing::info_span!("watch")));
    }

    async fn watch_files_on(&self) {
        let mut generations = self.shared.generations.subscribe();
        let mut last = None;
        loop {
            let Some(interval) = self.current().config.reload.watch else {
                // Another configuration may ask for it.
                if generations.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::time::sleep(interval).await;
            let now = self.shared.watched.changed().await;
            if now.is_some() && now == last {
                last = None;
                // Says in the log how it went; a refused one is tried again when the files change again.
                let _ = self.reload("watch").await;
            } else {
                last = now;
            }
        }
    }
}

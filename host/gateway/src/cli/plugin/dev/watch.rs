//! The sources of a project, looked at again and again. That sees every change on every file system, and a project is small.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cli::plugin::project::{Made, Project};

/// Between two looks. Files that still change from one to the next are waited for.
const PERIOD: Duration = Duration::from_millis(250);

/// Files that are looked at. A project with more is not watched in full.
const MOST_FILES: usize = 10_000;

/// What is known of each file.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// The sources, as they were at the last look.
pub(super) struct Sources {
    folder: Arc<Path>,
    made: Arc<Made>,
    files: Files,
}

impl Sources {
    /// Those of this project; nothing has been seen yet.
    ///
    /// # Errors
    /// When there is no working directory.
    pub(super) fn of(project: &Project) -> io::Result<Self> {
        let folder = std::path::absolute(&project.folder)?.into();
        Ok(Self { folder, made: Made::of(project)?.into(), files: Files::new() })
    }

    /// The project was built as this one, which may have its component elsewhere.
    ///
    /// # Errors
    /// When there is no working directory.
    pub(super) fn built(&mut self, project: &Project) -> io::Result<()> {
        self.made = Made::of(project)?.into();
        self.files.retain(|path, _| !self.made.has(path));
        Ok(())
    }

    /// See them as they are now.
    pub(super) async fn look(&mut self) {
        self.files = self.now().await;
    }

    /// Ready when they are others than at the last look, and have come to rest.
    pub(super) async fn changed(&self) {
        let mut before = self.now().await;
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = self.now().await;
            if now != self.files && now == before {
                return;
            }
            before = now;
        }
    }

    async fn now(&self) -> Files {
        let (folder, made) = (Arc::clone(&self.folder), Arc::clone(&self.made));
        let looked = tokio::task::spawn_blocking(move || {
            let mut files = Files::new();
            collect(&folder, &made, &mut files);
            files
        });
        looked.await.unwrap_or_default()
    }
}

/// What cannot be read is not there; the build says more of it.
fn collect(folder: &Path, made: &Made, files: &mut Files) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if made.has(&path) || files.len() >= MOST_FILES {
            continue;
        }
        if kind.is_dir() {
            collect(&path, made, files);
        } else if let Ok(about) = entry.metadata() {
            files.insert(path, (about.modified().ok(), about.len()));
        }
    }
}

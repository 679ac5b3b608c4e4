//! The sources of a project, looked at again and again. That sees every change on every file system, and a project is small.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Between two looks. Files that still change from one to the next are waited for.
const PERIOD: Duration = Duration::from_millis(250);

/// What a build makes or gets, and what versions are kept in.
const NOT_SOURCES: [&str; 6] = ["target", "node_modules", ".venv", "__pycache__", ".git", ".tidegate-dev.toml"];

/// Written by cargo and npm in the course of a build.
const LOCKS: [&str; 2] = ["Cargo.lock", "package-lock.json"];

/// Files that are looked at. A project with more is not watched in full.
const MOST_FILES: usize = 10_000;

/// What is known of each file.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// The sources, as they were at the last look.
pub(super) struct Sources {
    folder: Arc<Path>,
    files: Files,
}

impl Sources {
    /// Those of this folder; nothing has been seen yet.
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.into(), files: Files::new() }
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
        let folder = Arc::clone(&self.folder);
        let looked = tokio::task::spawn_blocking(move || {
            let mut files = Files::new();
            collect(&folder, &mut files);
            files
        });
        looked.await.unwrap_or_default()
    }
}

/// What cannot be read is not there; the build says more of it.
fn collect(folder: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_source = !NOT_SOURCES.iter().chain(&LOCKS).any(|own| name == *own);
        let Ok(kind) = entry.file_type() else { continue };
        if !is_source || files.len() >= MOST_FILES {
            continue;
        }
        if kind.is_dir() {
            collect(&path, files);
        } else if let Ok(about) = entry.metadata() {
            files.insert(path, (about.modified().ok(), about.len()));
        }
    }
}

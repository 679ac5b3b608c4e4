//! Folders of tools that remember which versions were wanted of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A folder of tools: they are got again when what names their versions changes, or when getting them did not end well.
pub(crate) struct Installed {
    marker: PathBuf,
    manifest: PathBuf,
    lock: Option<PathBuf>,
}

impl Installed {
    /// The tools in this folder, whose versions are in a manifest, and in a lock file, which need not be there.
    pub(crate) fn in_folder(tools: &Path, manifest: &Path, lock: Option<&Path>) -> Result<Self> {
        if !manifest.is_file() {
            let hint = "hint: a new project, by `tidegate plugin new`, shows what has to be in it";
            bail!("there is no {}\n{hint}", manifest.display());
        }
        let marker = tools.join(".installed-from");
        Ok(Self { marker, manifest: manifest.to_owned(), lock: lock.map(Path::to_owned) })
    }

    /// Whether what is wanted is what was installed.
    pub(crate) fn is_current(&self) -> bool {
        std::fs::read(&self.marker).is_ok_and(|installed| installed == self.wanted())
    }

    /// Remember that it is installed, as the files say now: npm may have written its own.
    pub(crate) fn done(&self) -> Result<()> {
        std::fs::write(&self.marker, self.wanted()).with_context(|| format!("cannot write {}", self.marker.display()))
    }

    fn wanted(&self) -> Vec<u8> {
        let files = [Some(&self.manifest), self.lock.as_ref()].into_iter().flatten();
        files.flat_map(|file| std::fs::read(file).unwrap_or_default()).collect()
    }
}

//! componentize-py, from PyPI: it puts modules and CPython into one component.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::installed::Installed;
use crate::{Run, hinted};

/// What it is called by, for people.
pub const TOOL: &str = "componentize-py";

/// Where it is, in the folder of what is built.
pub const PLACE: &str = ".venv";

const HINT: &str = "it takes Python 3.10 or later with its modules venv and pip (python3-venv on Debian), and a registry \
                    of Python packages that can be reached";

/// The version that was tested: that of the example.
const REQUIREMENTS: &str = include_str!("../../../example-plugins/python/requirements.txt");

/// A registry out of reach deserves no patience.
const INSTALL: [&str; 6] = ["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--requirement"];

/// The file of a folder that says what is installed there.
#[must_use]
pub fn versions() -> (&'static str, String) {
    ("requirements.txt", REQUIREMENTS.to_owned())
}

/// The tool, ready to be called.
#[derive(Debug)]
pub struct Python {
    program: PathBuf,
}

impl Python {
    /// Installs what requirements.txt of this folder wants into an environment of its own, unless it is there.
    ///
    /// # Errors
    /// When it cannot be had: why, and what it takes.
    pub fn prepare(folder: &Path, run: Run<'_>) -> Result<Self> {
        let tools = folder.join(PLACE);
        let requirements = folder.join("requirements.txt");
        let program = tools.join("bin").join(TOOL);
        let installed = Installed::in_folder(&tools, &requirements, None)?;
        if !(installed.is_current() && program.exists()) {
            let mut venv = Command::new("python3");
            hinted(run("an environment for Python", venv.args(["-m", "venv"]).arg(&tools)), HINT)?;
            let mut pip = Command::new(tools.join("bin/pip"));
            hinted(run("componentize-py, by pip", pip.args(INSTALL).arg(&requirements)), HINT)?;
            installed.done()?;
        }
        Ok(Self { program })
    }

    /// Makes a component of a module, for a world of the contract in `wit`. It runs in the module's folder, and `wit` may be
    /// relative to that.
    #[must_use]
    pub fn componentize(&self, module: &Path, wit: &Path, world: &str, out: &Path) -> Command {
        let mut componentize = Command::new(&self.program);
        componentize.current_dir(module.parent().unwrap_or(module));
        componentize.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", world, "componentize"]);
        componentize.arg(module.file_stem().unwrap_or_default()).arg("--output").arg(out);
        componentize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_exact() {
        let (_, requirements) = versions();
        assert!(requirements.lines().all(|line| line.contains("==")), "{requirements}");
    }
}

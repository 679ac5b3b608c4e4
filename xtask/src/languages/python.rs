//! componentize-py, from PyPI: it puts modules and CPython into one component.

use super::{Installed, Tools, WORLD, hinted, place, wit};
use crate::step;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str = "it takes Python 3.10 or later with its modules venv and pip (python3-venv on Debian), and a registry \
                    of Python packages that can be reached";

pub(super) struct Python {
    program: PathBuf,
}

/// Installs the version of requirements.txt in `example` into an environment of its own, if it is not there.
pub(super) fn prepare(example: &Path) -> Result<Python> {
    let folder = place("python")?;
    let requirements = example.join("requirements.txt");
    let program = folder.join("bin/componentize-py");
    let installed = Installed::in_folder(&folder, &requirements)?;
    if !(installed.is_current() && program.exists()) {
        let mut venv = Command::new("python3");
        hinted(step::run("an environment for Python", venv.args(["-m", "venv"]).arg(&folder)), HINT)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--requirement"])
            .arg(&requirements);
        hinted(step::run("componentize-py, by pip", &mut pip), HINT)?;
        installed.done()?;
    }
    Ok(Python { program })
}

impl Tools for Python {
    fn commands(&self, source: &Path, output: &Path) -> Result<Vec<Command>> {
        let folder = source.parent().context("a source without a folder")?;
        let module = source.file_stem().context("a source without a name")?;
        let mut componentize = Command::new(&self.program);
        componentize.arg("--quiet").arg("--wit-path").arg(wit()).args([
            "--world",
            WORLD,
            "componentize",
            "--python-path",
        ]);
        componentize.arg(folder).arg("--output").arg(output).arg(module);
        Ok(vec![componentize])
    }
}

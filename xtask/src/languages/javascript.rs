//! componentize-js, from npm: it puts a script and the engine StarlingMonkey into one component.

use super::{Installed, Tools, WORLD, hinted, place, wit};
use crate::step;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str = "it takes Node.js 20 or later with npm, and a registry of npm packages that can be reached";

pub(super) struct Javascript {
    program: PathBuf,
}

/// Installs the versions of the lock file in `example`, if they are not there.
pub(super) fn prepare(example: &Path) -> Result<Javascript> {
    let folder = place("javascript")?;
    let program = folder.join("node_modules/.bin/componentize-js");
    let installed = Installed::in_folder(&folder, &example.join("package-lock.json"))?;
    if !(installed.is_current() && program.exists()) {
        for file in ["package.json", "package-lock.json"] {
            let (from, to) = (example.join(file), folder.join(file));
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        // Without the patience that a registry out of reach does not deserve.
        let quick = [
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000",
            "--fetch-retry-maxtimeout=5000",
        ];
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).arg("ci").args(quick);
        hinted(step::run("componentize-js, by npm", &mut npm), HINT)?;
        installed.done()?;
    }
    Ok(Javascript { program })
}

impl Tools for Javascript {
    fn commands(&self, source: &Path, output: &Path) -> Result<Vec<Command>> {
        let mut componentize = Command::new(&self.program);
        // What the gateway would ask a grant for (http), and what it never calls (the fetch event).
        componentize.arg(source).arg("--wit").arg(wit()).args([
            "--world-name",
            WORLD,
            "--disable",
            "http",
            "fetch-event",
        ]);
        componentize.arg("--out").arg(output);
        Ok(vec![componentize])
    }
}

//! componentize-js, from npm: it puts a script and the engine StarlingMonkey into one component.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::installed::Installed;
use crate::{Run, hinted};

/// What it is called by, for people.
pub const TOOL: &str = "componentize-js";

/// Where it is, in the folder of what is built.
pub const PLACE: &str = "node_modules";

const HINT: &str = "it takes Node.js 20 or later with npm, and a registry of npm packages that can be reached";

/// The versions that were tested together: those of the example.
const MANIFEST: &str = include_str!("../../../example-plugins/javascript/package.json");
const LOCK: &str = include_str!("../../../example-plugins/javascript/package-lock.json");
const EXAMPLE: &str = "\"visits-js\"";

/// Not one file of a package is asked for twice on one machine, and a registry out of reach deserves no patience.
const INSTALL: [&str; 7] = [
    "install",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=5000",
];

/// The files of a folder that say what is installed there, for a package of this name.
#[must_use]
pub fn versions(name: &str) -> [(&'static str, String); 2] {
    let named = |text: &str| text.replace(EXAMPLE, &format!("\"{name}\""));
    [("package.json", named(MANIFEST)), ("package-lock.json", named(LOCK))]
}

/// The tool, ready to be called.
#[derive(Debug)]
pub struct JavaScript {
    program: PathBuf,
}

impl JavaScript {
    /// Installs what package.json and package-lock.json of this folder want, unless it is there.
    ///
    /// # Errors
    /// When it cannot be had: why, and what it takes.
    pub fn prepare(folder: &Path, run: Run<'_>) -> Result<Self> {
        let tools = folder.join(PLACE);
        let program = tools.join(".bin").join(TOOL);
        let [manifest, lock] = ["package.json", "package-lock.json"].map(|file| folder.join(file));
        let installed = Installed::in_folder(&tools, &manifest, Some(&lock))?;
        if !(installed.is_current() && program.exists()) {
            let mut npm = Command::new("npm");
            hinted(run("componentize-js, by npm", npm.current_dir(folder).args(INSTALL)), HINT)?;
            installed.done()?;
        }
        Ok(Self { program })
    }

    /// Shows where a script is no JavaScript. componentize-js says that it is none, and nothing else.
    #[must_use]
    pub fn check(&self, script: &Path) -> Command {
        let mut node = Command::new("node");
        node.current_dir(script.parent().unwrap_or(script)).arg("--check").arg(script.file_name().unwrap_or_default());
        node
    }

    /// Makes a component of a script, for a world of the contract in `wit`. It runs in the script's folder, and `wit` may be
    /// relative to that.
    #[must_use]
    pub fn componentize(&self, script: &Path, wit: &Path, world: &str, out: &Path) -> Command {
        let mut componentize = Command::new(&self.program);
        componentize.current_dir(script.parent().unwrap_or(script)).arg(script.file_name().unwrap_or_default());
        // What the gateway would ask a grant for (http), and what it never calls (the fetch event).
        componentize.arg("--wit").arg(wit).args(["--world-name", world, "--disable", "http", "fetch-event"]);
        componentize.arg("--out").arg(out);
        componentize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_exact_and_under_the_name_of_who_wants_them() {
        let [(_, manifest), (_, lock)] = versions("hello");
        assert!(!manifest.contains(EXAMPLE) && !lock.contains(EXAMPLE), "{manifest}");
        assert!(manifest.contains("\"name\": \"hello\"") && lock.contains("\"name\": \"hello\""), "{manifest}");
        assert!(!manifest.contains(['^', '~', '*']), "{manifest}");
        // A registry's address would be one that others cannot reach.
        assert!(!lock.contains("\"resolved\""));
    }
}

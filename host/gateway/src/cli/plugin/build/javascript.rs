//! Plugins in JavaScript: componentize-js, from npm, puts a script and the engine StarlingMonkey into one component.

use std::path::Path;
use std::process::Command;

use super::{BuildError, Installed, get, run};

const HINT: &str = "it takes Node.js 20 or later with npm, and a registry of npm packages that can be reached";

/// Build plugin.js in `folder` to a component at `out`.
pub(super) fn build(folder: &Path, out: &Path) -> Result<(), BuildError> {
    let tools = folder.join("node_modules");
    let program = tools.join(".bin/componentize-js");
    let installed = Installed::in_folder(&tools, &folder.join("package.json"))?;
    if !(installed.is_current() && program.exists()) {
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["install", "--no-audit", "--no-fund", "--fetch-retries=1"]);
        // What the author of another plugin has got on this machine is not asked for again.
        npm.arg("--prefer-offline");
        get(&mut npm, HINT)?;
        installed.done()?;
    }
    let mut componentize = Command::new(&program);
    // What the gateway would ask a grant for (http), and what it never calls (the fetch event).
    componentize.current_dir(folder).args(["plugin.js", "--wit", "wit", "--world-name", "own-plugin"]);
    componentize.args(["--disable", "http", "fetch-event", "--out"]).arg(out);
    run(&mut componentize)
}

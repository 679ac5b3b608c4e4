//! Plugins in Python: componentize-py, from PyPI, puts modules and CPython into one component.

use std::path::Path;
use std::process::Command;

use super::{BuildError, Installed, get, run};

const HINT: &str = "it takes Python 3.10 or later with its modules venv and pip (python3-venv on Debian), and a registry \
                    of Python packages that can be reached";

/// Build plugin.py in `folder` to a component at `out`.
pub(super) fn build(folder: &Path, out: &Path) -> Result<(), BuildError> {
    let tools = folder.join(".venv");
    let requirements = folder.join("requirements.txt");
    let program = tools.join("bin/componentize-py");
    let installed = Installed::in_folder(&tools, &requirements)?;
    if !(installed.is_current() && program.exists()) {
        get(Command::new("python3").args(["-m", "venv"]).arg(&tools), HINT)?;
        let mut pip = Command::new(tools.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--requirement"]);
        get(pip.arg(&requirements), HINT)?;
        installed.done()?;
    }
    let mut componentize = Command::new(&program);
    componentize.current_dir(folder).args(["--quiet", "--wit-path", "wit", "--world", "own-plugin"]);
    componentize.args(["componentize", "plugin", "--output"]).arg(out);
    run(&mut componentize)
}

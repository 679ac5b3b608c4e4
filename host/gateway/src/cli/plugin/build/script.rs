//! Plugins in JavaScript and Python, whose tools put a script and its engine into one component.

use std::path::Path;

use tidegate_toolchain::javascript::JavaScript;
use tidegate_toolchain::python::Python;

use super::{BuildError, get, run};
use crate::cli::plugin::project::Language;

/// The contract, in the folder of a project, and the plugin's own world in it.
const CONTRACT: &str = "wit";
const WORLD: &str = "own-plugin";

/// Build plugin.js in `folder` to a component at `out`.
pub(super) fn javascript(folder: &Path, out: &Path) -> Result<(), BuildError> {
    let tools = JavaScript::prepare(folder, &get).map_err(BuildError::tools)?;
    let script = folder.join(Language::JavaScript.source());
    run(&mut tools.check(&script))?;
    run(&mut tools.componentize(&script, Path::new(CONTRACT), WORLD, out))
}

/// Build plugin.py in `folder` to a component at `out`.
pub(super) fn python(folder: &Path, out: &Path) -> Result<(), BuildError> {
    let tools = Python::prepare(folder, &get).map_err(BuildError::tools)?;
    let module = folder.join(Language::Python.source());
    run(&mut tools.componentize(&module, Path::new(CONTRACT), WORLD, out))
}

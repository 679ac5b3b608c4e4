//! Plugins in Rust: cargo, with the target that this machine has or can get.

use std::path::Path;

use tidegate_toolchain::rust::{self, Profile, Target};

use super::{BuildError, run, say};
use crate::stop::report::write_whole;

const TARGET: Target = Target::Wasip2;

/// Build the package in `folder` to a component at `out`.
pub(super) fn build(folder: &Path, out: &Path, profile: Profile) -> Result<(), BuildError> {
    let toolchain = rust::prepare(TARGET, None, folder, &say).map_err(BuildError::tools)?;
    let target = rust::target(folder).map_err(|error| BuildError::File(error.to_string()))?;
    let cargo = toolchain.cargo_build(folder, &target, profile);
    run(&mut cargo.map_err(BuildError::tools)?)?;
    let built = target.join(TARGET.triple()).join(profile.folder()).join(file_name(folder)?);
    let component = std::fs::read(&built).map_err(|error| {
        let hint = "hint: a plugin is a library with `crate-type = [\"cdylib\"]`";
        BuildError::File(format!("cannot read {}: {error}\n{hint}", built.display()))
    })?;
    // Whole or not at all: a gateway may be about to read it.
    write_whole(out, &component).map_err(|error| BuildError::File(format!("cannot write {}: {error}", out.display())))
}

/// What cargo calls the library.
fn file_name(folder: &Path) -> Result<String, BuildError> {
    let manifest = folder.join("Cargo.toml");
    let wrong = |text: &dyn std::fmt::Display| BuildError::File(format!("{}: {text}", manifest.display()));
    let text = std::fs::read_to_string(&manifest).map_err(|error| wrong(&error))?;
    let manifest: toml::Table = text.parse().map_err(|error| wrong(&error))?;
    let name = |table: &str| manifest.get(table)?.get("name")?.as_str().map(|name| name.replace('-', "_"));
    let name = name("lib").or_else(|| name("package")).ok_or_else(|| wrong(&"it is no package with a name"))?;
    Ok(format!("{name}.wasm"))
}

//! Programs that are run for what they print.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs a command for what it prints, without the blanks around it.
///
/// # Errors
/// When it cannot be run, or ends with a failure: with what it wrote to stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", program(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}: {}", line(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a command runs and succeeds, without a sound.
#[must_use]
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The program of a command, as it was named.
#[must_use]
pub fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// A command as one would type it, without the folder of its program. For people: nothing is quoted.
#[must_use]
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let parts = std::iter::once(program).chain(command.get_args());
    parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The cargo that runs this program, or the one on PATH, as if somebody had called it in this folder.
#[must_use]
pub fn cargo(folder: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(folder);
    // What cargo says of this package to this program. Some build scripts (ring's) run again when that changes, and all
    // that depends on them is compiled anew, again and again where both ways to call cargo are used.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

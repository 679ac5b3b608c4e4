//! Running commands where one can see them: a line before, a line with the time after.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tidegate_toolchain::command::{self, line, program};

pub(crate) use tidegate_toolchain::command::succeeds;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    // Where this crate was compiled from is where the repository is.
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds for this machine.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Where guests are compiled, those of both workspaces and their native tests together: they share dependencies.
pub(crate) fn guest_target() -> PathBuf {
    root().join("target/guest-build")
}

/// The cargo that runs this program, as if somebody had called it.
pub(crate) fn cargo() -> Command {
    command::cargo(root())
}

/// Runs one step, its output going where ours goes.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {what}");
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{what}: cannot run {}", program(command)))?;
    if !status.success() {
        bail!("{what}: `{}` ended with {status}", line(command));
    }
    eprintln!("    {what}: done in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

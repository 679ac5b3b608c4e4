//! The NATS server that tests and campaigns start for themselves, got from where this machine can get it.

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;
use tidegate_toolchain::debian;

/// Tells tests that there is no server, and why: those that need one say so and are skipped. `tests/src/nats.rs` and the tests
/// of `tidegate-keyvalue` read it.
const WITHOUT: &str = "TIDEGATE_TEST_WITHOUT_NATS";

const PACKAGE: &str = "nats-server";

/// Whether there is a server for tests.
#[derive(Debug, Clone)]
pub(crate) enum Nats {
    There,
    /// There is none, and none could be had: why.
    Missing(String),
}

/// Looks for the server, and installs it if it is missing and that can be done without asking anybody.
pub(crate) fn prepare() -> Nats {
    if installed() {
        eprintln!("    nats-server: is installed");
        return Nats::There;
    }
    match install() {
        Ok(()) => {
            eprintln!("    nats-server: installed by apt-get");
            Nats::There
        }
        Err(why) => {
            eprintln!(
                "    nats-server: not installed, so the tests that need it are skipped ({why:#})\n    hint: \
                 `apt-get install {PACKAGE}` as root on Debian, or https://github.com/nats-io/nats-server/releases"
            );
            Nats::Missing(format!("{why:#}"))
        }
    }
}

impl Nats {
    /// A command whose tests know.
    pub(crate) fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        match self {
            Self::There => command.env_remove(WITHOUT),
            Self::Missing(why) => command.env(WITHOUT, why),
        }
    }
}

fn installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has it where the PATH of ordinary users does not look.
    let others = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(others).any(|folder| folder.join(PACKAGE).is_file())
}

fn install() -> Result<()> {
    let Some(as_root) = debian::Root::found() else {
        bail!("installing it takes root");
    };
    debian::install(as_root, &[PACKAGE])?;
    if !installed() {
        bail!("apt-get says that it has installed {PACKAGE}, but it is nowhere");
    }
    Ok(())
}

//! Packages of Debian.

use crate::step;
use anyhow::Result;
use std::process::Command;

/// How a command runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// This process is root, or the command says that it has to be.
    Is,
    /// `sudo` does it without a question.
    BySudo,
}

impl Root {
    /// How to become root here without asking anybody, if there is a way.
    pub(crate) fn found() -> Option<Self> {
        if step::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0") {
            Some(Self::Is)
        } else {
            step::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(Self::BySudo)
        }
    }
}

/// Installs packages, and nothing that they merely recommend.
pub(crate) fn install(root: Root, packages: &[&str]) -> Result<()> {
    let install = ["install", "-y", "--no-install-recommends"];
    apt(root, &install, packages).or_else(|_| {
        // The lists of packages may be missing or old.
        apt(root, &["update"], &[])?;
        apt(root, &install, packages)
    })
}

fn apt(root: Root, command: &[&str], packages: &[&str]) -> Result<()> {
    let mut apt = match root {
        Root::Is => Command::new("apt-get"),
        Root::BySudo => {
            let mut sudo = Command::new("sudo");
            // sudo passes few variables on.
            sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        }
    };
    step::output(apt.arg("-q").args(command).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}

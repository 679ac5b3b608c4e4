//! Packages of Debian.

use std::process::Command;

use anyhow::Result;

use crate::command;

/// How a command runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// This process is root, or the command says that it has to be.
    Is,
    /// `sudo` does it without a question.
    BySudo,
}

impl Root {
    /// How to become root here without asking anybody, if there is a way.
    #[must_use]
    pub fn found() -> Option<Self> {
        if command::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0") {
            Some(Self::Is)
        } else {
            command::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(Self::BySudo)
        }
    }
}

/// Installs packages, and nothing that they merely recommend.
///
/// # Errors
/// When apt-get is not there, may not, or finds none of that name.
pub fn install(root: Root, packages: &[&str]) -> Result<()> {
    let install = ["install", "-y", "--no-install-recommends"];
    apt(root, &install, packages).or_else(|_| {
        // The lists of packages may be missing or old.
        apt(root, &["update"], &[])?;
        apt(root, &install, packages)
    })
}

fn apt(root: Root, verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut apt = match root {
        Root::Is => Command::new("apt-get"),
        Root::BySudo => {
            let mut sudo = Command::new("sudo");
            // sudo passes few variables on.
            sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        }
    };
    command::output(apt.arg("-q").args(verb).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}

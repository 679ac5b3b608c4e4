//! `tidegate plugin`: what authors of plugins do. One file per command.

mod build;
mod new;
mod project;

use clap::Subcommand;

pub use self::build::BuildArgs;
pub use self::new::NewArgs;
use super::Failure;

/// What `tidegate plugin` can do.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Begin a plugin: a folder that builds, and whose tests pass
    ///
    /// Writes a small plugin that counts responses and tells of them at its end, its tests, and a tidegate-plugin.toml,
    /// which the other commands read. Needs no network: what is not published comes out of this program.
    #[command(after_long_help = new::AFTER_HELP)]
    New(NewArgs),
    /// Build the plugin in this folder
    ///
    /// Finds or gets what its language takes, builds the component, and says how big it is and which hooks it has. For
    /// Rust, the target wasm32-wasip2 comes from the toolchain in use, from rustup or from Debian, whichever works
    /// first; JavaScript and Python get their tools into the folder, from npm and PyPI.
    #[command(after_long_help = build::AFTER_HELP)]
    Build(BuildArgs),
}

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    it is done
  1    tidegate itself failed, or the tools of the language cannot be had
  2    something is wrong with the command line, the folder or the file
  3    the plugin does not build

Example:
  tidegate plugin new visits && cd visits && tidegate plugin build";

/// The code to exit with when the plugin does not build.
const NOT_BUILT: u8 = 3;

/// Do what was asked for; the code is the one to exit with.
pub(super) fn plugin(command: &PluginCommand) -> Result<u8, Failure> {
    match command {
        PluginCommand::New(args) => new::new(args).map(|()| 0),
        PluginCommand::Build(args) => build::build(args),
    }
}

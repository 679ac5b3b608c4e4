//! `tidegate plugin`: what authors of plugins do. One file per command.

mod replay;

use clap::Subcommand;

pub use self::replay::ReplayArgs;
use super::Failure;

/// What `tidegate plugin` can do.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Send a plugin the exchanges that a gateway has recorded, and compare its answers
    ///
    /// Reads what `tidegate run --record DIR` has kept, and sends the plugin the same requests at the same times, with an
    /// upstream that answers as it did. The plugin runs in virtual time, under the engine and the limits of a gateway:
    /// nothing waits, and nothing leaves this process. What a gateway grants by its config, a plugin does not have here.
    #[command(after_long_help = replay::AFTER_HELP)]
    Replay(ReplayArgs),
}

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    it is done; for `replay`, every answer is what it was
  1    tidegate itself failed
  2    something is wrong with the command line or a file
  3    an answer of `replay` is another than it was

Example:
  tidegate plugin replay target/plugins/stamp.wasm recording";

/// Do what was asked for; the code is the one to exit with.
pub(super) fn plugin(command: &PluginCommand) -> Result<u8, Failure> {
    match command {
        PluginCommand::Replay(args) => replay::replay(args),
    }
}

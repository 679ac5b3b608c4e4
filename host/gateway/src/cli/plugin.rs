//! `tidegate plugin`: what authors of plugins do. One file per command.

mod replay;
mod test;

use clap::Subcommand;

pub use self::replay::ReplayArgs;
pub use self::test::TestArgs;
use super::Failure;

/// What `tidegate plugin` can do.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Check what every plugin has to do: stop in time, survive malformed input, keep its memory level
    ///
    /// Runs the component under the engine, the limits and the stop protocol of a gateway, in virtual time: nothing
    /// waits, nothing leaves this process, and the same plugin has the same course every time. What it asks the
    /// outbox, buckets and servers for is answered by stand-ins; secrets are not read.
    ///
    /// Without --config it is granted whatever it imports, with the default limits.
    #[command(after_long_help = test::AFTER_HELP)]
    Test(TestArgs),
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
  0    it is done; for `test`, every check passed or was skipped; for `replay`, every answer is what it was
  1    tidegate itself failed
  2    something is wrong with the command line, the config or a file
  3    a check of `test` failed, or an answer of `replay` is another than it was

Example:
  tidegate plugin test target/plugins/audit.wasm --config tidegate.toml";

/// Do what was asked for; the code is the one to exit with.
pub(super) fn plugin(command: &PluginCommand) -> Result<u8, Failure> {
    match command {
        PluginCommand::Test(args) => test::test(args),
        PluginCommand::Replay(args) => replay::replay(args),
    }
}

//! `tidegate plugin`: what authors of plugins do. One file per command.

mod test;

use clap::Subcommand;

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
}

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    it is done; for `test`, every check passed or was skipped
  1    tidegate itself failed
  2    something is wrong with the command line, the config or the file
  3    a check of `test` failed

Example:
  tidegate plugin test target/plugins/audit.wasm --config tidegate.toml";

/// Do what was asked for; the code is the one to exit with.
pub(super) fn plugin(command: &PluginCommand) -> Result<u8, Failure> {
    match command {
        PluginCommand::Test(args) => test::test(args),
    }
}

//! `tidegate plugin`: what authors of plugins do. One file per command.

mod bench;
mod build;
mod dev;
mod new;
mod project;
mod replay;
mod stand_ins;
mod subject;
mod test;

use clap::Subcommand;

pub use self::bench::BenchArgs;
pub use self::build::BuildArgs;
pub use self::dev::DevArgs;
pub use self::new::NewArgs;
pub use self::replay::ReplayArgs;
pub use self::test::TestArgs;
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
    /// Check what every plugin has to do: stop in time, survive malformed input, keep its memory level
    ///
    /// Runs the component under the engine, the limits and the stop protocol of a gateway, in virtual time: nothing
    /// waits, nothing leaves this process, and the same plugin has the same course every time. What it asks the
    /// outbox, buckets and servers for is answered by stand-ins; secrets are not read.
    ///
    /// In the folder of a project it builds the plugin first, as `tidegate plugin build` does, and the plugin has the config,
    /// grants and limits of tidegate-plugin.toml. A component without --config is granted whatever it imports, with the
    /// default limits.
    #[command(after_long_help = test::AFTER_HELP)]
    Test(TestArgs),
    /// Send a plugin the exchanges that a gateway has recorded, and compare its answers
    ///
    /// Reads what `tidegate run --record DIR` has kept, and sends the plugin the same requests at the same times, with an
    /// upstream that answers as it did. The plugin runs in virtual time, under the engine and the limits of a gateway:
    /// nothing waits, and nothing leaves this process. What it asks the outbox, buckets and servers for is not recorded, and
    /// answered by stand-ins; secrets are not read.
    ///
    /// In the folder of a project or with --config it has the config, grants and limits of its table. A component without
    /// either is granted whatever it imports, with the default limits.
    #[command(after_long_help = replay::AFTER_HELP)]
    Replay(ReplayArgs),
    /// Measure what each hook of the plugin costs: fuel, host calls, memory and time
    ///
    /// Sends requests through the component, on two engines that take turns. One counts fuel, which is the same on every
    /// machine; the other is the one of a gateway, and says how long calls take here, and how far to trust that. With
    /// --flame, it draws which functions burn the fuel.
    #[command(after_long_help = bench::AFTER_HELP)]
    Bench(BenchArgs),
    /// Serve the plugin, and build and load it again after each change
    ///
    /// Starts a gateway of its own with the plugin in this folder. When a source changes, it builds the plugin and has the
    /// gateway load it, under load if there is any. If it does not build, the error shows here, and the version before
    /// goes on serving. Ctrl-C stops the gateway in order, and shows how the plugin ended.
    #[command(after_long_help = dev::AFTER_HELP)]
    Dev(DevArgs),
}

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    it is done; for `test`, every check passed or was skipped; for `replay`, every answer is what it was
  1    tidegate itself failed, or the tools of the language cannot be had
  2    something is wrong with the command line, the config, the folder or a file
  3    the plugin does not build, a check of `test` failed, or an answer of `replay` is another than it was

Examples:
  tidegate plugin new visits && cd visits && tidegate plugin test
  tidegate plugin test target/plugins/audit.wasm --config tidegate.toml";

/// Do what was asked for; the code is the one to exit with.
pub(super) fn plugin(command: &PluginCommand) -> Result<u8, Failure> {
    match command {
        PluginCommand::New(args) => new::new(args).map(|()| 0),
        PluginCommand::Build(args) => build::build(args).map(|()| 0),
        PluginCommand::Test(args) => test::test(args),
        PluginCommand::Replay(args) => replay::replay(args),
        PluginCommand::Bench(args) => bench::bench(args).map(|()| 0),
        PluginCommand::Dev(args) => dev::dev(args),
    }
}

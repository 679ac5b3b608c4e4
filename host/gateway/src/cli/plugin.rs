//! `tidegate plugin`: what authors of plugins do. One file per command.

mod bench;
mod build;
mod dev;
mod new;
mod project;

use clap::Subcommand;

pub use self::bench::BenchArgs;
pub use self::build::BuildArgs;
pub use self::dev::DevArgs;
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
        PluginCommand::Bench(args) => bench::bench(args).map(|()| 0),
        PluginCommand::Dev(args) => dev::dev(args),
    }
}

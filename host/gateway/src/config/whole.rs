//! All tables together.

use std::path::PathBuf;
use std::time::Duration;

/// `[outbound]`: how the requests of plugins are made.
pub use tidegate_outbound::Settings as Outbound;

use super::bucket::Bucket;
use super::outbox::Outbox;
use super::plugin::Plugin;
use super::route::Route;
use super::settings::{Admin, Log, Reload, Server, Shutdown};
use super::upstream::Upstream;

/// Everything `tidegate run` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin]`
    pub admin: Admin,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[reload]`
    pub reload: Reload,
    /// `[log]`
    pub log: Log,
    /// `[outbound]`
    pub outbound: Outbound,
    /// `[outbox]`, if there is one.
    pub outbox: Option<Outbox>,
    /// `[[upstream]]`, in file order.
    pub upstreams: Vec<Upstream>,
    /// `[[kv]]`, in file order.
    pub buckets: Vec<Bucket>,
    /// `[[plugin]]`, in file order.
    pub plugins: Vec<Plugin>,
    /// `[[route]]`, in file order.
    pub routes: Vec<Route>,
    /// Where compiled plugins are kept between runs; `None` compiles anew at each start.
    pub cache: Option<PathBuf>,
}

impl Config {
    /// The longest end of any plugin: they stop side by side, so it is what the ledger reserves for them.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        self.last_to_stop().map_or(Duration::ZERO, Plugin::longest_stop)
    }

    /// The plugin with the longest end.
    #[must_use]
    pub fn last_to_stop(&self) -> Option<&Plugin> {
        last_to_stop(&self.plugins)
    }
}

/// Of these, the one with the longest end.
pub(super) fn last_to_stop(plugins: &[Plugin]) -> Option<&Plugin> {
    plugins.iter().max_by_key(|plugin| plugin.longest_stop())
}

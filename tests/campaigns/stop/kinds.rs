//! The ways in which a plugin can be in the way of its stop, and the companies in which they are stopped.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_tests::gateway::{ConfigFile, PluginTable};

/// The budget of plugins that are expected to use all of it.
const SHORT: Duration = Duration::from_millis(50);

/// The budget of those that end by themselves, whatever the machine does meanwhile.
const AMPLE: Duration = Duration::from_secs(5);

/// Whom the load asks besides the plugins that are stopped.
pub(crate) const BYSTANDER: &str = "bystander";

/// A way to behave in `shutdown`.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The plugin's name.
    pub(crate) name: &'static str,
    /// For the table.
    pub(crate) what: &'static str,
    /// What the hostile guest does; `None` is a guest without `shutdown`.
    does: Option<&'static str>,
    /// How the stop has to end.
    pub(crate) outcome: &'static str,
}

const fn kind(name: &'static str, what: &'static str, does: &'static str, outcome: &'static str) -> Kind {
    Kind { name, what, does: Some(does), outcome }
}

/// What runs guest code and waits in host calls.
const GUEST: [Kind; 11] = [
    kind("spin", "spin", "spin", "overran"),
    kind("sleep", "sleep (a pending host call)", "sleep", "overran"),
    kind("doze", "sleep 1 ms again and again", "doze=1", "overran"),
    kind("log-flood", "log without end", "log-flood", "overran"),
    kind("recurse", "recurse", "recurse", "trapped"),
    kind("trap", "trap", "trap", "trapped"),
    kind("panic", "panic", "panic", "trapped"),
    kind("exit", "exit", "exit", "trapped"),
    kind("error", "return an error", "error", "failed"),
    Kind { name: "no-hook", what: "no hook", does: None, outcome: "no-hook" },
    kind("ok", "return ok", "ok", "completed"),
];

/// What moves or touches much memory at once, with 32 MiB of it.
const BULK: [Kind; 3] = [
    kind("copy", "copy 15 MB in a loop", "copy=15000000", "overran"),
    kind("grow", "allocate, and go on when refused", "allocate-forever", "overran"),
    kind("exhaust", "allocate, and abort", "allocate", "trapped"),
];

/// Plugins that live in one process and are stopped by the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// [`GUEST`].
    Guest,
    /// [`BULK`].
    Bulk,
    /// Both, side by side: a plugin may have to wait for the uninterruptible step of its neighbour.
    Mixed,
}

impl Company {
    pub(crate) const ALL: [Self; 3] = [Self::Guest, Self::Bulk, Self::Mixed];

    /// For the table.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Guest => "guest code and host calls",
            Self::Bulk => "bulk memory",
            Self::Mixed => "all of them side by side",
        }
    }

    pub(crate) fn kinds(self) -> impl Iterator<Item = &'static Kind> {
        let (guest, bulk): (&[Kind], &[Kind]) = match self {
            Self::Guest => (&GUEST, &[]),
            Self::Bulk => (&[], &BULK),
            Self::Mixed => (&GUEST, &BULK),
        };
        guest.iter().chain(bulk)
    }

    pub(crate) fn kind(self, name: &str) -> Option<&'static Kind> {
        self.kinds().find(|kind| kind.name == name)
    }

    /// The paths that lead through the plugins that are stopped.
    pub(crate) fn paths(self) -> impl Iterator<Item = String> {
        self.kinds().map(|kind| format!("/{}/", kind.name))
    }

    /// The config with these lines for each plugin that is stopped. Another `version` has other plugins of the same kinds.
    /// They fail open: what a plugin that has been taken out does to a request is not what is looked at.
    pub(crate) fn config(self, origin: SocketAddr, lines: &[String], version: u64) -> ConfigFile {
        let mut config = ConfigFile::before(origin)
            .log("access = false")
            .plugin(PluginTable::example("stamp").named(BYSTANDER).set("instances = 2"))
            .route(&format!("/{BYSTANDER}"), &[BYSTANDER]);
        for kind in self.kinds() {
            let budget = if kind.outcome == "overran" { SHORT } else { AMPLE };
            let plugin = match kind.does {
                Some(does) => {
                    let plugin = PluginTable::hostile(kind.name).config("on_request = 'from-header'");
                    plugin.config(&format!("shutdown = '{does}'"))
                }
                None => PluginTable::guest("no-shutdown").named(kind.name),
            };
            let plugin = plugin
                .set("on_failure = 'open'")
                .limit(&format!("shutdown = '{}ms'", budget.as_millis()))
                .limit(&format!("queue = {}", 1_024 + version));
            let plugin = lines.iter().fold(plugin, |plugin, line| plugin.set(line));
            config = config.plugin(plugin).route(&format!("/{}", kind.name), &[kind.name]);
        }
        config
    }
}

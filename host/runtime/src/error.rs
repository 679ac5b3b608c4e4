//! Why a plugin could not be loaded, and how a call ended when it did not end well.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::Hook;

/// A component was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Not WebAssembly at all, or cut off.
    #[error("not a valid WebAssembly component: {0}")]
    Malformed(String),
    /// A core module, which has no typed interface.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// Bigger than the runtime compiles.
    #[error("the component has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// None of the contract's hooks is exported.
    #[error("exports none of the hooks of tidegate:plugin@{}", crate::contract::VERSION)]
    NoHooks {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// A hook of another version of the contract.
    #[error("exports `{export}`, but this gateway serves tidegate:plugin@{}", crate::contract::VERSION)]
    WrongVersion {
        /// The export as it is named in the component.
        export: String,
    },
    /// A hook whose parameters or result differ from the contract's.
    #[error("`{hook}` has the wrong signature; expected `{}`: {detail}", hook.signature())]
    WrongSignature {
        /// The hook.
        hook: Hook,
        /// How it differs.
        detail: String,
    },
    /// An import that exists only with a grant, or not at all.
    #[error("imports `{import}`, which it has not been granted")]
    NotGranted {
        /// The import as it is named in the component.
        import: String,
        /// What to change.
        advice: String,
    },
    /// An import whose interface is known but whose item is missing or has another type.
    #[error("its imports do not fit this gateway: {0}")]
    Imports(String),
    /// The first instance could not be made, or `configure` did not end well.
    #[error("{0}")]
    Configure(CallError),
    /// A config for a plugin that has no hook to take it.
    #[error("has a config, but the component exports no `configure`")]
    NoConfigure,
    /// State is to be handed over, but the component has no part in that.
    #[error("has `hand_over`, but the component neither leaves nor reads snapshots")]
    NoHandOver,
    /// Ticks are to be given, but there is no hook that takes them.
    #[error("has a `tick`, but the component exports no `on-tick`")]
    NoTick,
    /// There is no room for its instances, and no further engine could be started.
    #[error("{0}")]
    Engine(String),
    /// The compiler gave up, or took too long.
    #[error("could not be compiled: {0}")]
    Compile(String),
}

impl LoadError {
    /// What the operator or author can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Malformed(_) => Some("build it for wasm32-wasip2, and check that the file was copied whole".into()),
            Self::CoreModule => Some(
                "build it for wasm32-wasip2, or wrap it with `wasm-tools component new MODULE.wasm -o PLUGIN.wasm`"
                    .into(),
            ),
            Self::NoHooks { exports } => Some(if exports.is_empty() {
                "export one of them, for example with `#[tidegate_sdk::plugin]`".into()
            } else {
                format!("it exports {}; was it built for another host?", exports.join(", "))
            }),
            Self::WrongVersion { .. } => {
                Some(format!("build the plugin against tidegate:plugin@{}", crate::contract::VERSION))
            }
            Self::WrongSignature { .. } => Some("build the plugin from the WIT files of this version".into()),
            Self::NotGranted { advice, .. } => Some(advice.clone()),
            Self::NoConfigure => Some(
                "remove `[plugin.config]`, export `configure` from the plugin, or name its keys in `config` under \
                 [plugin.grants]"
                    .into(),
            ),
            Self::NoHandOver => {
                Some("remove `hand_over`, or call `leave-snapshot` in `shutdown` and `snapshots` in `configure`".into())
            }
            Self::NoTick => Some("remove `tick`, or export `on-tick` from the plugin".into()),
            Self::TooLarge { .. } | Self::Imports(_) | Self::Configure(_) | Self::Compile(_) | Self::Engine(_) => None,
        }
    }
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// wasmtime refused the machine or the configuration.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
    /// No thread for the ticker.
    #[error("the epoch ticker cannot start: {0}")]
    Ticker(#[source] std::io::Error),
}

/// A call that did not return ok.
#[derive(Debug, Clone, thiserror::Error)]
#[error("plugin `{plugin}`, {hook}: {cause}")]
pub struct CallError {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The hook that was called, or was about to be.
    pub hook: Hook,
    /// How it ended.
    pub cause: EndCause,
}

/// How a call ended when it did not return ok.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EndCause {
    /// It computed for longer than its `cpu` limit (or `configure`, `shutdown`) and was stopped.
    #[error("stopped after {:?} of CPU time (limit {:?})", millis(*used), millis(*limit))]
    Cpu {
        /// The budget.
        limit: Duration,
        /// CPU time measured.
        used: Duration,
    },
    /// The whole call took longer than its `wall` limit and was stopped, in the guest or in a host call.
    #[error("stopped after {:?} of wall time", millis(*limit))]
    Wall {
        /// The budget.
        limit: Duration,
    },
    /// It wanted more memory than it may have, and gave up.
    #[error("out of memory (limit {limit} bytes)")]
    Memory {
        /// The cap in bytes.
        limit: usize,
    },
    /// Its stack overflowed.
    #[error("stack overflow")]
    Stack,
    /// Any other trap: `unreachable`, an abort, a bad access, an exit.
    #[error("trapped: {message}")]
    Trap {
        /// The trap, and the end of what the guest wrote to stderr.
        message: String,
    },
    /// The hook returned an error. The instance lives on.
    #[error("returned an error: {message}")]
    Returned {
        /// The plugin's text, cut to 8 KiB.
        message: String,
    },
    /// What it returned or passed to the host breaks the contract: a malformed reply, a list over the host's cap.
    #[error("refused: {message}")]
    Refused {
        /// Which rule.
        message: String,
    },
    /// Every instance was busy and the wait queue full, or the wait used up the `wall` limit.
    #[error("overloaded: all {instances} instances busy, {waiting} calls waiting")]
    Overloaded {
        /// Live instances.
        instances: usize,
        /// Calls that wait.
        waiting: usize,
    },
    /// No instance serves.
    #[error("unavailable: {0}")]
    Unavailable(Unavailable),
    /// A second signal, or the end of the runtime, stopped it.
    #[error("abandoned")]
    Abandoned,
}

/// Why no instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It failed so often in a row that it is left alone for a while.
    #[error("its breaker is open after repeated failures")]
    BreakerOpen,
    /// It is being stopped.
    #[error("it is being stopped")]
    Stopping,
    /// An operator has switched it off.
    #[error("it is disabled")]
    Disabled,
    /// It failed too often, and waits for somebody to look at it.
    #[error("it is quarantined")]
    Quarantined,
}

/// Whole milliseconds, for people.
fn millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}

impl EndCause {
    /// The label for metrics and log lines.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cpu { .. } => "cpu",
            Self::Wall { .. } => "wall",
            Self::Memory { .. } => "memory",
            Self::Stack => "stack",
            Self::Trap { .. } => "trap",
            Self::Returned { .. } => "error",
            Self::Refused { .. } => "refused",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }

    /// The config key of the limit that was reached, if it was one.
    #[must_use]
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::Cpu { .. } => Some("cpu"),
            Self::Wall { .. } => Some("wall"),
            Self::Memory { .. } => Some("memory"),
            Self::Overloaded { .. } => Some("queue"),
            _ => None,
        }
    }

    /// Whether the instance may serve again. After any error that left the guest it may not.
    #[must_use]
    pub fn retires(&self) -> bool {
        match self {
            Self::Returned { .. } | Self::Overloaded { .. } | Self::Unavailable(_) => false,
            Self::Cpu { .. }
            | Self::Wall { .. }
            | Self::Memory { .. }
            | Self::Stack
            | Self::Trap { .. }
            | Self::Refused { .. }
            | Self::Abandoned => true,
        }
    }
}

//! The configuration, as valid types. A [`Config`] that exists is one that can run (but for what only binding,
//! connecting and compiling can tell); a file that cannot become one gives every problem at once, with line and caret.
//!
//! | module | owns |
//! |---|---|
//! | `whole` | [`Config`]: all tables |
//! | `source` | the text of the file |
//! | `reader` | typed access to the parsed document: what a key may hold, which keys there are |
//! | `settings`, `outbound`, `outbox`, `upstream`, `bucket`, `plugin`, `grants`, `route` | one table each: what it says, keys, defaults, ranges |
//! | `secret` | where secrets are |
//! | `names` | names, and references to them |
//! | `build` | all tables together, and what only the whole can tell: clashes, the ledger |
//! | `units` | durations and sizes as text |
//! | `diagnostic` | how problems are collected and shown |

mod bucket;
mod build;
mod diagnostic;
mod grants;
mod names;
mod outbound;
mod outbox;
mod plugin;
mod reader;
mod route;
mod secret;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod units;
mod upstream;
mod whole;

use std::path::Path;

pub use self::bucket::{Bucket, BucketKind, Login, NatsBucket};
pub use self::diagnostic::Diagnostics;
pub use self::grants::Grants;
pub use self::outbox::{Outbox, OutboxSink, SinkKind};
pub use self::plugin::{OnFailure, Plugin};
pub(crate) use self::reader::nearest;
pub use self::route::Route;
pub use self::secret::SecretSource;
pub use self::settings::{Admin, Log, LogFormat, Reload, Server, Shutdown, Token};
use self::source::Files;
pub use self::units::{HumanDuration, HumanSize};
pub use self::upstream::Upstream;
pub use self::whole::{Config, Outbound};

impl Config {
    /// Read the file at `path`. Plugin files are looked for, but not read.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of the file.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        Self::read(path, Files::Checked)
    }

    /// Read the file at `path` for the sake of its plugins: it needs no routes, and the files that it names need not be there.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of the file.
    pub fn load_plugins(path: &Path) -> Result<Self, Diagnostics> {
        Self::read(path, Files::PluginsAlone)
    }

    /// Read `source`, which stands for the text of a file at `origin`: paths in it are relative to that file's folder.
    /// Looks at the text alone, not at the files it names.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn parse(source: &str, origin: &Path) -> Result<Self, Diagnostics> {
        build::build(source, origin, Files::Ignored)
    }

    fn read(path: &Path, files: Files) -> Result<Self, Diagnostics> {
        let source = source::read(path).map_err(|problem| Diagnostics::new(path, "", vec![*problem]))?;
        build::build(&source, path, files)
    }
}

//! Key-value buckets: in memory, in a file, or shared by replicas.
//!
//! A [`Store`] is what one `[[kv]]` opens, once, when the gateway starts. It is divided into [`Namespace`]s: one per plugin,
//! or a single one if the bucket is shared. Bounds are those of a namespace, so that nobody can fill up or evict what is
//! another's. A plugin holds a [`PluginBucket`], which checks what the plugin passes, counts how it went, and knows
//! nothing of any other namespace.
//!
//! | module | owns |
//! |---|---|
//! | `bucket` | what a plugin holds: the checks of keys, values and cursors |
//! | `store` | the backends behind one interface, and what they are asked |
//! | `memory`, `sqlite`, `nats` | a backend each; the last two are features of this crate |
//! | `counts` | how often what was done, and how it went |
//! | `error` | why something was not done |
//!
//! Every operation ends within the time of its backend; none blocks a thread of the async runtime.

#[cfg(test)]
mod tests;

mod bucket;
mod counts;
mod error;
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use bucket::{LONGEST_KEY, PAGE, PluginBucket};
pub use counts::{Counts, Operation, Outcome};
pub use error::{OpenError, StoreError};
pub use memory::Memory;
#[cfg(feature = "nats")]
pub use nats::{Credentials, Nats, NatsConfig, Storage};
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteConfig};
pub use store::{Bounds, Namespace, Page, Store, Usage, WhenFull};

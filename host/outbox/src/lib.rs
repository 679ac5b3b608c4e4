//! A durable outbox: what it has accepted it keeps until it has been delivered.
//!
//! It knows topics, events and sinks; it knows no plugins, no gateway and no configuration file.
//!
//! | module | owns |
//! |---|---|
//! | `event` | what an event is; topics and patterns are `tidegate_topics` |
//! | `outbox` | the whole: opening it, publishing, flushing, closing |
//! | `account` | how much is in it, and who may still put something in |
//! | `store` | the file: schema, rows and their checksums, the lock |
//! | `writer` | the one thread that changes the file; publishes that wait are committed together |
//! | `shared` | what the threads and tasks share, and what waits for the writer |
//! | `fresh` | what has been accepted lately, in memory, for deliveries that keep up |
//! | `ids` | how events are told apart |
//! | `reader` | the one thread that reads events back for deliveries that do not |
//! | `delivery` | one task per sink: order, retries, dead letters |
//! | `sink` | where events go |
//! | `status` | what can be said of it while it runs |
//! | `offline` | looking at a file and mending it from outside |

mod account;
mod delivery;
pub mod event;
mod fresh;
mod ids;
pub mod offline;
mod outbox;
mod reader;
mod shared;
pub mod sink;
pub mod status;
mod store;
mod writer;

pub use self::account::Limits;
pub use self::delivery::Backoff;
pub use self::outbox::{Delivery, MOST_AT_ONCE, Options, Outbox, PublishError, Publisher, SinkSpec};
pub use self::store::{Durability, OpenError};
pub use tidegate_topics as topic;

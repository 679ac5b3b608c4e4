//! Write Tidegate plugins in Rust.
//!
//! A plugin is one type and one attribute. The methods you write become the hooks that the component exports; those
//! you leave out cost nothing.
//!
//! ```
//! use serde::Deserialize;
//! use tidegate_sdk::prelude::*;
//!
//! struct Audit {
//!     batch: usize,
//!     events: Vec<String>,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct AuditConfig {
//!     batch: usize,
//! }
//!
//! #[tidegate_sdk::plugin]
//! impl Plugin for Audit {
//!     type Config = AuditConfig;
//!
//!     fn configure(config: AuditConfig) -> Result<Self> {
//!         Ok(Self { batch: config.batch, events: Vec::new() })
//!     }
//!
//!     fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
//!         self.events.push(format!("{} {} {}", request.method(), request.path(), response.status()));
//!         if self.events.len() >= self.batch {
//!             log::info!("{}", self.events.join("\n"));
//!             self.events.clear();
//!         }
//!         Ok(())
//!     }
//!
//!     fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
//!         while let Some(event) = self.events.pop() {
//!             if deadline.expired() {
//!                 return Err(format!("{} events were not written", self.events.len() + 1).into());
//!             }
//!             log::info!("{event}");
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! // Its logic is plain Rust, and is tested without WebAssembly.
//! let mut audit = Audit::configure(AuditConfig { batch: 10 })?;
//! let request = Request::builder().method("POST").target("/orders").build();
//! audit.on_response(&request, &mut Response::builder().status(201).build())?;
//! assert_eq!(audit.events, ["POST /orders 201"]);
//! audit.shutdown(Deadline::never())?;
//! assert!(audit.events.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! The crate is a `cdylib`, built with `cargo build --release --target wasm32-wasip2`, which gives a component. One
//! for `wasm32-unknown-unknown` imports nothing of WASI but the log: the smallest sandbox.
//!
//! # Errors and panics
//! A hook may return any error; its whole chain of causes goes to the gateway's log. For a request it counts as a
//! failure of the plugin (`on_failure` in its configuration decides what the client sees), and the instance lives on.
//! A panic ends the instance; its message and place are logged first.
//!
//! # Logging
//! The macros of the `log` crate go to the gateway's log, `debug` and above; `log::set_max_level` changes that. With
//! the feature `tracing`, events of the `tracing` macros do as well.
//!
//! # What a plugin may be granted
//! | module | does | grant |
//! |---|---|---|
//! | [`outbox`] | hands events over to the host, which delivers them | `outbox` |
//! | [`fetch`] | sends HTTP requests | `http` |
//! | [`kv`] | buckets that all instances share | `kv` |
//! | [`config_store`], [`secrets`] | values and secrets of the operator's, by name | `config`, `secrets` |
//! | [`metrics`] | numbers in the gateway's metrics | `metrics` |
//! | [`background`] | puts work off until the response is on its way | `background` |
//!
//! A plugin that uses one of them imports it, and is refused when it is loaded without the grant. [`Batcher`] collects items
//! and sends them together, [`Worker`] puts off jobs of a type. In native tests all of them work in memory: see [`testing`].
//!
//! # State
//! Each instance serves one call at a time and keeps its memory between calls, so fields of the plugin are the place
//! for batches and caches. Several instances of a plugin share nothing.

#![deny(missing_docs)]

pub mod background;
mod batcher;
#[doc(hidden)]
pub mod bindings;
mod clock;
pub mod config_store;
mod context;
mod deadline;
mod error;
pub mod fetch;
mod http;
pub mod kv;
pub mod lifecycle;
#[cfg(target_arch = "wasm32")]
mod logging;
pub mod metrics;
pub mod outbox;
mod plugin;
pub mod secrets;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;
mod worker;

#[doc(hidden)]
#[path = "glue.rs"]
pub mod __rt;

pub use batcher::{Added, Batcher, BatcherBuilder, Unflushed};
pub use context::Context;
pub use deadline::Deadline;
pub use error::{Error, Result};
pub use http::{EditError, Field, Request, Response, Version};
#[cfg(not(target_arch = "wasm32"))]
pub use http::{RequestBuilder, ResponseBuilder};
pub use log;
pub use plugin::Plugin;
pub use tidegate_sdk_macros::plugin;
#[cfg(feature = "tracing")]
pub use tracing;
pub use verdict::{BodyVerdict, Reply, Verdict};
pub use worker::{Counts, Worker};

/// What a plugin needs, for one `use`.
pub mod prelude {
    pub use crate::{
        BodyVerdict, Context, Deadline, EditError, Error, Plugin, Reply, Request, Response, Result, Verdict, log,
    };
    #[cfg(feature = "tracing")]
    pub use tracing;
}

//! Tidegate: an HTTP gateway that runs sandboxed WebAssembly plugins and gives each of them an orderly end.

pub mod admin;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod control;
// Of the runtime, which cannot lend it: one for the tests of both.
#[cfg(test)]
#[path = "../../runtime/src/explore.rs"]
mod explore;
pub mod gateway;
pub mod generation;
mod histogram;
pub mod plugins;
pub mod proxy;
pub mod recorder;
pub mod roster;
pub mod secrets;
pub mod server;
pub mod signals;
pub mod stop;
pub mod supervisor;
pub mod telemetry;

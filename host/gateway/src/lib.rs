//! Tidegate: an HTTP gateway that runs sandboxed WebAssembly plugins and gives each of them an orderly end.

pub mod admin;
pub mod config;
pub mod proxy;
pub mod server;
pub mod stop;
pub mod telemetry;

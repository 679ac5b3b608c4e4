//! Tidegate: an HTTP gateway that runs sandboxed WebAssembly plugins and gives each of them an orderly end.

pub mod config;
pub mod stop;

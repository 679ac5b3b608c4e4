//! What a component says of itself, for `tidegate inspect`.

use std::sync::Arc;

use serde::Serialize;

use crate::contract::Hooks;

/// An import of a component and what it takes to satisfy it.
#[derive(Debug, Clone, Serialize)]
pub struct Import {
    /// The name in the component, `wasi:clocks/monotonic-clock@0.2.6` for example.
    pub name: String,
    /// Whether every plugin has it.
    pub free: bool,
    /// What has to change before it loads, if it is not free.
    pub advice: Option<String>,
}

/// What a component says of itself.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// `sha256:` and 64 hex digits.
    pub digest: Arc<str>,
    /// Bytes of the file.
    pub size: usize,
    /// The hooks it exports.
    pub hooks: Hooks,
    /// Its imports, in the component's order.
    pub imports: Vec<Import>,
    /// Languages and tools that made it, from the `producers` sections: `Rust 1.95.0`.
    pub toolchain: Vec<String>,
    /// Initial size of its linear memories together, bytes.
    pub memory: u64,
}

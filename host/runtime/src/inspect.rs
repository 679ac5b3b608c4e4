//! What a component says of itself, for `tidegate inspect`.

use std::sync::Arc;

use wasmparser::{KnownCustom, Payload};

use crate::contract::Hooks;
use crate::grants::Needs;

/// An import of a component and what it takes to satisfy it.
#[derive(Debug, Clone)]
pub struct Import {
    /// The name in the component, `wasi:clocks/monotonic-clock@0.2.6` for example.
    pub name: String,
    /// What it takes.
    pub needs: Needs,
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

/// What only the bytes tell.
#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) toolchain: Vec<String>,
    pub(crate) memory: u64,
}

/// Read the `producers` sections and the memories of a component. It has been compiled: what does not parse is skipped.
pub(crate) fn look_inside(bytes: &[u8]) -> Inside {
    const PAGE: u64 = 64 << 10;
    let mut inside = Inside::default();
    for payload in wasmparser::Parser::new(0).parse_all(bytes).flatten() {
        match payload {
            Payload::MemorySection(memories) => {
                inside.memory +=
                    memories.into_iter().flatten().map(|memory| memory.initial.saturating_mul(PAGE)).sum::<u64>();
            }
            Payload::CustomSection(custom) => {
                let KnownCustom::Producers(producers) = custom.as_known() else { continue };
                for field in producers.into_iter().flatten() {
                    for value in field.values.into_iter().flatten() {
                        let tool = format!("{} {}", value.name, value.version).trim().to_owned();
                        if !inside.toolchain.contains(&tool) {
                            inside.toolchain.push(tool);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    inside
}

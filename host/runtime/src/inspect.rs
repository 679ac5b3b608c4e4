//! What a component says of itself, for `tidegate inspect`.

use std::sync::Arc;

use wasmparser::{KnownCustom, Name, Payload, ProducersSectionReader};

use crate::contract::Hooks;
use crate::grants::{Grant, Needs};

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

impl Inspection {
    /// The grants that its imports need, each once, in the order of the imports.
    #[must_use]
    pub fn needs(&self) -> Vec<Grant> {
        let mut needs = Vec::new();
        for import in &self.imports {
            match &import.needs {
                Needs::Grant(grant) if !needs.contains(grant) => needs.push(*grant),
                _ => {}
            }
        }
        needs
    }
}

/// What only the bytes tell.
#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) toolchain: Vec<String>,
    pub(crate) memory: u64,
}

/// Read the `producers` sections, the names of modules and the memories of a component. It has been compiled: what does not
/// parse is skipped.
pub(crate) fn look_inside(bytes: &[u8]) -> Inside {
    const PAGE: u64 = 64 << 10;
    let (mut outer, mut inner, mut linked) = (Made::default(), Made::default(), Vec::new());
    let (mut memory, mut depth) = (0_u64, 0_usize);
    for payload in wasmparser::Parser::new(0).parse_all(bytes).flatten() {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::MemorySection(memories) => {
                for declared in memories.into_iter().flatten() {
                    memory = memory.saturating_add(declared.initial.saturating_mul(PAGE));
                }
            }
            Payload::CustomSection(custom) => match custom.as_known() {
                KnownCustom::Producers(producers) => {
                    let made = if depth == 0 { &mut outer } else { &mut inner };
                    made.read(producers);
                }
                KnownCustom::Name(names) => {
                    for name in names.into_iter().flatten() {
                        let Name::Module { name, .. } = name else { continue };
                        linked.extend(runtime_library(name));
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    // A component that names its language was made by a tool for that language; the modules inside are that tool's, and what
    // they were made with interests less. One that does not was made from a module whose compiler is named there.
    let parts =
        if outer.names_language { [linked, outer.tools, inner.tools] } else { [linked, inner.tools, outer.tools] };
    let mut toolchain: Vec<String> = Vec::new();
    for tool in parts.into_iter().flatten() {
        if !toolchain.contains(&tool) {
            toolchain.push(tool);
        }
    }
    Inside { toolchain, memory }
}

/// What `producers` sections say.
#[derive(Default)]
struct Made {
    tools: Vec<String>,
    names_language: bool,
}

impl Made {
    /// The language of each section comes before its tools, whatever their order there.
    fn read(&mut self, producers: ProducersSectionReader<'_>) {
        let mut tools = Vec::new();
        for field in producers.into_iter().flatten() {
            let is_language = field.name == "language";
            self.names_language |= is_language;
            let read = if is_language { &mut self.tools } else { &mut tools };
            let values = field.values.into_iter().flatten();
            read.extend(values.map(|tool| format!("{} {}", tool.name, tool.version).trim().to_owned()));
        }
        self.tools.append(&mut tools);
    }
}

/// The language whose runtime this module is, for toolchains that name themselves nowhere else: `libpython3.14.so`.
fn runtime_library(module: &str) -> Option<String> {
    let version = module.strip_prefix("libpython")?.strip_suffix(".so")?;
    Some(format!("Python {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(component: &str) -> Vec<String> {
        look_inside(&wat::parse_str(component).expect("well-formed")).toolchain
    }

    const ENGINE: &str = r#"(core module (@producers (language "C11" "") (processed-by "clang" "21.1.4")))"#;

    #[test]
    fn the_language_of_the_component_comes_before_that_of_its_engine() {
        let own = r#"(@producers (processed-by "ComponentizeJS" "0.23.0") (language "JavaScript" ""))"#;
        let found = toolchain(&format!("(component {ENGINE} {own})"));
        assert_eq!(found, ["JavaScript", "ComponentizeJS 0.23.0", "C11", "clang 21.1.4"]);
    }

    #[test]
    fn a_component_that_names_no_language_was_made_from_what_is_inside() {
        let own = r#"(@producers (processed-by "wit-component" "0.245.1"))"#;
        let found = toolchain(&format!("(component {own} {ENGINE} {ENGINE})"));
        assert_eq!(found, ["C11", "clang 21.1.4", "wit-component 0.245.1"]);
    }

    #[test]
    fn a_runtime_that_is_linked_names_its_language() {
        let found = toolchain(&format!("(component {ENGINE} (core module $libpython3.14.so))"));
        assert_eq!(found, ["Python 3.14", "C11", "clang 21.1.4"]);
    }

    #[test]
    fn memories_too_large_to_be_added_up_are_no_overflow() {
        let memory = "(core module (memory i64 0x1_0000_0000_0000))".repeat(2);
        let bytes = wat::parse_str(format!("(component {memory})")).expect("well-formed");
        assert_eq!(look_inside(&bytes).memory, u64::MAX);
    }
}

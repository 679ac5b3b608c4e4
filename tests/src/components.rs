//! The components that `cargo xtask plugins` has built from `example-plugins` and `tests/guests`.

use std::path::PathBuf;

/// An example plugin's file.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    target().join("plugins").join(name).with_extension("wasm")
}

/// The file of a plugin that the book shows.
#[must_use]
pub fn sample(name: &str) -> PathBuf {
    target().join("samples").join(name).with_extension("wasm")
}

/// A test guest's file.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    target().join("guests").join(name).with_extension("wasm")
}

/// The bytes of a component.
///
/// # Panics
/// If it has not been built; the message says how.
#[must_use]
pub fn read(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins` first", path.display()))
}

fn target() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))
}

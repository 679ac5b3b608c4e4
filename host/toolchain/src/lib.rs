//! What it takes to build plugins, got from wherever this machine can get it. `tidegate plugin build` and `cargo xtask plugins`
//! are its users, and show their progress each in its own way.
//!
//! It builds first on a fresh machine, so it depends on little. What it does, it does by running programs.
//!
//! | module | owns |
//! |---|---|
//! | [`rust`] | the compiler from Rust to WebAssembly |
//! | [`debian`] | packages of Debian |
//! | [`command`] | programs that are run for what they print |

pub mod command;
pub mod debian;
pub mod rust;

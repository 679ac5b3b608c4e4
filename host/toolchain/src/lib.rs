//! What it takes to build plugins, got from wherever this machine can get it: which tools, in which versions, how they are
//! installed and how they are called. `tidegate plugin build` and `cargo xtask plugins` are its users, and show their progress
//! each in its own way.
//!
//! It builds first on a fresh machine, so it depends on little. What it does, it does by running programs.
//!
//! | module | owns |
//! |---|---|
//! | [`rust`] | the compiler from Rust to WebAssembly |
//! | [`javascript`], [`python`], [`c`] | the tools of the other languages |
//! | `language` | which those are |
//! | [`debian`] | packages of Debian |
//! | [`command`] | programs that are run for what they print |
//! | `installed` | when what is there has to be got again |

pub mod c;
pub mod command;
pub mod debian;
mod installed;
pub mod javascript;
mod language;
pub mod python;
pub mod rust;

use std::process::Command;

use anyhow::{Result, anyhow};

pub use self::language::{Language, are_required};

/// How a user of this crate runs a program where one can see it: what it is for, and how it is called.
pub type Run<'a> = &'a dyn Fn(&str, &mut Command) -> Result<()>;

/// Says after an error what would mend it.
fn hinted<T>(result: Result<T>, hint: &str) -> Result<T> {
    result.map_err(|error| anyhow!("{error:#}\nhint: {hint}"))
}

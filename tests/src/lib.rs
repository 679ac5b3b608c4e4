//! What the end-to-end tests share: where the built components are, and a runtime to put them in.

pub mod components;
pub mod plugins;

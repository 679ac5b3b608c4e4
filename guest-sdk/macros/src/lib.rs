//! The `#[plugin]` attribute of `tidegate-sdk`. Its documentation for authors is at `tidegate_sdk::Plugin`.
//!
//! **Boundary**: this crate knows the shape of the hooks, not what they do. What it emits is a thin layer over
//! `tidegate_sdk::__rt`.

mod expand;
mod hook;
mod parse;

use proc_macro::TokenStream;

/// Turns an `impl Plugin for MyType` block into a plugin: the methods in it become the hooks that the component
/// exports. See the trait `Plugin` for what they are and what they may return.
#[proc_macro_attribute]
pub fn plugin(attributes: TokenStream, item: TokenStream) -> TokenStream {
    parse::plugin(attributes.into(), item.into())
        .map_or_else(|error| error.into_compile_error(), |plugin| expand::plugin(&plugin))
        .into()
}

//! The data plane against real sockets: what goes through, what is refused, what a hostile or broken peer can do, and
//! how it drains. Most routes here are without plugins; `plugin_chain` is about those with.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is a failure")]

mod client;
mod drain;
mod forwarding;
mod gateway;
mod hostile_clients;
mod hostile_upstreams;
mod http2;
mod observability;
mod origin;
mod plugin_chain;

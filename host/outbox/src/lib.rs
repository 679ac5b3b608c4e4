//! A durable outbox: what it has accepted it keeps until it has been delivered.
//!
//! It knows topics, events and sinks; it knows no plugins, no gateway and no configuration file.

pub mod event;
pub mod sink;

//! What the end-to-end tests share: where the built components are, a runtime to put them in, and a gateway process
//! between clients and an origin.

pub mod client;
pub mod components;
pub mod gateway;
pub mod languages;
pub mod load;
pub mod measure;
pub mod nats;
pub mod origin;
pub mod plugins;
pub mod receiver;
pub mod service;
pub mod setups;

//! The stream that takes the messages, and how it is made if there is none.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, StorageType};

/// For how long a stream that the gateway has made remembers the ids of its messages: an event that is sent again within
/// this time is not stored again.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);

/// A stream by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// What it listens for if it is not there and has to be made; if this is empty, it is not made.
    pub create: Vec<String>,
}

impl StreamConfig {
    /// In files, on one server, with nothing that would make it drop messages.
    pub(super) fn made(&self) -> Config {
        Config {
            name: self.name.clone(),
            subjects: self.create.clone(),
            storage: StorageType::File,
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("made by tidegate for its outbox".to_owned()),
            ..Config::default()
        }
    }
}

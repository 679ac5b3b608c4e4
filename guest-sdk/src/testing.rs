//! What stands in for the gateway in native tests: a plugin's clients work in memory, and a test scripts and reads them here.
//!
//! Everything belongs to the thread. The test runner gives each test a thread of its own, so tests do not see one another.

/// Work that was put off.
pub mod background {
    pub use crate::background::{refuse, take_deferred as take};
}

/// Time.
pub mod clock {
    pub use crate::clock::in_memory::advance;
}

/// Values of the grant `config`.
pub mod config_store {
    pub use crate::config_store::in_memory::set;
}

/// Requests of the plugin's own.
pub mod fetch {
    pub use crate::fetch::in_memory::{answer, take};
}

/// Key-value buckets.
pub mod kv {
    pub use crate::kv::in_memory::{contend, contents, refuse};
}

/// The plugin's own numbers.
pub mod metrics {
    pub use crate::metrics::in_memory::{observed, refuse, value};
}

/// Published events.
pub mod outbox {
    pub use crate::outbox::in_memory::{Published, refuse, take};
}

/// Values of the grant `secrets`.
pub mod secrets {
    /// A secret, for the test that runs on this thread.
    pub fn set(name: &str, value: &str) {
        crate::config_store::in_memory::set_secret(name, value);
    }
}

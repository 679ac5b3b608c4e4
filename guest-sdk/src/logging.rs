//! The `log` macros, and a panic's last words, to the host's log.
//!
//! **Boundary**: compiled for WebAssembly only. In native tests the author's own logger, if any, is in charge.

use crate::bindings::imports::wasi::logging::logging as host;
use std::sync::Once;

struct HostLog;

impl log::Log for HostLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Error => host::Level::Error,
            log::Level::Warn => host::Level::Warn,
            log::Level::Info => host::Level::Info,
            log::Level::Debug => host::Level::Debug,
            log::Level::Trace => host::Level::Trace,
        };
        match record.args().as_str() {
            Some(text) => host::log(level, record.target(), text),
            None => host::log(level, record.target(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// Installs both, the first time a hook runs.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&HostLog).is_ok() {
            log::set_max_level(log::LevelFilter::Debug);
        }
        std::panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("a value that is not text");
            let text = match info.location() {
                Some(at) => format!("panicked at {at}: {message}"),
                None => format!("panicked: {message}"),
            };
            host::log(host::Level::Error, "panic", &text);
        }));
    });
}

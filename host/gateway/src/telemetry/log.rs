//! The log: what tracing events become on stderr.
//!
//! Lines go through a bounded queue to a thread of their own. A pipe that nobody reads holds up that thread, not a
//! request; lines that find the queue full are dropped.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{self, LogFormat};

/// Lines that may wait to be written.
const QUEUE: usize = 16_384;

/// Writes out what waits when it is dropped. Drop it last.
#[must_use]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Begin to log. A process does so once; later calls change nothing.
///
/// # Errors
/// When the level is no filter.
pub fn start(config: &config::Log) -> Result<LogGuard, ParseError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(QUEUE).finish(std::io::stderr());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    // An error means that a test has set up a log of its own.
    let _ = match config.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(LogGuard(guard))
}

//! The access log: one line per exchange, to stderr.
//!
//! Lines are made on the request's path and written by a thread of their own. If that thread cannot keep up (a terminal
//! that is stopped, a pipe that is full), lines are dropped and counted: the log never holds up a request.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Version;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::config::{Log, LogFormat};

/// Lines that may wait to be written.
const QUEUE: usize = 16 * 1024;

/// How an exchange ended, for whoever counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The response was handed over completely.
    Complete,
    /// The client went away, or the gateway cut the exchange off at the end of its drain.
    ClientGone,
    /// The upstream's response broke off, and the client's was aborted.
    UpstreamBroke,
}

impl Ending {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client-gone",
            Self::UpstreamBroke => "upstream-broke",
        }
    }
}

/// What a line says.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) client: SocketAddr,
    pub(crate) method: &'a str,
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a str,
    pub(crate) version: Version,
    pub(crate) status: u16,
    /// Bytes of the response's body.
    pub(crate) sent: u64,
    pub(crate) took: Duration,
    pub(crate) ending: Ending,
}

/// Writes lines.
#[derive(Debug)]
pub(crate) struct AccessLog {
    writer: NonBlocking,
    format: LogFormat,
}

/// Writes out what is left when it is dropped.
#[derive(Debug)]
pub struct AccessLogGuard(Option<WorkerGuard>);

impl Drop for AccessLogGuard {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl AccessLog {
    pub(crate) fn start(config: &Log) -> (Option<Self>, AccessLogGuard) {
        if config.access {
            let (log, guard) = Self::to(std::io::stderr(), config.format);
            (Some(log), guard)
        } else {
            (None, AccessLogGuard(None))
        }
    }

    fn to(sink: impl std::io::Write + Send + 'static, format: LogFormat) -> (Self, AccessLogGuard) {
        let builder = NonBlockingBuilder::default().buffered_lines_limit(QUEUE).lossy(true).thread_name("access-log");
        let (writer, guard) = builder.finish(sink);
        (Self { writer, format }, AccessLogGuard(Some(guard)))
    }

    /// Counts the lines that were dropped.
    pub(crate) fn dropped(&self) -> ErrorCounter {
        self.writer.error_counter()
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let mut text = String::with_capacity(256);
        let made = match self.format {
            LogFormat::Text => line.as_text(&mut text),
            LogFormat::Json => line.as_json(&mut text),
        };
        if made.is_ok() {
            text.push('\n');
            // Cannot fail: what finds no room is dropped and counted.
            let _ = self.writer.clone().write(text.as_bytes());
        }
    }
}

impl Line<'_> {
    fn as_text(&self, out: &mut String) -> std::fmt::Result {
        timestamp(SystemTime::now(), out)?;
        write!(out, " access {} {} {} ", Escaped(self.id), self.client, self.method)?;
        write!(out, "{}{} ", Escaped(self.host), Escaped(self.target.as_bytes()))?;
        write!(out, "{:?} {} {}B {:.3}ms", self.version, self.status, self.sent, self.took.as_secs_f64() * 1e3)?;
        if self.ending != Ending::Complete {
            write!(out, " {}", self.ending.as_str())?;
        }
        Ok(())
    }

    fn as_json(&self, out: &mut String) -> std::fmt::Result {
        out.push_str("{\"timestamp\":\"");
        timestamp(SystemTime::now(), out)?;
        write!(out, "\",\"target\":\"access\",\"request_id\":\"{}\",\"client\":\"{}\"", Escaped(self.id), self.client)?;
        write!(out, ",\"method\":\"{}\",\"host\":\"{}\"", self.method, Escaped(self.host))?;
        write!(out, ",\"path\":\"{}\",\"version\":\"{:?}\"", Escaped(self.target.as_bytes()), self.version)?;
        write!(out, ",\"status\":{},\"bytes\":{}", self.status, self.sent)?;
        write!(out, ",\"duration_ms\":{:.3}", self.took.as_secs_f64() * 1e3)?;
        write!(out, ",\"ending\":\"{}\"}}", self.ending.as_str())
    }
}

/// What a client has sent, fit to stand in a line of text and in a JSON string: whatever is not visible ASCII, quotes
/// and backslashes become `\u00XX`.
struct Escaped<'a>(&'a [u8]);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        while !rest.is_empty() {
            let fit = rest.iter().take_while(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')).count();
            let (plain, after) = rest.split_at_checked(fit).unwrap_or((rest, &[]));
            f.write_str(std::str::from_utf8(plain).unwrap_or_default())?;
            rest = after;
            if let Some((byte, after)) = rest.split_first() {
                write!(f, "\\u{byte:04x}")?;
                rest = after;
            }
        }
        Ok(())
    }
}

/// `2026-01-31T23:59:59.123Z`
fn timestamp(time: SystemTime, out: &mut String) -> std::fmt::Result {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Year, month and day of a day counted from 1970-01-01: years are taken to begin in March, so that the leap day is
/// the last one, and eras of 400 years all have the same length.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line() -> Line<'static> {
        Line {
            id: b"abc",
            client: ([192, 0, 2, 7], 5000).into(),
            method: "GET",
            host: b"a\"\x1b.example",
            target: "/x?y=\u{20ac}",
            version: Version::HTTP_11,
            status: 200,
            sent: 60,
            took: Duration::from_micros(1500),
            ending: Ending::ClientGone,
        }
    }

    fn written(format: LogFormat) -> String {
        let sink = Sink::default();
        let (log, guard) = AccessLog::to(sink.clone(), format);
        log.write(&line());
        drop(guard);
        String::from_utf8(sink.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }

    #[test]
    fn a_line_of_json_is_json_whatever_the_client_sent() {
        let object: serde_json::Value = serde_json::from_str(&written(LogFormat::Json)).expect("JSON");
        assert_eq!(object["request_id"], "abc");
        assert_eq!(object["host"], "a\"\u{1b}.example");
        assert_eq!(object["status"], 200);
        assert_eq!(object["ending"], "client-gone");
    }

    #[test]
    fn a_line_of_text_has_no_control_characters() {
        let text = written(LogFormat::Text);
        assert!(text.ends_with("HTTP/1.1 200 60B 1.500ms client-gone\n"), "{text}");
        assert!(text.trim_end().chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text}");
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut text = String::new();
            timestamp(UNIX_EPOCH + Duration::from_secs(seconds), &mut text).expect("a string takes everything");
            assert_eq!(text, expected);
        }
    }
}

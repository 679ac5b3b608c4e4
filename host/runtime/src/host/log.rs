//! `wasi:logging/logging`, and the guest's stdout and stderr: all of them become lines of the gateway's log.
//!
//! A line carries the plugin, the instance, the hook and the request's id. Lines are cut at [`MAX_LINE`], and a call
//! writes at most [`MAX_LINES`]; what is over is counted and said in one line before the next call
//! of the instance, or when it goes. All instances together write as much as their [`Allowance`] lets them. The plugin's secrets are taken out before anything is cut, so that no cut hides one.
//!
//! What a stream got without the end of a line is a line when the call ends, or the instance goes in the middle of it.

mod allowance;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::bindings::logging;
use crate::contract::Hook;
use crate::host::Guest;
use crate::meter::Meter;
use crate::outbound::Caller;
use crate::redact::{Redacted, Redaction};

pub(crate) use self::allowance::Allowance;
use self::allowance::Answer;

/// Bytes of one line.
const MAX_LINE: usize = 8 << 10;

/// Bytes of the context of a line.
const MAX_CONTEXT: usize = 256;

/// Lines of one call.
const MAX_LINES: u32 = 1024;

/// Bytes of the end of stderr that are kept for the message of a trap. (An exception's text is found nowhere else.)
const TAIL: usize = 1 << 10;

/// Bytes accepted from a stream at a time.
const STREAM_CHUNK: usize = 64 << 10;

/// The log of one instance. Shared by the store's data and its two output streams.
pub(crate) struct GuestLog {
    plugin: Arc<str>,
    instance: u64,
    redaction: Arc<Redaction>,
    allowance: Arc<Allowance>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hook: Option<Hook>,
    request: Option<Arc<str>>,
    lines: u32,
    stdout: Output,
    stderr: Output,
    tail: VecDeque<u8>,
}

/// What has come through a stream and has not become a line yet.
#[derive(Default)]
struct Output {
    redacted: Redacted,
    partial: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The level and the context of its lines.
    fn shown_as(self) -> (logging::Level, &'static str) {
        match self {
            Self::Stdout => (logging::Level::Info, "stdout"),
            Self::Stderr => (logging::Level::Warn, "stderr"),
        }
    }
}

impl GuestLog {
    pub(crate) fn new(
        plugin: Arc<str>,
        instance: u64,
        redaction: Arc<Redaction>,
        allowance: Arc<Allowance>,
    ) -> Arc<Self> {
        Arc::new(Self { plugin, instance, redaction, allowance, state: Mutex::default() })
    }

    #[cfg(test)]
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    pub(crate) fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    // Nothing below leaves the state half-changed, so a poisoned lock is as good as a sound one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins: its lines carry this hook and request.
    pub(crate) fn begin(&self, hook: Hook, request: Option<&Arc<str>>) {
        let mut state = self.state();
        self.say_what_was_left_out(&mut state);
        if let Some(dropped) = self.allowance.unsaid() {
            allowance::say(&self.plugin, dropped);
        }
        state.hook = Some(hook);
        state.request = request.cloned();
        state.tail.clear();
    }

    /// A call has ended.
    pub(crate) fn end(&self) {
        self.finish_lines(&mut self.state());
    }

    /// What has no end of line gets one; what was kept back because it may have been the beginning of a secret was none.
    fn finish_lines(&self, state: &mut State) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.release(state, stream);
            let partial = std::mem::take(&mut state.output(stream).partial);
            if !partial.is_empty() {
                let (level, context) = stream.shown_as();
                self.counted_line(state, level, context, &String::from_utf8_lossy(&partial));
            }
        }
    }

    /// The request that this call is about, if it is about one.
    pub(crate) fn request(&self) -> Option<Arc<str>> {
        self.state().request.clone()
    }

    /// Whose call it is.
    pub(crate) fn caller(&self) -> Caller {
        let state = self.state();
        Caller { hook: state.hook, request_id: state.request.clone() }
    }

    /// A call has ended, and another begins or the instance is gone.
    fn say_what_was_left_out(&self, state: &mut State) {
        let lines = std::mem::take(&mut state.lines);
        if lines > MAX_LINES {
            let left_out = lines - MAX_LINES;
            self.emit(
                state,
                logging::Level::Warn,
                "tidegate",
                &format!("{left_out} more lines of this call were left out"),
            );
        }
    }

    /// The end of what the guest has written to stderr in this call.
    pub(crate) fn stderr_tail(&self) -> String {
        let mut state = self.state();
        self.release(&mut state, Stream::Stderr);
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    fn line(&self, level: logging::Level, context: &str, message: &str) {
        let (context, message) = (self.redaction.cut(context, MAX_CONTEXT), self.redaction.cut(message, MAX_LINE));
        let mut state = self.state();
        self.counted_line(&mut state, level, &context, &message);
    }

    fn counted_line(&self, state: &mut State, level: logging::Level, context: &str, message: &str) {
        state.lines = state.lines.saturating_add(1);
        if state.lines > MAX_LINES || !is_logged(level) {
            return;
        }
        match self.allowance.take(message.len()) {
            Answer::Write => self.emit(state, level, context, message),
            Answer::Drop => {}
            Answer::DropAndSay(dropped) => allowance::say(&self.plugin, dropped),
        }
    }

    fn emit(&self, state: &State, level: logging::Level, context: &str, message: &str) {
        let hook = state.hook.map_or("", Hook::as_str);
        let request = state.request.as_deref().unwrap_or("");
        let (plugin, instance) = (&*self.plugin, self.instance);
        // A macro per level: tracing's levels are part of a call site's static data.
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(target: "tidegate::plugin", plugin, instance, hook, request, context, "{message}")
            };
        }
        match level {
            logging::Level::Trace => event!(trace),
            logging::Level::Debug => event!(debug),
            logging::Level::Info => event!(info),
            logging::Level::Warn => event!(warn),
            logging::Level::Error | logging::Level::Critical => event!(error),
        }
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.state();
        let clean = state.output(stream).redacted.push(&self.redaction, bytes);
        self.write_clean(&mut state, stream, &clean);
    }

    /// Write out what was kept back because it may have been the beginning of a secret.
    fn release(&self, state: &mut State, stream: Stream) {
        let clean = state.output(stream).redacted.finish(&self.redaction);
        self.write_clean(state, stream, &clean);
    }

    fn write_clean(&self, state: &mut State, stream: Stream, bytes: &[u8]) {
        if matches!(stream, Stream::Stderr) {
            state.tail.extend(bytes);
            let excess = state.tail.len().saturating_sub(TAIL);
            state.tail.drain(..excess);
        }
        let (level, context) = stream.shown_as();
        let mut partial = std::mem::take(&mut state.output(stream).partial);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            // A line without end is written in pieces of the cap's size.
            let room = MAX_LINE.saturating_sub(partial.len());
            partial.extend_from_slice(text.get(..room.min(text.len())).unwrap_or(text));
            if ended || partial.len() >= MAX_LINE {
                self.counted_line(state, level, context, &String::from_utf8_lossy(&partial));
                partial.clear();
            }
        }
        state.output(stream).partial = partial;
    }
}

impl State {
    fn output(&mut self, stream: Stream) -> &mut Output {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// Whether anybody takes lines of this level: one that nobody sees costs the plugin nothing.
fn is_logged(level: logging::Level) -> bool {
    macro_rules! enabled {
        ($level:ident) => {
            tracing::enabled!(target: "tidegate::plugin", tracing::Level::$level)
        };
    }
    match level {
        logging::Level::Trace => enabled!(TRACE),
        logging::Level::Debug => enabled!(DEBUG),
        logging::Level::Info => enabled!(INFO),
        logging::Level::Warn => enabled!(WARN),
        logging::Level::Error | logging::Level::Critical => enabled!(ERROR),
    }
}

impl logging::Host for Guest {
    fn log(&mut self, level: logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        self.meter.fence()?;
        self.log.line(level, &context, &message);
        Ok(())
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.state());
        self.finish_lines(&mut state);
        self.say_what_was_left_out(&mut state);
    }
}

/// stdout or stderr of an instance.
pub(crate) struct Stdio {
    log: Arc<GuestLog>,
    meter: Arc<Meter>,
    stream: Stream,
}

impl Stdio {
    pub(crate) fn stdout(log: Arc<GuestLog>, meter: Arc<Meter>) -> Self {
        Self { log, meter, stream: Stream::Stdout }
    }

    pub(crate) fn stderr(log: Arc<GuestLog>, meter: Arc<Meter>) -> Self {
        Self { log, meter, stream: Stream::Stderr }
    }

    fn another(&self) -> Self {
        Self { log: self.log.clone(), meter: self.meter.clone(), stream: self.stream }
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.another())
    }

    // Not the default, which copies into a buffer of its own that empty writes can grow.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.another())
    }
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.meter.fence().map_err(StreamError::Trap)?;
        self.log.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(STREAM_CHUNK)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.meter.fence().map_err(io::Error::other)?;
        self.log.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

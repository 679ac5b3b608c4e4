//! What plugins write, kept for the test.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The target of what plugins write.
const TARGET: &str = "tidegate::plugin";

/// A line that a plugin has written: through the log, stdout or stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// The hook that wrote it.
    pub hook: String,
    /// The id of the request that the hook looked at, or nothing.
    pub request: String,
    /// The context, as the plugin names it; `stdout` or `stderr` for these.
    pub context: String,
    /// What it says.
    pub message: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, hook, context, message, .. } = self;
        write!(f, "{level:5} {hook}: ")?;
        if !context.is_empty() {
            write!(f, "[{context}] ")?;
        }
        f.write_str(message)
    }
}

/// The lines so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    pub(crate) fn all(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A subscriber that keeps what plugins write, and nothing else.
    pub(crate) fn dispatch(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.clone()))
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { hook, request, context, message } = fields;
        let line = Line { level: *event.metadata().level(), hook, request, context, message };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

#[derive(Default)]
struct Fields {
    hook: String,
    request: String,
    context: String,
    message: String,
}

impl Fields {
    fn of(&mut self, field: &Field) -> Option<&mut String> {
        match field.name() {
            "hook" => Some(&mut self.hook),
            "request" => Some(&mut self.request),
            "context" => Some(&mut self.context),
            "message" => Some(&mut self.message),
            _ => None,
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(text) = self.of(field) {
            // Writing to a string does not fail.
            let _ = write!(text, "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.of(field) {
            text.push_str(value);
        }
    }
}

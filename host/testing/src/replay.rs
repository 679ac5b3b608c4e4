//! Recorded exchanges once more, through one plugin in virtual time: does it still answer as it did?

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;

use crate::error::SetupError;
use crate::exchange::{Answer, Response};
use crate::plugin::Plugin;
use crate::recording::{RecordedBody, RecordedExchange, RecordedResponse, Refused};
use crate::setup::Setup;
use crate::world::Reply;

/// Fields of answers that are another's business than a plugin's, or new every time.
const NOT_COMPARED: [&str; 5] = ["connection", "date", "keep-alive", "transfer-encoding", "x-request-id"];

/// An answer that is not the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The exchange's id.
    pub id: String,
    /// The request: method and target.
    pub request: String,
    /// What is different.
    pub what: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.request, self.id, self.what.join("; "))
    }
}

/// What came of a replay.
#[derive(Debug)]
pub struct Replayed {
    /// The plugin after all of it: it can be looked at, and stopped.
    pub plugin: Plugin,
    /// How many exchanges there were.
    pub exchanges: usize,
    /// How many of them were not compared: their upstream gave no answer, or their client no whole request.
    pub not_compared: usize,
    /// Those that went differently.
    pub differences: Vec<Difference>,
}

impl Setup {
    /// Load the plugin and send it the requests of a recording, at the times at which they came, with an upstream that answers
    /// as it did. A recording is of the whole chain: the answers are this plugin's only if it was alone on its route.
    ///
    /// Where the gateway answered because a plugin had failed, only the status is compared. Where it answered for any other
    /// reason of its own, the request is sent all the same, since the plugin may count it, but nothing is compared.
    ///
    /// # Errors
    /// When the plugin cannot be loaded.
    ///
    /// # Panics
    /// If an exchange was made up, and is none: [`crate::recording::read`] lets none through.
    pub fn replay(self, exchanges: &[RecordedExchange]) -> Result<Replayed, SetupError> {
        let began = exchanges.first().map_or(0, |first| first.at_ms);
        let answers = Arc::new(Mutex::new(Response::new(200)));
        let script = Arc::clone(&answers);
        let upstream = move |_: &_| Reply::Now(script.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut plugin = self.begins_at(Duration::from_millis(began)).upstream(upstream).load()?;
        let mut differences = Vec::new();
        let mut not_compared = 0;
        for exchange in exchanges {
            let due = Duration::from_millis(exchange.at_ms.saturating_sub(began));
            plugin.advance(due.saturating_sub(plugin.now()));
            let no_exchange = |problem: String| -> Response { panic!("{}: {problem}", exchange.id) };
            // An upstream that was not reached then is not to be asked now; 502 shows if it is.
            let upstream = exchange.upstream.as_ref().map(RecordedResponse::response);
            let upstream = upstream.map_or_else(|| Response::new(502), |response| response.unwrap_or_else(no_exchange));
            *answers.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
            let request = exchange.request.request().unwrap_or_else(|problem| panic!("{}: {problem}", exchange.id));
            let answer = plugin.send(request);
            let Some(what) = compare_with(&answer, exchange) else {
                not_compared += 1;
                continue;
            };
            if !what.is_empty() {
                let request = format!("{} {}", exchange.request.method, exchange.request.target);
                differences.push(Difference { id: exchange.id.clone(), request, what });
            }
        }
        Ok(Replayed { plugin, exchanges: exchanges.len(), not_compared, differences })
    }
}

/// What is different; `None` if the answer was not this chain's.
fn compare_with(answer: &Answer, exchange: &RecordedExchange) -> Option<Vec<String>> {
    let recorded = &exchange.answer;
    let mut what = Vec::new();
    if answer.status.as_u16() != recorded.status {
        what.push(format!("status {}, and was {}", answer.status.as_u16(), recorded.status));
    }
    match exchange.refused {
        Some(Refused::Upstream | Refused::Other) => return None,
        // The gateway's words, not the plugin's.
        Some(Refused::Plugin) => return Some(what),
        None => {}
    }
    compare_fields(&answer.headers, recorded, &mut what);
    // Whatever a plugin says: these have no body on the wire (RFC 9110, section 6.4.1).
    let has_body = exchange.request.method != "HEAD" && !matches!(recorded.status, 204 | 205 | 304);
    if has_body {
        compare_bodies(answer, &recorded.body, &mut what);
    }
    Some(what)
}

fn compare_bodies(answer: &Answer, recorded: &RecordedBody, what: &mut Vec<String>) {
    let body = recorded.content.bytes().unwrap_or_default();
    // Of a body that is not whole there is only the beginning.
    let is_same = if recorded.is_whole() { answer.body == body } else { answer.body.starts_with(&body) };
    if !is_same {
        let length = recorded.length.unwrap_or(body.len() as u64);
        what.push(format!("a body of {} bytes, and was another of {length}", answer.body.len()));
    }
}

fn compare_fields(headers: &HeaderMap, recorded: &RecordedResponse, what: &mut Vec<String>) {
    let is_compared = |name: &str| !NOT_COMPARED.contains(&name) && name != "content-length";
    let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    names.extend(recorded.headers.iter().map(|(name, _)| name.as_str()));
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| is_compared(name)) {
        let before: Vec<_> =
            recorded.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value).collect();
        if before.iter().any(|value| value.is_redacted()) {
            continue;
        }
        let now: Vec<&[u8]> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        let before: Vec<Vec<u8>> = before.into_iter().map(|value| value.bytes().unwrap_or_default()).collect();
        if now != before {
            let shown = |values: &[&[u8]]| match values {
                [] => "absent".to_owned(),
                values => values.iter().map(|value| String::from_utf8_lossy(value)).collect::<Vec<_>>().join(", "),
            };
            let before: Vec<&[u8]> = before.iter().map(Vec::as_slice).collect();
            what.push(format!("{name} is {}, and was {}", shown(&now), shown(&before)));
        }
    }
}

//! An exchange while it is being recorded: copies of its heads, and taps on its bodies, which copy what streams by up
//! to a bound. Nothing here waits, and nothing keeps a buffer of a connection alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tidegate_runtime::Redaction;
use tidegate_testing::recording::{
    BodyEnd, Content, REDACTED, RecordedBody, RecordedExchange, RecordedRequest, RecordedResponse, Refused, SCHEMA,
};

use super::memory::{Memory, Share};
use super::{Loss, Recorder};

/// What an allocation costs besides what is in it, near enough.
const OVERHEAD: usize = 64;

/// A request as the first plugin sees it.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) id: &'a HeaderValue,
    pub(crate) method: &'a Method,
    pub(crate) target: &'a PathAndQuery,
    pub(crate) headers: &'a HeaderMap,
    /// The plugins of its route.
    pub(crate) plugins: &'a Arc<[Arc<str>]>,
    /// The secrets of all plugins.
    pub(crate) redaction: &'a Arc<Redaction>,
}

/// An exchange, as far as it has come.
#[derive(Debug)]
pub(crate) struct Draft {
    recorder: Arc<Recorder>,
    redaction: Arc<Redaction>,
    id: String,
    at_ms: u64,
    plugins: Arc<[Arc<str>]>,
    method: Method,
    target: String,
    request: Vec<Field>,
    request_body: Tap,
    upstream: Option<Head>,
    upstream_body: Tap,
    answer: Option<Head>,
    answer_body: Tap,
    refused: Option<Refused>,
    room: Room,
}

#[derive(Debug)]
struct Head {
    status: StatusCode,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: HeaderName,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Kept(Vec<u8>),
    Redacted,
}

/// Whether there is memory for it.
#[derive(Debug)]
enum Room {
    /// So far.
    Enough(Share),
    /// There was not: what is here has gaps.
    Exhausted,
}

impl Room {
    fn grow(&mut self, bytes: usize) {
        if let Self::Enough(share) = self
            && share.grow(bytes).is_err()
        {
            *self = Self::Exhausted;
        }
    }

    fn is_exhausted(&self) -> bool {
        matches!(self, Self::Exhausted)
    }
}

impl Draft {
    /// Begin with the request.
    pub(crate) fn begin(recorder: &Arc<Recorder>, asked: &Asked<'_>) -> Box<Self> {
        let tap = || Tap::new(&recorder.memory, recorder.body);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut draft = Box::new(Self {
            recorder: Arc::clone(recorder),
            redaction: Arc::clone(asked.redaction),
            id: String::from_utf8_lossy(asked.id.as_bytes()).into_owned(),
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            plugins: Arc::clone(asked.plugins),
            method: asked.method.clone(),
            target: asked.target.as_str().to_owned(),
            request: Vec::new(),
            request_body: tap(),
            upstream: None,
            upstream_body: tap(),
            answer: None,
            answer_body: tap(),
            refused: None,
            room: Room::Enough(Share::of(&recorder.memory)),
        });
        draft.room.grow(size_of::<Self>() + 4 * OVERHEAD + draft.id.len() + draft.target.len());
        draft.request = draft.copy(asked.headers);
        draft
    }

    /// Takes the request's body as it streams by.
    pub(crate) fn request_tap(&self) -> Tap {
        self.request_body.clone()
    }

    /// The upstream has answered. Returns what takes its body as it streams by.
    pub(crate) fn upstream(&mut self, status: StatusCode, headers: &HeaderMap) -> Tap {
        self.upstream = Some(Head { status, fields: self.copy(headers) });
        self.upstream_body.clone()
    }

    /// The gateway answers itself.
    pub(crate) fn refused(&mut self, why: Refused) {
        self.refused = Some(why);
    }

    /// This goes to the client.
    pub(crate) fn answer(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.answer = Some(Head { status, fields: self.copy(headers) });
    }

    /// A piece of the body has been handed over.
    pub(crate) fn sent(&self, piece: &Bytes) {
        self.answer_body.take(piece);
    }

    /// It is over; `end` says whether all of the answer has been handed over.
    pub(crate) fn over(self: Box<Self>, end: BodyEnd) {
        if end == BodyEnd::Reached {
            self.answer_body.end();
        }
        let recorder = Arc::clone(&self.recorder);
        let taps = [&self.request_body, &self.upstream_body, &self.answer_body];
        if self.answer.is_none() {
            recorder.counts.dropped(Loss::Unanswered);
        } else if self.room.is_exhausted() || taps.into_iter().any(|tap| tap.lock().room.is_exhausted()) {
            recorder.counts.dropped(Loss::Memory);
        } else {
            recorder.keep(self);
        }
    }

    fn copy(&mut self, headers: &HeaderMap) -> Vec<Field> {
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + OVERHEAD;
        self.room.grow(headers.iter().map(length).sum::<usize>() + headers.len() * size_of::<Field>());
        if self.room.is_exhausted() {
            return Vec::new();
        }
        let redact = &self.recorder.redact;
        let value = |name: &HeaderName, value: &HeaderValue| match redact.contains(name) || value.is_sensitive() {
            true => Value::Redacted,
            false => Value::Kept(value.as_bytes().to_vec()),
        };
        headers.iter().map(|(name, it)| Field { name: name.clone(), value: value(name, it) }).collect()
    }

    /// As it is written, without the secrets of plugins.
    pub(super) fn into_recorded(self: Box<Self>) -> Option<RecordedExchange> {
        let this = *self;
        let redaction = &this.redaction;
        let response = |head: Head, body: &Tap| RecordedResponse {
            status: head.status.as_u16(),
            headers: recorded(head.fields, redaction),
            body: body.recorded(redaction),
        };
        let answer = response(this.answer?, &this.answer_body);
        // A space cannot stand in a target, and the name that replaces a secret has one before it.
        let target = redaction.bytes(this.target.as_bytes());
        let target = String::from_utf8_lossy(&target).replace(' ', "%20");
        Some(RecordedExchange {
            schema: SCHEMA,
            id: String::from_utf8_lossy(&redaction.bytes(this.id.as_bytes())).into_owned(),
            at_ms: this.at_ms,
            plugins: this.plugins.iter().map(|name| name.to_string()).collect(),
            request: RecordedRequest {
                method: this.method.to_string(),
                target,
                headers: recorded(this.request, redaction),
                body: this.request_body.recorded(redaction),
            },
            upstream: this.upstream.map(|head| response(head, &this.upstream_body)),
            answer,
            refused: this.refused,
        })
    }
}

fn recorded(fields: Vec<Field>, redaction: &Redaction) -> Vec<(String, Content)> {
    let content = |value| match value {
        Value::Kept(value) => Content::from(&*redaction.bytes(&value)),
        Value::Redacted => Content::Text(REDACTED.to_owned()),
    };
    fields.into_iter().map(|Field { name, value }| (name.as_str().to_owned(), content(value))).collect()
}

/// Copies a body that streams by, up to a bound.
#[derive(Debug, Clone)]
pub(crate) struct Tap(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    kept: Vec<u8>,
    /// Bytes that are kept at most.
    cap: usize,
    /// Bytes that have passed.
    passed: u64,
    end: BodyEnd,
    room: Room,
}

impl Tap {
    fn new(memory: &Arc<Memory>, cap: usize) -> Self {
        let room = Room::Enough(Share::of(memory));
        Self(Arc::new(Mutex::new(Taken { kept: Vec::new(), cap, passed: 0, end: BodyEnd::NotReached, room })))
    }

    /// A piece passes.
    pub(crate) fn take(&self, piece: &Bytes) {
        let mut taken = self.lock();
        taken.passed += piece.len() as u64;
        let more = taken.cap.saturating_sub(taken.kept.len()).min(piece.len());
        if more == 0 || taken.room.is_exhausted() {
            return;
        }
        // Made larger before it is used, so that no more is taken than there is.
        let capacity = taken.kept.capacity();
        if taken.kept.len() + more > capacity {
            let larger = (taken.kept.len() + more).max(capacity * 2).min(taken.cap);
            taken.room.grow(larger - capacity);
            if taken.room.is_exhausted() {
                taken.kept = Vec::new();
                return;
            }
            let additional = larger - taken.kept.len();
            taken.kept.reserve_exact(additional);
        }
        taken.kept.extend_from_slice(piece.get(..more).unwrap_or_default());
    }

    /// All of it has passed.
    pub(crate) fn end(&self) {
        self.lock().end = BodyEnd::Reached;
    }

    /// What it has taken. It takes nothing more.
    fn recorded(&self, redaction: &Redaction) -> RecordedBody {
        let mut taken = self.lock();
        let kept = std::mem::take(&mut taken.kept);
        taken.cap = 0;
        let length = (taken.passed > kept.len() as u64).then_some(taken.passed);
        let end = taken.end;
        drop(taken);
        RecordedBody { content: Content::from(&*redaction.bytes(&kept)), length, end }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // What is taken is made whole, whoever panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(tap: &Tap) -> (String, Option<u64>, BodyEnd) {
        let RecordedBody { content, length, end } = tap.recorded(&Redaction::default());
        (String::from_utf8(content.bytes().expect("bytes")).expect("text"), length, end)
    }

    #[test]
    fn a_body_is_kept_up_to_the_bound_and_its_length_is_told() {
        let memory = Memory::new(1_000);
        let tap = Tap::new(&memory, 5);
        tap.take(&Bytes::from_static(b"abc"));
        tap.take(&Bytes::from_static(b"defg"));
        tap.take(&Bytes::from_static(b"hi"));
        tap.end();
        assert_eq!(taken(&tap), ("abcde".to_owned(), Some(9), BodyEnd::Reached));
        let tap = Tap::new(&memory, 5);
        tap.take(&Bytes::from_static(b"abcde"));
        assert_eq!(taken(&tap), ("abcde".to_owned(), None, BodyEnd::NotReached));
    }

    #[test]
    fn where_there_is_no_memory_nothing_is_kept() {
        let memory = Memory::new(8);
        let (one, other) = (Tap::new(&memory, 100), Tap::new(&memory, 100));
        one.take(&Bytes::from_static(b"12345"));
        other.take(&Bytes::from_static(b"12345"));
        assert!(!one.lock().room.is_exhausted() && other.lock().room.is_exhausted());
        drop(one);
        let third = Tap::new(&memory, 100);
        third.take(&Bytes::from_static(b"12345678"));
        assert!(!third.lock().room.is_exhausted(), "what was dropped is there again");
    }
}

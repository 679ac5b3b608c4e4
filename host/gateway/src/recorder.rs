//! Keeps exchanges in a folder (`tidegate run --record`), so that a plugin can be tried on them again.
//!
//! The request's path copies what it needs and hands it over; a thread of its own makes lines of it and writes them. No
//! exchange ever waits for that thread: what finds no room, in its queue, in the memory that recording may take or on
//! the disk, is dropped and counted. The format is `tidegate_testing`'s.
//!
//! Secrets do not get into the files. Values of the fields that are named never leave the request's path; the secrets
//! of plugins are replaced before anything is written.

mod draft;
mod folder;
mod memory;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};

pub(crate) use self::draft::{Asked, Draft, Tap};
use self::folder::Folder;
pub use self::folder::FolderError;
use self::memory::Memory;
use self::writer::Message;

/// Exchanges that may wait to be written.
const QUEUE: usize = 8 * 1024;

/// Bytes that everything which is recorded and not yet written may take, exchanges in flight included.
const MEMORY: usize = 64 << 20;

/// At most so often the log says that exchanges were dropped.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The most that can be asked for of a body. A line has three of them and may be six times as long (JSON writes a NUL
/// in six bytes), and no longer than a reader takes.
pub const MAX_BODY: u64 = 2 << 20;

/// The least that a folder can be bound to.
pub const MIN_LIMIT: u64 = 64 << 10;

/// What is kept, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder. It is made if it is not there.
    pub folder: PathBuf,
    /// Fields whose values are not kept, besides those that never are.
    pub redact: Vec<HeaderName>,
    /// Bytes that are kept of each body; at most [`MAX_BODY`].
    pub body: u64,
    /// Bytes that all files in the folder have together; at least [`MIN_LIMIT`].
    pub limit: u64,
}

/// Why an exchange is not in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The writer does not keep up.
    Queue,
    /// The exchanges in flight and those that wait take all the memory they may.
    Memory,
    /// The disk is full, or fails.
    Disk,
    /// It is longer than the whole folder may be.
    Length,
    /// The client went away before there was an answer.
    Unanswered,
    /// It ended after the recording.
    Closed,
}

impl Loss {
    pub(crate) const ALL: [Self; 6] =
        [Self::Queue, Self::Memory, Self::Disk, Self::Length, Self::Unanswered, Self::Closed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Length => "length",
            Self::Unanswered => "unanswered",
            Self::Closed => "closed",
        }
    }
}

/// What has become of exchanges so far.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Taken and neither written nor dropped so far.
    waiting: AtomicU64,
    kept: AtomicU64,
    bytes: AtomicU64,
    dropped: [AtomicU64; Loss::ALL.len()],
    /// When the log was last told that exchanges are dropped.
    told: Mutex<Option<Instant>>,
}

/// Takes exchanges to be kept. There is one per process, or none.
#[derive(Debug)]
pub struct Recorder {
    /// Fields whose values are not kept.
    redact: Vec<HeaderName>,
    /// Bytes that are kept of each body.
    body: usize,
    queue: SyncSender<Message>,
    memory: Arc<Memory>,
    counts: Arc<Counts>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Make the folder ready, and begin.
    ///
    /// # Errors
    /// When the folder cannot be written to, or is another gateway's.
    pub fn start(settings: Settings) -> Result<Arc<Self>, FolderError> {
        let Settings { folder, redact: named, body, limit } = settings;
        let counts = Arc::new(Counts::new());
        let folder = Folder::open(&folder, limit.max(MIN_LIMIT))?;
        let (queue, waiting) = sync_channel(QUEUE);
        let writer = writer::start(waiting, folder, Arc::clone(&counts))?;
        let mut redact =
            vec![AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE, HeaderName::from_static("x-api-key")];
        redact.extend(named);
        Ok(Arc::new(Self {
            redact,
            body: usize::try_from(body.min(MAX_BODY)).unwrap_or(usize::MAX),
            queue,
            memory: Memory::new(MEMORY),
            counts,
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// What has become of exchanges so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Hand an exchange over to be written.
    fn keep(&self, draft: Box<Draft>) {
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let loss = match self.queue.try_send(Message::Exchange(draft)) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => Loss::Queue,
            Err(TrySendError::Disconnected(_)) => Loss::Closed,
        };
        self.counts.settled();
        self.counts.dropped(loss);
    }

    /// Write everything that has been taken, and end. It waits for the disk: call it where that may be. Exchanges that
    /// end later are dropped.
    pub(crate) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Fails if the writer has ended, which is what is wanted.
        let _ = self.queue.send(Message::Close);
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the recording has panicked");
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: Default::default(),
            told: Mutex::new(None),
        }
    }

    /// Exchanges that have been taken and are still to be written.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Exchanges that have been written.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Bytes that have been written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Exchanges that were not written for this reason.
    pub(crate) fn lost_to(&self, loss: Loss) -> u64 {
        self.dropped.get(loss as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Exchanges that had an answer and were not written.
    pub(crate) fn lost(&self) -> u64 {
        Loss::ALL.into_iter().filter(|loss| *loss != Loss::Unanswered).map(|loss| self.lost_to(loss)).sum()
    }

    /// One does not wait any more.
    fn settled(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    fn dropped(&self, loss: Loss) {
        self.dropped_because(loss, None);
    }

    /// Count it, and tell the log if that has not heard of it for a while.
    fn dropped_because(&self, loss: Loss, error: Option<&std::io::Error>) {
        if let Some(count) = self.dropped.get(loss as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // That a client went away, or came late, is nobody's fault.
        if matches!(loss, Loss::Unanswered | Loss::Closed) {
            return;
        }
        // Whoever holds it is telling the log.
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            drop(told);
            let error = error.map(ToString::to_string).unwrap_or_default();
            tracing::warn!(reason = loss.as_str(), error, dropped = self.lost(), "exchanges are not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, StatusCode};
    use tidegate_testing::recording::BodyEnd;

    use super::*;

    /// A recorder that nobody writes for.
    fn recorder(queue: usize, memory: usize) -> (Arc<Recorder>, std::sync::mpsc::Receiver<Message>) {
        let (queue, waiting) = sync_channel(queue);
        let recorder = Recorder {
            redact: Vec::new(),
            body: 100,
            queue,
            memory: Memory::new(memory),
            counts: Arc::new(Counts::new()),
            writer: Mutex::new(None),
        };
        (Arc::new(recorder), waiting)
    }

    /// An exchange that begins, is answered with this body, and is over.
    fn exchange(recorder: &Arc<Recorder>, body: &'static [u8]) {
        let mut headers = HeaderMap::new();
        headers.insert("x-some", HeaderValue::from_static("value"));
        let mut draft = Draft::begin(
            recorder,
            &Asked {
                id: &HeaderValue::from_static("id"),
                method: &Method::GET,
                target: &http::uri::PathAndQuery::from_static("/"),
                headers: &headers,
                plugins: &Vec::new().into(),
                redaction: &Arc::default(),
            },
        );
        draft.answer(StatusCode::OK, &headers);
        draft.sent(&bytes::Bytes::from_static(body));
        draft.over(BodyEnd::Reached);
    }

    #[test]
    fn what_finds_no_room_in_the_queue_is_dropped_and_counted() {
        let (recorder, waiting) = recorder(2, 1 << 20);
        for _ in 0..5 {
            exchange(&recorder, b"");
        }
        assert_eq!((recorder.counts.lost_to(Loss::Queue), recorder.counts.lost()), (3, 3));
        assert_eq!((recorder.counts.waiting(), waiting.try_iter().count()), (2, 2));
        exchange(&recorder, b"");
        assert_eq!((recorder.counts.waiting(), recorder.counts.lost()), (3, 3), "there is room again");
        drop(waiting);
        exchange(&recorder, b"");
        assert_eq!((recorder.counts.lost_to(Loss::Closed), recorder.counts.lost()), (1, 4));
    }

    #[test]
    fn what_finds_no_memory_is_dropped_and_counted_and_gives_back_what_it_had() {
        let (recorder, waiting) = recorder(100, 10_000);
        while recorder.counts.lost() == 0 {
            exchange(&recorder, b"some body");
        }
        let kept = waiting.try_iter().count();
        assert!((1..50).contains(&kept), "{kept}");
        assert_eq!(recorder.counts.lost_to(Loss::Memory), 1);
        for _ in 0..kept {
            exchange(&recorder, b"some body");
        }
        assert_eq!(recorder.counts.lost(), 1, "what has been taken out of the queue is there again");
    }
}

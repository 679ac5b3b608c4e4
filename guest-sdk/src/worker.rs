//! Jobs of a type, put off until the response is on its way.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::background::{self, DeferError};
use crate::{Error, Result};

/// A queue of jobs of one type, worked off by `on_deferred`. Granted by `background = true`.
///
/// The queue is the host's, and all instances of the plugin work on it: a job that one instance has put off may run in another.
/// So a job says all that there is to know. It outlives the instance and not the process; a stop lets the queue run dry for as
/// long as its share lasts.
///
/// Several workers of a plugin share the queue; each has a name, which its jobs carry.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::Worker;
///
/// #[derive(Serialize, Deserialize)]
/// struct Thumbnail {
///     path: String,
/// }
///
/// struct Images {
///     thumbnails: Worker<Thumbnail>,
///     made: Vec<String>,
/// }
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for Images {
///     fn configure() -> Result<Self> {
///         Ok(Self { thumbnails: Worker::new("thumbnails"), made: Vec::new() })
///     }
///
///     fn on_response(&mut self, request: &Request, _response: &mut Response) -> Result<()> {
///         let job = Thumbnail { path: request.path() };
///         // At the end there is no later any more: then it is done now.
///         self.thumbnails.defer_or_run(job, |job| {
///             self.made.push(job.path);
///             Ok(())
///         })
///     }
///
///     fn on_deferred(&mut self, payload: Vec<u8>) -> Result<()> {
///         self.thumbnails.run(&payload, |job| {
///             self.made.push(job.path);
///             Ok(())
///         })
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut images = Images::configure()?;
/// images.on_response(&Request::builder().target("/cat.png").build(), &mut Response::builder().build())?;
/// for payload in tidegate_sdk::testing::background::take() {
///     images.on_deferred(payload)?;
/// }
/// assert_eq!(images.made, ["/cat.png"]);
/// assert_eq!(images.thumbnails.counts().done, 1);
/// # Ok(())
/// # }
/// ```
pub struct Worker<T> {
    name: &'static str,
    counts: Cell<Counts>,
    job: PhantomData<fn(T) -> T>,
}

/// What this instance has seen of a worker's jobs. Those it has put off and those it has run need not be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Put off.
    pub deferred: u64,
    /// Not taken by the host.
    pub refused: u64,
    /// Run well.
    pub done: u64,
    /// Run with an error, or not to be read.
    pub failed: u64,
}

/// Ends the name in a payload. It stands in no name.
const END_OF_NAME: u8 = b'\n';

impl<T: Serialize + DeserializeOwned> Worker<T> {
    /// The worker of this name. Two of the same name have the same jobs.
    ///
    /// # Panics
    /// If the name has a line break in it.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "`get` is not const for this; the loop ends at the length")]
    pub const fn new(name: &'static str) -> Self {
        let mut at = 0;
        while at < name.len() {
            assert!(name.as_bytes()[at] != END_OF_NAME, "a worker's name has no line break");
            at += 1;
        }
        let counts = Counts { deferred: 0, refused: 0, done: 0, failed: 0 };
        Self { name, counts: Cell::new(counts), job: PhantomData }
    }

    /// Put a job off.
    ///
    /// # Errors
    /// When the job cannot be written as JSON, or the host does not take it: a [`DeferError`] then.
    pub fn defer(&self, job: &T) -> Result<()> {
        Ok(self.try_defer(job)??)
    }

    /// Put a job off; or, if the plugin is being stopped and there is no later any more, run it now.
    ///
    /// # Errors
    /// When the host does not take it for another reason, or `run` fails.
    pub fn defer_or_run(&self, job: T, run: impl FnOnce(T) -> Result<()>) -> Result<()> {
        match self.try_defer(&job)? {
            Err(DeferError::Stopping) => self.count(run(job)),
            other => Ok(other?),
        }
    }

    /// Run the job of a payload, for `on_deferred` of a plugin with one worker.
    ///
    /// # Errors
    /// When the payload is no job of this worker, or `run` fails.
    pub fn run(&self, payload: &[u8], run: impl FnOnce(T) -> Result<()>) -> Result<()> {
        match self.job(payload) {
            Some(job) => self.count(job.and_then(run)),
            None => self.count(Err(format!("a deferred payload is no job of `{}`", self.name).into())),
        }
    }

    /// The job of a payload, if it is one of this worker: for `on_deferred` of a plugin with several. Whoever takes it runs it
    /// under [`count`](Self::count).
    #[must_use]
    pub fn job(&self, payload: &[u8]) -> Option<Result<T>> {
        let json = payload.strip_prefix(self.name.as_bytes())?.strip_prefix(&[END_OF_NAME])?;
        Some(serde_json::from_slice(json).map_err(|error| self.unfit(&error)))
    }

    /// Count how a job ended.
    ///
    /// # Errors
    /// As it ended.
    pub fn count(&self, outcome: Result<()>) -> Result<()> {
        self.change(|counts| match outcome {
            Ok(()) => counts.done += 1,
            Err(_) => counts.failed += 1,
        });
        outcome
    }

    /// What this instance has seen.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    fn try_defer(&self, job: &T) -> Result<Result<(), DeferError>> {
        let mut payload = self.name.as_bytes().to_vec();
        payload.push(END_OF_NAME);
        serde_json::to_writer(&mut payload, job).map_err(|error| self.unfit(&error))?;
        let deferred = background::defer(&payload);
        self.change(|counts| match deferred {
            Ok(()) => counts.deferred += 1,
            Err(_) => counts.refused += 1,
        });
        Ok(deferred)
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn unfit(&self, error: &serde_json::Error) -> Error {
        format!("a job of `{}` does not fit: {error}", self.name).into()
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).field("counts", &self.counts.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn each_worker_finds_its_own_jobs() -> Result<()> {
        let (numbers, words) = (Worker::<u32>::new("n"), Worker::<String>::new("n2"));
        numbers.defer(&7)?;
        words.defer(&"seven".to_owned())?;
        let payloads = testing::background::take();
        let [number, word] = &payloads[..] else { return Err("two payloads".into()) };
        assert!(numbers.job(word).is_none() && words.job(number).is_none());
        numbers.run(number, |job| if job == 7 { Ok(()) } else { Err("not seven".into()) })?;
        assert_eq!(words.job(word).transpose()?.as_deref(), Some("seven"));
        assert!(numbers.run(word, |_| Ok(())).is_err());
        assert_eq!(numbers.counts(), Counts { deferred: 1, done: 1, failed: 1, refused: 0 });
        Ok(())
    }

    #[test]
    fn a_payload_that_does_not_fit_is_a_failure_and_is_not_run() {
        let numbers = Worker::<u32>::new("n");
        for payload in [&b"n\n"[..], b"n\n\"x\"", b"n\n7 8", b"n", b"", b"\xff"] {
            assert!(numbers.run(payload, |_| unreachable!("it is no number")).is_err(), "{payload:?}");
        }
        assert_eq!(numbers.counts().failed, 6);
    }

    #[test]
    fn a_refused_job_is_the_callers_and_runs_at_once_when_the_plugin_stops() -> Result<()> {
        let numbers = Worker::<u32>::new("n");
        testing::background::refuse(DeferError::QueueFull);
        assert_eq!(numbers.defer(&1).err().map(|it| it.to_string()), Some(DeferError::QueueFull.to_string()));
        assert!(numbers.defer_or_run(1, |_| unreachable!("later is not over")).is_err());
        testing::background::refuse(DeferError::Stopping);
        let ran = Cell::new(0);
        numbers.defer_or_run(5, |job| {
            ran.set(job);
            Ok(())
        })?;
        assert_eq!((ran.get(), numbers.counts().refused, numbers.counts().done), (5, 3, 1));
        assert!(testing::background::take().is_empty());
        Ok(())
    }
}

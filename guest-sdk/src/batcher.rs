//! Collects items and sends them together, and loses none of them without saying so.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::outbox::{self, Message};
use crate::{Context, Deadline, Error, Result, clock};

/// What is left at most of a shutdown's time for handing over to the outbox what could not be sent.
const MOST_RESERVED: Duration = Duration::from_millis(500);

/// Collects items, and sends them in batches: when there are enough of them, when the oldest has waited long enough, and at
/// the end of the instance.
///
/// - A batch is sent whole or not at all: one whose sending fails is there again, in front of the others, and in the same order.
///   It may have arrived all the same (an answer that is lost), so whoever receives batches may see one twice.
/// - It is bounded: an item that finds it full is dropped and counted ([`dropped`](Self::dropped)).
/// - It has no thread of its own. [`flush_if_due`](Self::flush_if_due) is for `on_tick`, or for whichever hook may wait for the
///   sending; [`add`](Self::add) only collects.
/// - It registers itself in the [`Context`], and flushes within the deadline when the instance has to go. What cannot be sent by
///   then goes to the outbox, if it has been given a topic there ([`or_outbox`](BatcherBuilder::or_outbox)); else the error has
///   the number of items, and the shutdown report has the error.
///
/// Cheap to clone; all clones are the same batcher. Every instance of a plugin has its own.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::fetch;
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::Batcher;
///
/// struct Hooks {
///     paths: Batcher<String>,
/// }
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for Hooks {
///     fn configure(cx: &mut Context) -> Result<Self> {
///         let send = |paths: &[String], deadline: Deadline| {
///             let request = fetch::Request::post("https://hooks.example.com").timeout(deadline.remaining());
///             let response = request.json(paths)?.send()?;
///             if response.is_success() { Ok(()) } else { Err(format!("status {}", response.status()).into()) }
///         };
///         let paths = Batcher::to("hooks", send).size(50).age(Duration::from_secs(2)).or_outbox("hooks.missed").build(cx);
///         Ok(Self { paths })
///     }
///
///     fn on_request(&mut self, request: &mut Request) -> Result<()> {
///         self.paths.add(request.path());
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut cx = Context::new();
/// let mut plugin = Hooks::configure(&mut cx)?;
/// plugin.on_request(&mut Request::builder().target("/a").build())?;
/// // Nobody answers in this test: at the end the outbox has it.
/// cx.shut_down(Deadline::never())?;
/// assert_eq!(tidegate_sdk::testing::outbox::take()[0].message.body(), br#""/a""#);
/// # Ok(())
/// # }
/// ```
pub struct Batcher<T>(Rc<Inner<T>>);

struct Inner<T> {
    name: String,
    size: usize,
    age: Duration,
    capacity: usize,
    waiting: RefCell<Waiting<T>>,
    send: RefCell<Send<T>>,
    rescue: Option<Rescue<T>>,
    dropped: Cell<u64>,
    /// After a failure: when `flush_if_due` tries again.
    not_before: Cell<Duration>,
}

struct Waiting<T> {
    items: VecDeque<T>,
    /// When each of them came. As long as `items`.
    since: VecDeque<Duration>,
}

type Send<T> = Box<dyn FnMut(&[T], Deadline) -> Result<()>>;
type Rescue<T> = Box<dyn Fn(&[T]) -> Result<()>>;

/// What became of an added item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits.
    Waiting,
    /// It waits, and there are enough for a batch.
    Due,
    /// There was no room for it. It has been counted.
    Dropped,
}

/// Items that could not be sent by a deadline.
#[derive(Debug)]
pub struct Unflushed {
    name: String,
    left: usize,
    rescued: usize,
    cause: Option<Error>,
}

impl Unflushed {
    /// How many are nowhere but in the batcher ([`Batcher::take`] has them).
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// How many others the outbox has taken.
    #[must_use]
    pub fn rescued(&self) -> usize {
        self.rescued
    }
}

impl fmt::Display for Unflushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, left, rescued, cause } = self;
        write!(f, "{left} items of `{name}` were not sent")?;
        if *rescued > 0 {
            write!(f, ", {rescued} others went to the outbox")?;
        }
        match cause {
            Some(cause) => write!(f, ": {cause}"),
            None => f.write_str(": the deadline came first"),
        }
    }
}

impl std::error::Error for Unflushed {}

/// A batcher to be.
pub struct BatcherBuilder<T> {
    inner: Inner<T>,
}

impl<T: 'static> Batcher<T> {
    /// One whose batches go wherever `send` sends them. It gets the items, oldest first, and the deadline that it has to keep.
    /// `name` stands in the log and in errors.
    pub fn to(name: impl Into<String>, send: impl FnMut(&[T], Deadline) -> Result<()> + 'static) -> BatcherBuilder<T> {
        BatcherBuilder {
            inner: Inner {
                name: name.into(),
                size: 100,
                age: Duration::from_secs(5),
                capacity: 10_000,
                waiting: RefCell::new(Waiting { items: VecDeque::new(), since: VecDeque::new() }),
                send: RefCell::new(Box::new(send)),
                rescue: None,
                dropped: Cell::new(0),
                not_before: Cell::new(Duration::ZERO),
            },
        }
    }

    /// One whose batches go to the outbox: each item an event of its own, as JSON.
    pub fn to_outbox(name: impl Into<String>, topic: impl Into<String>) -> BatcherBuilder<T>
    where
        T: Serialize,
    {
        let topic = topic.into();
        Self::to(name, move |items, _| publish(&topic, items))
    }

    /// Let an item wait for its batch.
    pub fn add(&self, item: T) -> Added {
        let inner = &*self.0;
        let mut waiting = inner.waiting.borrow_mut();
        if waiting.items.len() >= inner.capacity {
            inner.dropped.set(inner.dropped.get() + 1);
            return Added::Dropped;
        }
        waiting.items.push_back(item);
        waiting.since.push_back(clock::now());
        if waiting.items.len() >= inner.size { Added::Due } else { Added::Waiting }
    }

    /// Send what is due: full batches, and everything if the oldest item has waited for `age`. After a failure it leaves the
    /// receiver alone for `age`.
    ///
    /// # Errors
    /// When a batch cannot be sent. It waits on.
    pub fn flush_if_due(&self) -> Result<()> {
        let now = clock::now();
        if now < self.0.not_before.get() {
            return Ok(());
        }
        let is_old =
            self.0.waiting.borrow().since.front().is_some_and(|since| now.saturating_sub(*since) >= self.0.age);
        let least = if is_old { 1 } else { self.0.size };
        self.send(Deadline::of_this_call(), least)
    }

    /// Send everything, by the deadline.
    ///
    /// # Errors
    /// When a batch cannot be sent, or the deadline comes first. What is left waits on.
    pub fn flush(&self, deadline: Deadline) -> Result<(), Unflushed> {
        let cause = self.send(deadline, 1).err();
        match self.len() {
            0 => Ok(()),
            left => Err(Unflushed { name: self.0.name.clone(), left, rescued: 0, cause }),
        }
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.waiting.borrow().items.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items were dropped because there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.get()
    }

    /// Take everything that waits, oldest first: for a snapshot, say.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        let mut waiting = self.0.waiting.borrow_mut();
        waiting.since.clear();
        waiting.items.drain(..).collect()
    }

    /// Send batches as long as `least` items are there and the deadline has not come.
    fn send(&self, deadline: Deadline, least: usize) -> Result<()> {
        let inner = &*self.0;
        let Ok(mut send) = inner.send.try_borrow_mut() else {
            return Err(format!("`{}` was flushed by what sends its batches", inner.name).into());
        };
        while self.len() >= least && !deadline.expired() {
            let batch = inner.waiting.borrow_mut().take(inner.size);
            if let Err(error) = send(&batch.items, deadline) {
                let many = batch.items.len();
                inner.waiting.borrow_mut().put_back(batch);
                inner.not_before.set(clock::now().saturating_add(inner.age));
                return Err(format!("sending {many} items of `{}`: {error}", inner.name).into());
            }
        }
        Ok(())
    }

    /// The end of the instance.
    fn end(&self, deadline: Deadline) -> Result<()> {
        let Inner { name, rescue, dropped, .. } = &*self.0;
        if dropped.get() > 0 {
            log::warn!("{} items of `{name}` were dropped, there was no room for them", dropped.get());
        }
        let Some(rescue) = rescue else { return Ok(self.flush(deadline)?) };
        let reserve = (deadline.remaining() / 4).min(MOST_RESERVED);
        let Err(mut unflushed) = self.flush(deadline.earlier_by(reserve)) else { return Ok(()) };
        while !self.is_empty() && !deadline.expired() {
            let batch = self.0.waiting.borrow_mut().take(self.0.size);
            if let Err(error) = rescue(&batch.items) {
                self.0.waiting.borrow_mut().put_back(batch);
                let cause = unflushed.cause.map_or_else(String::new, |cause| format!("{cause}; "));
                unflushed.cause = Some(format!("{cause}handing over to the outbox: {error}").into());
                break;
            }
            unflushed.rescued += batch.items.len();
        }
        unflushed.left = self.len();
        if unflushed.left > 0 {
            return Err(unflushed.into());
        }
        let why = unflushed.cause.map_or_else(|| "the deadline was near".to_owned(), |cause| cause.to_string());
        log::warn!("{} items of `{name}` went to the outbox: {why}", unflushed.rescued);
        Ok(())
    }
}

impl<T> Waiting<T> {
    /// The oldest, as many as make a batch.
    fn take(&mut self, size: usize) -> Batch<T> {
        let many = size.min(self.items.len());
        Batch { items: self.items.drain(..many).collect(), since: self.since.drain(..many).collect() }
    }

    fn put_back(&mut self, batch: Batch<T>) {
        for item in batch.items.into_iter().rev() {
            self.items.push_front(item);
        }
        for since in batch.since.into_iter().rev() {
            self.since.push_front(since);
        }
    }
}

struct Batch<T> {
    items: Vec<T>,
    since: Vec<Duration>,
}

fn publish<T: Serialize>(topic: &str, items: &[T]) -> Result<()> {
    let messages: Result<Vec<Message>, serde_json::Error> = items.iter().map(Message::json).collect();
    outbox::publish_all(topic, messages?)?;
    Ok(())
}

impl<T: 'static> BatcherBuilder<T> {
    /// Items of a batch: 100 unless said otherwise, at least 1.
    #[must_use]
    pub fn size(mut self, items: usize) -> Self {
        self.inner.size = items.max(1);
        self
    }

    /// How long an item waits for its batch to be full: 5 s unless said otherwise. Looked at by
    /// [`flush_if_due`](Batcher::flush_if_due).
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.inner.age = age;
        self
    }

    /// How many items may wait: 10,000 unless said otherwise. One more is dropped.
    #[must_use]
    pub fn capacity(mut self, items: usize) -> Self {
        self.inner.capacity = items;
        self
    }

    /// At the end of the instance, hand over to this topic of the outbox what could not be sent: each item an event of its own,
    /// as JSON. Up to half a second of the deadline, and no more than a quarter, is kept for that.
    #[must_use]
    pub fn or_outbox(mut self, topic: impl Into<String>) -> Self
    where
        T: Serialize,
    {
        let topic = topic.into();
        self.inner.rescue = Some(Box::new(move |items| publish(&topic, items)));
        self
    }

    /// Make it, and see to its end.
    #[must_use]
    pub fn build(self, cx: &mut Context) -> Batcher<T> {
        let batcher = Batcher(Rc::new(self.inner));
        let ending = batcher.clone();
        cx.on_shutdown(batcher.0.name.clone(), move |deadline| ending.end(deadline));
        batcher
    }
}

impl<T> Clone for Batcher<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Batcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, dropped, .. } = &*self.0;
        let waiting = self.0.waiting.borrow().items.len();
        f.debug_struct("Batcher").field("name", name).field("waiting", &waiting).field("dropped", dropped).finish()
    }
}

impl<T> fmt::Debug for BatcherBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatcherBuilder").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

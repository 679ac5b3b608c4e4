//! Several events at once, and those that belong together one after the other.
//!
//! Events of a topic with the same key are a lane: the next one is sent when the one before has arrived, and not
//! sooner. An acknowledgement that is still under way says nothing about order: a connection may break, or a broker
//! refuse one event and take the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use uuid::Uuid;

use super::{Problem, SinkError};
use crate::event::Event;

/// More than the delivery has under way at a time, and little memory.
const MOST_AHEAD: usize = 4_096;

/// What came of an event, and has not been told yet.
#[derive(Debug, Clone)]
enum Ahead {
    Arrived,
    Refused(String),
}

/// How a sink works through a batch.
#[derive(Debug)]
pub(super) struct Lanes {
    at_once: usize,
    /// Events that have arrived, or were refused, although one before them has not arrived. The delivery asks for them
    /// again; what came of it is remembered here, so that the receiver is not asked. At most [`MOST_AHEAD`]; an
    /// event that is forgotten is sent twice.
    ahead: Mutex<HashMap<Uuid, Ahead>>,
}

impl Lanes {
    /// So many events at once, of as many lanes; at least one.
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once: at_once.max(1), ahead: Mutex::default() }
    }

    /// Send a batch. After a problem no event behind it is begun; those before it are, and what is under way ends.
    ///
    /// # Errors
    /// The first event of the batch that has not arrived: so everything before it has.
    pub(super) async fn deliver<F>(
        &self,
        events: &[Arc<Event>],
        send: impl Fn(Arc<Event>) -> F,
    ) -> Result<(), SinkError>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        if self.ahead().len() > MOST_AHEAD {
            self.ahead().clear();
        }
        let (mut ready, followers) = lanes(events);
        let mut under_way = FuturesUnordered::new();
        let mut problem: Option<(usize, Problem)> = None;
        loop {
            while under_way.len() < self.at_once {
                let Some(next) = ready.pop_first() else { break };
                if problem.as_ref().is_some_and(|(failed, _)| *failed < next) {
                    break;
                }
                let Some(event) = events.get(next) else { break };
                let known = self.ahead().get(&event.id).cloned();
                let sending = known.is_none().then(|| send(Arc::clone(event)));
                under_way.push(async move {
                    let result = match (sending, known) {
                        (Some(sending), _) => sending.await,
                        (None, Some(Ahead::Refused(what))) => Err(Problem::Refused(what)),
                        (None, Some(Ahead::Arrived) | None) => Ok(()),
                    };
                    (next, result)
                });
            }
            let Some((at, result)) = under_way.next().await else { break };
            if let Some(event) = events.get(at) {
                match &result {
                    Ok(()) => drop(self.ahead().insert(event.id, Ahead::Arrived)),
                    Err(Problem::Refused(what)) => drop(self.ahead().insert(event.id, Ahead::Refused(what.clone()))),
                    Err(Problem::Unreachable(_) | Problem::Later { .. }) => {}
                }
            }
            match result {
                Ok(()) => ready.extend(followers.get(&at)),
                Err(what) => {
                    if problem.as_ref().is_none_or(|(failed, _)| at < *failed) {
                        problem = Some((at, what));
                    }
                }
            }
        }
        let delivered = problem.as_ref().map_or(events.len(), |(failed, _)| *failed);
        // These are told of now: what has arrived, and the one with the problem.
        for event in events.iter().take(delivered + 1) {
            self.ahead().remove(&event.id);
        }
        match problem {
            None => Ok(()),
            Some((_, problem)) => Err(SinkError { delivered, problem }),
        }
    }

    fn ahead(&self) -> MutexGuard<'_, HashMap<Uuid, Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first event of each lane, and which one follows on which. Events without a key are lanes of their own.
fn lanes(events: &[Arc<Event>]) -> (BTreeSet<usize>, BTreeMap<usize, usize>) {
    let (mut first, mut followers) = (BTreeSet::new(), BTreeMap::new());
    let mut last: HashMap<(&str, &str), usize> = HashMap::new();
    for (at, event) in events.iter().enumerate() {
        let before = event.key.as_deref().and_then(|key| last.insert((&event.topic, key), at));
        match before {
            Some(before) => drop(followers.insert(before, at)),
            None => drop(first.insert(at)),
        }
    }
    (first, followers)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn event(number: u128, key: Option<&str>) -> Arc<Event> {
        Arc::new(Event {
            id: Uuid::from_u128(number),
            source: "test".into(),
            topic: "topic".into(),
            key: key.map(str::to_owned),
            content_type: None,
            attributes: Vec::new(),
            accepted: Duration::ZERO,
            body: Bytes::new(),
        })
    }

    /// What a receiver sees.
    #[derive(Default)]
    struct Seen {
        arrived: Vec<u128>,
        under_way: usize,
        most: usize,
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().start_paused(true).enable_time().build();
        runtime.expect("a runtime").block_on(future)
    }

    /// Send these to a receiver that takes its time with each, and has these problems.
    async fn send(
        lanes: &Lanes,
        events: &[Arc<Event>],
        seen: &Mutex<Seen>,
        behaviour: impl Fn(u128) -> (u64, Result<(), Problem>),
    ) -> Result<(), SinkError> {
        let send = |event: Arc<Event>| {
            let (millis, result) = behaviour(event.id.as_u128());
            async move {
                let lock = || seen.lock().expect("no panic");
                {
                    let mut seen = lock();
                    seen.under_way += 1;
                    seen.most = seen.most.max(seen.under_way);
                }
                tokio::time::sleep(Duration::from_millis(millis)).await;
                let mut seen = lock();
                seen.under_way -= 1;
                if result.is_ok() {
                    seen.arrived.push(event.id.as_u128());
                }
                result
            }
        };
        lanes.deliver(events, send).await
    }

    #[test]
    fn what_has_arrived_ahead_of_a_problem_is_not_sent_again() {
        let lanes = Lanes::new(3);
        let events: Vec<_> = (0..4).map(|number| event(number, None)).collect();
        let seen = Mutex::default();
        let refused = || Err(Problem::Refused("no".into()));
        let first = run(send(&lanes, &events, &seen, |number| {
            (10 - number as u64, if number == 0 { refused() } else { Ok(()) })
        }));
        assert_eq!(first.map_err(|error| error.delivered), Err(0));
        assert_eq!(run(send(&lanes, &events, &seen, |_| (1, Ok(())))), Ok(()));
        let mut arrived = seen.into_inner().expect("no panic").arrived;
        arrived.sort_unstable();
        assert_eq!(arrived, [0, 1, 2, 3]);
        assert!(lanes.ahead().is_empty());
    }

    #[test]
    fn a_receiver_that_refuses_everything_is_asked_once_for_each_attempt() {
        let lanes = Lanes::new(3);
        let events: Vec<_> = (0..6).map(|number| event(number, None)).collect();
        let (seen, asked) = (Mutex::default(), Mutex::new(0));
        let mut rest = events.as_slice();
        // Each has one attempt, and is a dead letter then.
        while !rest.is_empty() {
            let refused = |number: u128| {
                *asked.lock().expect("no panic") += 1;
                (1, Err(Problem::Refused(number.to_string())))
            };
            let error = run(send(&lanes, rest, &seen, refused)).expect_err("refused");
            let first = rest[0].id.as_u128();
            assert_eq!((error.delivered, error.problem), (0, Problem::Refused(first.to_string())));
            rest = &rest[1..];
        }
        assert_eq!(asked.into_inner().expect("no panic"), 6);
        assert!(lanes.ahead().is_empty());
    }

    #[test]
    fn a_batch_that_is_given_up_is_begun_anew_where_it_was() {
        let lanes = Lanes::new(2);
        let events: Vec<_> = (0..2).map(|number| event(number, None)).collect();
        let seen = Mutex::default();
        run(async {
            let never = send(&lanes, &events, &seen, |number| (if number == 0 { 1_000_000 } else { 1 }, Ok(())));
            assert!(tokio::time::timeout(Duration::from_millis(10), never).await.is_err());
            assert_eq!(send(&lanes, &events, &seen, |_| (1, Ok(()))).await, Ok(()));
        });
        assert_eq!(seen.into_inner().expect("no panic").arrived, [1, 0]);
    }

    proptest! {
        #[test]
        fn order_holds_within_a_lane_and_what_is_counted_has_arrived(
            keys in proptest::collection::vec(proptest::option::of(0..3_u8), 0..20),
            at_once in 1..6_usize,
            delays in proptest::collection::vec(0..9_u64, 20),
            problems in proptest::collection::btree_set(0..20_u128, 0..4),
        ) {
            let events: Vec<_> = keys.iter().enumerate()
                .map(|(number, key)| event(number as u128, key.map(|key| ["a", "b", "c"][usize::from(key)])))
                .collect();
            let lanes = Lanes::new(at_once);
            let seen = Mutex::default();
            // As the delivery does: what has not arrived is asked for again, until everything has.
            let (mut problems, mut rest) = (problems, events.as_slice());
            let mut counted = 0;
            run(async {
                while let Err(error) = send(&lanes, rest, &seen, |number| {
                    let problem = Problem::Unreachable(number.to_string());
                    let delay = delays.get(number as usize).copied().unwrap_or_default();
                    (delay, if problems.contains(&number) { Err(problem) } else { Ok(()) })
                }).await {
                    counted += error.delivered;
                    rest = &rest[error.delivered..];
                    let first = rest.first().expect("one has failed").id.as_u128();
                    assert_eq!(error.problem, Problem::Unreachable(first.to_string()), "it is of the first that has not arrived");
                    assert!(problems.remove(&first));
                    let seen = seen.lock().expect("no panic");
                    assert!(events.iter().take(counted).all(|event| seen.arrived.contains(&event.id.as_u128())));
                    assert_eq!(seen.under_way, 0, "nothing is left under way");
                }
            });
            let seen = seen.into_inner().expect("no panic");
            prop_assert!(seen.most <= at_once);
            let mut each = seen.arrived.clone();
            each.sort_unstable();
            prop_assert_eq!(each, (0..events.len() as u128).collect::<Vec<_>>(), "each once");
            for key in ["a", "b", "c"] {
                let of_key = |number: &u128| events.iter()
                    .any(|event| event.id.as_u128() == *number && event.key.as_deref() == Some(key));
                let numbers: Vec<_> = seen.arrived.iter().filter(|number| of_key(number)).collect();
                prop_assert!(numbers.is_sorted(), "{:?}", seen.arrived);
            }
        }
    }
}

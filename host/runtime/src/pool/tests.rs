//! The pool against a model: whatever happens in whatever order, no instance is lost or in two places.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn ready(acquired: Acquired<u64>) -> u64 {
    match acquired {
        Acquired::Ready(instance) => instance,
        Acquired::Queued(_) => panic!("queued"),
        Acquired::Refused(cause) => panic!("refused: {cause}"),
    }
}

fn pool(min: usize, max: usize, queue: usize) -> Arc<Pool<u64>> {
    let pool = Pool::new(Size { min, max, queue }, None);
    while let Some(start) = pool.wants_start() {
        assert!(pool.started(start.number, start.number).is_none());
    }
    pool
}

fn now() -> Moment {
    Moment::from_nanos(0)
}

#[tokio::test]
async fn a_waiter_gets_the_next_free_instance_and_the_longest_waiter_first() {
    let pool = pool(1, 1, 2);
    let instance = ready(pool.acquire(now()));
    let Acquired::Queued(mut first) = pool.acquire(now()) else { panic!() };
    let Acquired::Queued(mut second) = pool.acquire(now()) else { panic!() };
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Overloaded { instances: 1, waiting: 2 })));
    pool.release(instance);
    let instance = first.wait().await.expect("handed over");
    pool.release(instance);
    assert!(second.wait().await.is_ok());
}

#[test]
fn an_instance_on_its_way_to_a_waiter_that_gave_up_is_not_lost() {
    let pool = pool(1, 1, 2);
    let instance = ready(pool.acquire(now()));
    let Acquired::Queued(first) = pool.acquire(now()) else { panic!() };
    pool.release(instance);
    drop(first);
    assert_eq!(pool.counts(), InstanceCounts { idle: 1, busy: 0, starting: 0, waiting: 0 });
}

#[test]
fn a_waiter_that_gave_up_leaves_its_place_in_the_queue() {
    let pool = pool(1, 1, 1);
    let _instance = ready(pool.acquire(now()));
    let Acquired::Queued(first) = pool.acquire(now()) else { panic!() };
    drop(first);
    assert!(matches!(pool.acquire(now()), Acquired::Queued(_)));
}

#[test]
fn instances_beyond_min_start_only_for_calls_that_wait() {
    let pool = pool(1, 2, 8);
    assert_eq!(pool.wants_start(), None);
    let _instance = ready(pool.acquire(now()));
    assert_eq!(pool.wants_start(), None);
    let Acquired::Queued(_ticket) = pool.acquire(now()) else { panic!() };
    assert_eq!(pool.wants_start(), Some(Start { number: 1, delay: Duration::ZERO }));
    assert_eq!(pool.wants_start(), None, "max is reached with the one that is starting");
}

#[test]
fn a_plugin_that_keeps_failing_is_refused_and_then_tried_with_one_instance() {
    let size = breaker::TRIPS_AT as usize;
    let pool = pool(size, size, 8);
    for _ in 0..size {
        let instance = ready(pool.acquire(now()));
        pool.retire(instance, EndCause::Stack, true, now());
    }
    let refused = pool.acquire(now());
    assert!(matches!(refused, Acquired::Refused(EndCause::Unavailable(Unavailable::BreakerOpen))));
    let start = pool.wants_start().expect("one replacement");
    assert!(start.delay >= Duration::from_millis(320));
    assert_eq!(pool.wants_start(), None);
    pool.started(start.number, start.number);
    let later = Moment::from_nanos(1_000_000_000);
    let probe = ready(pool.acquire(later));
    assert!(pool.release(probe), "it works again: the others are wanted");
    assert_eq!(std::iter::from_fn(|| pool.wants_start()).count(), size - 1);
}

#[test]
fn closing_hands_over_every_instance_wherever_it_is() {
    let pool = pool(3, 3, 8);
    let out = ready(pool.acquire(now()));
    let dying = ready(pool.acquire(now()));
    let mut closed = pool.close().expect("first close");
    assert!(pool.close().is_none());
    assert_eq!(closed.idle.len(), 1);
    pool.release(out);
    pool.retire(dying, EndCause::Stack, true, now());
    assert!(matches!(closed.back.try_recv(), Ok(Back::Instance(number)) if number == out));
    assert!(matches!(closed.back.try_recv(), Ok(Back::Gone { number, .. }) if number == dying));
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping))));
    assert_eq!(pool.started(9, 9), Some(9));
}

/// What can happen to a pool.
#[derive(Debug, Clone)]
enum Event {
    Acquire,
    Release(usize),
    Retire(usize, bool),
    GiveUp(usize),
    Start(bool),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Acquire),
        4 => (0..8usize).prop_map(Event::Release),
        1 => (0..8usize, any::<bool>()).prop_map(|(which, fault)| Event::Retire(which, fault)),
        1 => (0..8usize).prop_map(Event::GiveUp),
        2 => prop::bool::weighted(0.8).prop_map(Event::Start),
        1 => (0..20_000u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn no_instance_is_lost_or_doubled(
        events in prop::collection::vec(event(), 0..200),
        min in 1..4usize, extra in 0..3usize, queue in 0..4usize,
    ) {
        let max = min + extra;
        let pool = pool(min, max, queue);
        let mut millis = 0;
        let mut out: Vec<u64> = Vec::new();
        let mut tickets: BTreeMap<u64, Ticket<u64>> = BTreeMap::new();
        let mut next_ticket = 0;
        for event in events {
            let now = || Moment::from_nanos(millis * 1_000_000);
            match event {
                Event::Acquire => match pool.acquire(now()) {
                    Acquired::Ready(instance) => out.push(instance),
                    Acquired::Queued(ticket) => {
                        tickets.insert(next_ticket, ticket);
                        next_ticket += 1;
                    }
                    Acquired::Refused(_) => {}
                },
                Event::Release(which) if !out.is_empty() => {
                    let instance = out.swap_remove(which % out.len());
                    pool.release(instance);
                }
                Event::Retire(which, fault) if !out.is_empty() => {
                    let instance = out.swap_remove(which % out.len());
                    pool.retire(instance, EndCause::Stack, fault, now());
                }
                Event::GiveUp(which) if !tickets.is_empty() => {
                    let key = *tickets.keys().nth(which % tickets.len()).expect("in range");
                    tickets.remove(&key);
                }
                Event::Start(works) => {
                    if let Some(start) = pool.wants_start() {
                        if works {
                            prop_assert!(pool.started(start.number, start.number).is_none());
                        } else {
                            pool.failed_to_start(now());
                        }
                    }
                }
                Event::Wait(more) => millis += more,
                Event::Release(_) | Event::Retire(..) | Event::GiveUp(_) => {}
            }
            // Collect what was handed to waiters, and forget those that were refused.
            tickets.retain(|_, ticket| match ticket.receiver.try_recv() {
                Ok(Grant::Instance(instance)) => { out.push(instance); false }
                Ok(Grant::Refused(_)) => false,
                Err(oneshot::error::TryRecvError::Empty) => true,
                Err(oneshot::error::TryRecvError::Closed) => false,
            });
            let counts = pool.counts();
            let mut sorted = out.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), out.len(), "an instance is out twice");
            prop_assert_eq!(counts.busy, out.len());
            prop_assert!(counts.idle + counts.busy + counts.starting <= max);
            prop_assert!(counts.waiting <= queue);
            prop_assert!(counts.idle == 0 || counts.waiting == 0, "someone waits while an instance idles");
        }
        // Whatever happened, everything is accounted for at the end.
        let mut closed = pool.close().expect("first close");
        for instance in &out {
            pool.release(*instance);
        }
        let mut all: Vec<u64> = closed.idle;
        while let Ok(Back::Instance(instance)) = closed.back.try_recv() {
            all.push(instance);
        }
        all.sort_unstable();
        prop_assert_eq!(all, pool.live());
    }
}

//! The pool against a model: whatever happens in whatever order, no instance is lost or in two places.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::queue::Grant;
use super::*;

impl Numbered for u64 {
    fn number(&self) -> u64 {
        *self
    }
}

fn ready(acquired: Acquired<u64>) -> u64 {
    match acquired {
        Acquired::Ready(instance) => instance,
        Acquired::Queued(_) => panic!("queued"),
        Acquired::Refused(cause) => panic!("refused: {cause}"),
    }
}

fn pool(min: usize, max: usize, queue: usize) -> Arc<Pool<u64>> {
    let pool = held(min, max, queue);
    while let Some(start) = pool.may_prepare() {
        assert!(pool.started(start.number, now()).is_none());
    }
    pool.open();
    pool
}

fn held(min: usize, max: usize, queue: usize) -> Arc<Pool<u64>> {
    Pool::new(Size { min, max, queue }, None)
}

fn now() -> Moment {
    at(0)
}

fn at(seconds: u64) -> Moment {
    Moment::from_nanos(seconds * 1_000_000_000)
}

const IDLE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_waiter_gets_the_next_free_instance_and_the_longest_waiter_first() {
    let pool = pool(1, 1, 2);
    let instance = ready(pool.acquire(now()));
    let Acquired::Queued(mut first) = pool.acquire(now()) else { panic!() };
    let Acquired::Queued(mut second) = pool.acquire(now()) else { panic!() };
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Overloaded { instances: 1, waiting: 2 })));
    pool.release(instance, Hook::OnRequest, now());
    let instance = first.wait().await.expect("handed over");
    pool.release(instance, Hook::OnRequest, now());
    assert!(second.wait().await.is_ok());
}

#[test]
fn an_instance_on_its_way_to_a_waiter_that_gave_up_is_not_lost() {
    let pool = pool(1, 1, 2);
    let instance = ready(pool.acquire(now()));
    let Acquired::Queued(first) = pool.acquire(now()) else { panic!() };
    pool.release(instance, Hook::OnRequest, now());
    drop(first);
    assert_eq!(pool.counts(), InstanceCounts { idle: 1, ..InstanceCounts::default() });
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
        pool.retire(instance, EndCause::Stack, Some(Hook::OnRequest), now());
    }
    let refused = pool.acquire(now());
    assert!(matches!(refused, Acquired::Refused(EndCause::Unavailable(Unavailable::BreakerOpen))));
    let start = pool.wants_start().expect("one replacement");
    assert!(start.delay >= Duration::from_millis(320));
    assert_eq!(pool.wants_start(), None);
    pool.started(start.number, now());
    let later = at(1);
    let probe = ready(pool.acquire(later));
    assert!(pool.release(probe, Hook::OnRequest, later), "it works again: the others are wanted");
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
    pool.release(out, Hook::OnRequest, now());
    pool.retire(dying, EndCause::Stack, Some(Hook::OnRequest), now());
    assert!(matches!(closed.back.try_recv(), Ok(Back::Instance(number)) if number == out));
    assert!(matches!(closed.back.try_recv(), Ok(Back::Gone { number, .. }) if number == dying));
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping))));
}

#[test]
fn a_start_that_is_under_way_when_the_pool_is_closed_comes_to_nothing_and_is_heard_of() {
    let pool = pool(1, 1, 8);
    let old = ready(pool.acquire(now()));
    pool.retire(old, EndCause::Stack, None, now());
    let start = pool.wants_start().expect("a replacement");
    let mut closed = pool.close().expect("first close");
    assert_eq!((closed.starting, closed.left.len()), (1, 0));
    assert_eq!(pool.started(start.number, now()), Some(start.number));
    pool.failed_to_start(now());
    assert!(matches!(closed.back.try_recv(), Ok(Back::NotStarted)));
    assert_eq!((pool.counts().starting, *pool.health().borrow()), (0, Health::Good));
}

#[test]
fn a_recycled_instance_is_replaced_at_once_and_beside_it() {
    let pool = pool(1, 1, 8);
    let old = ready(pool.acquire(now()));
    assert!(pool.recycle(old, Hook::OnRequest));
    let start = pool.wants_start().expect("a replacement");
    assert_eq!((start.number, start.delay), (1, Duration::ZERO));
    assert_eq!(pool.counts(), InstanceCounts { starting: 1, stopping: 1, ..InstanceCounts::default() });
    assert!(pool.started(start.number, now()).is_none());
    let new = ready(pool.acquire(now()));
    assert_eq!(pool.numbers(), [old, new]);
    assert!(!pool.recycle(new, Hook::OnRequest), "the place of the one that is being stopped is taken");
    assert!(pool.ended(old));
    assert_eq!((pool.numbers(), pool.counts().stopping), (vec![new], 0));
    pool.told(old);
    assert!(pool.recycle(new, Hook::OnRequest));
}

#[test]
fn a_recycled_instance_is_a_call_that_went_well() {
    let pool = pool(1, 1, 8);
    for _ in 0..breaker::TRIPS_AT - 1 {
        let instance = ready(pool.acquire(now()));
        pool.retire(instance, EndCause::Stack, Some(Hook::OnRequest), now());
        let start = pool.wants_start().expect("a replacement");
        pool.started(start.number, now());
    }
    let instance = ready(pool.acquire(now()));
    assert!(pool.recycle(instance, Hook::OnRequest));
    assert!(pool.wants_start().is_some_and(|start| start.delay.is_zero()), "the faults before it are forgotten");
}

/// A pool that has grown from one instance to its three: two idle since the beginning, one since the tenth second.
fn grown() -> Arc<Pool<u64>> {
    let pool = pool(1, 3, 8);
    let first = ready(pool.acquire(now()));
    let waiters = [pool.acquire(now()), pool.acquire(now())];
    assert!(!pool.wants_watch(), "there is nothing beyond min");
    for number in [1, 2] {
        assert_eq!(pool.wants_start().expect("one more").number, number);
        pool.started(number, now());
    }
    assert!(pool.wants_watch());
    assert!(!pool.wants_watch(), "one who watches is enough");
    drop(waiters);
    pool.release(first, Hook::OnRequest, at(10));
    pool
}

#[test]
fn what_is_used_again_and_again_is_the_same_instance_and_the_others_go_when_they_have_been_idle() {
    let pool = grown();
    for _ in 0..3 {
        assert_eq!(ready(pool.acquire(at(20))), 0);
        pool.release(0, Hook::OnRequest, at(20));
    }
    assert!(matches!(pool.surplus(at(20), IDLE), Surplus::AskAt(moment) if moment == at(60)));
    assert!(matches!(pool.surplus(at(60), IDLE), Surplus::Stop(1)));
    assert!(matches!(pool.surplus(at(60), IDLE), Surplus::Stop(2)));
    assert!(matches!(pool.surplus(at(60), IDLE), Surplus::None), "the last one is min");
    assert_eq!(pool.counts(), InstanceCounts { idle: 1, stopping: 2, ..InstanceCounts::default() });
    assert_eq!(pool.wants_start(), None);
}

#[test]
fn a_surplus_that_is_busy_is_looked_at_later() {
    let pool = grown();
    for _ in 0..3 {
        ready(pool.acquire(at(20)));
    }
    assert!(matches!(pool.surplus(at(20), IDLE), Surplus::AskAt(moment) if moment == at(80)));
}

#[test]
fn closing_counts_those_that_are_being_stopped_and_each_is_told_of_once() {
    let pool = pool(3, 3, 8);
    let [hanging, ended, idle] = [2, 1, 0];
    for number in [hanging, ended] {
        assert_eq!(ready(pool.acquire(now())), number);
        assert!(pool.recycle(number, Hook::OnRequest));
    }
    assert!(pool.ended(ended), "it is gone, but has not been told of");
    let mut closed = pool.close().expect("first close");
    assert_eq!(closed.idle, [idle]);
    assert_eq!(closed.left, BTreeSet::from([idle, ended, hanging]));
    assert!(closed.back.try_recv().is_err());
    pool.told(ended);
    assert!(matches!(closed.back.try_recv(), Ok(Back::Stopped(number)) if number == ended));
    assert!(pool.ended(idle));
    pool.told(idle);
    assert_eq!(pool.give_up(), BTreeSet::from([hanging]));
    assert!(!pool.ended(hanging), "it has been told of");
    assert_eq!(pool.numbers(), []);
}

#[tokio::test]
async fn a_pool_that_is_held_prepares_instances_and_gives_them_out_when_it_is_opened() {
    let pool = held(2, 3, 2);
    assert_eq!(pool.wants_start(), None, "who prepares decides what is started");
    for number in [0, 1] {
        assert_eq!(pool.may_prepare().expect("one of min").number, number);
        pool.started(number, now());
    }
    assert_eq!(pool.may_prepare(), None);
    let Acquired::Queued(mut first) = pool.acquire(now()) else { panic!("nobody gets one before it is opened") };
    let Acquired::Queued(_second) = pool.acquire(now()) else { panic!() };
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Overloaded { waiting: 2, .. })));
    // One is not needed after all, and another takes its place.
    assert_eq!(pool.spare(), Some(0));
    assert_eq!(pool.may_prepare().expect("the place is free").number, 2);
    pool.not_started();
    pool.open();
    assert_eq!(first.wait().await.expect("handed over"), 1);
    assert_eq!(pool.may_prepare(), None, "that is over");
    assert_eq!(pool.wants_start().expect("one waits, and there is one less than min").number, 3);
    assert_eq!(pool.spare(), None);
}

#[test]
fn a_pool_that_is_closed_while_it_is_held_refuses_those_who_wait_and_stays_closed() {
    let pool = held(1, 1, 1);
    let start = pool.may_prepare().expect("one");
    let Acquired::Queued(mut waiter) = pool.acquire(now()) else { panic!() };
    assert!(pool.is_held());
    let mut closed = pool.close().expect("first close");
    assert_eq!((closed.idle.len(), closed.starting), (0, 1));
    assert!(matches!(waiter.try_wait(), Ok(Grant::Refused(Unavailable::Stopping))));
    pool.open();
    assert!(!pool.is_held());
    assert_eq!((pool.may_prepare(), pool.wants_start()), (None, None));
    assert_eq!(pool.started(start.number, now()), Some(start.number));
    pool.not_started();
    assert!(matches!(closed.back.try_recv(), Ok(Back::NotStarted)));
}

fn queued(acquired: Acquired<u64>) -> Ticket<u64> {
    match acquired {
        Acquired::Queued(ticket) => ticket,
        Acquired::Ready(_) | Acquired::Refused(_) => panic!("not queued"),
    }
}

#[tokio::test]
async fn calls_and_work_in_the_background_wait_in_one_line_and_work_takes_no_calls_place() {
    let pool = pool(1, 1, 2);
    let instance = ready(pool.acquire(now()));
    let mut first = queued(pool.acquire(now()));
    let mut work = queued(pool.acquire_in_background(now(), Urgency::Whenever));
    let mut last = queued(pool.acquire(now()));
    assert_eq!(pool.counts().waiting, 2);
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Overloaded { waiting: 2, .. })));
    pool.release(instance, Hook::OnRequest, now());
    for ticket in [&mut first, &mut work, &mut last] {
        let instance = ticket.wait().await.expect("its turn");
        pool.release(instance, Hook::OnRequest, now());
    }
}

#[test]
fn faults_in_the_background_let_it_rest_and_refuse_no_call() {
    let pool = pool(1, 1, 2);
    for number in 0..10 {
        assert_eq!(ready(pool.acquire_in_background(at(0), Urgency::Whenever)), number);
        pool.retire(number, EndCause::Stack, Some(Hook::OnDeferred), at(0));
        let start = pool.wants_start().expect("a replacement");
        assert_eq!(start.delay, Duration::ZERO);
        assert!(pool.started(start.number, at(0)).is_none());
    }
    let rested = pool.acquire_in_background(at(0), Urgency::Whenever);
    assert!(matches!(rested, Acquired::Refused(EndCause::Unavailable(Unavailable::BreakerOpen))));
    assert!(pool.background_rests_until(at(0)).is_some() && pool.background_rests_until(at(1)).is_none());
    assert_eq!(*pool.health().borrow(), Health::Good);
    let instance = ready(pool.acquire(at(0)));
    pool.release(instance, Hook::OnRequest, at(0));
    assert_eq!(ready(pool.acquire_in_background(at(0), Urgency::Last)), instance, "there is no other time");
}

#[test]
fn a_pool_that_drains_refuses_calls_and_replaces_what_dies_only_while_there_is_work() {
    let pool = pool(2, 2, 2);
    assert!(pool.drain() && !pool.drain());
    assert!(matches!(pool.acquire(now()), Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping))));
    for _ in 0..2 {
        let instance = ready(pool.acquire_in_background(now(), Urgency::Last));
        pool.retire(instance, EndCause::Stack, Some(Hook::OnDeferred), now());
    }
    assert_eq!(pool.wants_start(), None, "nothing waits for one");
    let _work = queued(pool.acquire_in_background(now(), Urgency::Last));
    assert!(pool.wants_start().is_some() && pool.wants_start().is_none(), "one is enough");
    let closed = pool.close().expect("the first");
    let mut gone: Vec<u64> = closed.gone.iter().map(|(number, _)| *number).collect();
    gone.sort_unstable();
    assert_eq!((gone, closed.starting), (vec![0, 1], 1));
}

#[test]
fn an_instance_owes_one_tick_and_comes_back_to_its_place() {
    let pool = pool(2, 2, 2);
    for _ in 0..3 {
        pool.owe_ticks();
    }
    let mut ticked = Vec::new();
    while let Some(Owing::Idle { instance, since }) = pool.take_owing() {
        pool.release(instance, Hook::OnTick, since);
        ticked.push(instance);
    }
    assert_eq!(ticked.len(), 2, "each once: {ticked:?}");
    // One that is out has its tick before a call that waits.
    let (busy, other) = (ready(pool.acquire(at(1))), ready(pool.acquire(at(1))));
    let _call = queued(pool.acquire(at(1)));
    pool.owe_ticks();
    let Some(Owing::Busy(mut ticket)) = pool.take_owing() else { panic!("both are out") };
    pool.release(busy, Hook::OnRequest, at(1));
    assert!(matches!(ticket.try_wait(), Ok(Grant::Instance(Idle { instance, .. })) if instance == busy));
    pool.release(other, Hook::OnRequest, at(1));
    assert_eq!(pool.counts().idle, 0, "the call has the other one, which owes its tick still");
}

/// What can happen to a pool.
#[derive(Debug, Clone)]
enum Event {
    Acquire,
    Background,
    Period,
    Tick,
    Drain,
    Release(usize),
    Retire(usize, bool),
    Recycle(usize),
    ScaleIn,
    End(usize),
    Tell(usize),
    GiveUp(usize),
    Start(Started),
    Wait(u64),
    Spare,
    Open,
}

/// How a start ends.
#[derive(Debug, Clone, Copy)]
enum Started {
    Up,
    Failed,
    GivenUp,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Acquire),
        2 => Just(Event::Background),
        1 => Just(Event::Period),
        2 => Just(Event::Tick),
        1 => Just(Event::Drain),
        3 => (0..8usize).prop_map(Event::Release),
        1 => (0..8usize, any::<bool>()).prop_map(|(which, fault)| Event::Retire(which, fault)),
        2 => (0..8usize).prop_map(Event::Recycle),
        2 => Just(Event::ScaleIn),
        2 => (0..8usize).prop_map(Event::End),
        2 => (0..8usize).prop_map(Event::Tell),
        1 => (0..8usize).prop_map(Event::GiveUp),
        2 => prop_oneof![8 => Just(Started::Up), 1 => Just(Started::Failed), 1 => Just(Started::GivenUp)]
            .prop_map(Event::Start),
        1 => (0..20_000u64).prop_map(Event::Wait),
        1 => Just(Event::Spare),
        1 => Just(Event::Open),
    ]
}

/// Where every instance is that the pool has given away.
#[derive(Default)]
struct Model {
    millis: u64,
    out: Vec<u64>,
    /// Being stopped.
    stopping: Vec<u64>,
    /// Stopped, but not told of.
    ended: Vec<u64>,
    tickets: BTreeMap<u64, Ticket<u64>>,
    next_ticket: u64,
    watched: bool,
    held: bool,
    draining: bool,
    /// Not having survived the drain.
    died: Vec<u64>,
    ticker: Option<Ticket<u64>>,
}

/// One of them; the property test picks any.
fn pick(from: &mut Vec<u64>, which: usize) -> Option<u64> {
    (!from.is_empty()).then(|| from.swap_remove(which % from.len()))
}

impl Model {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.millis * 1_000_000)
    }

    fn apply(&mut self, pool: &Arc<Pool<u64>>, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Acquire => match pool.acquire(self.now()) {
                Acquired::Ready(instance) => self.out.push(instance),
                Acquired::Queued(ticket) => {
                    self.tickets.insert(self.next_ticket, ticket);
                    self.next_ticket += 1;
                }
                Acquired::Refused(_) => {}
            },
            Event::Background => match pool.acquire_in_background(self.now(), Urgency::Whenever) {
                Acquired::Ready(instance) => self.out.push(instance),
                Acquired::Queued(ticket) => {
                    self.tickets.insert(self.next_ticket, ticket);
                    self.next_ticket += 1;
                }
                Acquired::Refused(_) => prop_assert!(false, "nothing has failed in the background"),
            },
            Event::Period => pool.owe_ticks(),
            Event::Tick => match pool.take_owing() {
                Some(Owing::Idle { instance, since }) => {
                    prop_assert!(!self.held && !self.draining && since <= self.now());
                    self.out.push(instance);
                }
                Some(Owing::Busy(ticket)) => {
                    prop_assert!(!self.out.is_empty(), "somebody waits for an instance that is not out");
                    // There is one ticker: it waits for one instance at a time.
                    self.ticker = Some(ticket);
                }
                None => {}
            },
            Event::Drain => {
                // Held pools are closed at once.
                if !self.held {
                    prop_assert_eq!(pool.drain(), !self.draining);
                    self.draining = true;
                }
            }
            Event::Release(which) => {
                if let Some(instance) = pick(&mut self.out, which) {
                    pool.release(instance, Hook::OnRequest, self.now());
                }
            }
            Event::Retire(which, fault) => {
                if let Some(instance) = pick(&mut self.out, which) {
                    self.died.extend(self.draining.then_some(instance));
                    pool.retire(instance, EndCause::Stack, fault.then_some(Hook::OnRequest), self.now());
                }
            }
            Event::Recycle(which) => {
                if let Some(instance) = pick(&mut self.out, which) {
                    let to = if pool.recycle(instance, Hook::OnRequest) { &mut self.stopping } else { &mut self.out };
                    to.push(instance);
                }
            }
            Event::ScaleIn => self.scale_in(pool)?,
            Event::End(which) => {
                if let Some(instance) = pick(&mut self.stopping, which) {
                    prop_assert!(pool.ended(instance));
                    self.ended.push(instance);
                }
            }
            Event::Tell(which) => {
                if let Some(instance) = pick(&mut self.ended, which) {
                    prop_assert!(!pool.ended(instance), "it would be told of twice");
                    pool.told(instance);
                }
            }
            Event::GiveUp(which) => {
                if let Some(key) = self.tickets.keys().nth(which % self.tickets.len().max(1)).copied() {
                    self.tickets.remove(&key);
                }
            }
            Event::Start(how) => {
                let (wanted, may) = (pool.wants_start(), pool.may_prepare());
                let other = if self.held { &wanted } else { &may };
                prop_assert!(other.is_none());
                match (wanted.or(may), how) {
                    (None, _) => {}
                    (Some(start), Started::Up) => {
                        prop_assert!(pool.started(start.number, self.now()).is_none());
                        self.watched |= pool.wants_watch();
                    }
                    (Some(_), Started::Failed) => pool.failed_to_start(self.now()),
                    (Some(_), Started::GivenUp) => pool.not_started(),
                }
            }
            Event::Wait(more) => self.millis += more,
            Event::Spare => {
                let spare = pool.spare();
                prop_assert!(self.held || spare.is_none());
                self.stopping.extend(spare);
            }
            Event::Open => {
                pool.open();
                self.held = false;
            }
        }
        if let Some(ticket) = &mut self.ticker {
            match ticket.try_wait() {
                Ok(Grant::Instance(granted)) => {
                    self.out.push(granted.instance);
                    self.ticker = None;
                }
                Ok(Grant::Refused(_)) | Err(oneshot::error::TryRecvError::Closed) => self.ticker = None,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
        }
        // Collect what was handed to waiters, and forget those that were refused.
        self.tickets.retain(|_, ticket| match ticket.try_wait() {
            Ok(Grant::Instance(granted)) => {
                self.out.push(granted.instance);
                false
            }
            Ok(Grant::Refused(_)) | Err(oneshot::error::TryRecvError::Closed) => false,
            Err(oneshot::error::TryRecvError::Empty) => true,
        });
        Ok(())
    }

    fn scale_in(&mut self, pool: &Pool<u64>) -> Result<(), TestCaseError> {
        if !self.watched {
            return Ok(());
        }
        match pool.surplus(self.now(), Duration::from_secs(5)) {
            Surplus::Stop(instance) => self.stopping.push(instance),
            Surplus::AskAt(moment) => prop_assert!(moment > self.now(), "it would be asked without end"),
            Surplus::None => self.watched = false,
        }
        Ok(())
    }

    fn holds(&self, pool: &Pool<u64>, size: Size) -> Result<(), TestCaseError> {
        let counts = pool.counts();
        let mut given: Vec<u64> = [&self.out[..], &self.stopping, &self.ended].concat();
        let many = given.len();
        given.sort_unstable();
        given.dedup();
        prop_assert_eq!(given.len(), many, "an instance is in two places");
        prop_assert_eq!((counts.busy, counts.stopping), (self.out.len(), self.stopping.len()));
        prop_assert_eq!(pool.numbers().len(), counts.idle + counts.busy + counts.stopping);
        prop_assert!(counts.idle + counts.busy + counts.starting <= size.max);
        prop_assert!(counts.stopping <= size.max);
        prop_assert!(counts.waiting <= size.queue);
        prop_assert!(self.held || counts.idle == 0 || counts.waiting == 0, "someone waits while an instance idles");
        prop_assert!(!self.held || self.out.is_empty(), "one is out before the pool is open");
        prop_assert!(self.watched || counts.idle + counts.busy <= size.min, "nobody watches over the surplus");
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_instance_is_lost_or_doubled(
        events in prop::collection::vec(event(), 0..200),
        min in 1..4usize, extra in 0..3usize, queue in 0..4usize, is_held in any::<bool>(),
    ) {
        let size = Size { min, max: min + extra, queue };
        let pool = if is_held { held } else { pool }(size.min, size.max, size.queue);
        let mut model = Model { held: is_held, ..Model::default() };
        for event in &events {
            model.apply(&pool, event)?;
            model.holds(&pool, size)?;
        }
        // Whatever happened, everything is accounted for at the end.
        let mut all = pool.numbers();
        all.extend(&model.ended);
        let mut closed = pool.close().expect("first close");
        prop_assert!(matches!(pool.surplus(model.now(), Duration::ZERO), Surplus::None));
        let Model { out, stopping, ended, died, .. } = model;
        prop_assert_eq!(closed.gone.iter().map(|(number, _)| *number).collect::<Vec<_>>(), died);
        for instance in out {
            prop_assert!(!pool.recycle(instance, Hook::OnRequest), "it is stopped with the others");
            pool.release(instance, Hook::OnRequest, now());
        }
        let mut stopping = [stopping, closed.idle].concat();
        let mut stopped = Vec::new();
        for instance in ended {
            pool.told(instance);
        }
        loop {
            if let Some(instance) = stopping.pop() {
                prop_assert!(pool.ended(instance));
                pool.told(instance);
            }
            match closed.back.try_recv() {
                Ok(Back::Instance(instance)) => stopping.push(instance),
                Ok(Back::Stopped(instance)) => stopped.push(instance),
                Ok(Back::Gone { .. } | Back::NotStarted) => prop_assert!(false, "there was no such instance"),
                Err(_) => break,
            }
        }
        for list in [&mut stopped, &mut all] {
            list.sort_unstable();
        }
        prop_assert_eq!(&stopped, &all);
        prop_assert_eq!(closed.left, stopped.into_iter().collect::<BTreeSet<_>>());
        prop_assert_eq!((pool.numbers(), pool.give_up()), (Vec::new(), BTreeSet::new()));
        prop_assert_eq!(pool.counts(), InstanceCounts::default());
    }
}

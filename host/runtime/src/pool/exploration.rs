//! One instance, a caller who uses it, one who makes it fail or gives up the place in the queue, and the end of the pool:
//! in every order there is.

use shuttle::future::block_on;
use shuttle::thread;

use super::*;
use crate::contract::Hook;
use crate::explore::explore;

fn now() -> Moment {
    Moment::from_nanos(0)
}

/// Take the instance as soon as there is one, and give it back.
fn call(pool: &Arc<Pool<u64>>) {
    let instance = match pool.acquire(now()) {
        Acquired::Ready(instance) => Ok(instance),
        Acquired::Queued(mut ticket) => block_on(ticket.wait()),
        Acquired::Refused(cause) => Err(cause),
    };
    match instance {
        Ok(instance) => drop(pool.release(instance, Hook::OnRequest, now())),
        Err(cause) => assert!(matches!(cause, EndCause::Unavailable(Unavailable::Stopping)), "{cause}"),
    }
}

/// Take the instance, which does not survive that; or a place in the queue, and do not wait.
fn fail(pool: &Arc<Pool<u64>>) {
    match pool.acquire(now()) {
        Acquired::Ready(instance) => {
            pool.retire(instance, EndCause::Stack, Some(Hook::OnRequest), now());
            if let Some(start) = pool.wants_start()
                && pool.started(start.number, now()).is_some()
            {
                pool.failed_to_start(now());
            }
        }
        Acquired::Queued(ticket) => {
            crate::sync::point();
            drop(ticket);
        }
        Acquired::Refused(cause) => {
            assert!(matches!(cause, EndCause::Unavailable(Unavailable::Stopping)), "{cause}");
        }
    }
}

#[test]
fn in_every_order_nobody_waits_for_ever_and_the_instance_is_somewhere_once() {
    explore(None, || {
        let pool = Pool::new(Size { min: 1, max: 1, queue: 2 }, None);
        pool.open();
        let start = pool.wants_start().expect("the first");
        assert!(pool.started(start.number, now()).is_none());
        let callers = [call, fail].map(|caller: fn(&Arc<Pool<u64>>)| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || caller(&pool))
        });
        let Closed { idle, mut left, mut starting, mut back, .. } = pool.close().expect("nobody else closes it");
        for caller in callers {
            caller.join().expect("it does not panic");
        }
        for instance in idle {
            assert!(pool.ended(instance));
            pool.told(instance);
        }
        while let Ok(back) = back.try_recv() {
            match back {
                Back::Instance(instance) => {
                    assert!(pool.ended(instance));
                    pool.told(instance);
                }
                Back::Stopped(number) | Back::Gone { number, .. } => {
                    assert!(left.remove(&number), "{number} is heard of twice, or was not there");
                }
                Back::NotStarted => starting -= 1,
            }
        }
        assert_eq!((left, starting), (BTreeSet::new(), 0), "all that there was has been heard of");
        assert!(pool.give_up().is_empty() && pool.numbers().is_empty());
    });
}

//! Calls, stops, a second signal and the passing of time, in many of the orders they could happen in: nobody hangs, and
//! each instance is heard of once.
//!
//! What is explored is the plugin itself, its pool and its stop, with instances of a component that has a `shutdown`. What
//! stands in for something else: the calls (which do nothing in the guest but take time, fail, or trap), the clock, and
//! the executor, which is shuttle's.

use std::collections::BTreeSet;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use tokio::sync::{Semaphore, oneshot};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::*;
use crate::engine::{Reservation, Space};
use crate::environment::{Environment, Randomness, Sleep, Ticks};
use crate::exchange::BadReply;
use crate::explore::explore;
use crate::hooks::Functions;
use crate::host::{Guest, LifecycleView};
use crate::stop::{StopOutcome, StopRecord};
use crate::sync;

/// A component that asks the host how long to take for its `shutdown`.
const COMPONENT: &str = r#"(component
    (import "pause" (func $pause))
    (core func $lowered (canon lower (func $pause)))
    (core module $module
        (import "host" "pause" (func $pause))
        (memory (export "memory") 1)
        (func (export "shutdown") (param i64) (result i32) call $pause i32.const 0))
    (core instance $host (export "pause" (func $lowered)))
    (core instance $core (instantiate $module (with "host" (instance $host))))
    (func $shutdown (param "deadline-ms" u64) (result (result (error string)))
        (canon lift (core func $core "shutdown") (memory (core memory $core "memory"))))
    (instance $hook (export "shutdown" (func $shutdown)))
    (export "tidegate:plugin/shutdown-hook@0.1.0" (instance $hook)))"#;

static ENGINE: LazyLock<(Arc<Space>, Component)> = LazyLock::new(|| {
    let space = Space::new(64, Ticks::Manual).expect("the engine starts");
    let component = wat::parse_str(COMPONENT).expect("it is a component");
    let component = Component::new(space.engine(), component).expect("it is valid");
    (space, component)
});

/// A clock that stands still unless it is set. Nobody is woken before it is time.
#[derive(Default)]
struct ToyClock(Mutex<Face>);

#[derive(Default)]
struct Face {
    nanos: u64,
    sleepers: Vec<(Moment, oneshot::Sender<()>)>,
}

impl ToyClock {
    fn set(&self, now: Moment) {
        let mut face = self.0.lock().expect("sound");
        face.nanos = face.nanos.max(now.as_nanos());
        let (due, later) = std::mem::take(&mut face.sleepers).into_iter().partition(|(until, _)| *until <= now);
        face.sleepers = later;
        for (_, sleeper) in due {
            let _ = sleeper.send(());
        }
    }
}

impl Clock for ToyClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.0.lock().expect("sound").nanos)
    }

    fn thread_cpu(&self) -> Duration {
        Duration::ZERO
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        let mut face = self.0.lock().expect("sound");
        if moment.as_nanos() <= face.nanos {
            return Box::pin(async {});
        }
        let (sleeper, woken) = oneshot::channel();
        face.sleepers.push((moment, sleeper));
        Box::pin(async move {
            // It goes only with the clock: then there is no time any more.
            if woken.await.is_err() {
                pending().await
            }
        })
    }
}

/// How something in a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    /// Only when it is cut.
    Never,
    /// In a trap.
    Dead,
}

/// Something in a guest: it waits so many times, and ends.
#[derive(Debug, Clone, Copy)]
struct Work {
    waits: usize,
    end: End,
}

impl Work {
    fn any() -> Self {
        let end = match thread_rng().gen_range(0..6) {
            0 => End::Never,
            1 => End::Dead,
            _ => End::Well,
        };
        Self { waits: thread_rng().gen_range(0..3), end }
    }

    async fn run(self) -> wasmtime::Result<()> {
        for _ in 0..self.waits {
            yield_now().await;
        }
        match self.end {
            End::Well => Ok(()),
            End::Never => pending().await,
            End::Dead => Err(wasmtime::Error::msg("dead")),
        }
    }
}

impl Call for Work {
    const HOOK: Hook = Hook::OnRequest;
    type Output = ();
    type Raw = ();

    async fn run(self, _: &mut Store<Guest>, _: &Functions) -> wasmtime::Result<Result<(), String>> {
        self.run().await.map(Ok)
    }

    fn skipped() {}

    fn check((): (), _: Hooks, _: usize) -> Result<(), BadReply> {
        Ok(())
    }
}

/// One plugin, and what is heard of it.
struct World {
    plugin: Plugin,
    clock: Arc<ToyClock>,
    abandon: CancellationToken,
    heard: Arc<Mutex<Vec<StopRecord>>>,
    /// Instances that there were when a stop was asked for.
    expected: Mutex<BTreeSet<u64>>,
    /// Instances that may have died in a call, of which nobody tells before the stop.
    doomed: Mutex<BTreeSet<u64>>,
    /// Has a permit for each stop that is about to begin.
    begun: Semaphore,
    /// Time runs on so fast that the stop is over before everything has come to its end.
    hasty: AtomicBool,
}

const BUDGETS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(10)];
const IDLE: Duration = Duration::from_millis(5);

impl World {
    /// A plugin with one or two instances, perhaps recycled after each call.
    async fn new() -> Arc<Self> {
        let (space, component) = &*ENGINE;
        let clock = Arc::<ToyClock>::default();
        let (abandon, heard) = (CancellationToken::new(), Arc::<Mutex<Vec<StopRecord>>>::default());
        let mut linker = Linker::new(space.engine());
        linker.root().func_wrap_async("pause", |_, ()| Box::new(Work::any().run())).expect("a new name");
        let name: Arc<str> = "toy".into();
        let min = thread_rng().gen_range(1..=2);
        let instances = Instances { min, max: 2, idle: IDLE };
        let limits = Limits { wall: Duration::from_secs(3_600), queue: 2, ..Limits::default() };
        let template = Template {
            name: name.clone(),
            pre: linker.instantiate_pre(component).expect("all is linked"),
            exports: crate::check::exports(component).expect("it has a hook"),
            config: "{}".into(),
            limits,
            environment: Environment { clock: clock.clone(), ticks: Ticks::Manual, randomness: Randomness::Seeded(0) },
            tick: Duration::from_millis(1),
            _slots: Arc::new(reservation(space)),
            lifecycle: LifecycleView::new(clock.clone(), Arc::default()),
            halt: Arc::new(Halt::new(abandon.clone())),
            stores: Arc::new(()),
            tally: Tally::default(),
        };
        let spec = PluginSpec {
            name,
            config: "{}".into(),
            instances,
            recycle: Recycle { calls: thread_rng().gen_bool(0.3).then_some(1), memory: None },
            isolation: Isolation::Warm,
            limits,
            gives_up_at: None,
            hand_over: false,
            tally: Tally::default(),
            on_stopped: {
                let heard = Arc::clone(&heard);
                Arc::new(move |record| {
                    sync::point();
                    heard.lock().expect("sound").push(record.clone());
                })
            },
        };
        let plugin =
            Plugin::start(template, "sha256:00".into(), spec, Tasks::new()).await.expect("it has no configure");
        let (expected, doomed) = (Mutex::default(), Mutex::default());
        let (begun, hasty) = (Semaphore::new(0), AtomicBool::new(false));
        Arc::new(Self { plugin, clock, abandon, heard, expected, doomed, begun, hasty })
    }

    /// A call, as [`Plugin::call`] makes it, by somebody who may not wait for its end.
    async fn call(&self) {
        let (work, patience) = (Work::any(), thread_rng().gen_range(0..6));
        let inner = &self.plugin.inner;
        let began = inner.clock().now();
        let deadline = began + inner.template.limits.wall;
        let mut call = std::pin::pin!(async {
            let Ok((slot, ready)) = inner.acquire(began, deadline).await else { return };
            if work.end == End::Dead {
                self.doomed.lock().expect("sound").insert(slot.number);
            }
            let lease = Lease { inner: Arc::clone(inner), slot: Some(slot) };
            let times = Times { began, ready, deadline };
            let call = Box::pin(lease.serve(Exchange::none(), work, times));
            let _however = Finish { tasks: &inner.tasks, call: Some(call) }.await;
        });
        tokio::select! {
            biased;
            () = &mut call => {}
            () = waits(patience) => {
                // Whatever it waited for may come just now.
                sync::point();
            }
        }
    }

    /// Stop the plugin, and see that the stop is over when it says so.
    async fn stop(&self, reason: StopReason, budget: Duration) {
        let before = self.plugin.instances();
        self.expected.lock().expect("sound").extend(before);
        self.begun.add_permits(1);
        self.plugin.stop(reason, budget).await;
        if !self.hasty.load(Ordering::Relaxed) {
            self.check();
            let stats = self.plugin.stats();
            assert_eq!(stats.stores_live, 0, "nothing is left of it");
            assert_eq!(stats.instances, crate::stats::InstanceCounts::default());
        }
        let refused = self.plugin.inner.pool.acquire(self.clock.now());
        assert!(matches!(refused, Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping))));
    }

    /// Everything has been heard of.
    fn check(&self) {
        let heard = self.heard.lock().expect("sound");
        let numbers: BTreeSet<u64> = heard.iter().map(|record| record.instance).collect();
        assert_eq!(numbers.len(), heard.len(), "one is heard of twice: {heard:?}");
        let (doomed, expected) = (self.doomed.lock().expect("sound"), self.expected.lock().expect("sound"));
        for number in expected.iter().filter(|number| !numbers.contains(number)) {
            assert!(doomed.contains(number) || self.abandon.is_cancelled(), "{number} is not heard of: {heard:?}");
        }
        let whole = heard.iter().filter(|record| !matches!(record.reason, StopReason::Recycle | StopReason::ScaleIn));
        let reasons: BTreeSet<&str> = whole.map(|record| record.reason.as_str()).collect();
        assert!(reasons.len() <= 1, "the first stop's reason is every instance's: {reasons:?}");
        let abandoned = heard.iter().any(|record| record.outcome == StopOutcome::Abandoned);
        assert!(!abandoned || self.abandon.is_cancelled());
    }

    /// Time comes to the deadline of the stop, whenever that is, and goes no further than `then`.
    async fn time(&self, then: Duration) {
        if thread_rng().gen_bool(0.5) {
            // Whatever is beyond the least is due to go.
            self.clock.set(self.clock.now() + IDLE);
        }
        let begun = self.begun.acquire_many(thread_rng().gen_range(1..=2)).await;
        drop(begun.expect("nobody closes it"));
        let halt = &self.plugin.inner.template.halt;
        while halt.at() == Moment::NEVER {
            yield_now().await;
        }
        self.clock.set(halt.at() + then);
    }
}

/// Slots for the instances that live, and those that are on their way out.
fn reservation(space: &Arc<Space>) -> Reservation {
    space.reserve(4).expect("those of former executions have been given back")
}

/// Be polled so many times.
async fn waits(mut times: usize) {
    poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Callers, two who stop the plugin, perhaps a second signal, and time.
fn everything_at_once(then: Duration) {
    block_on(async move {
        let world = World::new().await;
        world.hasty.store(!then.is_zero(), Ordering::Relaxed);
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let world = Arc::clone(&world);
            tasks.push(spawn(async move {
                world.call().await;
                world.call().await;
            }));
        }
        for (reason, budget) in [StopReason::Reload, StopReason::Terminate].into_iter().zip(BUDGETS) {
            let world = Arc::clone(&world);
            tasks.push(spawn(async move { world.stop(reason, budget).await }));
        }
        if thread_rng().gen_bool(0.3) {
            let abandon = world.abandon.clone();
            tasks.push(spawn(async move {
                yield_now().await;
                abandon.cancel();
            }));
        }
        let timed = Arc::clone(&world);
        tasks.push(spawn(async move { timed.time(then).await }));
        for task in tasks {
            task.await.expect("nobody cancels it");
        }
        // Whatever goes on by itself comes to its end, too.
        world.plugin.inner.tasks.all_done().await;
        assert_eq!(world.plugin.stats().stores_live, 0);
        world.check();
    });
}

#[test]
fn every_stop_ends_and_each_instance_is_heard_of_once() {
    LazyLock::force(&ENGINE);
    explore(Some(4_000), || everything_at_once(Duration::ZERO));
}

#[test]
fn what_a_stop_gave_up_on_is_not_heard_of_twice() {
    LazyLock::force(&ENGINE);
    explore(Some(1_000), || everything_at_once(Duration::from_secs(10)));
}

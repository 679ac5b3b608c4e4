//! Calls, work that is put off, ticks, stops, a second signal and the passing of time, in many of the orders they could
//! happen in: nobody hangs, each instance is heard of once, and so is each payload.
//!
//! What is explored is the plugin itself, its pool, its backlog, its ticks, its stop, and the way from one version to the
//! next, with instances of a component that has the hooks without an exchange. What stands in for something else: the calls (which do nothing in the
//! guest but take time, fail, or trap), the clock, and the executor, which is shuttle's.

use std::collections::BTreeSet;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use tokio::sync::Notify;
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, StoreContextMut};

use super::*;
use crate::engine::{Reservation, Space};
use crate::environment::{Environment, Randomness, Sleep, Ticks};
use crate::exchange::BadReply;
use crate::explore::explore;
use crate::hooks::Functions;
use crate::host::{Allowance, Guest, LifecycleView};
use crate::stop::{DrainRecord, StopOutcome, StopRecord};
use crate::sync;

/// A component that asks the host how long to take for its hooks, and what to do with snapshots.
const COMPONENT: &str = r#"(component
    (import "inherit" (func $inherit))
    (import "leave" (func $leave))
    (import "work" (func $work))
    (core func $work-lowered (canon lower (func $work)))
    (core func $inherit-lowered (canon lower (func $inherit)))
    (core func $leave-lowered (canon lower (func $leave)))
    (core module $module
        (import "host" "inherit" (func $inherit))
        (import "host" "leave" (func $leave))
        (import "host" "work" (func $work))
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 64)
        (func (export "configure") (param i32 i32) (result i32) call $inherit i32.const 0)
        (func (export "on-deferred") (param i32 i32) (result i32) call $work i32.const 0)
        (func (export "on-tick") (result i32) call $work i32.const 0)
        (func (export "shutdown") (param i64) (result i32) call $leave i32.const 0))
    (core instance $host
        (export "inherit" (func $inherit-lowered))
        (export "leave" (func $leave-lowered))
        (export "work" (func $work-lowered)))
    (core instance $core (instantiate $module (with "host" (instance $host))))
    (func $configure (param "config" string) (result (result (error string)))
        (canon lift (core func $core "configure") (memory (core memory $core "memory")) (realloc (func $core "realloc"))))
    (instance $configure-hook (export "configure" (func $configure)))
    (export "tidegate:plugin/configure-hook@0.1.0" (instance $configure-hook))
    (func $on-deferred (param "payload" (list u8)) (result (result (error string)))
        (canon lift (core func $core "on-deferred")
            (memory (core memory $core "memory")) (realloc (func $core "realloc"))))
    (instance $deferred-hook (export "on-deferred" (func $on-deferred)))
    (export "tidegate:plugin/deferred-hook@0.1.0" (instance $deferred-hook))
    (func $on-tick (result (result (error string)))
        (canon lift (core func $core "on-tick") (memory (core memory $core "memory"))))
    (instance $tick-hook (export "on-tick" (func $on-tick)))
    (export "tidegate:plugin/tick-hook@0.1.0" (instance $tick-hook))
    (func $shutdown (param "deadline-ms" u64) (result (result (error string)))
        (canon lift (core func $core "shutdown") (memory (core memory $core "memory"))))
    (instance $hook (export "shutdown" (func $shutdown)))
    (export "tidegate:plugin/shutdown-hook@0.1.0" (instance $hook)))"#;

static ENGINE: LazyLock<(Arc<Space>, Component)> = LazyLock::new(|| {
    let space = Space::new(64, &environment(Arc::new(ToyClock(watch::Sender::new(Moment::from_nanos(0))))))
        .expect("the engine starts");
    let component = wat::parse_str(COMPONENT).expect("it is a component");
    let component = Component::new(space.engine(), component).expect("it is valid");
    (space, component)
});

fn environment(clock: Arc<ToyClock>) -> Environment {
    Environment { clock, ticks: Ticks::Manual, randomness: Randomness::Seeded(0), gauge: None }
}

/// A clock that stands still unless it is set.
struct ToyClock(watch::Sender<Moment>);

impl Clock for ToyClock {
    fn now(&self) -> Moment {
        *self.0.borrow()
    }

    fn thread_cpu(&self) -> Duration {
        Duration::ZERO
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            let _ = now.wait_for(|now| *now >= moment).await;
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

/// What `configure` does: the first instances are made well, and some later ones do not look at what they inherit.
fn inherit(mut store: StoreContextMut<'_, Guest>) -> Work {
    let has_inherited = thread_rng().gen_bool(0.8) && !store.data_mut().snapshots.read().is_empty();
    if has_inherited { Work::any() } else { Work { waits: 0, end: End::Well } }
}

/// What `on-deferred` and `on-tick` do. Some do not survive. (What puts work off are tasks of the model: no other task may run
/// in the middle of a guest, which takes locks there.)
fn work(store: &StoreContextMut<'_, Guest>, doomed: &Mutex<BTreeSet<u64>>) -> Work {
    let work = Work::any();
    if work.end == End::Dead {
        doomed.lock().expect("sound").insert(store.data().log.instance());
    }
    work
}

/// What `shutdown` does.
fn leave(mut store: StoreContextMut<'_, Guest>) -> Work {
    let _unless_nobody_follows = store.data_mut().snapshots.leave(vec![7]);
    Work::any()
}

impl Call for Work {
    const HOOK: Hook = Hook::OnRequestBody;
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
    drained: Arc<Mutex<Vec<DrainRecord>>>,
    /// Instances that there were when a stop was asked for.
    expected: Mutex<BTreeSet<u64>>,
    /// Instances that may have died in a call, of which nobody tells before the stop.
    doomed: Arc<Mutex<BTreeSet<u64>>>,
    /// A stop is about to begin.
    begun: Notify,
    /// Time runs on so fast that the stop is over before everything has come to its end.
    hasty: AtomicBool,
}

/// What versions of a plugin have in common.
#[derive(Clone)]
struct Surroundings {
    clock: Arc<ToyClock>,
    abandon: CancellationToken,
}

impl Default for Surroundings {
    fn default() -> Self {
        let clock = Arc::new(ToyClock(watch::Sender::new(Moment::from_nanos(0))));
        Self { clock, abandon: CancellationToken::new() }
    }
}

const BUDGETS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(10)];
const IDLE: Duration = Duration::from_millis(5);

impl World {
    /// A plugin with one or two instances, perhaps recycled after each call.
    async fn new() -> Arc<Self> {
        Self::of(Surroundings::default(), Duration::from_secs(3_600), false).await
    }

    /// The same in these surroundings, whose calls may take so long; held, if state is handed over to it.
    async fn of(Surroundings { clock, abandon }: Surroundings, wall: Duration, hand_over: bool) -> Arc<Self> {
        let (space, component) = &*ENGINE;
        let heard = Arc::<Mutex<Vec<StopRecord>>>::default();
        let drained = Arc::<Mutex<Vec<DrainRecord>>>::default();
        let mut linker = Linker::new(space.engine());
        linker.root().func_wrap_async("inherit", |store, ()| Box::new(inherit(store).run())).expect("a new name");
        linker.root().func_wrap_async("leave", |store, ()| Box::new(leave(store).run())).expect("a new name");
        let doomed = Arc::<Mutex<BTreeSet<u64>>>::default();
        let dying = Arc::clone(&doomed);
        linker
            .root()
            .func_wrap_async("work", move |store, ()| Box::new(work(&store, &dying).run()))
            .expect("a new name");
        let mut exports = crate::check::exports(component).expect("it has hooks");
        // Something has to stand for the hook that is called; it is never looked into.
        exports.insert(
            Work::HOOK,
            component.get_export_index(None, "tidegate:plugin/shutdown-hook@0.1.0").expect("there"),
        );
        let name: Arc<str> = "toy".into();
        let min = thread_rng().gen_range(1..=2);
        let instances = Instances { min, max: 2, idle: IDLE };
        let (configure, shutdown) = (Duration::from_millis(15), Duration::from_millis(10));
        let limits = Limits { configure, wall, deferred: wall, shutdown, queue: 2, ..Limits::default() };
        let concurrency = thread_rng().gen_range(1..=2);
        let deferred = Deferred { queue: 2, concurrency, drain: Duration::from_millis(10), ..Deferred::default() };
        let tally = Tally::default();
        let template = Template {
            name: name.clone(),
            pre: linker.instantiate_pre(component).expect("all is linked"),
            exports: exports.clone(),
            config: "{}".into(),
            grants: Grants { background: true, ..Grants::default() },
            backlog: Backlog::new(deferred, exports.hooks(), tally.clone()),
            redaction: Arc::default(),
            limits,
            environment: environment(clock.clone()),
            tick: Duration::from_millis(1),
            _slots: Arc::new(reservation(space)),
            lifecycle: LifecycleView::new(clock.clone(), Arc::default()),
            halt: Arc::new(Halt::new(abandon.clone())),
            log: Allowance::new(name.clone(), &limits, clock.clone(), tally.clone()),
            tally: tally.clone(),
            stores: Arc::new(()),
        };
        let spec = PluginSpec {
            instances,
            recycle: Recycle { calls: thread_rng().gen_bool(0.3).then_some(1), memory: None },
            limits,
            deferred,
            tick: thread_rng().gen_bool(0.5).then_some(Duration::from_millis(4)),
            tally,
            hand_over,
            on_drained: {
                let drained = Arc::clone(&drained);
                Arc::new(move |record| drained.lock().expect("sound").push(record.clone()))
            },
            on_stopped: {
                let heard = Arc::clone(&heard);
                Arc::new(move |record| {
                    sync::point();
                    heard.lock().expect("sound").push(record.clone());
                })
            },
            ..PluginSpec::new(name)
        };
        let plugin =
            Plugin::start(template, "sha256:00".into(), spec, Tasks::new()).await.expect("it inherits nothing yet");
        let expected = Mutex::default();
        let (begun, hasty) = (Notify::new(), AtomicBool::new(false));
        Arc::new(Self { plugin, clock, abandon, heard, drained, expected, doomed, begun, hasty })
    }

    /// A call, as [`Plugin::call`] makes it, by somebody who may not wait for its end.
    async fn call(&self) {
        let (work, patience) = (Work::any(), thread_rng().gen_range(0..6));
        let inner = &self.plugin.inner;
        let began = inner.clock().now();
        let deadline = began + inner.template.limits.wall;
        let call = async {
            let Ok((slot, ready)) = inner.acquire(began, deadline).await else { return };
            if work.end == End::Dead {
                self.doomed.lock().expect("sound").insert(slot.number);
            }
            let lease = Lease { inner: Arc::clone(inner), slot: Some(slot) };
            let times = Times { began, ready, deadline };
            let call = Box::pin(lease.serve(Exchange::none(), work, times));
            let _however = Finish { tasks: &inner.tasks, call: Some(call) }.await;
        };
        tokio::select! {
            biased;
            () = call => {}
            () = waits(patience) => {}
        }
    }

    /// Put some work off, if there is room for it.
    fn put_off(&self) {
        for _ in 0..thread_rng().gen_range(0..=2) {
            let _unless_it_is_full = self.plugin.inner.template.backlog.defer(vec![7], None);
        }
    }

    /// Each payload that was taken has come to one end.
    fn check_work(&self, is_final: bool) {
        let counts = self.plugin.inner.template.backlog.counts();
        let ended = counts.completed + counts.failed + counts.handed_over + counts.left;
        assert_eq!(counts.accepted, ended, "{counts:?}");
        assert_eq!(self.plugin.stats().deferred, crate::stats::DeferredCounts::default());
        let drained = self.drained.lock().expect("sound");
        assert_eq!(drained.len(), usize::from(counts.accepted > 0), "it is told of once: {drained:?}");
        for record in drained.iter().filter(|_| is_final) {
            let told = record.completed + record.failed + record.handed_over + record.left;
            assert_eq!((record.accepted, told), (counts.accepted, counts.accepted), "{record:?}");
        }
        let rows: u64 = self.heard.lock().expect("sound").iter().map(|record| record.deferred_left).sum();
        assert!(rows <= counts.left, "{rows} of {counts:?}");
    }

    /// Stop the plugin, and see that the stop is over when it says so.
    async fn stop(&self, reason: StopReason, budget: Duration) {
        let before = self.plugin.instances();
        self.expected.lock().expect("sound").extend(before);
        self.begun.notify_one();
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
            self.clock.0.send_replace(self.clock.now() + IDLE);
        }
        self.begun.notified().await;
        let halt = &self.plugin.inner.template.halt;
        while halt.at() == Moment::NEVER {
            yield_now().await;
        }
        if thread_rng().gen_bool(0.5) {
            // The share of what was put off is over before the stop is.
            self.clock.0.send_replace(self.clock.now() + Duration::from_millis(10));
            yield_now().await;
        }
        self.clock.0.send_replace(halt.at() + then);
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
                world.put_off();
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
        world.check_work(then.is_zero());
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

/// A version takes over from another while both are called, the new one may be stopped, and everything may be abandoned.
fn one_takes_over_from_the_other() {
    block_on(async move {
        let (surroundings, wall) = (Surroundings::default(), Duration::from_millis(60));
        let old = World::of(surroundings.clone(), wall, false).await;
        let new = World::of(surroundings, wall, true).await;
        let mut tasks = Vec::new();
        for world in [&old, &old, &new] {
            let (plugin, world) = (world.plugin.clone(), Arc::clone(world));
            tasks.push(spawn(async move {
                world.put_off();
                tokio::select! {
                    biased;
                    _ = plugin.call(Exchange::none(), Work::any()) => {}
                    () = waits(thread_rng().gen_range(0..9)) => {}
                }
                let _however = plugin.call(Exchange::none(), Work::any()).await;
            }));
        }
        let (former, latter) = (old.plugin.clone(), new.plugin.clone());
        tasks.push(spawn(async move {
            let HandOver { left, handed_over, refused, lost } = latter.take_over(&former, BUDGETS[0]).await;
            assert_eq!(left, handed_over + refused + lost);
            assert!(!latter.inner.pool.is_held(), "callers would wait for ever");
            let snapshots = latter.tally().snapshots();
            assert_eq!(snapshots.iter().sum::<u64>(), left as u64, "each is counted");
            assert_eq!(former.stats().instances.idle, 0, "it has been stopped");
        }));
        if thread_rng().gen_bool(0.4) {
            let new = new.plugin.clone();
            tasks.push(spawn(async move {
                yield_now().await;
                new.stop(StopReason::Terminate, BUDGETS[1]).await;
            }));
        }
        if thread_rng().gen_bool(0.2) {
            let abandon = old.abandon.clone();
            tasks.push(spawn(async move {
                yield_now().await;
                abandon.cancel();
            }));
        }
        let (clock, over) = (Arc::clone(&old.clock), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&over);
        let time = spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                clock.0.send_replace(clock.now() + Duration::from_millis(5));
                yield_now().await;
            }
        });
        for task in tasks {
            task.await.expect("nobody cancels it");
        }
        new.plugin.stop(StopReason::Terminate, BUDGETS[1]).await;
        for world in [&old, &new] {
            world.plugin.inner.tasks.all_done().await;
            assert_eq!(world.plugin.stats().stores_live, 0);
            let heard = world.heard.lock().expect("sound");
            let numbers: BTreeSet<u64> = heard.iter().map(|record| record.instance).collect();
            assert_eq!(numbers.len(), heard.len(), "one is heard of twice: {heard:?}");
            drop(heard);
            world.check_work(true);
        }
        over.store(true, Ordering::SeqCst);
        time.await.expect("nobody cancels it");
    });
}

#[test]
fn every_hand_over_ends_and_each_snapshot_is_counted_once() {
    LazyLock::force(&ENGINE);
    explore(Some(1_500), one_takes_over_from_the_other);
}

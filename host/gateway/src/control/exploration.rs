//! Exchanges, changes, the stop of the process and a second signal, in many of the orders they could happen in: nobody
//! uses a plugin whose stop has begun, and no instance falls between the lists.
//!
//! What is explored: the course, the roster, the phase, the end of a table, the end of what has been replaced
//! ([`super::retire::end`]), the log of stops and the book. What stands in for something else: plugins, which have no
//! guests, and a table, which has no routes. The steps of [`World::swap`], [`World::turn`], [`World::close`] and
//! [`World::stop`] are those of `Control::swap`, `Control::turn`, `Control::close` and the stop protocol, in their order.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, pending};
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use tidegate_runtime::{Snapshot, StopObserver, StopOutcome, StopReason, StopRecord};

use super::course::Step;
use super::retire::Served;
use super::*;
use crate::explore::explore;
use crate::generation::Standing;
use crate::plugins::Loaded;
use crate::roster::Entry;
use crate::roster::{Hosted, Life};
use crate::signals::{StopCause, StopSignal};
use crate::stop::book::Book;
use crate::stop::ledger::Ledger;
use crate::stop::phase::{Phase, PhaseOwner};

/// A plugin without guests.
#[derive(Clone)]
struct Toy(Arc<Inside>);

struct Inside {
    name: Arc<str>,
    digest: Arc<str>,
    instances: Mutex<BTreeSet<u64>>,
    on_stopped: StopObserver,
    abandon: CancellationToken,
    /// Its stop has begun.
    stopping: AtomicBool,
    /// It may be stopped even though it is in use: the drain of what has been replaced is over.
    overdue: AtomicBool,
    /// How many instances have been told of.
    told: AtomicU64,
    stopped: CancellationToken,
}

const INSTANCES: u64 = 2;

impl Hosted for Toy {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn digest(&self) -> &Arc<str> {
        &self.0.digest
    }

    fn instances(&self) -> Vec<u64> {
        point();
        lock(&self.0.instances).iter().copied().collect()
    }

    fn does_well(&self) -> bool {
        true
    }

    /// As the runtime does it: the stop goes on by itself, a second one joins it, and an instance is gone from the list
    /// before it is told of.
    async fn stop(&self, reason: StopReason, _: Duration) {
        point();
        if !self.0.stopping.swap(true, Ordering::SeqCst) {
            for instance in self.instances() {
                let toy = self.clone();
                spawn(async move { toy.stop_one(instance, reason).await });
            }
        }
        self.0.stopped.cancelled().await;
    }

    async fn take_over(&self, old: &Self) {
        old.stop(StopReason::Reload, Duration::MAX).await;
    }
}

impl Toy {
    async fn stop_one(&self, instance: u64, reason: StopReason) {
        let Inside { name, digest, abandon, .. } = &*self.0;
        yield_now().await;
        let outcome = if abandon.is_cancelled() { StopOutcome::Abandoned } else { StopOutcome::Completed };
        lock(&self.0.instances).remove(&instance);
        point();
        (self.0.on_stopped)(&StopRecord {
            plugin: name.clone(),
            digest: digest.clone(),
            instance,
            snapshot: Snapshot::None,
            deferred_left: 0,
            reason,
            outcome,
            budget: Duration::ZERO,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            overshoot: Duration::ZERO,
            error: None,
        });
        point();
        if self.0.told.fetch_add(1, Ordering::SeqCst) + 1 == INSTANCES {
            self.0.stopped.cancel();
        }
    }
}

/// A table, as far as it matters here.
struct ToyTable {
    seats: Vec<Toy>,
    _gone: tokio_util::sync::DropGuard,
}

struct World {
    config: Config,
    ledger: Ledger,
    abandon: CancellationToken,
    stops: Arc<StopLog>,
    roster: Arc<Roster<Toy>>,
    phase: PhaseOwner,
    table: ArcSwap<ToyTable>,
    current: ArcSwap<Generation<Toy>>,
    changes: tokio::sync::Mutex<ToyChanges>,
    closing: CancellationToken,
    /// Ends the exchanges that outlast the drain.
    cut: CancellationToken,
    /// Every life that has served.
    lives: Mutex<Vec<(Life, Toy)>>,
    retirements: Mutex<Vec<JoinHandle<()>>>,
}

struct ToyChanges {
    course: Course<Toy>,
    tables: Vec<Served>,
}

impl World {
    fn new() -> Arc<Self> {
        let (stops, abandon) = (Arc::<StopLog>::default(), CancellationToken::new());
        let config = CONFIG.clone();
        let ledger = Ledger::new(&config.shutdown, config.longest_stop()).expect("the defaults fit");
        let load =
            |table: &config::Plugin| Loaded { plugin: toy(&table.name, "first", 1, &stops, &abandon), kept: false };
        let loaded = config.plugins.iter().map(load).collect();
        let first = Generation::first(config.clone(), ledger, loaded);
        let roster = Arc::<Roster<Toy>>::default();
        roster.seat(first.entries(), &[]);
        let (table, drained) = table(&first.members);
        let lives = first.members.iter().map(|member| (member.life(), member.plugin.clone())).collect();
        Arc::new(Self {
            config,
            ledger,
            abandon,
            stops,
            roster,
            phase: PhaseOwner::default(),
            table: ArcSwap::from_pointee(table),
            current: ArcSwap::from_pointee(first),
            changes: tokio::sync::Mutex::new(ToyChanges {
                course: Course::default(),
                tables: vec![Served { generation: 1, drained }],
            }),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            lives: Mutex::new(lives),
            retirements: Mutex::default(),
        })
    }

    /// As `Control::turn`.
    async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ToyChanges>> {
        self.closing.run_until_cancelled(self.changes.lock()).await
    }

    /// As `Control::close`.
    async fn close(&self) {
        self.closing.cancel();
        drop(self.changes.lock().await);
    }

    /// As `Control::swap`, with the retirement that `Control::retire` begins.
    fn swap(&self, changes: &mut ToyChanges, number: u64, step: Step<Toy>) {
        let Step { members, leaving } = step;
        let fresh = members.iter().filter(|member| member.generation == number);
        lock(&self.lives).extend(fresh.map(|member| (member.life(), member.plugin.clone())));
        let (table, drained) = table(&members);
        let next = Generation { number, config: Arc::new(self.config.clone()), ledger: self.ledger, members };
        let entries: Vec<_> = leaving.iter().map(|leaving| leaving.entry.clone()).collect();
        self.roster.seat(next.entries(), &entries);
        point();
        changes.tables.retain(|table| !table.drained.is_over());
        let former = changes.tables.clone();
        changes.tables.push(Served { generation: number, drained });
        self.current.store(Arc::new(next));
        point();
        self.table.store(Arc::new(table));
        point();
        let (phase, roster) = (self.phase.view(), Arc::clone(&self.roster));
        let retirement = spawn(async move { retire::end(former, leaving, &phase, &roster, overdue).await });
        lock(&self.retirements).push(retirement);
    }

    /// As `Control::reload`: plugin `a` is kept, `b` has another version.
    async fn reload(&self) {
        let Some(mut changes) = self.turn().await else { return };
        let number = changes.course.number();
        if self.closing.run_until_cancelled(waits(2)).await.is_none() {
            return;
        }
        let before = self.current.load_full();
        let load = |table: &config::Plugin| match before.member(&table.name) {
            Some(old) if &*table.name == "a" => Loaded { plugin: old.plugin.clone(), kept: true },
            _ => Loaded { plugin: toy(&table.name, "next", number, &self.stops, &self.abandon), kept: false },
        };
        let loaded = self.config.plugins.iter().map(load).collect();
        let step = changes.course.reload(&before.members, &self.config.plugins, loaded, number, true);
        self.swap(&mut changes, number, step);
    }

    /// As `Control::disable` and `Control::enable`.
    async fn switch(&self, name: &str) {
        let Some(mut changes) = self.turn().await else { return };
        let before = self.current.load_full();
        let Some(member) = before.member(name) else { return };
        if let Some(step) = changes.course.take_out(&before.members, member, Standing::Disabled) {
            let number = changes.course.number();
            self.swap(&mut changes, number, step);
        } else {
            let number = changes.course.number();
            if self.closing.run_until_cancelled(waits(1)).await.is_none() {
                return;
            }
            let revived = toy(name, &member.plugin.0.digest, number, &self.stops, &self.abandon);
            self.swap(&mut changes, number, Course::put_back(&before.members, member, revived, number));
        }
    }

    /// An exchange: it begins with a table, and uses its plugins until it ends, or is cut.
    async fn exchange(&self) {
        let table = self.table.load_full();
        for toy in table.seats.iter().chain(table.seats.iter().rev()) {
            point();
            let may_go = toy.0.overdue.load(Ordering::SeqCst) || self.phase.view().now() >= Phase::Stopping;
            assert!(
                may_go || !toy.0.stopping.load(Ordering::SeqCst),
                "an exchange uses a plugin that is being stopped"
            );
            if self.cut.run_until_cancelled(yield_now()).await.is_none() {
                return;
            }
        }
    }

    /// As the stop protocol, from the signal to the report.
    async fn stop(&self, exchanges: Vec<JoinHandle<()>>, second: bool) {
        let cause = StopCause::Signal(StopSignal::Terminate);
        let book = Arc::new(Book::new(cause, &self.current.load(), 0, &self.stops, &self.roster));
        let alive = self.alive();
        let again = second.then(|| {
            let (book, abandon) = (Arc::clone(&book), self.abandon.clone());
            spawn(async move {
                yield_now().await;
                book.cut_short(StopSignal::Terminate);
                point();
                abandon.cancel();
            })
        });
        self.enter(&book, Phase::LameDuck);
        self.close().await;
        let last = self.current.load().number;
        self.enter(&book, Phase::Draining);
        let patience = thread_rng().gen_range(0..12);
        tokio::select! {
            biased;
            () = async { drop(join_all(exchanges).await) } => {}
            () = waits(patience) => self.cut.cancel(),
        }
        book.take_stock();
        point();
        self.enter(&book, Phase::Stopping);
        let all = self.roster.all();
        join_all(all.iter().map(|entry| entry.plugin.stop(StopReason::Terminate, Duration::ZERO))).await;
        assert_eq!(self.alive(), BTreeSet::new(), "whoever served has been stopped");
        if let Some(again) = again {
            again.await.expect("nobody cancels it");
        }
        let report = book.close();

        let rows: Vec<_> = report.plugins.iter().map(|row| (row.name.clone(), row.generation, row.instance)).collect();
        let unique: BTreeSet<_> = rows.iter().cloned().collect();
        assert_eq!(unique.len(), rows.len(), "twice in the report: {rows:?}");
        assert!(alive.is_subset(&unique), "missing in the report: {alive:?}, {rows:?}");
        assert!(report.plugins.iter().all(|row| row.error.is_none()), "all have been heard of: {:?}", report.plugins);
        assert_eq!(report.exit_code, if second { 143 } else { 0 });
        let retirements = std::mem::take(&mut *lock(&self.retirements));
        for retirement in retirements {
            retirement.await.expect("nobody cancels it");
        }
        assert!(self.roster.leaving().is_empty());
        assert_eq!(self.current.load().number, last, "nothing changes any more");
    }

    fn enter(&self, book: &Book<Toy>, phase: Phase) {
        self.phase.enter(phase);
        point();
        book.enter(phase, Duration::ZERO);
    }

    /// Every instance that has served and not been told of, wherever it is.
    fn alive(&self) -> BTreeSet<(String, u64, u64)> {
        let of = |(life, toy): &(Life, Toy)| {
            let (name, generation) = (life.name.to_string(), life.generation);
            let row = move |instance| (name.clone(), generation, instance);
            let instances: Vec<u64> = lock(&toy.0.instances).iter().copied().collect();
            instances.into_iter().map(row)
        };
        lock(&self.lives).iter().flat_map(of).collect()
    }
}

static CONFIG: std::sync::LazyLock<Config> = std::sync::LazyLock::new(|| {
    let text = "[[plugin]]\nname = \"a\"\npath = \"a\"\n[[plugin]]\nname = \"b\"\npath = \"b\"\n\
                [[upstream]]\nname = \"u\"\ntargets = [\"http://u:1\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n";
    Config::parse(text, Path::new("/x")).expect("the text is fine")
});

fn toy(name: &str, digest: &str, generation: u64, stops: &Arc<StopLog>, abandon: &CancellationToken) -> Toy {
    Toy(Arc::new(Inside {
        name: name.into(),
        digest: digest.into(),
        instances: Mutex::new((0..INSTANCES).collect()),
        on_stopped: stops.observer(generation),
        abandon: abandon.clone(),
        stopping: AtomicBool::new(false),
        overdue: AtomicBool::new(false),
        told: AtomicU64::new(0),
        stopped: CancellationToken::new(),
    }))
}

fn table(members: &[Member<Toy>]) -> (ToyTable, Drained) {
    let serving = members.iter().filter(|member| member.standing == Standing::Serving);
    let (gone, drained) = Drained::when_dropped();
    (ToyTable { seats: serving.map(|member| member.plugin.clone()).collect(), _gone: gone }, drained)
}

/// The time that exchanges of a former generation have: not long, or longer than they need.
fn overdue(entry: &Entry<Toy>) -> impl Future<Output = ()> + use<> {
    let plugin = entry.plugin.clone();
    async move {
        if thread_rng().gen_bool(0.5) {
            return pending().await;
        }
        waits(thread_rng().gen_range(0..12)).await;
        plugin.0.overdue.store(true, Ordering::SeqCst);
    }
}

async fn waits(times: usize) {
    for _ in 0..times {
        yield_now().await;
    }
}

/// A point at which any other task may run first.
fn point() {
    if !std::thread::panicking() {
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exchanges, changes, and a stop with or without a second signal.
fn everything_at_once() {
    block_on(async {
        let world = World::new();
        let begin =
            |task: fn(Arc<World>) -> futures_util::future::BoxFuture<'static, ()>| spawn(task(Arc::clone(&world)));
        let exchanges = (0..3).map(|_| begin(|world| Box::pin(async move { world.exchange().await }))).collect();
        let changes = [
            begin(|world| Box::pin(async move { world.reload().await })),
            begin(|world| Box::pin(async move { world.reload().await })),
            begin(|world| {
                Box::pin(async move {
                    let name = if thread_rng().gen_bool(0.5) { "a" } else { "b" };
                    world.switch(name).await;
                    world.switch(name).await;
                })
            }),
        ];
        waits(thread_rng().gen_range(0..12)).await;
        let second = thread_rng().gen_bool(0.3);
        world.stop(exchanges, second).await;
        for change in changes {
            change.await.expect("nobody cancels it");
        }
    });
}

#[test]
fn nobody_uses_a_plugin_that_is_being_stopped_and_no_instance_falls_between_the_lists() {
    std::sync::LazyLock::force(&CONFIG);
    explore(Some(4_000), everything_at_once);
}

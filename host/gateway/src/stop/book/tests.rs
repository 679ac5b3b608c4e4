//! The book against every history of a shutdown: whatever stops, dies, is replaced, or is cut short in it, and whenever
//! the report is made, each instance that has to be accounted for stands in it once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::stop::ledger::Ledger;

/// A plugin without guests.
#[derive(Debug, Clone)]
struct Toy {
    name: Arc<str>,
    instances: Arc<Mutex<Instances>>,
}

/// They are numbered from 0 in each life.
#[derive(Debug, Default)]
struct Instances {
    live: BTreeSet<u64>,
    next: u64,
}

impl Toy {
    fn lock(&self) -> MutexGuard<'_, Instances> {
        self.instances.lock().expect("no test panics with it")
    }
}

impl Hosted for Toy {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn digest(&self) -> &Arc<str> {
        &self.name
    }

    fn instances(&self) -> Vec<u64> {
        self.lock().live.iter().copied().collect()
    }

    fn does_well(&self) -> bool {
        true
    }

    async fn stop(&self, _: StopReason, _: Duration) {}

    async fn take_over(&self, _: &Self) {}
}

const NAMES: [&str; 2] = ["a", "b"];

/// The phases of a shutdown that the book has entries for.
const PHASES: [Phase; 4] = [Phase::LameDuck, Phase::Draining, Phase::Stopping, Phase::Flushing];

/// What can happen, before and in a shutdown. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    /// An instance comes up.
    Starts(usize),
    /// An instance that is being stopped is gone; it has yet to be told of.
    Ends(usize, usize),
    /// The next of those that are gone is told of.
    IsTold(StopOutcome),
    /// An instance does not survive a call, and nobody tells of it.
    Dies(usize, usize),
    /// A new version takes the place of a plugin.
    IsReplaced(usize),
    /// One that has been replaced has left, if nothing of it is left.
    Leaves(usize),
    /// The shutdown goes on: it begins, and then goes from phase to phase.
    GoesOn,
    /// The drain is over.
    Drains {
        completed: u64,
        cut: u64,
    },
    SecondSignal(StopSignal),
}

fn event() -> impl Strategy<Value = Event> {
    let signal = prop_oneof![Just(StopSignal::Terminate), Just(StopSignal::Interrupt)];
    let outcome = prop_oneof![4 => Just(StopOutcome::Completed), 1 => prop::sample::select(&StopOutcome::ALL[..])];
    prop_oneof![
        3 => (0..4usize).prop_map(Event::Starts),
        4 => (0..4usize, 0..4usize).prop_map(|(life, instance)| Event::Ends(life, instance)),
        4 => outcome.prop_map(Event::IsTold),
        1 => (0..4usize, 0..4usize).prop_map(|(life, instance)| Event::Dies(life, instance)),
        1 => (0..2usize).prop_map(Event::IsReplaced),
        1 => (0..2usize).prop_map(Event::Leaves),
        4 => Just(Event::GoesOn),
        1 => (0..3u64, 0..2u64).prop_map(|(completed, cut)| Event::Drains { completed, cut }),
        1 => signal.prop_map(Event::SecondSignal),
    ]
}

/// An instance, as the report names it.
type Row = (String, u64, u64);

struct World {
    stops: Arc<StopLog>,
    roster: Arc<Roster<Toy>>,
    generation: Generation<Toy>,
    /// Those that serve and those that are on their way out, whatever the roster says.
    lives: Vec<Entry<Toy>>,
    next_generation: u64,
    /// Gone, and not yet told of.
    untold: Vec<(Life, u64)>,
    book: Option<Book<Toy>>,
    phases: Vec<Phase>,
    /// Those that must stand in the report, and what is known of the end of each.
    expected: BTreeMap<Row, Option<StopOutcome>>,
    requests: Requests,
    second: Option<StopSignal>,
}

impl World {
    fn new(exit_zero: bool) -> Self {
        let text = format!(
            "[shutdown]\nexit_zero = {exit_zero}\n\
             [[upstream]]\nname = \"u\"\ntargets = [\"http://u:1\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n\
             [[plugin]]\nname = \"a\"\npath = \"a\"\n[[plugin]]\nname = \"b\"\npath = \"b\"\n"
        );
        let config = Config::parse(&text, Path::new("/x")).expect("the text is fine");
        let ledger = Ledger::new(&config.shutdown, config.longest_stop()).expect("the defaults fit");
        let loaded = NAMES.map(|name| crate::plugins::Loaded { plugin: toy(name), kept: false });
        let generation = Generation::first(config, ledger, loaded.into());
        let roster = Arc::<Roster<Toy>>::default();
        roster.seat(generation.entries(), &[]);
        let lives = generation.entries();
        Self {
            stops: Arc::default(),
            roster,
            generation,
            lives,
            next_generation: 2,
            untold: Vec::new(),
            book: None,
            phases: Vec::new(),
            expected: BTreeMap::new(),
            requests: Requests::default(),
            second: None,
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Starts(which) => {
                if let Some(entry) = self.any(*which) {
                    let mut instances = entry.plugin.lock();
                    let number = instances.next;
                    instances.live.insert(number);
                    instances.next += 1;
                }
            }
            Event::Ends(which, instance) => {
                if let Some((life, instance)) = self.take(*which, *instance) {
                    self.untold.push((life, instance));
                }
            }
            Event::Dies(which, instance) => drop(self.take(*which, *instance)),
            Event::IsTold(outcome) => self.tell(*outcome),
            Event::IsReplaced(which) if self.phases.is_empty() => {
                let mut entries = self.generation.entries();
                let Some(entry) = entries.get_mut(*which) else { return };
                let new = Entry { plugin: toy(&entry.plugin.name), generation: self.next_generation };
                let old = std::mem::replace(entry, new.clone());
                self.lives.push(new.clone());
                if let Some(member) = self.generation.members.get_mut(*which) {
                    (member.plugin, member.generation) = (new.plugin, new.generation);
                }
                self.next_generation += 1;
                self.roster.seat(entries, &[old]);
            }
            // No change is begun any more once the process stops.
            Event::IsReplaced(_) => {}
            Event::Leaves(which) => {
                if let Some(entry) = self.roster.leaving().get(*which)
                    && entry.plugin.instances().is_empty()
                    && self.untold.iter().all(|(life, _)| *life != entry.life())
                {
                    self.lives.retain(|life| life.life() != entry.life());
                    self.roster.left(entry);
                }
            }
            Event::GoesOn => self.goes_on(),
            Event::Drains { completed, cut } => {
                if let Some(book) = &self.book {
                    book.drained(*completed, *cut);
                    (self.requests.completed, self.requests.cut) = (*completed, *cut);
                }
            }
            Event::SecondSignal(signal) => {
                if let Some(book) = &self.book
                    && self.second.is_none()
                {
                    book.cut_short(*signal);
                    if !self.phases.contains(&Phase::Stopping) {
                        self.take_stock();
                    }
                    self.second = Some(*signal);
                }
            }
        }
    }

    /// As `protocol` does: in order, and stock is taken before plugins are told.
    fn goes_on(&mut self) {
        let Some(book) = &self.book else {
            let cause = StopCause::Signal(StopSignal::Terminate);
            self.book = Some(Book::new(cause, &self.generation, 3, &self.stops, &self.roster));
            self.requests.in_flight = 3;
            return self.take_stock();
        };
        let Some(next) = PHASES.get(self.phases.len()) else { return };
        if !self.phases.is_empty() {
            book.leave();
        }
        if *next == Phase::Stopping {
            book.take_stock();
        }
        book.enter(*next, Duration::from_secs(1));
        if *next == Phase::Stopping && self.second.is_none() {
            self.take_stock();
        }
        self.phases.push(*next);
    }

    /// Whoever lives now has to be accounted for; whoever was expected before and has died in a call has not.
    fn take_stock(&mut self) {
        self.expected.retain(|_, outcome| outcome.is_some());
        for entry in &self.lives {
            for instance in entry.plugin.instances() {
                self.expected.insert(row(&entry.life(), instance), None);
            }
        }
    }

    fn tell(&mut self, outcome: StopOutcome) {
        let Some((life, instance)) = self.untold.pop() else { return };
        if self.book.is_some() {
            self.expected.insert(row(&life, instance), Some(outcome));
        }
        let record = StopRecord {
            plugin: life.name.clone(),
            digest: life.name.clone(),
            instance,
            reason: StopReason::Terminate,
            outcome,
            budget: Duration::from_secs(1),
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            overshoot: Duration::ZERO,
            snapshot: tidegate_runtime::Snapshot::None,
            deferred_left: 0,
            error: None,
        };
        self.stops.observer(life.generation)(&record);
    }

    fn any(&self, which: usize) -> Option<Entry<Toy>> {
        self.lives.get(which % self.lives.len()).cloned()
    }

    fn take(&self, which: usize, instance: usize) -> Option<(Life, u64)> {
        let entry = self.any(which)?;
        let mut instances = entry.plugin.lock();
        let instance = *instances.live.iter().nth(instance)?;
        instances.live.remove(&instance);
        Some((entry.life(), instance))
    }
}

fn toy(name: &str) -> Toy {
    Toy { name: name.into(), instances: Arc::default() }
}

fn row(life: &Life, instance: u64) -> Row {
    (life.name.to_string(), life.generation, instance)
}

fn rows(report: &Report) -> Vec<Row> {
    report.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.generation, plugin.instance)).collect()
}

proptest! {
    #[test]
    fn each_instance_that_has_to_be_accounted_for_stands_in_the_report_once(
        events in prop::collection::vec(event(), 0..60), exit_zero: bool,
    ) {
        let mut world = World::new(exit_zero);
        for event in &events {
            world.happens(event);
            let Some(book) = &world.book else { continue };

            // While it goes on: what is known by now, and nothing made up.
            let report = book.report(false);
            let heard = world.expected.iter().filter(|(_, outcome)| outcome.is_some()).map(|(row, _)| row.clone());
            prop_assert_eq!(rows(&report), heard.collect::<Vec<_>>());
            prop_assert!(!report.complete);

            // If this were its end.
            let report = book.close();
            prop_assert!(report.complete);
            prop_assert_eq!(rows(&report), world.expected.keys().cloned().collect::<Vec<_>>(), "in order, and once each");
            let unheard = if world.second.is_some() { StopOutcome::Abandoned } else { StopOutcome::Overran };
            for (row, plugin) in world.expected.iter().zip(&report.plugins) {
                prop_assert_eq!(plugin.outcome, row.1.unwrap_or(unheard));
                prop_assert!(row.1.is_some() || plugin.error.is_some(), "who is missing is said to be");
            }
            prop_assert_eq!(report.requests, world.requests);
            let unclean = report.plugins.iter().any(|plugin| !plugin.outcome.is_clean());
            let code = match (world.second, unclean, report.requests.cut) {
                (Some(signal), ..) => 128 + signal.number(),
                (None, _, _) if exit_zero => 0,
                (None, true, _) => 11,
                (None, false, 0) => 0,
                (None, false, _) => 10,
            };
            prop_assert_eq!(report.exit_code, code);

            let phases: Vec<&str> = report.phases.iter().map(|phase| &*phase.name).collect();
            prop_assert_eq!(phases, world.phases.iter().map(|phase| phase.as_str()).collect::<Vec<_>>());
            prop_assert!(report.phases.is_sorted_by_key(|phase| phase.started_ms));
        }
    }
}

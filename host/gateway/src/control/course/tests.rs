//! The course against a model of the world around it: whatever changes in whatever order, every life of a plugin that
//! begins either serves or is stopped, once.
#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Config;

/// A plugin without guests.
#[derive(Debug, Clone)]
struct Toy(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    name: Arc<str>,
    digest: Arc<str>,
    well: AtomicBool,
}

impl Toy {
    fn new(table: &config::Plugin) -> Self {
        let digest = table.path.display().to_string().into();
        Self(Arc::new(Inside { name: table.name.clone(), digest, well: AtomicBool::new(true) }))
    }

    /// Another life of it.
    fn revive(&self) -> Self {
        let Inside { name, digest, .. } = &*self.0;
        Self(Arc::new(Inside { name: name.clone(), digest: digest.clone(), well: AtomicBool::new(true) }))
    }
}

impl Hosted for Toy {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn digest(&self) -> &Arc<str> {
        &self.0.digest
    }

    fn instances(&self) -> Vec<u64> {
        vec![0]
    }

    fn does_well(&self) -> bool {
        self.0.well.load(Ordering::Relaxed)
    }

    async fn stop(&self, _: StopReason, _: Duration) {}

    async fn take_over(&self, _: &Self) {}
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The table of a plugin, at this version of its component.
fn table(name: usize, version: u8) -> config::Plugin {
    static TABLES: LazyLock<Vec<config::Plugin>> = LazyLock::new(|| {
        let tables = NAMES.map(|name| format!("[[plugin]]\nname = \"{name}\"\npath = \"x\"\n"));
        let rest =
            "[[upstream]]\nname = \"u\"\ntargets = [\"http://u:1\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n";
        let config = Config::parse(&format!("{}{rest}", tables.concat()), Path::new("/x")).expect("the text is fine");
        config.plugins
    });
    config::Plugin { path: PathBuf::from(format!("{name}-{version}.wasm")), ..TABLES[name].clone() }
}

/// What can happen.
#[derive(Debug, Clone)]
enum Event {
    /// A config file with these plugins, at these versions.
    Reload {
        plugins: Vec<(usize, u8)>,
        rolls_back: bool,
    },
    /// One that cannot be loaded.
    BadReload,
    TakeOut {
        name: usize,
        standing: Standing,
    },
    Enable {
        name: usize,
        works: bool,
    },
    /// A life of a plugin, counted from the newest, trips its breaker.
    Trips {
        life: usize,
        revives: bool,
    },
    /// It does not stop failing.
    GivesUp {
        life: usize,
    },
    /// It has done well, and its probation is over.
    DoesWell {
        life: usize,
    },
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    let plugins = prop::sample::subsequence(vec![0, 1, 2], 0..=3).prop_shuffle();
    let plugins = (plugins, prop::array::uniform3(0..3u8))
        .prop_map(|(names, versions)| names.into_iter().map(|name| (name, versions[name])).collect());
    let standing = prop_oneof![Just(Standing::Disabled), Just(Standing::Quarantined)];
    let often = prop::bool::weighted(0.8);
    prop_oneof![
        8 => (plugins, often).prop_map(|(plugins, rolls_back)| Event::Reload { plugins, rolls_back }),
        1 => Just(Event::BadReload),
        3 => (0..3usize, standing).prop_map(|(name, standing)| Event::TakeOut { name, standing }),
        3 => (0..3usize, often).prop_map(|(name, works)| Event::Enable { name, works }),
        6 => (0..4usize, often).prop_map(|(life, revives)| Event::Trips { life, revives }),
        2 => (0..4usize).prop_map(|life| Event::GivesUp { life }),
        2 => (0..4usize).prop_map(|life| Event::DoesWell { life }),
        1 => prop::bool::weighted(0.2).prop_map(|close| if close { Event::Close } else { Event::BadReload }),
    ]
}

/// The world around the course: `Control` without the parts that run. Its methods do in the same order what those of the
/// same names do in `reload`, `switch` and `health`, where they decide nothing themselves.
#[derive(Default)]
struct World {
    course: Course<Toy>,
    number: u64,
    members: Vec<Member<Toy>>,
    /// Every life that has begun, and whether it is on probation.
    lives: BTreeMap<(u64, Arc<str>), (Toy, bool)>,
    /// Why each life was told to stop, as often as it was.
    stops: BTreeMap<Life, Vec<StopReason>>,
    closed: bool,
}

impl World {
    fn reload(&mut self, tables: &[config::Plugin], rolls_back: bool) {
        let number = self.course.number();
        let load = |table: &config::Plugin| match self.member(&table.name) {
            Some(old) if old.plugin.0.digest == Toy::new(table).0.digest => {
                Loaded { plugin: old.plugin.clone(), kept: true }
            }
            _ => Loaded { plugin: Toy::new(table), kept: false },
        };
        let loaded = tables.iter().map(load).collect();
        let step = self.course.reload(&self.members, tables, loaded, number, rolls_back);
        self.swap(number, step);
    }

    fn take_out(&mut self, name: &str, standing: Standing, applies: impl FnOnce(&Member<Toy>) -> bool) {
        let Some(member) = self.member(name) else { return };
        let step = if applies(&member) { self.course.take_out(&self.members, &member, standing) } else { None };
        if let Some(step) = step {
            let number = self.course.number();
            self.swap(number, step);
        }
    }

    fn enable(&mut self, name: &str, works: bool) {
        let Some(member) = self.member(name) else { return };
        if member.standing != Standing::Serving {
            let number = self.course.number();
            if works {
                self.swap(number, Course::put_back(&self.members, &member, member.plugin.revive(), number));
            }
        }
    }

    fn roll_back(&mut self, life: &Life, revives: bool) {
        let Some(member) = self.member(&life.name) else { return };
        if member.life() != *life {
            return;
        }
        let Some(fallback) = self.course.fallback(&member) else { return };
        let number = self.course.number();
        if revives {
            let revived = fallback.plugin.revive();
            self.swap(number, Course::roll_back(&self.members, &member, fallback, revived, number));
        }
    }

    fn swap(&mut self, number: u64, step: Step<Toy>) {
        let Step { members, leaving } = step;
        for member in members.iter().filter(|member| member.generation == number) {
            let on_probation = self.course.can_roll_back(member.name());
            self.lives.insert((number, member.name().clone()), (member.plugin.clone(), on_probation));
        }
        for Leaving { entry, reason, heir: _ } in leaving {
            self.stops.entry(entry.life()).or_default().push(reason);
        }
        (self.number, self.members) = (number, members);
    }

    fn member(&self, name: &str) -> Option<Member<Toy>> {
        self.members.iter().find(|member| **member.name() == *name).cloned()
    }

    /// A life, counted from the newest.
    fn life(&mut self, back: usize) -> Option<(Life, &mut (Toy, bool))> {
        let ((generation, name), inside) = self.lives.iter_mut().rev().nth(back)?;
        Some((Life { name: name.clone(), generation: *generation }, inside))
    }

    /// What those who watch do when they hear of it.
    fn happens(&mut self, event: &Event) {
        if self.closed {
            return;
        }
        match event {
            Event::Reload { plugins, rolls_back } => {
                let tables: Vec<_> = plugins.iter().map(|(name, version)| table(*name, *version)).collect();
                self.reload(&tables, *rolls_back);
            }
            Event::BadReload => drop(self.course.number()),
            Event::TakeOut { name, standing } => self.take_out(NAMES[*name], *standing, |_| true),
            Event::Enable { name, works } => self.enable(NAMES[*name], *works),
            Event::Trips { life, revives } => {
                let Some((life, (plugin, on_probation))) = self.life(*life) else { return };
                plugin.0.well.store(false, Ordering::Relaxed);
                if std::mem::take(on_probation) {
                    self.roll_back(&life, *revives);
                }
            }
            Event::GivesUp { life } => {
                let Some((life, (plugin, _))) = self.life(*life) else { return };
                plugin.0.well.store(false, Ordering::Relaxed);
                self.take_out(&life.name, Standing::Quarantined, |member| member.life() == life);
            }
            Event::DoesWell { life } => {
                let Some((life, (plugin, on_probation))) = self.life(*life) else { return };
                plugin.0.well.store(true, Ordering::Relaxed);
                if std::mem::take(on_probation) {
                    self.course.end_probation(&self.members, &life);
                }
            }
            Event::Close => self.closed = true,
        }
    }

    fn serves(&self, life: &Life) -> bool {
        self.members.iter().any(|member| member.life() == *life && member.standing == Standing::Serving)
    }
}

/// What holds after every change.
fn check(before: &World, event: &Event, after: &World) -> Result<(), TestCaseError> {
    let changed = after.number != before.number;
    prop_assert!(
        after.number >= before.number && (!before.closed || !changed),
        "numbers only grow, and not after the end"
    );
    let same = |a: &Member<Toy>, b: &Member<Toy>| (a.life(), a.standing) == (b.life(), b.standing);
    prop_assert!(changed || before.members.iter().zip(&after.members).all(|(a, b)| same(a, b)));

    // Every life that began serves, or has been told to stop, and that once.
    for ((generation, name), (plugin, _)) in &after.lives {
        let life = Life { name: name.clone(), generation: *generation };
        let stops = after.stops.get(&life).map_or(0, Vec::len);
        prop_assert_eq!(stops, usize::from(!after.serves(&life)), "{:?}", life);
        prop_assert_eq!(plugin.name(), name);
    }
    for (index, member) in after.members.iter().enumerate() {
        let twin = after.members.iter().skip(index + 1).any(|other| other.name() == member.name());
        prop_assert!(!twin, "a name has one life that serves");
        prop_assert_eq!(member.plugin.name(), member.name());
        prop_assert_eq!(&**member.plugin.digest(), member.loaded_with.path.display().to_string());
        let (inside, _) = &after.lives[&(member.generation, member.name().clone())];
        prop_assert!(Arc::ptr_eq(&inside.0, &member.plugin.0), "a life is one plugin");

        let Some(old) = before.member(member.name()) else {
            prop_assert!(member.standing == Standing::Serving || !changed);
            continue;
        };
        let kept = old.plugin.digest() == member.plugin.digest();
        match event {
            Event::Reload { .. } if changed => {
                prop_assert!(member.rolled_back_from.is_none() || kept);
                prop_assert_eq!(old.life() == member.life(), kept, "a plugin that is kept keeps its life");
                let stands = match old.standing {
                    Standing::Disabled => Standing::Disabled,
                    Standing::Quarantined if kept => Standing::Quarantined,
                    Standing::Quarantined | Standing::Serving => Standing::Serving,
                };
                prop_assert_eq!(member.standing, stands);
            }
            Event::Enable { .. } | Event::Trips { .. } if old.life() != member.life() => {
                prop_assert_eq!(member.standing, Standing::Serving);
                prop_assert_eq!(member.generation, after.number);
            }
            _ => prop_assert_eq!(old.life(), member.life(), "nothing else begins a life"),
        }
    }
    Ok(())
}

/// What holds for those that have to go: they are told why.
fn check_reasons(before: &World, event: &Event, after: &World) -> Result<(), TestCaseError> {
    for (life, reasons) in &after.stops {
        if before.stops.contains_key(life) {
            continue;
        }
        let now = after.member(&life.name).filter(|member| member.life() == *life).map(|member| member.standing);
        let reason = match (event, now) {
            (_, Some(Standing::Disabled)) => StopReason::Disable,
            (_, Some(Standing::Quarantined)) | (Event::Trips { .. }, None) => StopReason::Quarantine,
            _ => StopReason::Reload,
        };
        prop_assert_eq!(reasons, &[reason], "{:?}", life);
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_life_that_begins_serves_or_is_stopped_once(events in prop::collection::vec(event(), 0..40)) {
        let mut world = World { number: 1, ..World::default() };
        for event in &events {
            let before = world.snapshot();
            world.happens(event);
            check(&before, event, &world)?;
            check_reasons(&before, event, &world)?;
        }
    }

    #[test]
    fn a_roll_back_happens_once_per_reload_and_to_a_version_that_did_well(events in prop::collection::vec(event(), 0..40)) {
        let mut world = World { number: 1, ..World::default() };
        // The last version of each plugin that did well when another one took its place, since it last was reloaded.
        let mut healthy: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        for event in &events {
            let before = world.snapshot();
            let well: HashMap<_, _> =
                before.members.iter().map(|member| (member.name().clone(), member.plugin.does_well())).collect();
            world.happens(event);
            for new in &world.members {
                let Some(old) = before.member(new.name()) else { continue };
                if old.life() == new.life() {
                    continue;
                }
                match event {
                    Event::Reload { rolls_back, .. } => {
                        if old.standing == Standing::Serving && well[new.name()] {
                            healthy.insert(new.name().clone(), old.plugin.digest().clone());
                        }
                        if !rolls_back {
                            healthy.remove(new.name());
                        }
                    }
                    Event::Trips { .. } => {
                        // Taken out: there is none for another one until the next reload.
                        let to = healthy.remove(new.name());
                        prop_assert_eq!(Some(new.plugin.digest()), to.as_ref());
                        let from = new.rolled_back_from.as_ref().map(|from| (&from.digest, from.generation));
                        prop_assert_eq!(from, Some((old.plugin.digest(), old.generation)));
                    }
                    _ => {}
                }
            }
            for old in before.members.iter().filter(|old| world.serves(&old.life()) != before.serves(&old.life())) {
                // Who has been switched off on purpose, or has gone, is nothing to go back to.
                let now = world.member(old.name());
                if now.is_none_or(|now| now.life() == old.life()) {
                    healthy.remove(old.name());
                }
            }
        }
    }
}

impl World {
    /// What it is like now, for a comparison.
    fn snapshot(&self) -> Self {
        Self {
            course: Course::default(),
            number: self.number,
            members: self.members.clone(),
            lives: self.lives.clone(),
            stops: self.stops.clone(),
            closed: self.closed,
        }
    }
}

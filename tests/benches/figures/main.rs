//! The benchmarks: `cargo xtask bench` builds what they need and runs them.
//!
//! Plain loops in rounds. What is compared runs in every round, one after the other, so that a slow second of the
//! machine meets all of them; ratios are taken inside a round, and medians over rounds are quoted with the lowest and
//! the highest. Each suite says on its own what it did. `docs/benchmarks.md` has the figures of record.

mod bystander;
mod calls;
mod gateway;
mod languages;
mod memory;
mod outbox;
mod recording;
mod stops;
mod throughput;

use anyhow::{Result, anyhow, bail};
use tidegate_tests::measure::{machine, series, table};

/// How long to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Long enough to quote.
    Full,
    /// To see whether it works, and about where things stand.
    Quick,
}

impl Effort {
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

type Suite = fn(Effort) -> Result<()>;

const SUITES: [(&str, Suite); 8] = [
    ("calls", calls::run),
    ("throughput", throughput::run),
    ("bystander", bystander::run),
    ("stops", stops::run),
    ("memory", memory::run),
    ("outbox", outbox::run),
    ("recording", recording::run),
    ("languages", languages::run),
];

fn main() -> Result<()> {
    let mut effort = Effort::Full;
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1) {
        match &*argument {
            // Cargo says that it is `cargo bench` that runs this.
            "--bench" => {}
            "--quick" => effort = Effort::Quick,
            name => match SUITES.iter().find(|(suite, _)| *suite == name) {
                Some(suite) => wanted.push(*suite),
                None => bail!(
                    "no suite is called `{name}`: there are calls, throughput, bystander, stops, memory, outbox, \
                     recording and languages"
                ),
            },
        }
    }
    if wanted.is_empty() {
        // Not everybody has the tools of other languages.
        wanted.extend(SUITES.into_iter().filter(|(name, _)| *name != "languages"));
    }
    table::say(&machine::description())?;
    for (name, suite) in wanted {
        let before = machine::load();
        // On a thread of its own: a suite pins itself to a core, and the next one must not inherit that.
        let suite = std::thread::spawn(move || suite(effort));
        suite.join().map_err(|_| anyhow!("{name} panicked"))??;
        table::say(&format!("  load average {before} before {name}, {} after", machine::load()))?;
    }
    Ok(())
}

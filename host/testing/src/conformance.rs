//! The conformance kit: what every plugin has to do, whatever else it does, checked without a line of test code.
//!
//! `tidegate plugin test` shows it on the command line, and a plugin's own tests can run it:
//!
//! ```no_run
//! use tidegate_testing::Setup;
//! use tidegate_testing::conformance::Kit;
//!
//! let component = std::fs::read("target/plugins/stamp.wasm")?;
//! let kit = Kit::new(component, |component| Setup::component("stamp", component))?;
//! let report = kit.run(|_| {});
//! assert!(report.is_passed(), "{report:#?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each check loads the plugin anew and stands alone. What it sees is what a gateway would see; nothing is asked of a plugin
//! that the contract does not ask of it. A check says what it saw in numbers, also when it passed.
//!
//! | module | owns |
//! |---|---|
//! | `finding` | what a check says: outcome, problems, measures |
//! | `trial` | a check that is under way: loads the plugin, collects what is found |
//! | `requests` | what is sent: ordinary exchanges, and what no client should send |
//! | `loading`, `hooks`, `stops`, `survival`, `costs` | the checks |

mod costs;
mod finding;
mod hooks;
mod loading;
mod requests;
mod stops;
mod survival;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tidegate_runtime::{Hook, Inspection};

pub use self::finding::{Finding, Measure, Outcome, Problem, Report, Unit};
use self::trial::Trial;
use crate::error::SetupError;
use crate::exchange::{Request, Response};
use crate::setup::Setup;

/// Something that a plugin is checked for.
#[derive(Debug)]
pub struct Check {
    /// How it is called: `stop-idle`, for instance.
    pub name: &'static str,
    /// What it proves if it passes, as a sentence.
    pub proves: &'static str,
    run: fn(&mut Trial<'_>),
    /// Whether it makes sense for a plugin that does not load.
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Loading,
    Loaded,
}

/// Every check, in the order in which they run.
pub static CHECKS: [Check; 13] = [
    Check {
        name: "imports",
        proves: "everything that it imports is free or has been granted.",
        run: loading::imports,
        stage: Stage::Loading,
    },
    Check {
        name: "load",
        proves: "it compiles, its hooks have the contract's signatures, and its first instance is configured in time.",
        run: loading::load,
        stage: Stage::Loading,
    },
    Check {
        name: "hooks",
        proves: "the hooks of ordinary exchanges return in time and without an error.",
        run: hooks::hooks,
        stage: Stage::Loaded,
    },
    Check {
        name: "tick",
        proves: "`on-tick` returns in time, tick after tick.",
        run: hooks::tick,
        stage: Stage::Loaded,
    },
    Check {
        name: "deferred",
        proves: "work that it puts off is done in time, and drained when it is stopped.",
        run: hooks::deferred,
        stage: Stage::Loaded,
    },
    Check {
        name: "stop-idle",
        proves: "without anything to do it stops in time, whatever the reason for the stop.",
        run: stops::idle,
        stage: Stage::Loaded,
    },
    Check {
        name: "stop-busy",
        proves: "right after requests, and with requests in flight, it stops in time.",
        run: stops::busy,
        stage: Stage::Loaded,
    },
    Check {
        name: "stop-stalled",
        proves: "with an upstream and servers that never answer, it stops in time.",
        run: stops::stalled,
        stage: Stage::Loaded,
    },
    Check {
        name: "stop-deadline",
        proves: "its `shutdown` keeps to the deadline that it is given, however short that is for what it has to do.",
        run: stops::deadline,
        stage: Stage::Loaded,
    },
    Check {
        name: "malformed",
        proves: "no request and no response makes a hook trap or overrun, however malformed.",
        run: survival::malformed,
        stage: Stage::Loaded,
    },
    Check {
        name: "capabilities",
        proves: "an outbox, buckets and servers that fail do not make a hook trap or overrun.",
        run: survival::capabilities,
        stage: Stage::Loaded,
    },
    Check {
        name: "memory",
        proves: "the memory of an instance stays level from its 1,000th to its 10,000th request.",
        run: costs::memory,
        stage: Stage::Loaded,
    },
    Check {
        name: "fuel",
        proves: "the same exchanges cost the same fuel, at any time of day and with any random numbers.",
        run: costs::fuel,
        stage: Stage::Loaded,
    },
];

/// A plugin, and how it is to be checked.
pub struct Kit {
    component: Vec<u8>,
    inspection: Inspection,
    setup: Box<dyn Fn(Vec<u8>) -> Setup>,
    grants: Granting,
    request: Request,
    answer: Response,
    variation: Variation,
    patience: Duration,
    only: Vec<String>,
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit").field("digest", &self.inspection.digest).finish_non_exhaustive()
    }
}

/// Who says what the plugin is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granting {
    /// The setup.
    AsSetUp,
    /// Its imports.
    AsImported,
}

/// Whether what it does may depend on the time of day and on random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variation {
    /// No more than by a tenth.
    Small,
    Any,
}

/// The real time that a check may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What happens while the checks run.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A check begins.
    Begins(&'static Check),
    /// It has ended.
    Ended(&'a Finding),
}

impl Kit {
    /// The checks of this component; each begins with a `setup` of its own, which gets the component's bytes.
    ///
    /// # Errors
    /// When it is no plugin: not a component, none of the hooks, or one with a wrong signature.
    pub fn new(component: Vec<u8>, setup: impl Fn(Vec<u8>) -> Setup + 'static) -> Result<Self, SetupError> {
        let inspection = setup(component.clone()).inspect()?;
        Ok(Self {
            component,
            inspection,
            setup: Box::new(setup),
            grants: Granting::AsSetUp,
            request: requests::template(),
            answer: requests::answer(),
            variation: Variation::Small,
            patience: PATIENCE,
            only: Vec::new(),
        })
    }

    /// Grant it whatever its imports need: every topic, every origin, every bucket; values as the setup has them.
    #[must_use]
    pub fn grant_imports(self) -> Self {
        Self { grants: Granting::AsImported, ..self }
    }

    /// What every request has in common: its fields, and its target unless that is `/`.
    #[must_use]
    pub fn request(self, request: Request) -> Self {
        Self { request, ..self }
    }

    /// What servers answer that it asks, with [`Kit::grant_imports`]. Without this it is `200` and `{}`.
    #[must_use]
    pub fn answer(self, answer: Response) -> Self {
        Self { answer, ..self }
    }

    /// What it costs may depend on the time of day and on random numbers.
    #[must_use]
    pub fn may_vary(self) -> Self {
        Self { variation: Variation::Any, ..self }
    }

    /// The real time that a check may take; two minutes without this. What a guest computes beyond it comes too late, and the
    /// check fails.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Run these checks alone. Names that no check has are without effect.
    #[must_use]
    pub fn only(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { only: names.into_iter().collect(), ..self }
    }

    /// What the component says of itself.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Run the checks, one after the other.
    pub fn run(&self, mut observer: impl FnMut(Progress<'_>)) -> Report {
        let began = Instant::now();
        let chosen = |check: &&Check| self.only.is_empty() || self.only.iter().any(|name| name == check.name);
        let mut findings: Vec<Finding> = Vec::new();
        let refusal = self.refusal();
        for check in CHECKS.iter().filter(chosen) {
            observer(Progress::Begins(check));
            let finding = match &refusal {
                Some(_) if check.stage == Stage::Loaded => Finding::skipped(check, "it does not load"),
                _ => self.check(check, &findings),
            };
            observer(Progress::Ended(&finding));
            findings.push(finding);
        }
        Report { findings, took: began.elapsed() }
    }

    /// Why a gateway would not load it, if that is so.
    fn refusal(&self) -> Option<SetupError> {
        self.set_up().load().err()
    }

    fn check(&self, check: &'static Check, earlier: &[Finding]) -> Finding {
        let mut trial = Trial::new(self, check, earlier);
        // The harness panics when nothing is left to happen, and that is something to know about the plugin, too.
        let run = catch_unwind(AssertUnwindSafe(|| (check.run)(&mut trial)));
        if trial.is_out_of_patience() {
            let text = format!("it takes more than {:?} of real time, and was given up", self.patience);
            trial.problem(
                text,
                Some("lower the limits of what computes for so long, or have more patience with --patience"),
            );
        } else if let Err(panic) = run {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
            trial.problem(format!("the harness gave up: {text}"), None);
        }
        trial.finish()
    }

    /// The plugin as it is set up, and granted what it is to be granted.
    fn set_up(&self) -> Setup {
        let setup = (self.setup)(self.component.clone());
        match self.grants {
            Granting::AsSetUp => setup,
            Granting::AsImported => {
                let needs = self.inspection.needs().into_iter();
                needs.fold(setup, |setup, grant| setup.grant(grant, &self.answer))
            }
        }
    }

    /// Whether its imports say what it is granted.
    fn grants_imports(&self) -> bool {
        self.grants == Granting::AsImported
    }

    /// Whether what it does may depend on the time of day and on random numbers.
    fn varies(&self) -> bool {
        self.variation == Variation::Any
    }

    fn has(&self, hook: Hook) -> bool {
        self.inspection.hooks.contains(hook)
    }
}

//! Budgets: what a call of a hook may use, as an assertion, or as a file that remembers what it used.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_runtime::Hook;
use tidegate_runtime::environment::Used;

use crate::plugin::Plugin;

/// The environment variable that has baselines written anew: `TIDEGATE_BASELINE=update`.
const UPDATE: &str = "TIDEGATE_BASELINE";

/// What a call of a hook may use at most. What is not named is not bounded.
#[derive(Debug, Clone, Copy)]
#[must_use = "it is checked by `Plugin::assert_within`"]
pub struct Budget {
    hook: Hook,
    most: [Option<u64>; Measure::ALL.len()],
}

impl Budget {
    /// For each call of this hook.
    pub fn of(hook: Hook) -> Self {
        Self { hook, most: [None; Measure::ALL.len()] }
    }

    /// Units of fuel.
    pub fn fuel(self, most: u64) -> Self {
        self.set(Measure::Fuel, most)
    }

    /// Requests to the host that have an effect: log lines, edits, events, numbers and the like.
    pub fn host_calls(self, most: u64) -> Self {
        self.set(Measure::HostCalls, most)
    }

    /// Bytes of linear memory of the instance.
    pub fn memory(self, most: usize) -> Self {
        self.set(Measure::Memory, most as u64)
    }

    fn set(mut self, measure: Measure, most: u64) -> Self {
        if let Some(slot) = self.most.get_mut(measure as usize) {
            *slot = Some(most);
        }
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Fuel,
    HostCalls,
    Memory,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Fuel, Self::HostCalls, Self::Memory];

    fn of(self, used: &Used) -> u64 {
        match self {
            Self::Fuel => used.fuel,
            Self::HostCalls => used.host_calls,
            Self::Memory => used.memory as u64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Fuel => "units of fuel",
            Self::HostCalls => "host calls",
            Self::Memory => "bytes of memory",
        }
    }
}

/// A hook that used more than it may.
#[derive(Debug, Clone, PartialEq)]
pub struct Exceeded {
    hook: Hook,
    measure: Measure,
    used: u64,
    most: u64,
    /// What it used when the baseline was written, if there is one.
    before: Option<u64>,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hook, measure, used, most, before } = self;
        write!(f, "{hook} used {used} {}; at most {most}", measure.unit())?;
        match before {
            Some(before) if *before > 0 => {
                let grown = (*used as f64 / *before as f64 - 1.0) * 100.0;
                write!(f, " (it was {before}: {grown:+.1} %)")
            }
            _ => Ok(()),
        }
    }
}

/// Why a baseline does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Calls use more than they did, and more than the tolerance allows for.
    #[error("{}\nhint: if it is meant to, run the test with {UPDATE}=update", list(.0))]
    Regressed(Vec<Exceeded>),
    /// Nothing is known of a hook that was called.
    #[error("{} knows nothing of {hook}\nhint: run the test with {UPDATE}=update", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The hook.
        hook: Hook,
    },
    /// The file cannot be read or written, or is no baseline.
    #[error("{}: {problem}\nhint: run the test with {UPDATE}=update to have it written", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is the matter.
        problem: String,
    },
}

fn list(exceeded: &[Exceeded]) -> String {
    exceeded.iter().map(Exceeded::to_string).collect::<Vec<_>>().join("\n")
}

/// What the hooks used when the file was written, and how much more they may.
#[derive(Debug, Clone)]
#[must_use = "it is checked by `Plugin::check_baseline`"]
pub struct Baseline {
    file: PathBuf,
    tolerance: f64,
    is_update: bool,
}

/// A hook in the file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    fuel: u64,
    host_calls: u64,
    memory: usize,
}

impl Baseline {
    /// Kept in this TOML file, beside the test and under version control. A call may use 5 % more than it did.
    pub fn at(file: impl AsRef<Path>) -> Self {
        let is_update = std::env::var_os(UPDATE).is_some_and(|value| value == "update");
        Self { file: file.as_ref().to_owned(), tolerance: 0.05, is_update }
    }

    /// How much more a call may use, as a part of what it did: 0.1 for 10 %.
    pub fn tolerance(self, part: f64) -> Self {
        Self { tolerance: part, ..self }
    }

    /// Write the file, whatever the environment says.
    pub fn update(self) -> Self {
        Self { is_update: true, ..self }
    }

    fn check(&self, most: &BTreeMap<&'static str, (Hook, Used)>) -> Result<(), BaselineError> {
        let failed = |problem: String| BaselineError::File { file: self.file.clone(), problem };
        if self.is_update {
            let entry = |used: &Used| Entry { fuel: used.fuel, host_calls: used.host_calls, memory: used.memory };
            let entries: BTreeMap<_, _> = most.iter().map(|(name, (_, used))| (*name, entry(used))).collect();
            let text = toml::to_string(&entries).map_err(|error| failed(error.to_string()))?;
            return std::fs::write(&self.file, text).map_err(|error| failed(error.to_string()));
        }
        let text = std::fs::read_to_string(&self.file).map_err(|error| failed(error.to_string()))?;
        let entries: BTreeMap<String, Entry> = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let mut exceeded = Vec::new();
        for (name, (hook, used)) in most {
            let Some(Entry { fuel, host_calls, memory }) = entries.get(*name).copied() else {
                return Err(BaselineError::Unknown { file: self.file.clone(), hook: *hook });
            };
            let before = Used { fuel, host_calls, memory };
            for measure in Measure::ALL {
                let before = measure.of(&before);
                let most = (before as f64 * (1.0 + self.tolerance)) as u64;
                let used = measure.of(used);
                if used > most {
                    exceeded.push(Exceeded { hook: *hook, measure, used, most, before: Some(before) });
                }
            }
        }
        if exceeded.is_empty() { Ok(()) } else { Err(BaselineError::Regressed(exceeded)) }
    }
}

impl Plugin {
    /// Whether every call of a hook has stayed within a budget.
    ///
    /// # Errors
    /// With each measure that was exceeded, by the call that exceeded it most.
    pub fn check_within(&self, budget: &Budget) -> Result<(), Vec<Exceeded>> {
        let Budget { hook, most } = *budget;
        let used = self.most(hook).unwrap_or_default();
        let over = Measure::ALL.into_iter().zip(most).filter_map(|(measure, most)| {
            let (used, most) = (measure.of(&used), most?);
            (used > most).then_some(Exceeded { hook, measure, used, most, before: None })
        });
        let over: Vec<_> = over.collect();
        if over.is_empty() { Ok(()) } else { Err(over) }
    }

    /// The same as an assertion.
    ///
    /// # Panics
    /// If a call has exceeded it, or the hook was never called.
    #[track_caller]
    pub fn assert_within(&self, budget: &Budget) {
        assert!(self.most(budget.hook).is_some(), "{} was never called", budget.hook);
        if let Err(exceeded) = self.check_within(budget) {
            panic!("{}", list(&exceeded));
        }
    }

    /// Whether no hook has used more than the file says, and the tolerance. With `TIDEGATE_BASELINE=update` the file is
    /// written instead.
    ///
    /// # Errors
    /// With each hook that has, and by how much; and when the file is not there or does not know a hook.
    pub fn check_baseline(&self, baseline: &Baseline) -> Result<(), BaselineError> {
        let most = Hook::ALL.into_iter().filter_map(|hook| Some((hook.as_str(), (hook, self.most(hook)?))));
        baseline.check(&most.collect())
    }

    /// The same as an assertion.
    ///
    /// # Panics
    /// With what [`Plugin::check_baseline`] says.
    #[track_caller]
    pub fn assert_baseline(&self, baseline: &Baseline) {
        if let Err(error) = self.check_baseline(baseline) {
            panic!("{error}");
        }
    }
}

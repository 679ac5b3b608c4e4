//! What a check says.

use std::fmt;
use std::time::Duration;

use super::Check;

/// What came of all checks.
#[derive(Debug)]
pub struct Report {
    /// One for each check that was chosen, in their order.
    pub findings: Vec<Finding>,
    /// The real time that they took.
    pub took: Duration,
}

impl Report {
    /// Whether no check failed.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.outcome != Outcome::Failed)
    }

    /// How many checks ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// What a check says, if it was chosen.
    #[must_use]
    pub fn finding(&self, check: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check.name == check)
    }

    /// The names of the checks that failed, in their order.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let failed = self.findings.iter().filter(|finding| finding.outcome == Outcome::Failed);
        failed.map(|finding| finding.check.name).collect()
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What it proves is so.
    Passed,
    /// It is not.
    Failed,
    /// It does not apply to this plugin.
    Skipped,
}

impl Outcome {
    /// `passed`, `failed` or `skipped`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What came of one check.
#[derive(Debug)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// How it ended.
    pub outcome: Outcome,
    /// What is wrong, if it failed.
    pub problems: Vec<Problem>,
    /// What to know about the outcome: why it was skipped, or what it did not see.
    pub notes: Vec<String>,
    /// What was measured.
    pub measures: Vec<Measure>,
    /// The virtual time that went by for the plugin.
    pub virtual_time: Duration,
    /// The real time that it took.
    pub took: Duration,
}

impl Finding {
    /// A check that does not apply.
    pub(super) fn skipped(check: &'static Check, reason: &str) -> Self {
        Self {
            check,
            outcome: Outcome::Skipped,
            problems: Vec::new(),
            notes: vec![reason.to_owned()],
            measures: Vec::new(),
            virtual_time: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was seen.
    pub text: String,
    /// What to do about it, if that is known.
    pub advice: Option<String>,
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// What it is, in words: `slowest call`.
    pub name: &'static str,
    /// How much.
    pub value: u64,
    /// Of what.
    pub unit: Unit,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds of virtual time.
    Nanos,
    /// Units of fuel.
    Fuel,
    /// Hundredths of a limit.
    Percent,
}

impl Unit {
    /// The end of the measure's key in JSON, with which its unit stands.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => "_bytes",
            Self::Nanos => "_ns",
            Self::Fuel => "_fuel",
            Self::Percent => "_percent",
        }
    }
}

impl Measure {
    /// The key in JSON: `slowest_call_ns`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{}", self.name.replace([' ', '-'], "_"), self.unit.suffix())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit } = self;
        match unit {
            Unit::Count => write!(f, "{} {name}", Grouped(*value)),
            Unit::Bytes => write!(f, "{name} {}", Size(*value)),
            Unit::Nanos => write!(f, "{name} {}", Time(Duration::from_nanos(*value))),
            Unit::Fuel => write!(f, "{name} {} fuel", Grouped(*value)),
            Unit::Percent => write!(f, "{value}% {name}"),
        }
    }
}

/// A number with its thousands set apart.
pub(super) struct Grouped(pub(super) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Bytes, in the unit that suits them.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..1_024 => write!(f, "{bytes} B"),
            bytes @ ..1_048_576 => write!(f, "{} KiB", bytes.div_ceil(1_024)),
            bytes => write!(f, "{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
        }
    }
}

/// A time, in the unit that suits it.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |f: &mut fmt::Formatter<'_>, value: u128, of: u128, unit: &str| {
            let tenths = value * 10 / of;
            match tenths % 10 {
                0 => write!(f, "{} {unit}", tenths / 10),
                rest => write!(f, "{}.{rest} {unit}", tenths / 10),
            }
        };
        match self.0.as_nanos() {
            nanos @ ..1_000 => write!(f, "{nanos} ns"),
            nanos @ ..1_000_000 => tenths(f, nanos, 1_000, "us"),
            nanos @ ..1_000_000_000 => tenths(f, nanos, 1_000_000, "ms"),
            nanos => tenths(f, nanos, 1_000_000_000, "s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_that_suits_them() {
        for (value, unit, shown) in [
            (1_234_567, Unit::Count, "1,234,567 it"),
            (999, Unit::Count, "999 it"),
            (1_023, Unit::Bytes, "it 1023 B"),
            (65_536, Unit::Bytes, "it 64 KiB"),
            (1_572_864, Unit::Bytes, "it 1.5 MiB"),
            (999, Unit::Nanos, "it 999 ns"),
            (12_340, Unit::Nanos, "it 12.3 us"),
            (5_000_000, Unit::Nanos, "it 5 ms"),
            (90_000_000_000, Unit::Nanos, "it 90 s"),
            (1_000, Unit::Fuel, "it 1,000 fuel"),
            (7, Unit::Percent, "7% it"),
        ] {
            assert_eq!(Measure { name: "it", value, unit }.to_string(), shown);
        }
        assert_eq!(Measure { name: "slowest call", value: 0, unit: Unit::Nanos }.key(), "slowest_call_ns");
    }
}

//! What a gateway leaves behind, and whether it is right.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidegate_tests::client::Tally;
use tidegate_tests::gateway::Ended;

use crate::events::Story;
use crate::kinds::{BYSTANDER, Company, Kind};

/// An instance that has been stopped, as the log has it.
pub(crate) struct Stop {
    pub(crate) company: Company,
    pub(crate) kind: &'static Kind,
    pub(crate) reason: String,
    pub(crate) right: bool,
    /// By how much it went past its budget, in milliseconds.
    pub(crate) overshoot: f64,
}

/// Of one process, or of many.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) stops: Vec<Stop>,
    pub(crate) load: Tally,
    /// Everything that is not as it has to be.
    pub(crate) wrong: Vec<String>,
}

/// Plugin, generation, instance.
type Life = (String, u64, u64);

impl Evidence {
    pub(crate) fn of(company: Company, story: Story, instances: usize, load: Tally, ended: &Ended) -> Self {
        let mut evidence = Self { load, ..Self::default() };
        let logged = ended.log.with(&[("message", "plugin instance stopped")]);
        let lives = evidence.take_stops(company, &logged);
        evidence.check_counts(company, story, instances);
        evidence.check_report(ended, &lives);
        evidence.check_calls(ended);
        evidence
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.stops.extend(other.stops);
        self.load.add(other.load);
        self.wrong.extend(other.wrong);
    }

    /// Every line of the log is a stop with the outcome that its kind has to have, and no instance is stopped twice.
    fn take_stops(&mut self, company: Company, logged: &[Value]) -> BTreeMap<Life, (String, String)> {
        let mut lives = BTreeMap::new();
        for line in logged {
            let (life, reason, outcome) = (life(line, "plugin"), text(line, "reason"), text(line, "outcome"));
            if lives.insert(life.clone(), (reason.clone(), outcome.clone())).is_some() {
                self.wrong.push(format!("stopped twice: {line}"));
            }
            let Some(kind) = company.kind(&life.0) else {
                if life.0 != BYSTANDER || reason != "terminate" || outcome != "no-hook" {
                    self.wrong.push(format!("a stop that nobody expects: {line}"));
                }
                continue;
            };
            let right = outcome == kind.outcome;
            if !right {
                self.wrong.push(format!("it should have {}: {line}", kind.outcome));
            }
            let overshoot = line["overshoot_ms"].as_f64().unwrap_or(0.0);
            self.stops.push(Stop { company, kind, reason, right, overshoot });
        }
        lives
    }

    /// Where every instance is stopped by each event, none is missing.
    fn check_counts(&mut self, company: Company, story: Story, instances: usize) {
        let expected: &[&str] = match story {
            Story::Together => &["terminate", "reload", "disable", "quarantine"],
            Story::Recycle => &["recycle"],
            Story::ScaleIn => &["scale-in"],
        };
        for kind in company.kinds() {
            for reason in expected {
                let stops = self.stops.iter().filter(|stop| stop.kind.name == kind.name && stop.reason == *reason);
                let count = stops.count();
                // One by one, they go on going until the end.
                if count < instances || (story == Story::Together && count > instances) {
                    self.wrong.push(format!("{}, {reason}: {count} stops of {instances} instances", kind.name));
                }
            }
        }
    }

    /// The report has every instance that was stopped by the end of the process, once, as the log has it; the exit code
    /// is that of plugins that did not end well; no request was cut.
    fn check_report(&mut self, ended: &Ended, lives: &BTreeMap<Life, (String, String)>) {
        let entries = ended.report().at("/plugins").as_array().cloned().unwrap_or_default();
        let mut reported = BTreeSet::new();
        for entry in &entries {
            let life = life(entry, "name");
            if lives.get(&life) != Some(&(text(entry, "reason"), text(entry, "outcome"))) {
                self.wrong.push(format!("the log does not say what the report says: {entry}"));
            }
            if !reported.insert(life) {
                self.wrong.push(format!("it is in the report twice: {entry}"));
            }
        }
        for (life, (reason, _)) in lives {
            if reason == "terminate" && !reported.contains(life) {
                self.wrong.push(format!("it is not in the report: {life:?}"));
            }
        }
        let (code, cut) = (ended.code, ended.report().number("/requests/cut"));
        if (code, cut) != (Some(11), 0) || ended.report().number("/exit_code") != 11 {
            self.wrong.push(format!("exit code {code:?}, {cut} requests cut: {:#}", ended.report().0));
        }
    }

    /// A request that has begun with a plugin gets all its hooks. The plugins fail open, so that a call which a stop has
    /// refused can be seen in the log alone.
    fn check_calls(&mut self, ended: &Ended) {
        for line in ended.log.with(&[("message", "plugin failed")]) {
            let cause = text(&line, "cause");
            if !(cause.ends_with("it is disabled") || cause.ends_with("it is quarantined")) {
                self.wrong.push(format!("a call has failed: {line}"));
            }
        }
    }
}

fn life(value: &Value, name: &str) -> Life {
    let number = |key: &str| value[key].as_u64().unwrap_or(u64::MAX);
    (text(value, name), number("generation"), number("instance"))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

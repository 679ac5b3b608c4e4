//! What was accepted against what has arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use tidegate_tests::measure::table::Table;

use crate::ledger::{Answer, Ledger, Number};

/// More violations of a kind are counted and not shown.
const SHOWN: usize = 5;

/// An event as a receiver took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) id: String,
    /// The event's key.
    pub(crate) subject: String,
    pub(crate) body: Vec<u8>,
}

/// A sink, and what has arrived there, in its order.
pub(crate) struct Arrivals {
    pub(crate) sink: &'static str,
    pub(crate) events: Vec<Arrival>,
}

/// Everything that is not as it has to be.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) wrong: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
    }

    /// Something is wrong if there is any of these.
    fn if_any<T: std::fmt::Debug>(&mut self, what: &str, those: &[T]) {
        if !those.is_empty() {
            let some: Vec<_> = those.iter().take(SHOWN).collect();
            self.wrong.push(format!("{what}: {}, among them {some:?}", those.len()));
        }
    }
}

/// Compare, print a row for each sink, and say what is wrong.
pub(crate) fn compare(
    title: &str,
    ledger: &Ledger,
    all: &[Arrivals],
    may_be_missing: &BTreeSet<Number>,
) -> Result<Findings> {
    let asked = ledger.entries();
    let count = |which: fn(&Answer) -> bool| asked.values().filter(|answer| which(answer)).count();
    let accepted = count(|answer| matches!(answer, Answer::Accepted(_)));
    let refused = count(|answer| matches!(answer, Answer::Refused(_)));
    let open = count(|answer| matches!(answer, Answer::None));
    let title = format!(
        "{title}: {} events asked for, {accepted} accepted, {refused} refused, {open} without an answer",
        asked.len()
    );
    let columns = [
        "sink",
        "accepted",
        "missing",
        "arrived",
        "of them without an answer",
        "never accepted",
        "duplicates",
        "changed",
        "out of order",
    ];
    let (mut table, mut findings) = (Table::new(&title, &columns), Findings::default());
    // Across all sinks: an id is one event, and an event has one id.
    let mut known: HashMap<String, Number> = HashMap::new();
    let mut ids: BTreeMap<Number, String> = BTreeMap::new();
    for Arrivals { sink, events } in all {
        let (mut seen, mut newest) = (BTreeSet::new(), BTreeMap::<usize, Number>::new());
        let (mut phantoms, mut changed, mut disorder, mut duplicates, mut unanswered) = (vec![], vec![], vec![], 0, 0);
        for event in events {
            let number = Number::of(&event.body).filter(|number| event.subject == format!("k{}", number.key));
            let Some((number, answer)) = number.and_then(|number| Some((number, asked.get(&number)?))) else {
                phantoms.push(event.clone());
                continue;
            };
            match answer {
                Answer::Refused(why) => phantoms.push(Arrival { subject: why.clone(), ..event.clone() }),
                Answer::Accepted(id) if *id != event.id => changed.push(event.clone()),
                _ => {}
            }
            let same_id = known.entry(event.id.clone()).or_insert(number) == &number;
            if !same_id || ids.entry(number).or_insert_with(|| event.id.clone()) != &event.id {
                changed.push(event.clone());
            }
            if !seen.insert(number) {
                duplicates += 1;
                continue;
            }
            unanswered += usize::from(*answer == Answer::None);
            if newest.insert(number.key, number).is_some_and(|newest| newest > number) {
                disorder.push(number);
            }
        }
        let missing: Vec<Number> = asked
            .iter()
            .filter(|(number, answer)| {
                matches!(answer, Answer::Accepted(_)) && !seen.contains(number) && !may_be_missing.contains(number)
            })
            .map(|(number, _)| *number)
            .collect();
        let counts = [
            accepted,
            missing.len(),
            seen.len(),
            unanswered,
            phantoms.len(),
            duplicates,
            changed.len(),
            disorder.len(),
        ];
        table.row([(*sink).to_owned()].into_iter().chain(counts.map(|count| count.to_string())));
        findings.if_any(&format!("{sink}: accepted, and not arrived"), &missing);
        findings.if_any(&format!("{sink}: arrived, and never accepted"), &phantoms);
        findings.if_any(&format!("{sink}: another id or other content"), &changed);
        findings.if_any(&format!("{sink}: before one of its key that was published earlier"), &disorder);
    }
    table.print()?;
    Ok(findings)
}

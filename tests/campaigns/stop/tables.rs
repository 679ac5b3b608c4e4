//! What the campaign prints.

use std::time::Duration;

use anyhow::Result;
use tidegate_tests::measure::series::Series;
use tidegate_tests::measure::table::{Table, met, say};

use crate::evidence::{Evidence, Stop};
use crate::kinds::Company;

/// In the order of the table.
const REASONS: [&str; 6] = ["terminate", "reload", "disable", "quarantine", "recycle", "scale-in"];

/// How often running guests are looked at, in milliseconds.
const TICK: f64 = 1.0;

/// What all but one in a hundred stops have to keep to, where no bulk operation is in the way, in milliseconds.
const TARGET: f64 = 3.0;

/// Everything that was found.
pub(crate) fn print(evidence: &Evidence, longest_step: &Series) -> Result<()> {
    for company in Company::ALL {
        let stops: Vec<&Stop> = evidence.stops.iter().filter(|stop| stop.company == company).collect();
        if !stops.is_empty() {
            one(company, &stops)?;
        }
    }
    summary(evidence, longest_step)
}

/// A row for each kind and reason.
fn one(company: Company, stops: &[&Stop]) -> Result<()> {
    let title = format!("{}: {} stops", company.what(), stops.len());
    let columns = ["", "reason", "expected", "stops", "right", "late: p50 ms", "p99", "max"];
    let mut table = Table::new(&title, &columns);
    for kind in company.kinds() {
        for (number, reason) in REASONS.iter().enumerate() {
            let those: Vec<_> =
                stops.iter().filter(|stop| stop.kind.name == kind.name && stop.reason == *reason).collect();
            let right = those.iter().filter(|stop| stop.right).count();
            let late: Series = those.iter().map(|stop| stop.overshoot).collect();
            let what = if number == 0 { kind.what } else { "" };
            let counts = [those.len(), right].map(|count| count.to_string());
            let first = [what, reason, kind.outcome].map(str::to_owned);
            table.row(first.into_iter().chain(counts).chain(lateness(&late)));
        }
    }
    Ok(table.print()?)
}

/// Those that end by themselves are not late at all.
fn lateness(late: &Series) -> [String; 3] {
    if late.is_empty() || late.max() == 0.0 {
        return ["-"; 3].map(str::to_owned);
    }
    [0.5, 0.99, 1.0].map(|part| format!("{:.2}", late.quantile(part)))
}

fn summary(evidence: &Evidence, longest_step: &Series) -> Result<()> {
    let Evidence { stops, load, wrong } = evidence;
    let bound = TICK + longest_step.max();
    let mut table = Table::new(
        "stops that used up their budget: how late they ended",
        &["", "stops", "late: p50 ms", "p99", "max", "beyond the bound", "target for p99", ""],
    );
    for company in Company::ALL {
        let overran = stops.iter().filter(|stop| stop.company == company && stop.kind.outcome == "overran");
        let late: Series = overran.map(|stop| stop.overshoot).collect();
        if late.is_empty() {
            continue;
        }
        let beyond = format!("{}/{}", late.count(|late| *late > bound), late.len());
        let target = match company {
            Company::Guest => [format!("<= {TARGET} ms"), met(late.quantile(0.99) <= TARGET)],
            // Whatever the bound allows.
            Company::Bulk | Company::Mixed => [String::new(), String::new()],
        };
        let first = [company.what().to_owned(), late.len().to_string()];
        table.row(first.into_iter().chain(lateness(&late)).chain([beyond]).chain(target));
    }
    table.print()?;
    say(&format!(
        "  bound: one tick ({TICK} ms) and the longest step that cannot be interrupted, memory.fill over 32 MiB that \
         nobody has touched: {:.1} ms in the median, {:.1} ms at most, of {}",
        longest_step.median(),
        longest_step.max(),
        longest_step.len()
    ))?;
    let right = stops.iter().filter(|stop| stop.right).count();
    say(&format!("\noutcome right in {right}/{}", stops.len()))?;
    say(&format!(
        "requests: {} answered, {} had to ask elsewhere after SIGTERM, {} lost that could have finished",
        load.answered,
        load.elsewhere,
        load.lost.len()
    ))?;
    for what in wrong.iter().chain(&load.lost) {
        say(&format!("WRONG: {what}"))?;
    }
    Ok(())
}

/// For people who wait.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

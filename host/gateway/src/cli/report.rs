//! `tidegate report`

use super::{Failure, ReportArgs, print};
use crate::stop::report::Report;
use crate::stop::timeline;

/// Draw the report on stdout.
pub(super) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let report = Report::read(&args.file).map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    print(&timeline::draw(&report, width()))
}

/// The columns to draw in: `COLUMNS` if it says, else those of the terminal, else 80.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let terminal = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    said.or_else(terminal).unwrap_or(timeline::DEFAULT_WIDTH)
}

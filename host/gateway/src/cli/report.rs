//! `tidegate report`

use std::fs;
use std::path::Path;

use super::{Failure, ReportArgs, print};
use crate::config::HumanSize;
use crate::stop::report::{Report, write_whole};
use crate::stop::timeline;

/// Draw the report on stdout, or as a page.
pub(super) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let report = Report::read(&args.file).map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    match &args.html {
        None => print(&timeline::draw(&report, width())),
        Some(out) if out.as_os_str() == "-" => print(&timeline::html(&report)),
        Some(out) => {
            if is_same(&args.file, out) {
                let text = format!("{} is the report itself", out.display());
                return Err(Failure::usage(text, Some("name another file for the page")));
            }
            let drawn = if is_svg(out) { timeline::svg(&report) } else { timeline::html(&report) };
            write_whole(out, drawn.as_bytes()).map_err(|error| {
                let text = format!("cannot write the timeline to {}: {error}", out.display());
                Failure::usage(text, Some("the folder must exist, and you must be allowed to write to it"))
            })?;
            let size = HumanSize(drawn.len() as u64);
            print(&format!("{}: {size}, for a browser to open\n", out.display()))
        }
    }
}

fn is_svg(out: &Path) -> bool {
    out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"))
}

/// Whether these are two names of one file.
fn is_same(file: &Path, out: &Path) -> bool {
    // A file that is not there yet is no other.
    fs::canonicalize(out).is_ok_and(|out| fs::canonicalize(file).is_ok_and(|file| file == out))
}

/// The columns to draw in: `COLUMNS` if it says, else those of the terminal, else 80.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let terminal = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    said.or_else(terminal).unwrap_or(timeline::DEFAULT_WIDTH)
}

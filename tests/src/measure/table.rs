//! What a person reads.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line or more.
///
/// # Errors
/// When nobody reads any more; so for all that print.
pub fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Shows what is being done, where somebody may be waiting.
///
/// # Errors
/// As [`say`].
pub fn progress(text: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stderr().lock(), "    {text}")
}

/// Columns under a title; the first one is text, the others are numbers.
#[derive(Debug)]
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns and no row.
    #[must_use]
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self { title: title.to_owned(), rows: vec![columns.iter().map(|column| (*column).to_owned()).collect()] }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it.
    ///
    /// # Errors
    /// As [`say`].
    pub fn print(&self) -> io::Result<()> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.len()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = format!("\n{}\n", self.title);
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("  {cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            });
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        write!(io::stdout().lock(), "{text}")
    }
}

/// Whether a target is met, for a column of a table.
#[must_use]
pub fn met(met: bool) -> String {
    if met { "met" } else { "MISSED" }.to_owned()
}

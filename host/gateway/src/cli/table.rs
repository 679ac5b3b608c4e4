//! Columns of text for a terminal.

/// Rows of cells, each column as wide as its widest cell, two blanks before and between.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    /// Add a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.0.push(cells.map(str::to_owned).to_vec());
    }

    /// The lines, each with a newline.
    pub(super) fn render(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.0 {
            let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:width$}")).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

//! Measures of the picture, and how much room a text takes in it.

/// The width of a character of the picture's font at its size of 12; the widest of the fonts that are asked for.
pub(super) const CHAR: f64 = 7.4;
/// The height of a row, and of a line of text.
pub(super) const ROW: f64 = 22.0;
/// The room between things.
pub(super) const GAP: f64 = 16.0;

/// `text` in lines of at most `columns`, broken between words if there are any.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        if used > 0 && used + width(word.trim_end()) > columns {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            if used >= columns {
                lines.push(String::new());
                used = 0;
            }
            used += width_of(c);
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
        }
    }
    lines
}

/// Columns of a text. A character that is not narrow for certain counts as a wide one.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

fn width_of(c: char) -> usize {
    // The dashes and signs of our own words are narrow; so are the letters of most alphabets.
    if c < '\u{1100}' || matches!(c, '\u{2010}'..='\u{2027}') { 1 } else { 2 }
}

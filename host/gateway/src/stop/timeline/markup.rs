//! Text that goes into a page or a picture.

use std::fmt;

use super::words::is_printable;

/// A text inside an element or an attribute's value: it stays text, whatever is in it. Line breaks stay, since titles
/// have lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_char(c)?,
                c if is_printable(c) => f.write_char(c)?,
                _ => f.write_char(' ')?,
            }
        }
        Ok(())
    }
}

//! What others said, as text that a log can hold.

/// The longest piece of somebody else's text in an error, characters.
const LONGEST: usize = 200;

/// Somebody else's bytes as one line that is not too long.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// An error with what caused it. Causes that the text before them has already said are left out.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    shown(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown(b"  not\r\nnow\x1b[31m\0, please "), "not now [31m , please");
        assert_eq!(shown(&[0xff, b'a']), "\u{fffd}a");
        let long = shown("ä".repeat(5_000).as_bytes());
        assert_eq!(long.chars().count(), LONGEST + 3);
    }
}

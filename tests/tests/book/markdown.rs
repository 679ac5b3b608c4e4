//! As much of Markdown as the checks want: blocks of code, links and headings.

/// A line, and whether it is code.
pub(crate) struct Line<'t> {
    pub(crate) text: &'t str,
    pub(crate) kind: Kind,
}

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prose,
    /// The line that opens a block of code.
    Opens,
    Code,
    /// The line that closes it.
    Closes,
}

/// The lines of a page.
pub(crate) fn lines(page: &str) -> impl Iterator<Item = Line<'_>> {
    let mut is_code = false;
    page.lines().map(move |text| {
        let kind = match (text.trim_start().starts_with("```"), is_code) {
            (true, false) => Kind::Opens,
            (true, true) => Kind::Closes,
            (false, true) => Kind::Code,
            (false, false) => Kind::Prose,
        };
        is_code = matches!(kind, Kind::Opens | Kind::Code);
        Line { text, kind }
    })
}

/// Where the links of a page lead.
pub(crate) fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for Line { text, .. } in lines(page).filter(|line| line.kind == Kind::Prose) {
        let text = without_code(text);
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

/// The anchors of a page's headings.
pub(crate) fn anchors(page: &str) -> Vec<String> {
    let prose = lines(page).filter(|line| line.kind == Kind::Prose);
    let headings =
        prose.filter_map(|line| line.text.starts_with('#').then(|| line.text.trim_start_matches('#').trim()));
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// A line without its inline code.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

//! What is wrong with a config file, and where: collected first, shown together.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Everything that is wrong with a config file, in the order of the file. Its `Display` is for a log; a terminal
/// gets [`Diagnostics::render`].
#[derive(Debug)]
pub struct Diagnostics {
    origin: PathBuf,
    source: String,
    problems: Vec<Diagnostic>,
}

/// One problem.
#[derive(Debug, Clone)]
pub(super) struct Diagnostic {
    message: String,
    /// Where, and what to write there; `None` for a problem of the file as a whole.
    place: Option<Place>,
    /// Other places that matter.
    related: Vec<Place>,
    note: Option<String>,
    hint: Option<String>,
}

#[derive(Debug, Clone)]
struct Place {
    span: Range<usize>,
    label: String,
}

impl Diagnostic {
    /// A problem at a place.
    pub(super) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { place: Some(Place { span, label: String::new() }), ..Self::of_file(message) }
    }

    /// A problem of the whole file.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, related: Vec::new(), note: None, hint: None }
    }

    /// Write this at the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(place) = &mut self.place {
            place.label = label.into();
        }
        self
    }

    /// Show another place too.
    pub(super) fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Place { span, label: label.into() });
        self
    }

    /// Facts behind the problem.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Collects problems while a file is read. Shared by everything that reads, hence the cell.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Diagnostic>>);

impl Problems {
    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Add a problem.
    pub(super) fn push(&self, problem: Diagnostic) {
        self.0.borrow_mut().push(problem);
    }

    /// `value` if there were no problems at all.
    pub(super) fn finish<T>(self, origin: &Path, source: &str, value: T) -> Result<T, Diagnostics> {
        let problems = self.0.into_inner();
        if problems.is_empty() { Ok(value) } else { Err(Diagnostics::new(origin, source, problems)) }
    }
}

impl Diagnostics {
    pub(super) fn new(origin: &Path, source: &str, mut problems: Vec<Diagnostic>) -> Self {
        debug_assert!(!problems.is_empty(), "a refusal has a reason");
        problems.sort_by_key(|problem| problem.place.as_ref().map_or(usize::MAX, |place| place.span.start));
        Self { origin: origin.to_owned(), source: source.to_owned(), problems }
    }

    /// How many problems there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// The text for a terminal: for each problem a line `error: ..`, the place in the file, and a line `hint: ..` if
    /// there is something to do. With escape sequences for colour; whoever prints it strips them where they do not
    /// belong.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(&Renderer::styled())
    }

    fn render_with(&self, renderer: &Renderer) -> String {
        let origin = self.origin.display().to_string();
        let shown: Vec<String> = self
            .problems
            .iter()
            .map(|problem| {
                let mut primary = Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
                match &problem.place {
                    None => primary = primary.element(Origin::path(origin.as_str())),
                    Some(place) => {
                        let annotation = |kind: AnnotationKind, place: &Place| {
                            let label = (!place.label.is_empty()).then(|| place.label.clone());
                            kind.span(within(&self.source, &place.span)).label(label)
                        };
                        primary = primary.element(
                            Snippet::source(self.source.as_str())
                                .path(origin.as_str())
                                .annotation(annotation(AnnotationKind::Primary, place))
                                .annotations(
                                    problem.related.iter().map(|place| annotation(AnnotationKind::Context, place)),
                                ),
                        );
                    }
                }
                if let Some(note) = &problem.note {
                    primary = primary.element(Level::NOTE.message(note.as_str()));
                }
                let mut shown = renderer.render(&[primary]);
                if let Some(hint) = &problem.hint {
                    // Rendered on its own, so that the line begins with the word.
                    let hint = Group::with_title(Level::HELP.with_name("hint").primary_title(hint.as_str()));
                    shown = format!("{shown}\n{}", renderer.render(&[hint]));
                }
                shown
            })
            .collect();
        shown.join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render_with(&Renderer::plain()))
    }
}

impl std::error::Error for Diagnostics {}

/// The span, kept inside the source and to its first line: a caret under a whole table says less than one at its head.
fn within(source: &str, span: &Range<usize>) -> Range<usize> {
    let start = span.start.min(source.len());
    let end = span.end.clamp(start, source.len());
    let first_line = source.get(start..end).and_then(|text| text.find('\n')).map_or(end, |length| start + length);
    start..first_line
}

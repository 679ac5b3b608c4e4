//! The languages beside Rust that this repository has plugins in.

/// Set to `required`, a language whose tools cannot be had fails the tests instead of being skipped.
const REQUIRED: &str = "TIDEGATE_TEST_LANGUAGES";

/// A language beside Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// On StarlingMonkey, by componentize-js.
    JavaScript,
    /// On CPython, by componentize-py.
    Python,
    /// By clang.
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::JavaScript, Self::Python, Self::C];

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        }
    }

    /// As in the names of sources.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::Python => "py",
            Self::C => "c",
        }
    }

    /// The name of a plugin that there is in each language: `visits-js`.
    #[must_use]
    pub fn of(self, plugin: &str) -> String {
        format!("{plugin}-{}", self.suffix())
    }
}

/// Whether a language must not be skipped by the tests: `TIDEGATE_TEST_LANGUAGES=required`.
#[must_use]
pub fn are_required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| value == "required")
}

//! What of a project's folder is its author's, and what commands and tools make of it.

use std::io;
use std::path::{Path, PathBuf};

use tidegate_toolchain::{javascript, python, rust};

use super::{Language, Project};

/// The config of the gateway of `tidegate plugin dev`, in the project's folder: paths in it mean the same as in
/// tidegate-plugin.toml.
pub(in crate::cli::plugin) const DEV_CONFIG: &str = ".tidegate-dev.toml";

/// Where components are, and what cargo builds, unless somebody says otherwise.
const TARGET: &str = "target";

/// What Python makes of modules that it imports, beside each.
const PYCACHE: &str = "__pycache__";

/// What versions are kept in. Written by nobody's build, but no source either.
const REPOSITORY: &str = ".git";

/// Written by cargo and npm in the course of a build, and kept with the sources nevertheless.
const LOCKS: [&str; 2] = ["Cargo.lock", "package-lock.json"];

impl Language {
    /// Where its source is, or the first of them.
    pub(in crate::cli::plugin) fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::JavaScript => "plugin.js",
            Self::Python => "plugin.py",
        }
    }

    /// What builds make in a project's folder, by name.
    fn made(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &[TARGET],
            Self::JavaScript => &[TARGET, javascript::PLACE],
            Self::Python => &[TARGET, python::PLACE, PYCACHE],
        }
    }

    /// A .gitignore with all that is made.
    pub(in crate::cli::plugin) fn ignored(self) -> String {
        let names = self.made().iter().chain([&DEV_CONFIG]);
        // Folders of Python's are anywhere, the others at the top.
        names.map(|&name| if name == PYCACHE { format!("{name}\n") } else { format!("/{name}\n") }).collect()
    }
}

/// What is not a source.
#[derive(Debug)]
pub(in crate::cli::plugin) struct Made {
    names: Vec<&'static str>,
    places: [PathBuf; 2],
}

impl Made {
    /// What is made of this project.
    ///
    /// # Errors
    /// When there is no working directory.
    pub(in crate::cli::plugin) fn of(project: &Project) -> io::Result<Self> {
        let names = project.language.made().iter().chain(&LOCKS).chain([&DEV_CONFIG, &REPOSITORY]).copied().collect();
        let places = [std::path::absolute(project.component())?, rust::target(&project.folder)?];
        Ok(Self { names, places })
    }

    /// Whether this is among it, which is named as in a folder with an absolute path.
    pub(in crate::cli::plugin) fn has(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        self.names.iter().any(|own| name == *own) || self.places.iter().any(|place| place == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builds_write_is_no_source_wherever_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = |path: &str| folder.path().join(path);
        let text = "lang = \"python\"\n[[plugin]]\nname = \"a\"\npath = \"dist/a.wasm\"\n";
        std::fs::write(own("tidegate-plugin.toml"), text).expect("written");
        let project = Project::open(folder.path()).unwrap_or_else(|failure| panic!("{}", failure.render()));
        let made = Made::of(&project).expect("there is a folder");
        for path in ["target", ".venv", "lib/__pycache__", "dist/a.wasm", ".tidegate-dev.toml", ".git"] {
            assert!(made.has(&own(path)), "{path}");
        }
        for path in ["plugin.py", "requirements.txt", "tidegate-plugin.toml", "wit/own.wit", "dist", "dist/b.py"] {
            assert!(!made.has(&own(path)), "{path}");
        }
    }

    #[test]
    fn a_repository_keeps_what_is_not_made() {
        assert_eq!(Language::Rust.ignored(), "/target\n/.tidegate-dev.toml\n");
        assert_eq!(Language::Python.ignored(), "/target\n/.venv\n__pycache__\n/.tidegate-dev.toml\n");
    }
}

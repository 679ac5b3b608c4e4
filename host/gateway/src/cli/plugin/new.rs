//! `tidegate plugin new`

mod sdk;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tidegate_toolchain::{javascript, python};

use super::project::{self, Language};
use crate::cli::{Failure, print};

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    the project is there
  2    the name is none for a plugin, the folder is taken, or it cannot be written

Examples:
  tidegate plugin new visits && cd visits && tidegate plugin test
  tidegate plugin new visits --lang python --dir plugins/visits";

/// Letters of a name.
const LONGEST_NAME: usize = 64;

/// Names that the compilers have a use of their own for, and those of packages that the project depends on.
const TAKEN: [&str; 60] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "log",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "tidegate-sdk",
    "tidegate-sdk-macros",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit-bindgen",
    "yield",
];

/// `tidegate plugin new`
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Its name: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    pub lang: Language,
    /// The folder to make, instead of one of the plugin's name
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Write the project.
pub(super) fn new(args: &NewArgs) -> Result<(), Failure> {
    check_name(&args.name)?;
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    check_free(&folder)?;
    for (path, text) in files(&args.name, args.lang)? {
        write(&folder.join(path), &text)?;
    }
    let (folder, language) = (folder.display(), args.lang.name());
    print(&format!("{folder}: a plugin in {language}. Build it and check it:\n  cd {folder} && tidegate plugin test\n"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let refused = |text: String, hint: &str| Err(Failure::usage(text, Some(hint)));
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let begins = name.chars().next().is_some_and(|letter| letter.is_ascii_lowercase());
    if !begins || !name.chars().all(is_plain) || name.ends_with('-') || name.len() > LONGEST_NAME {
        return refused(
            format!("`{}` is no name for a plugin", name.escape_debug()),
            "it has up to 64 lower-case letters, digits and hyphens, and begins with a letter: `rate-limit`",
        );
    }
    if TAKEN.contains(&name) {
        let hint = format!("take another: `my-{name}`, perhaps");
        return refused(format!("`{name}` means something else to the compiler"), &hint);
    }
    Ok(())
}

/// Nothing is ever overwritten: the folder is new, or empty.
fn check_free(folder: &Path) -> Result<(), Failure> {
    let taken =
        |text: String| Err(Failure::usage(text, Some("name another folder with `--dir`, or move this one away")));
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => taken(format!("{} is there already, and not empty", folder.display())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => taken(format!("{} cannot be a new folder: {error}", folder.display())),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).and_then(|()| fs::write(path, text)).map_err(|error| {
        let hint = "you must be allowed to write there, and the disk must have room";
        Failure::usage(format!("cannot write {}: {error}", path.display()), Some(hint))
    })
}

/// What a project consists of, by the path in it.
fn files(name: &str, language: Language) -> Result<Vec<(PathBuf, String)>, Failure> {
    let (limits, recycle) = match language {
        Language::Rust => ("", ""),
        // Each engine as it was measured: see docs/languages.md.
        Language::JavaScript => (
            "\n[plugin.limits]\nmemory = \"128MiB\"\ncpu = \"100ms\"\nwall = \"500ms\"\n",
            "recycle = { memory = \"96MiB\" }\n",
        ),
        Language::Python => (
            "\n[plugin.limits]\nmemory = \"64MiB\"\ncpu = \"100ms\"\nwall = \"500ms\"\n",
            "recycle = { memory = \"48MiB\" }\n",
        ),
    };
    let (tool, place) = match language {
        // cargo gets what it takes.
        Language::Rust => ("", ""),
        Language::JavaScript => (javascript::TOOL, javascript::PLACE),
        Language::Python => (python::TOOL, python::PLACE),
    };
    let filled = |template: &str| {
        let mut text = template.to_owned();
        for (key, value) in [
            ("name", name),
            ("lang", language.key()),
            ("language", language.name()),
            ("version", env!("CARGO_PKG_VERSION")),
            ("limits", limits),
            ("recycle", recycle),
            ("tool", tool),
            ("place", place),
            ("source", language.source()),
        ] {
            text = text.replace(&format!("{{{{{key}}}}}"), value);
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    };
    let mut files = vec![
        (PathBuf::from(project::FILE), filled(include_str!("../../../templates/tidegate-plugin.toml"))),
        (".gitignore".into(), language.ignored()),
    ];
    let readme = include_str!("../../../templates/script.md");
    match language {
        Language::Rust => {
            files.extend([
                ("Cargo.toml".into(), filled(include_str!("../../../templates/rust/Cargo.toml"))),
                (language.source().into(), filled(include_str!("../../../templates/rust/lib.rs"))),
                ("README.md".into(), filled(include_str!("../../../templates/rust/README.md"))),
                // Versions that were tested together; cargo removes what is not needed.
                ("Cargo.lock".into(), include_str!("../../../../../example-plugins/Cargo.lock").to_owned()),
            ]);
            files.extend(sdk::sdk()?);
        }
        Language::JavaScript => {
            files.extend([
                (language.source().into(), filled(include_str!("../../../templates/js/plugin.js"))),
                ("README.md".into(), filled(readme)),
            ]);
            files.extend(javascript::versions(name).map(|(file, text)| (file.into(), text)));
            files.extend(sdk::contract());
        }
        Language::Python => {
            files.extend([
                (language.source().into(), filled(include_str!("../../../templates/python/plugin.py"))),
                ("README.md".into(), filled(readme)),
            ]);
            let (file, text) = python::versions();
            files.push((file.into(), text));
            files.extend(sdk::contract());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates_that_compile() {
        for good in ["visits", "rate-limit", "a", "oauth2", "my-plugin-2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "Visits", "2fast", "-a", "a-", "a_b", "a b", "../a", "a/b", "ü", "fn", "std", "trait", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_blank_of_a_template_is_left() {
        for language in [Language::Rust, Language::JavaScript, Language::Python] {
            let own = files("visits", language).expect("they are in this program");
            let left = own.iter().find(|(path, text)| !path.starts_with("sdk") && text.contains("{{"));
            assert!(left.is_none(), "{left:?}");
        }
    }
}

//! Plugins and guests in other languages than Rust: their tools, got from where this machine can get them into
//! target/languages, and the components that come out.
//!
//! A component is built again when something that goes into it has changed: its source, the contract, the tools' versions.
//! Where the tools of a language cannot be had, its components are not left lying about in an old version.

use crate::step;
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_toolchain::c::{C, Contract};
use tidegate_toolchain::javascript::{self, JavaScript};
use tidegate_toolchain::python::{self, Python};
use tidegate_toolchain::{Language, are_required};

/// The world that all of them are built for.
const WORLD: &str = "stateful-plugin";

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// With StarlingMonkey; needs Node.js and npm
    Js,
    /// With componentize-py; needs Python 3.10 or later
    Python,
    /// With clang; needs Debian's packages
    C,
    /// Each of them
    All,
}

/// Its folder under example-plugins.
fn folder(language: Language) -> PathBuf {
    step::root().join("example-plugins").join(match language {
        Language::JavaScript => "javascript",
        Language::Python => "python",
        Language::C => "c",
    })
}

/// The files that say which versions of its tools are wanted, where they are not in this program.
fn versions(language: Language) -> Vec<(&'static str, String)> {
    match language {
        Language::JavaScript => javascript::versions("tidegate-languages").into(),
        Language::Python => vec![python::versions()],
        Language::C => Vec::new(),
    }
}

/// The example, and the tests' guest that misbehaves: from which source to which component.
fn components(language: Language) -> [Component; 2] {
    let root = step::root();
    [("visits", folder(language), "plugins"), ("hostile", root.join("tests/guests/languages"), "guests")].map(
        |(name, folder, output)| Component {
            source: folder.join(name).with_extension(language.suffix()),
            output: root.join("target").join(output).join(language.of(name)).with_extension("wasm"),
        },
    )
}

struct Component {
    source: PathBuf,
    output: PathBuf,
}

/// Tools that are ready: how to call them, from a source to a component.
type Tools = Box<dyn Fn(&Path, &Path) -> Command>;

/// Gets the tools of a language.
fn tools(language: Language) -> Result<Tools> {
    let folder = place(language.suffix())?;
    for (file, text) in versions(language) {
        let file = folder.join(file);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(match language {
        Language::JavaScript => {
            let tools = JavaScript::prepare(&folder, &step::run)?;
            Box::new(move |source, output| tools.componentize(source, &wit(), WORLD, output))
        }
        Language::Python => {
            let tools = Python::prepare(&folder, &step::run)?;
            Box::new(move |source, output| tools.componentize(source, &wit(), WORLD, output))
        }
        Language::C => {
            let generator = self::folder(language).join("bindgen");
            let contract = Contract { generator: &generator, wit: &wit(), world: WORLD };
            let tools = C::prepare(contract, &folder, &|line| eprintln!("==> {line}"), &step::run)?;
            Box::new(move |source, output| tools.compile(source, output))
        }
    })
}

/// Whether a file is a component of another language, which the build of the Rust plugins leaves alone.
pub(crate) fn made(path: &Path) -> bool {
    Language::ALL.into_iter().flat_map(components).any(|component| component.output == path)
}

/// Builds what is wanted; an error if any of it cannot be built.
pub(crate) fn build(wanted: Wanted) -> Result<()> {
    let languages = match wanted {
        Wanted::Js => vec![Language::JavaScript],
        Wanted::Python => vec![Language::Python],
        Wanted::C => vec![Language::C],
        Wanted::All => Language::ALL.to_vec(),
    };
    let mut lacking = Vec::new();
    for language in languages {
        if let Err(why) = build_language(language)? {
            lacking.push(format!("{}: {why:#}", language.name()).replace('\n', "\n  "));
        }
    }
    if !lacking.is_empty() {
        bail!("tools that cannot be had here\n  {}", lacking.join("\n  "));
    }
    Ok(())
}

/// Builds them for the tests. A language whose tools cannot be had is skipped, which is said.
pub(crate) fn build_for_tests() -> Result<()> {
    for language in Language::ALL {
        if let Err(why) = build_language(language)? {
            if are_required() {
                bail!("{} is required, and its tools cannot be had: {why:#}", language.name());
            }
            eprintln!("skipped: the tests of plugins in {}: {why:#}", language.name());
        }
    }
    Ok(())
}

/// Builds the components of a language. The inner error says why its tools cannot be had.
fn build_language(language: Language) -> Result<Result<()>> {
    let tools = match tools(language) {
        Ok(tools) => tools,
        Err(why) => {
            for component in components(language) {
                let _ = fs::remove_file(&component.output);
            }
            return Ok(Err(why));
        }
    };
    for Component { source, output } in components(language) {
        let folder = output.parent().unwrap_or(&output);
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut command = tools(&source, &output);
        let stamp = place("stamps")?.join(file_name(&output));
        let now = inputs(language, &source, &command)?;
        let is_current = output.is_file() && fs::read_to_string(&stamp).is_ok_and(|then| then == now);
        if !is_current {
            // A build that fails halfway is no build.
            let _ = fs::remove_file(&stamp);
            step::run(&format!("{} from {}", file_name(&output), file_name(&source)), &mut command)?;
            fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        let size = fs::metadata(&output).with_context(|| format!("there is no {}", output.display()))?.len();
        eprintln!("    {} ({} KB)", output.strip_prefix(step::root()).unwrap_or(&output).display(), size / 1024);
    }
    Ok(Ok(()))
}

/// A folder under target/languages.
fn place(name: &str) -> Result<PathBuf> {
    let folder = step::root().join("target/languages").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A digest of what goes into a component: the files, the versions of the tools, and how they are called.
fn inputs(language: Language, source: &Path, command: &Command) -> Result<String> {
    let mut files = vec![source.to_owned()];
    collect_files(&wit(), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hasher);
    }
    versions(language).hash(&mut hasher);
    format!("{command:?}").hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The contract.
fn wit() -> PathBuf {
    step::root().join("wit")
}

//! Plugins and guests in other languages than Rust: their tools, got from where this machine can get them into
//! target/languages, and the components that come out.
//!
//! A component is built again when something that goes into it has changed: its source, the contract, the tools' versions.
//! Where the tools of a language cannot be had, its components are not left lying about in an old version.

mod c;
mod javascript;
mod python;

use crate::step;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set to `required`, a language whose tools cannot be had fails the tests instead of being skipped. The tests read it, too.
const REQUIRED: &str = "TIDEGATE_TEST_LANGUAGES";

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    JavaScript,
    Python,
    C,
}

impl Language {
    const ALL: [Self; 3] = [Self::JavaScript, Self::Python, Self::C];

    fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        }
    }

    /// As in the names of files.
    fn suffix(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::Python => "py",
            Self::C => "c",
        }
    }

    /// Its folder under example-plugins.
    fn folder(self) -> PathBuf {
        step::root().join("example-plugins").join(match self {
            Self::JavaScript => "javascript",
            Self::Python => "python",
            Self::C => "c",
        })
    }

    /// The file with the versions of its tools, where they are not in this program.
    fn pins(self) -> Option<PathBuf> {
        match self {
            Self::JavaScript => Some(self.folder().join("package-lock.json")),
            Self::Python => Some(self.folder().join("requirements.txt")),
            Self::C => None,
        }
    }

    /// The example, and the tests' guest that misbehaves: from which source to which component.
    fn components(self) -> [Component; 2] {
        let (root, suffix) = (step::root(), self.suffix());
        [("visits", self.folder(), "plugins"), ("hostile", root.join("tests/guests/languages"), "guests")].map(
            |(name, folder, output)| Component {
                source: folder.join(name).with_extension(suffix),
                output: root.join("target").join(output).join(format!("{name}-{suffix}.wasm")),
            },
        )
    }
}

struct Component {
    source: PathBuf,
    output: PathBuf,
}

/// Tools that are ready.
trait Tools {
    /// How to call them, which is part of what goes into a component.
    fn commands(&self, source: &Path, output: &Path) -> Result<Vec<Command>>;
}

/// Whether a file is a component of another language, which the build of the Rust plugins leaves alone.
pub(crate) fn made(path: &Path) -> bool {
    Language::ALL.into_iter().flat_map(Language::components).any(|component| component.output == path)
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
            if std::env::var_os(REQUIRED).is_some_and(|value| value == "required") {
                bail!("{} is required, and its tools cannot be had: {why:#}", language.name());
            }
            eprintln!("skipped: the tests of plugins in {}: {why:#}", language.name());
        }
    }
    Ok(())
}

/// Builds the components of a language. The inner error says why its tools cannot be had.
fn build_language(language: Language) -> Result<Result<()>> {
    let tools: Result<Box<dyn Tools>> = match language {
        Language::JavaScript => javascript::prepare(&language.folder()).map(|tools| Box::new(tools) as Box<_>),
        Language::Python => python::prepare(&language.folder()).map(|tools| Box::new(tools) as Box<_>),
        Language::C => c::prepare().map(|tools| Box::new(tools) as Box<_>),
    };
    let tools = match tools {
        Ok(tools) => tools,
        Err(why) => {
            for component in language.components() {
                let _ = fs::remove_file(&component.output);
            }
            return Ok(Err(why));
        }
    };
    for Component { source, output } in language.components() {
        let commands = tools.commands(&source, &output)?;
        let stamp = place("stamps")?.join(file_name(&output));
        let now = inputs(language, &source, &commands)?;
        let is_current = output.is_file() && fs::read_to_string(&stamp).is_ok_and(|then| then == now);
        if !is_current {
            // A build that fails halfway is no build.
            let _ = fs::remove_file(&stamp);
            for mut command in commands {
                step::run(&format!("{} from {}", file_name(&output), file_name(&source)), &mut command)?;
            }
            fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        let size = fs::metadata(&output).with_context(|| format!("there is no {}", output.display()))?.len();
        eprintln!("    {} ({} KB)", output.strip_prefix(step::root()).unwrap_or(&output).display(), size / 1024);
    }
    Ok(Ok(()))
}

/// Says after an error what would mend it.
fn hinted(result: Result<()>, hint: &str) -> Result<()> {
    result.map_err(|error| anyhow!("{error:#}\nhint: {hint}"))
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

/// A digest of what goes into a component: the files and the commands, and so the versions of the tools.
fn inputs(language: Language, source: &Path, commands: &[Command]) -> Result<String> {
    let mut files = vec![source.to_owned()];
    files.extend(language.pins());
    collect_files(&wit(), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hasher);
    }
    for command in commands {
        format!("{command:?}").hash(&mut hasher);
    }
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

/// What a folder of tools was made from: tools are got again when that changes, or when getting them did not end well.
struct Installed {
    marker: PathBuf,
    from: Vec<u8>,
}

impl Installed {
    fn in_folder(folder: &Path, from: &Path) -> Result<Self> {
        let from = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(Self { marker: folder.join("installed-from"), from })
    }

    fn is_current(&self) -> bool {
        fs::read(&self.marker).is_ok_and(|installed| installed == self.from)
    }

    fn done(&self) -> Result<()> {
        fs::write(&self.marker, &self.from).with_context(|| format!("cannot write {}", self.marker.display()))
    }
}

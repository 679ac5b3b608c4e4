//! A plugin's project: its folder, and what its tidegate-plugin.toml says.
//!
//! The file is a piece of a gateway's config, read by the same reader, with the language on top. What a gateway needs beside
//! the plugin is added after it, so that every line of the file keeps its number in a complaint.

mod sources;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use toml::de::{DeTable, DeValue};

pub(super) use self::sources::{DEV_CONFIG, Made};
use crate::cli::Failure;
use crate::config::{self, Config, nearest};

/// The name of the file.
pub(super) const FILE: &str = "tidegate-plugin.toml";

/// Bytes of the file.
const LONGEST_FILE: u64 = 1 << 20;

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust, with the SDK
    Rust,
    /// JavaScript, with componentize-js
    #[value(name = "js")]
    JavaScript,
    /// Python, with componentize-py
    Python,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// As in the file and on the command line.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }
}

/// What a gateway is to have that the file does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Surroundings<'a> {
    /// Where it listens; a free port of this machine without it.
    pub(super) listen: Option<SocketAddr>,
    /// Where requests go. Without it, nowhere: nothing is to be served.
    pub(super) upstream: Option<&'a str>,
}

/// A project that makes sense.
#[derive(Debug)]
pub(super) struct Project {
    /// Its folder, as it was named.
    pub(super) folder: PathBuf,
    /// What it is written in.
    pub(super) language: Language,
    /// The plugin, as a gateway would have it.
    pub(super) plugin: config::Plugin,
    /// The rest of what a gateway would have.
    pub(super) config: Config,
    /// The file without its language: the beginning of a gateway's config.
    source: String,
}

impl Project {
    /// The project in this folder.
    ///
    /// # Errors
    /// When there is none, or its file is wrong: everything that is.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join(FILE);
        let text = read(&file)?;
        let (language, source) = language(&file, text)?;
        let whole = whole(&source, Surroundings::default())?;
        let mut config = Config::parse(&whole, &file)?;
        let mut plugins = std::mem::take(&mut config.plugins).into_iter();
        match (plugins.next(), plugins.next()) {
            (Some(mut plugin), None) => {
                // For people: in this folder, its path is the one that the file has.
                if let Ok(path) = plugin.path.strip_prefix(".") {
                    plugin.path = path.to_owned();
                }
                Ok(Self { folder: folder.to_owned(), language, plugin, config, source })
            }
            _ => {
                let text = format!("{} has to have one [[plugin]]", file.display());
                Err(Failure::usage(text, Some("the plugin of this folder, and no other")))
            }
        }
    }

    /// Where the component is, or will be.
    pub(super) fn component(&self) -> &Path {
        &self.plugin.path
    }

    /// Whether the file says where requests go.
    pub(super) fn has_upstream(&self) -> bool {
        self.source.parse::<toml::Table>().is_ok_and(|file| file.contains_key("upstream"))
    }

    /// A whole config of a gateway, for a file in the project's folder.
    pub(super) fn gateway(&self, surroundings: Surroundings<'_>) -> Result<String, Failure> {
        whole(&self.source, surroundings)
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |text: String| {
        let hint = "`tidegate plugin new NAME` makes a project; the other commands are for its folder";
        Failure::usage(format!("{}: {text}", file.display()), Some(hint))
    };
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > LONGEST_FILE {
        return Err(unreadable(format!("it is longer than {}", config::HumanSize(LONGEST_FILE))));
    }
    std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}

/// The language, and the text with blanks in its place.
fn language(file: &Path, text: String) -> Result<(Language, String), Failure> {
    let names = Language::ALL.map(Language::key);
    let hint = || Some(format!("write `lang = \"rust\"` at its beginning; there are {}", names.join(", ")));
    let Ok(document) = DeTable::parse(&text) else {
        // The config's reader says what is wrong, and where.
        Config::parse(&text, file)?;
        return Err(Failure::usage(format!("{} is not valid TOML", file.display()), hint()));
    };
    let Some((key, value)) = document.get_ref().get_key_value("lang") else {
        return Err(Failure::usage(format!("{} does not say what the plugin is written in", file.display()), hint()));
    };
    let said = match value.get_ref() {
        DeValue::String(said) => said.to_string(),
        _ => String::new(),
    };
    let Some(language) = Language::ALL.into_iter().find(|language| language.key() == said) else {
        let hint = nearest(&said, &names).map(|near| format!("did you mean `{near}`?")).or_else(hint);
        return Err(Failure::usage(format!("{}: `{said}` is no language for plugins", file.display()), hint));
    };
    let range = key.span().start..value.span().end;
    let blanked =
        text.bytes().enumerate().map(|(at, byte)| if range.contains(&at) { b' ' } else { byte }).collect::<Vec<_>>();
    // Whole values are replaced by ASCII, so it stays UTF-8.
    Ok((language, String::from_utf8_lossy(&blanked).into_owned()))
}

/// The text, and after it what a gateway needs that is not in it.
fn whole(source: &str, surroundings: Surroundings<'_>) -> Result<String, Failure> {
    let file: toml::Table = source.parse().unwrap_or_default();
    let mut text = format!("{}\n", source.trim_end());
    let twice = |what: &str, option: &str| {
        let text = format!("{FILE} has {what} of its own");
        Failure::usage(text, Some(format!("leave `{option}` out, or {what} of the file")))
    };
    let first_name = |table: &str| -> Option<&str> { file.get(table)?.as_array()?.first()?.get("name")?.as_str() };
    match (file.contains_key("server"), surroundings.listen) {
        (true, Some(_)) => return Err(twice("[server]", "--listen")),
        (true, None) => {}
        (false, listen) => {
            let listen = listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
            let _ = write!(text, "\n[server]\nlisten = \"{listen}\"\n");
        }
    }
    if !file.contains_key("admin") {
        text.push_str("\n[admin]\nlisten = \"127.0.0.1:0\"\n");
    }
    match (file.contains_key("upstream"), surroundings.upstream) {
        (true, Some(_)) => return Err(twice("an [[upstream]]", "--upstream")),
        (true, None) => {}
        (false, target) => {
            let target = toml::Value::String(target.unwrap_or("http://127.0.0.1:9").to_owned());
            let _ = write!(text, "\n[[upstream]]\nname = \"main\"\ntargets = [{target}]\n");
        }
    }
    if !file.contains_key("route") {
        let upstream = toml::Value::String(first_name("upstream").unwrap_or("main").to_owned());
        // Without a plugin, the route has none: that there is none is told of in words of its own.
        let plugin =
            first_name("plugin").map(|name| toml::Value::String(name.to_owned()).to_string()).unwrap_or_default();
        let _ = write!(text, "\n[[route]]\npath = \"/\"\nupstream = {upstream}\nplugins = [{plugin}]\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<Project, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), text).expect("written");
        Project::open(folder.path()).map_err(|failure| {
            let text = anstream::adapter::strip_str(&failure.render()).to_string();
            text.replace(&folder.path().display().to_string(), "FOLDER")
        })
    }

    const PLUGIN: &str = "lang = \"rust\"\n[[plugin]]\nname = \"a\"\npath = \"target/a.wasm\"\n";

    #[test]
    fn a_project_is_a_language_and_a_piece_of_a_config() {
        let project = open(PLUGIN).expect("fine");
        assert_eq!((project.language, &*project.plugin.name), (Language::Rust, "a"));
        assert!(project.component().ends_with("target/a.wasm"));
        let with_server = open(&format!("{PLUGIN}[server]\nlisten = \"127.0.0.1:8080\"\n")).expect("fine");
        let gateway = |listen| with_server.gateway(Surroundings { listen, upstream: None });
        assert!(gateway(None).is_ok_and(|text| text.matches("[server]").count() == 1));
        assert!(gateway(Some(([127, 0, 0, 1], 1).into())).is_err());
    }

    #[test]
    fn what_is_wrong_is_shown_where_it_stands() {
        let wrong = open(&format!("{PLUGIN}[plugin.limits]\nmemry = \"1MiB\"\n")).expect_err("a slip");
        assert!(wrong.contains("tidegate-plugin.toml:6:1") && wrong.contains("memory"), "{wrong}");
        let wrong = open("lang = \"rust\n").expect_err("no TOML");
        assert!(wrong.contains("the file is not valid TOML"), "{wrong}");
    }

    #[test]
    fn the_language_has_to_be_one_that_there_is() {
        let wrong = open(&PLUGIN.replace("rust", "rsut")).expect_err("a slip");
        assert!(wrong.contains("hint: did you mean `rust`?"), "{wrong}");
        let wrong = open(&PLUGIN.replace("lang", "#")).expect_err("it is missing");
        assert!(wrong.contains("hint: write `lang = \"rust\"`"), "{wrong}");
        assert!(open(&PLUGIN.replace("\"rust\"", "7")).is_err());
        assert!(open("lang = \"js\"\n").expect_err("no plugin").contains("one [[plugin]]"));
    }
}

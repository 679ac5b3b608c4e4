//! The config file of a gateway under test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::components;

/// Keys and values of a table, as they stand in the file.
#[derive(Clone, Debug, Default)]
struct Lines(BTreeMap<String, String>);

impl Lines {
    fn of<const N: usize>(lines: [&str; N]) -> Self {
        let mut table = Self::default();
        for line in lines {
            table.set(line);
        }
        table
    }

    /// A later line replaces an earlier one with the same key.
    fn set(&mut self, line: &str) {
        let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line:?} is not `key = value`"));
        self.0.insert(key.to_owned(), value.to_owned());
    }

    fn write(&self, title: &str, text: &mut String) {
        let _ = writeln!(text, "{title}");
        for (key, value) in &self.0 {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
}

/// A config file. Listens on free ports, logs in JSON, shares compiled plugins with other tests; its times are too
/// long to be met by chance. Lines are TOML: `"grace = '2s'"`.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    server: Lines,
    admin: Lines,
    reload: Lines,
    log: Lines,
    shutdown: Lines,
    upstreams: Vec<(String, SocketAddr)>,
    plugins: Vec<PluginTable>,
    routes: Vec<(String, Vec<String>)>,
    cache: Option<PathBuf>,
    sections: String,
}

impl ConfigFile {
    /// With one upstream, which is named `origin`, and without a route.
    #[must_use]
    pub fn before(origin: SocketAddr) -> Self {
        Self {
            server: Lines::of(["listen = '127.0.0.1:0'"]),
            admin: Lines::of(["listen = '127.0.0.1:0'"]),
            reload: Lines::default(),
            log: Lines::of(["format = 'json'"]),
            shutdown: Lines::of(["grace = '20s'", "drain = '10s'", "flush = '1s'"]),
            upstreams: vec![("origin".to_owned(), origin)],
            plugins: Vec::new(),
            routes: Vec::new(),
            cache: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-cache")),
            sections: String::new(),
        }
    }

    /// A line of `[server]`.
    #[must_use]
    pub fn server(mut self, line: &str) -> Self {
        self.server.set(line);
        self
    }

    /// A line of `[admin]`.
    #[must_use]
    pub fn admin(mut self, line: &str) -> Self {
        self.admin.set(line);
        self
    }

    /// A line of `[reload]`.
    #[must_use]
    pub fn reload(mut self, line: &str) -> Self {
        self.reload.set(line);
        self
    }

    /// A line of `[log]`.
    #[must_use]
    pub fn log(mut self, line: &str) -> Self {
        self.log.set(line);
        self
    }

    /// A line of `[shutdown]`.
    #[must_use]
    pub fn shutdown(mut self, line: &str) -> Self {
        self.shutdown.set(line);
        self
    }

    /// More tables, as they stand in the file: `"[outbox]\npath = 'outbox.db'"`.
    #[must_use]
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self.sections.push('\n');
        self
    }

    /// Plugins are compiled anew.
    #[must_use]
    pub fn without_cache(mut self) -> Self {
        self.cache = None;
        self
    }

    /// One more upstream.
    #[must_use]
    pub fn upstream(mut self, name: &str, address: SocketAddr) -> Self {
        self.upstreams.push((name.to_owned(), address));
        self
    }

    /// One more plugin.
    #[must_use]
    pub fn plugin(mut self, plugin: PluginTable) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// A route through these plugins to `origin`.
    #[must_use]
    pub fn route(mut self, path: &str, plugins: &[&str]) -> Self {
        self.routes.push((path.to_owned(), plugins.iter().map(|name| (*name).to_owned()).collect()));
        self
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        let cache = self.cache.as_ref().map_or_else(|| "false".to_owned(), |folder| format!("'{}'", folder.display()));
        let mut text = format!("cache = {cache}\n");
        self.server.write("[server]", &mut text);
        self.admin.write("[admin]", &mut text);
        self.reload.write("[reload]", &mut text);
        self.log.write("[log]", &mut text);
        self.shutdown.write("[shutdown]", &mut text);
        for (name, address) in &self.upstreams {
            let _ = writeln!(text, "[[upstream]]\nname = '{name}'\ntargets = ['http://{address}']");
        }
        for plugin in &self.plugins {
            plugin.write(&mut text);
        }
        for (path, plugins) in &self.routes {
            let _ = writeln!(text, "[[route]]\npath = '{path}'\nupstream = 'origin'\nplugins = {plugins:?}");
        }
        text.push_str(&self.sections);
        text
    }

    /// The same in a file of its own.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn written(&self, folder: &Path) -> PathBuf {
        let file = folder.join("tidegate.toml");
        std::fs::write(&file, self.text()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file
    }
}

/// A `[[plugin]]`: one instance, under limits that are not met by chance, but for `shutdown`.
#[derive(Clone, Debug)]
pub struct PluginTable {
    name: String,
    path: PathBuf,
    table: Lines,
    config: Lines,
    grants: Lines,
    limits: Lines,
}

impl PluginTable {
    /// An example plugin under its own name.
    #[must_use]
    pub fn example(name: &str) -> Self {
        Self::file(name, components::plugin(name))
    }

    /// A test guest under its own name.
    #[must_use]
    pub fn guest(name: &str) -> Self {
        Self::file(name, components::guest(name))
    }

    /// The guest that does what it is told, by the request where its config says `from-header`.
    #[must_use]
    pub fn hostile(name: &str) -> Self {
        Self::file(name, components::guest("hostile"))
    }

    /// Whatever is at this path.
    #[must_use]
    pub fn file(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            table: Lines::of(["instances = 1"]),
            config: Lines::default(),
            grants: Lines::default(),
            limits: Lines::of(["configure = '20s'", "cpu = '10s'", "wall = '20s'", "shutdown = '5s'"]),
        }
    }

    /// Another name than its file's.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// A line of `[[plugin]]`.
    #[must_use]
    pub fn set(mut self, line: &str) -> Self {
        self.table.set(line);
        self
    }

    /// A line of `[plugin.config]`.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.config.set(line);
        self
    }

    /// A line of `[plugin.grants]`.
    #[must_use]
    pub fn grant(mut self, line: &str) -> Self {
        self.grants.set(line);
        self
    }

    /// A line of `[plugin.limits]`.
    #[must_use]
    pub fn limit(mut self, line: &str) -> Self {
        self.limits.set(line);
        self
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "[[plugin]]\nname = '{}'\npath = '{}'", self.name, self.path.display());
        self.table.write("", text);
        if !self.config.0.is_empty() {
            self.config.write("[plugin.config]", text);
        }
        self.grants.write("[plugin.grants]", text);
        self.limits.write("[plugin.limits]", text);
    }
}

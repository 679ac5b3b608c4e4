//! From the plugins of a configuration to loaded plugins: reads their files, checks their digests, has the runtime
//! compile and configure them, all side by side. `tidegate check`, `tidegate run` and a reload load in the same way.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tidegate_runtime::environment::Environment;
use tidegate_runtime::grants::Values;
use tidegate_runtime::{LoadError, MAX_COMPONENT, Plugin, PluginSpec, Runtime, RuntimeConfig, StopReason, Tally};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::capabilities::Capabilities;
use crate::config::{self, Config};
use crate::secrets::{self, SecretProblem};
use crate::stop::log::StopLog;

/// How often running guests are looked at. A stop ends within its budget and one tick.
const TICK: Duration = Duration::from_millis(1);

/// The runtime that the plugins of this configuration need, and once more as much for a reload.
#[must_use]
pub fn runtime_config(config: &Config) -> RuntimeConfig {
    let slots = slots(config);
    RuntimeConfig { slots: slots * 2, cache: config.cache.clone(), environment: Environment::real(TICK) }
}

/// What the plugins of this configuration reserve together.
#[must_use]
pub fn slots(config: &Config) -> usize {
    config.plugins.iter().map(|plugin| Runtime::slots(plugin.instances)).sum()
}

/// A plugin that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{plugin}` ({}): {error}", path.display())]
pub struct PluginProblem {
    /// Its name in the configuration.
    pub plugin: Arc<str>,
    /// Its file.
    pub path: PathBuf,
    /// What is wrong.
    pub error: PluginError,
}

/// Why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not the one the configuration asks for.
    #[error("the file has the digest sha256:{found}, but the config asks for sha256:{expected}")]
    Digest {
        /// `sha256` of the configuration.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// One of its secrets.
    #[error(transparent)]
    Secret(#[from] SecretProblem),
    /// The component.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// A component's file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot read the file: {0}")]
    Read(#[from] std::io::Error),
    /// Longer than any component the runtime compiles.
    #[error("the file is longer than {}", config::HumanSize(MAX_COMPONENT as u64))]
    TooLong,
}

impl PluginProblem {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match &self.error {
            PluginError::File(FileError::Read(_)) => None,
            PluginError::File(FileError::TooLong) => Some("is it a component?".to_owned()),
            PluginError::Digest { .. } => Some(
                "if the new file is meant, put its digest under `sha256`; if not, find out who replaced it".to_owned(),
            ),
            PluginError::Secret(problem) => problem.hint(),
            PluginError::Load(error) => error.hint(),
        }
    }
}

/// A plugin that has been loaded, for those who wait.
#[derive(Debug)]
pub struct Progress<'p> {
    /// Its name in the configuration.
    pub name: &'p str,
    /// From the beginning of the load, with everything that went on beside it.
    pub took: Duration,
}

/// For whom plugins are loaded.
#[derive(Debug, Clone)]
pub struct Loader {
    /// Where they run.
    pub runtime: Runtime,
    /// What they may be granted.
    pub capabilities: Arc<Capabilities>,
    /// Who hears of their stops.
    pub stops: Arc<StopLog>,
    /// The generation that loads them.
    pub generation: u64,
}

/// A plugin that is there already, and what it was loaded with.
#[derive(Debug, Clone)]
pub struct Before {
    /// The plugin.
    pub plugin: Plugin,
    /// Its table in the configuration.
    pub config: config::Plugin,
    /// Whether it serves, and has something to hand over.
    pub serves: bool,
}

/// A plugin of a configuration, ready to serve.
#[derive(Debug)]
pub struct Loaded<P = Plugin> {
    /// The plugin.
    pub plugin: P,
    /// Whether it was there before, unchanged, with its instances.
    pub kept: bool,
}

/// Load every plugin of the configuration, side by side; the result is in its order. One that is there before, with the
/// same component and configuration, is kept. `progress` hears of each as it is done.
///
/// Dropped halfway, everything that it has loaded goes with it; nothing of that has served.
///
/// # Errors
/// Every plugin that cannot be loaded, in the order of the configuration.
pub async fn load_all(
    config: &Config,
    loader: &Loader,
    before: &[Before],
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Vec<Loaded>, Vec<PluginProblem>> {
    let began = Instant::now();
    let mut loading = JoinSet::new();
    for (number, plugin) in config.plugins.iter().enumerate() {
        let (plugin, loader) = (plugin.clone(), loader.clone());
        let before = before.iter().find(|before| before.config.name == plugin.name).cloned();
        let span = tracing::info_span!("load", plugin = %plugin.name);
        loading.spawn(async move { (number, loader.load(&plugin, before).await) }.instrument(span));
    }
    let mut results = Vec::with_capacity(config.plugins.len());
    while let Some(joined) = loading.join_next().await {
        match joined {
            Ok((number, result)) => {
                if let Ok(Loaded { plugin, kept: false }) = &result {
                    progress(Progress { name: plugin.name(), took: began.elapsed() });
                }
                results.push((number, result));
            }
            // A panic in a load is a bug of ours, and goes on here; nobody cancels a load.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results.sort_by_key(|(number, _)| *number);
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    for ((_, result), spec) in results.into_iter().zip(&config.plugins) {
        match result {
            Ok(plugin) => loaded.push(plugin),
            Err(error) => problems.push(PluginProblem { plugin: spec.name.clone(), path: spec.path.clone(), error }),
        }
    }
    if problems.is_empty() {
        return Ok(loaded);
    }
    // Those that are fine have been configured in vain. They are told to go like any other.
    stop_fresh(&loaded).await;
    Err(problems)
}

/// Stop what has been loaded for a generation that does not come about.
pub async fn stop_fresh(loaded: &[Loaded]) {
    let fresh = loaded.iter().filter(|loaded| !loaded.kept);
    join_all(fresh.map(|loaded| loaded.plugin.stop(StopReason::Reload, loaded.plugin.longest_stop()))).await;
}

impl Loader {
    async fn load(&self, config: &config::Plugin, before: Option<Before>) -> Result<Loaded, PluginError> {
        let (path, grants) = (config.path.clone(), config.grants.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let component = read_component(&path)?;
            let digest = tidegate_runtime::digest(&component);
            Ok::<_, PluginError>((component, digest, values(grants)?))
        });
        let (component, digest, values) = match reading.await {
            Ok(read) => read?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let found = digest.strip_prefix("sha256:").unwrap_or(&digest);
        if let Some(expected) = &config.sha256
            && expected != found
        {
            return Err(PluginError::Digest { expected: expected.clone(), found: found.to_owned() });
        }
        let inherits = before.as_ref().is_some_and(|before| before.serves);
        let tally = match before {
            Some(Before { plugin, config: loaded_with, .. })
                if *plugin.digest() == digest
                    && same_plugin(&loaded_with, config)
                    // A secret that has been replaced makes another version.
                    && plugin.values() == values.as_deref() =>
            {
                return Ok(Loaded { plugin, kept: true });
            }
            Some(Before { plugin, .. }) => plugin.tally().clone(),
            None => Tally::default(),
        };
        let spec = PluginSpec {
            name: config.name.clone(),
            config: config.config.as_str().into(),
            instances: config.instances,
            recycle: config.recycle,
            isolation: config.isolation,
            grants: self.capabilities.grants(config, values),
            limits: config.limits,
            deferred: config.deferred,
            tick: config.tick,
            hand_over: config.hand_over,
            gives_up_at: config.quarantine,
            tally,
            on_stopped: self.stops.observer(self.generation),
            on_drained: self.stops.drain_observer(self.generation),
        };
        let plugin = self.runtime.load(spec, component).await?;
        if config.hand_over && !inherits {
            // There is nobody to take over from.
            plugin.open().await.map_err(LoadError::Configure)?;
        }
        Ok(Loaded { plugin, kept: false })
    }
}

/// The values that a plugin may ask for by name, secrets as they are now; `None` if it has been granted none.
fn values(grants: config::Grants) -> Result<Option<Arc<Values>>, SecretProblem> {
    if grants.config.is_empty() && grants.secrets.is_empty() {
        return Ok(None);
    }
    let secrets = secrets::read_all(&grants.secrets)?;
    Ok(Some(Arc::new(Values { config: grants.config, secrets })))
}

/// Whether a plugin that was loaded with one table would be the same if it were loaded with the other, the component
/// aside: everything but where the file is and what its failures mean for a request.
fn same_plugin(a: &config::Plugin, b: &config::Plugin) -> bool {
    let outside =
        config::Plugin { path: b.path.clone(), sha256: b.sha256.clone(), on_failure: b.on_failure, ..a.clone() };
    outside == *b
}

/// Read a component's file, no more of it than the runtime compiles.
///
/// # Errors
/// When the system refuses, or the file is longer.
pub fn read_component(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut component = Vec::new();
    std::fs::File::open(path)?.take(MAX_COMPONENT as u64 + 1).read_to_end(&mut component)?;
    if component.len() > MAX_COMPONENT { Err(FileError::TooLong) } else { Ok(component) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str =
        "[[upstream]]\nname = \"a\"\ntargets = [\"http://a:1\"]\n[[route]]\npath = \"/\"\nupstream = \"a\"\n";

    /// The problems of loading these plugin tables, from a folder with some files that are no plugins.
    async fn problems(tables: &str) -> Vec<(String, Option<String>)> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("empty.wasm"), "").expect("written");
        std::fs::write(folder.path().join("core.wasm"), b"\0asm\x01\0\0\0").expect("written");
        let source = format!("cache = false\n{SMALLEST}{tables}");
        let config = Config::parse(&source, &folder.path().join("tidegate.toml")).expect("the text is fine");
        let runtime = Runtime::new(runtime_config(&config)).expect("the engine starts");
        let capabilities = Capabilities::closed(&config);
        let loader = Loader { runtime, capabilities, stops: Arc::default(), generation: 1 };
        let problems = load_all(&config, &loader, &[], |_| {}).await.err().unwrap_or_default();
        let shown = |text: String| text.replace(&folder.path().display().to_string(), "FOLDER");
        problems.into_iter().map(|problem| (shown(problem.to_string()), problem.hint())).collect()
    }

    #[tokio::test]
    async fn every_plugin_that_cannot_be_loaded_is_named_in_order() {
        let zeros = "0".repeat(64);
        let problems = problems(&format!(
            "[[plugin]]\nname = \"missing\"\npath = \"missing.wasm\"\ninstances = 1\n\
             [[plugin]]\nname = \"swapped\"\npath = \"empty.wasm\"\nsha256 = \"{zeros}\"\ninstances = 1\n\
             [[plugin]]\nname = \"module\"\npath = \"core.wasm\"\ninstances = 1\n\
             [[plugin]]\nname = \"folder\"\npath = \".\"\ninstances = 1\n"
        ))
        .await;
        let [missing, swapped, module, folder] = &problems[..] else { panic!("four problems: {problems:?}") };
        assert!(missing.0.starts_with("plugin `missing` (FOLDER/missing.wasm): cannot read the file: No such file"));
        assert_eq!(
            swapped.0,
            format!(
                "plugin `swapped` (FOLDER/empty.wasm): the file has the digest \
                 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, \
                 but the config asks for sha256:{zeros}"
            )
        );
        assert!(swapped.1.is_some() && module.1.is_some());
        assert!(module.0.contains("a core WebAssembly module, not a component"), "{}", module.0);
        assert!(folder.0.contains("cannot read the file"), "{}", folder.0);
    }

    #[test]
    fn the_runtime_is_sized_for_the_plugins() {
        let sized = |tables: &str| {
            let config = Config::parse(&format!("{SMALLEST}{tables}"), Path::new("x")).expect("the text is fine");
            runtime_config(&config).slots
        };
        assert_eq!(sized(""), 0);
        assert_eq!(
            sized(
                "[[plugin]]\nname = \"a\"\npath = \"a\"\ninstances = 3\nlimits.memory = \"64MiB\"\n\
                 [[plugin]]\nname = \"b\"\npath = \"b\"\ninstances = { min = 1, max = 2 }\n"
            ),
            20
        );
    }
}

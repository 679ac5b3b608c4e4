//! From the plugins of a configuration to loaded plugins: reads their files, checks their digests, has the runtime
//! compile and configure them, all side by side. `tidegate check` and `tidegate run` load in the same way.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tidegate_runtime::environment::Environment;
use tidegate_runtime::{LoadError, MAX_COMPONENT, Plugin, PluginSpec, Runtime, RuntimeConfig, StopObserver, Tally};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::config::{self, Config};
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
fn slots(config: &Config) -> usize {
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
            PluginError::Load(error) => error.hint(),
        }
    }
}

/// A plugin that has been loaded, for those who wait.
#[derive(Debug)]
pub struct Loaded<'p> {
    /// Its name in the configuration.
    pub name: &'p str,
    /// From the beginning of the load, with everything that went on beside it.
    pub took: Duration,
}

/// Load every plugin of the configuration; the result is in its order. `progress` hears of each as it is done.
///
/// # Errors
/// Every plugin that cannot be loaded, in the order of the configuration.
pub async fn load_all(
    config: &Config,
    runtime: &Runtime,
    stops: &Arc<StopLog>,
    mut progress: impl FnMut(Loaded<'_>),
) -> Result<Vec<Plugin>, Vec<PluginProblem>> {
    let began = Instant::now();
    let mut loading = JoinSet::new();
    for (number, plugin) in config.plugins.iter().enumerate() {
        let (plugin, runtime) = (plugin.clone(), runtime.clone());
        let on_stopped = stops.observer(1);
        let span = tracing::info_span!("load", plugin = %plugin.name);
        loading.spawn(async move { (number, load(&plugin, &runtime, on_stopped).await) }.instrument(span));
    }
    let mut results = Vec::with_capacity(config.plugins.len());
    while let Some(joined) = loading.join_next().await {
        match joined {
            Ok((number, result)) => {
                if let Ok(plugin) = &result {
                    progress(Loaded { name: plugin.name(), took: began.elapsed() });
                }
                results.push((number, result));
            }
            // A panic in a load is a bug of ours, and goes on here; nobody cancels a load.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results.sort_by_key(|(number, _)| *number);
    let (mut plugins, mut problems) = (Vec::new(), Vec::new());
    for ((_, result), spec) in results.into_iter().zip(&config.plugins) {
        match result {
            Ok(plugin) => plugins.push(plugin),
            Err(error) => problems.push(PluginProblem { plugin: spec.name.clone(), path: spec.path.clone(), error }),
        }
    }
    if problems.is_empty() { Ok(plugins) } else { Err(problems) }
}

async fn load(plugin: &config::Plugin, runtime: &Runtime, on_stopped: StopObserver) -> Result<Plugin, PluginError> {
    let (path, sha256) = (plugin.path.clone(), plugin.sha256.clone());
    let reading = tokio::task::spawn_blocking(move || -> Result<Vec<u8>, PluginError> {
        let component = read_component(&path)?;
        if let Some(expected) = sha256 {
            check_digest(&component, expected)?;
        }
        Ok(component)
    });
    let component = match reading.await {
        Ok(read) => read?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let spec = PluginSpec {
        name: plugin.name.clone(),
        config: plugin.config.as_str().into(),
        instances: plugin.instances,
        recycle: plugin.recycle,
        isolation: plugin.isolation,
        limits: plugin.limits,
        gives_up_at: None,
        tally: Tally::default(),
        on_stopped,
    };
    Ok(runtime.load(spec, component).await?)
}

fn check_digest(component: &[u8], expected: String) -> Result<(), PluginError> {
    let found: String = Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected { Ok(()) } else { Err(PluginError::Digest { expected, found }) }
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
        let problems = load_all(&config, &runtime, &Arc::default(), |_| {}).await.err().unwrap_or_default();
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

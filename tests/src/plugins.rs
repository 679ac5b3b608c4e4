//! Plugins in a runtime of their own and in real time, for benchmarks, campaigns and the few tests that are about that. Tests
//! of what plugins do are on the harness (`setups`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Version};
use tidegate_runtime::environment::Environment;
use tidegate_runtime::{
    CallError, EndCause, Exchange, Instances, Isolation, Limits, LoadError, Plugin, PluginSpec, Recycle, RequestHead,
    ResponseHead, Runtime, RuntimeConfig, StopReason, StopRecord, Verdict,
};

use crate::components;

/// A runtime for `instances` instances, with the real clock and a tick of 1 ms.
///
/// # Panics
/// If the machine cannot run one.
#[must_use]
pub fn runtime(instances: usize) -> Runtime {
    let environment = Environment::real(Duration::from_millis(1));
    Runtime::new(RuntimeConfig { slots: 2 * instances, cache: Some(cache()), environment })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Test processes share what they compile.
fn cache() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-cache"))
}

/// A plugin to be loaded. The fields have defaults that suit a test: one warm instance, and the default limits but for the
/// time of a call and of a shutdown.
#[derive(Clone)]
pub struct Fixture {
    /// The component.
    pub file: PathBuf,
    /// Its config as JSON.
    pub config: String,
    /// How many.
    pub instances: usize,
    /// When they have served their time.
    pub recycle: Recycle,
    /// What state outlives a call.
    pub isolation: Isolation,
    /// Its budgets.
    pub limits: Limits,
    /// Whether it is held until it takes over or is opened.
    pub hand_over: bool,
}

impl Fixture {
    /// So much time has a call or a shutdown, unless a test is about that: no busy machine cuts one.
    pub const AMPLE: Duration = Duration::from_secs(60);

    /// A component with an empty config.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            config: "{}".into(),
            instances: 1,
            recycle: Recycle::default(),
            isolation: Isolation::Warm,
            limits: Limits { cpu: Self::AMPLE, wall: Self::AMPLE, shutdown: Self::AMPLE, ..Limits::default() },
            hand_over: false,
        }
    }

    /// The guest that misbehaves as the config says.
    #[must_use]
    pub fn hostile(config: &str) -> Self {
        Self { config: config.into(), ..Self::new(components::guest("hostile")) }
    }

    /// Load it.
    ///
    /// # Errors
    /// If the runtime refuses it.
    pub async fn load(&self, runtime: &Runtime) -> Result<Loaded, LoadError> {
        let records = Records::default();
        let heard = records.clone();
        let name = self.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let spec = PluginSpec {
            config: self.config.as_str().into(),
            instances: Instances::fixed(self.instances),
            recycle: self.recycle,
            isolation: self.isolation,
            limits: self.limits,
            hand_over: self.hand_over,
            on_stopped: Arc::new(move |record| heard.hear(record)),
            ..PluginSpec::new(name)
        };
        let plugin = runtime.load(spec, components::read(&self.file)).await?;
        Ok(Loaded { plugin, records })
    }
}

/// The records of a plugin's instances, in the order of their ends.
#[derive(Clone, Default)]
pub struct Records(Arc<Mutex<Vec<StopRecord>>>);

impl Records {
    fn lock(&self) -> MutexGuard<'_, Vec<StopRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, record: &StopRecord) {
        self.lock().push(record.clone());
    }

    /// Take those that there are.
    #[must_use]
    pub fn take(&self) -> Vec<StopRecord> {
        std::mem::take(&mut *self.lock())
    }
}

/// A plugin, and what has become of its instances.
#[derive(Clone)]
pub struct Loaded {
    /// The plugin.
    pub plugin: Plugin,
    /// Of its instances that have been stopped.
    pub records: Records,
}

impl std::ops::Deref for Loaded {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

/// `GET /path` with these header fields, and the upstreams `main` and `other`.
///
/// # Panics
/// If the fields are malformed.
#[must_use]
pub fn exchange(fields: &[(&'static str, &str)]) -> Box<Exchange> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap_or_else(|_| panic!("{value:?} is no field value")));
    }
    let request = RequestHead {
        id: "test-request".into(),
        method: Method::GET,
        scheme: Scheme::HTTP,
        authority: "example.test".into(),
        target: PathAndQuery::from_static("/path?query"),
        headers,
        version: Version::HTTP_11,
        client: ([192, 0, 2, 7], 50_412).into(),
    };
    Exchange::new(request, Arc::from([Arc::from("main"), Arc::from("other")]))
}

/// The same, with an empty `200 OK` from the upstream.
#[must_use]
pub fn answered(fields: &[(&'static str, &str)]) -> Box<Exchange> {
    let mut exchange = exchange(fields);
    exchange.response = Some(ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() });
    exchange
}

/// What `on-request` says of a request that asks the hostile guest to misbehave.
///
/// # Errors
/// As the call ended.
pub async fn misbehave(plugin: &Plugin, how: &str) -> Result<Verdict, EndCause> {
    let (_, result) = plugin.on_request(exchange(&[("x-misbehave", how)])).await;
    result.map_err(|CallError { cause, .. }| cause)
}

/// Stop a plugin and collect the records.
pub async fn stop(plugin: &Loaded, budget: Duration) -> Vec<StopRecord> {
    plugin.stop(StopReason::Terminate, budget).await;
    plugin.records.take()
}

//! What is to be tested, and what surrounds it.

mod grants;
mod load;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tidegate_runtime::{Instances, Isolation, Limits, PluginSpec, Recycle};

use crate::error::SetupError;
use crate::exchange::{Request, Response};
use crate::filter::{OnFailure, UpstreamScript};
use crate::world::{Asked, Reachable, Reply, World};

/// Midnight, 1 January 2026, UTC: when virtual time begins, unless a test says otherwise. Seconds since the Unix epoch.
const EPOCH: u64 = 1_767_225_600;

/// A plugin to be loaded, and what surrounds it: nothing is granted, everything else is as a gateway has it by default.
///
/// ```no_run
/// use tidegate_testing::{Request, Setup};
///
/// let mut plugin = Setup::new("target/plugins/stamp.wasm").config(&serde_json::json!({ "name": "x-stamp" })).load()?;
/// let answer = plugin.send(Request::get("/"));
/// assert_eq!(answer.status, 200);
/// # Ok::<(), tidegate_testing::SetupError>(())
/// ```
#[must_use = "it is loaded by `load`"]
pub struct Setup {
    component: Component,
    spec: PluginSpec,
    on_failure: OnFailure,
    world: World,
    buckets: Vec<(String, Option<Duration>)>,
    /// Whether it has every other bucket, too.
    any_bucket: bool,
    servers: Option<(Reachable, ServerScript)>,
    /// It is granted what it imports, and servers answer with this.
    as_imported: Option<Response>,
    upstream: UpstreamScript,
    upstreams: Vec<String>,
    pace: u64,
    seed: u64,
    epoch: Duration,
    cache: Option<PathBuf>,
    patience: Option<Instant>,
    pass: Pass,
}

/// How time passes for the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// With the fuel that it burns.
    Virtual,
    /// The same, and it is noted where it burns it.
    Sampled,
    /// As for everybody.
    Real,
}

pub(crate) type ServerScript = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

enum Component {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Component {
    /// What is in it, which is not there any more.
    fn take(&mut self) -> Result<Vec<u8>, SetupError> {
        match self {
            Self::Bytes(bytes) => Ok(std::mem::take(bytes)),
            Self::File(file) => std::fs::read(&*file)
                .map_err(|error| SetupError::File { file: std::mem::take(file), problem: error.to_string() }),
        }
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("plugin", &self.spec.name).finish_non_exhaustive()
    }
}

impl Setup {
    /// The component in this file; the plugin has the file's name.
    pub fn new(file: impl AsRef<Path>) -> Self {
        let file = file.as_ref();
        let name = file.file_stem().map_or_else(|| "plugin".into(), |name| name.to_string_lossy().into_owned());
        Self::of(Component::File(file.to_owned()), name)
    }

    /// This component, under this name.
    pub fn component(name: &str, bytes: Vec<u8>) -> Self {
        Self::of(Component::Bytes(bytes), name.to_owned())
    }

    fn of(component: Component, name: String) -> Self {
        Self {
            component,
            spec: PluginSpec::new(name),
            on_failure: OnFailure::Closed,
            world: World::default(),
            buckets: Vec::new(),
            any_bucket: false,
            servers: None,
            as_imported: None,
            upstream: Arc::new(|_| Reply::Now(Response::new(200))),
            upstreams: vec!["main".to_owned()],
            pace: 1,
            seed: 1,
            epoch: Duration::from_secs(EPOCH),
            cache: load::default_cache(),
            patience: None,
            pass: Pass::Virtual,
        }
    }

    /// The plugin's config: what `[plugin.config]` is in the gateway's.
    ///
    /// # Panics
    /// If it cannot be written as JSON.
    pub fn config(mut self, config: &impl Serialize) -> Self {
        let config = serde_json::to_string(config).unwrap_or_else(|error| panic!("the config is no JSON: {error}"));
        self.spec.config = config.into();
        self
    }

    /// Change its limits: what `[plugin.limits]` is.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.spec.limits);
        self
    }

    /// How many instances it has; one without this.
    pub fn instances(mut self, instances: usize) -> Self {
        self.spec.instances = Instances::fixed(instances);
        self
    }

    /// So many instances, and up to `max` while calls would wait; those go again when nobody has needed them for so long.
    pub fn instances_between(mut self, min: usize, max: usize, idle: Duration) -> Self {
        self.spec.instances = Instances { min, max, idle };
        self
    }

    /// Its state outlives its versions: a version takes over what the one before it leaves. One that is loaded with
    /// [`Setup::load`] has nobody to take over from, and serves at once; the next one is loaded with [`Setup::load_beside`].
    pub fn hand_over(mut self) -> Self {
        self.spec.hand_over = true;
        self
    }

    /// When an instance has served its time.
    pub fn recycle(mut self, recycle: Recycle) -> Self {
        self.spec.recycle = recycle;
        self
    }

    /// An instance per call.
    pub fn fresh(mut self) -> Self {
        self.spec.isolation = Isolation::Fresh;
        self
    }

    /// How often `on-tick` is called; never without this.
    pub fn tick(mut self, period: Duration) -> Self {
        self.spec.tick = Some(period);
        self
    }

    /// Go on without the plugin when it fails, instead of answering with 503.
    pub fn fail_open(mut self) -> Self {
        self.on_failure = OnFailure::Open;
        self
    }

    /// What the upstream answers. Without this it answers every request with an empty 200.
    pub fn upstream<R: Into<Reply>>(mut self, answer: impl Fn(&Request) -> R + Send + Sync + 'static) -> Self {
        self.upstream = Arc::new(move |request| answer(request).into());
        self
    }

    /// The names of upstreams that the plugin may choose. Without this there is `main`.
    pub fn upstreams<'u>(mut self, names: impl IntoIterator<Item = &'u str>) -> Self {
        self.upstreams = names.into_iter().map(str::to_owned).collect();
        self
    }

    /// Nanoseconds of virtual time per unit of fuel that a guest burns; 1 without this. Nearly every instruction is a unit,
    /// so 1 is about what a fast processor does. With 0 nothing that it computes takes time: time goes on with what the test
    /// says and with what waits, and a plugin that computes without end is never stopped.
    pub fn pace(mut self, nanos: u64) -> Self {
        self.pace = nanos;
        self
    }

    /// What its random numbers come from. The same seed gives the same numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What time it is at first, since the Unix epoch. Without this it is midnight, 1 January 2026, UTC.
    pub fn begins_at(mut self, unix: Duration) -> Self {
        self.epoch = unix;
        self
    }

    /// Where compiled components are kept between runs, or nowhere. Without this it is `tidegate/testing` in the user's
    /// folder for caches.
    pub fn cache(mut self, folder: Option<PathBuf>) -> Self {
        self.cache = folder;
        self
    }

    /// From this moment on every call comes too late: nobody waits any more for what it computes.
    pub(crate) fn patience(mut self, until: Instant) -> Self {
        self.patience = Some(until);
        self
    }

    /// How often it is ticked, if that has been said.
    pub(crate) fn period(&self) -> Option<Duration> {
        self.spec.tick
    }

    /// When its instances have served their time.
    pub(crate) fn recycled(&self) -> Recycle {
        self.spec.recycle
    }

    /// What state outlives a call.
    pub(crate) fn isolation(&self) -> Isolation {
        self.spec.isolation
    }

    /// What it may use.
    pub(crate) fn spec_limits(&self) -> Limits {
        self.spec.limits
    }

    /// Note in which functions it burns its fuel: [`Plugin::samples`](crate::Plugin::samples). What it does and burns stays
    /// the same.
    pub fn sampled(mut self) -> Self {
        self.pass = Pass::Sampled;
        self
    }

    /// Run it on the engine of a gateway and by the clock of this machine, to see how long calls take:
    /// [`Plugin::stats`](crate::Plugin::stats). No fuel is counted, faults cannot be planned, and no two runs are the same. The
    /// test's own time is virtual as ever.
    pub fn in_real_time(mut self) -> Self {
        self.pass = Pass::Real;
        self
    }
}

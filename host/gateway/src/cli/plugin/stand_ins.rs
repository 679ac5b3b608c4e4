//! What surrounds a plugin under the harness: what its table in a config says, with stand-ins in the place of what a gateway
//! has there.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tidegate_outbound::Target;
use tidegate_runtime::{Isolation, Redaction};
use tidegate_testing::{Response, Setup};

use crate::config::{self, Config, OnFailure};

/// The plugin as its table has it, with this config and these secrets. How many instances it has is the caller's own.
pub(super) fn as_configured(
    component: Vec<u8>,
    config: &Config,
    plugin: &config::Plugin,
    config_of_plugin: &Value,
    secrets: &BTreeMap<String, String>,
    answer: &Response,
) -> Setup {
    let limits = plugin.limits;
    let mut setup = configured(Setup::component(&plugin.name, component), config_of_plugin)
        .limits(|own| *own = limits)
        .recycle(plugin.recycle)
        .upstreams(config.upstreams.iter().map(|upstream| &*upstream.name));
    if plugin.isolation == Isolation::Fresh {
        setup = setup.fresh();
    }
    if plugin.on_failure == OnFailure::Open {
        setup = setup.fail_open();
    }
    if let Some(period) = plugin.tick {
        setup = setup.tick(period);
    }
    granted(setup, config, plugin, secrets, answer)
}

/// What it is granted, with stand-ins in the place of what a gateway has there.
fn granted(
    mut setup: Setup,
    config: &Config,
    plugin: &config::Plugin,
    secrets: &BTreeMap<String, String>,
    answer: &Response,
) -> Setup {
    let grants = &plugin.grants;
    if !grants.outbox.is_empty() {
        setup = setup.outbox(grants.outbox.iter().map(tidegate_outbox::topic::Pattern::as_str));
    }
    if let Some(origins) = &grants.http {
        let (origins, answer) = (origins.clone(), answer.clone());
        let covers = move |origin: &str| {
            let target = format!("{origin}/").parse().ok().and_then(|uri| Target::of(&uri));
            target.is_some_and(|target| origins.iter().any(|granted| granted.origin.covers(&target)))
        };
        setup = setup.http_where(covers, move |_| answer.clone());
    }
    for name in &grants.kv {
        let ttl = config.buckets.iter().find(|bucket| bucket.name == *name).and_then(|bucket| bucket.bounds.ttl);
        setup = match ttl {
            Some(ttl) => setup.kv_with_ttl(name, ttl),
            None => setup.kv(name),
        };
    }
    for (key, value) in &grants.config {
        setup = setup.value(key, value);
    }
    for name in grants.secrets.keys() {
        // Not the real one: a test needs none, and what is tested may write what it likes to the terminal. A recording has
        // this in its place, so that a replay can be compared with it.
        let made_up = || Redaction::instead_of(name);
        setup = setup.secret(name, &secrets.get(&**name).cloned().unwrap_or_else(made_up));
    }
    if grants.metrics.is_some() {
        setup = setup.metrics();
    }
    if grants.background {
        setup = setup.background(plugin.deferred);
    }
    setup
}

/// With a config, as a gateway hands it over.
pub(super) fn configured(setup: Setup, config: &Value) -> Setup {
    // A plugin without `configure` must not have one, an empty one aside.
    if config.as_object().is_some_and(Map::is_empty) { setup } else { setup.config(config) }
}

//! What is shown of plugins.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_runtime::{CallOutcome, DeferredCounts, DeferredOutcome, Health, Isolation, PluginStats};

use super::AdminState;
use super::answers::{Problem, json};
use crate::config::{self, OnFailure};
use crate::generation::{Generation, Member};
use crate::roster::Entry;

/// Everything about all plugins.
#[derive(Debug, Serialize)]
struct All {
    /// The generation that serves.
    generation: u64,
    plugins: Vec<One>,
}

/// Everything about a plugin.
#[derive(Debug, Serialize)]
struct One {
    name: String,
    /// `serving`, `disabled` or `quarantined`.
    state: &'static str,
    /// `good`, `tripped` or `given-up`: what its breaker says.
    health: &'static str,
    path: String,
    digest: String,
    /// The generation that made its instances.
    generation: u64,
    /// The newer version that failed, if this one has taken its place again.
    rolled_back_from: Option<Failed>,
    isolation: &'static str,
    on_failure: &'static str,
    routes: Vec<String>,
    instances: Instances,
    limits: Limits,
    retired: u64,
    deferred: Deferred,
    /// Calls by hook and outcome.
    calls: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Former lives of which something is left.
    leaving: Vec<Leaving>,
}

#[derive(Debug, Serialize)]
struct Failed {
    digest: String,
    generation: u64,
}

#[derive(Debug, Serialize)]
struct Instances {
    min: usize,
    max: usize,
    idle: usize,
    busy: usize,
    starting: usize,
    stopping: usize,
    waiting: usize,
    stores_live: u64,
}

#[derive(Debug, Serialize)]
struct Limits {
    configure_ms: u64,
    cpu_ms: u64,
    wall_ms: u64,
    deferred_ms: u64,
    shutdown_ms: u64,
    memory: usize,
    queue: usize,
    body: usize,
}

/// The work that it has put off.
#[derive(Debug, Serialize)]
struct Deferred {
    /// Payloads that wait.
    waiting: usize,
    /// Bytes that they have together.
    bytes: usize,
    /// Payloads that are being worked on.
    running: usize,
    /// Payloads by what became of them: `completed`, `failed`, `refused`, `left`.
    outcomes: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct Leaving {
    digest: String,
    generation: u64,
    /// Payloads that it had put off and that are still to be done.
    deferred: usize,
    instances: usize,
    stores_live: u64,
}

pub(super) async fn all(State(state): State<AdminState>) -> Response {
    let (generation, leaving) = (state.control.current(), state.control.roster().leaving());
    let plugins = generation.members.iter().map(|member| show(&generation, member, &leaving)).collect();
    json(StatusCode::OK, &All { generation: generation.number, plugins })
}

pub(super) async fn one(
    State(state): State<AdminState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = path?;
    let (generation, leaving) = (state.control.current(), state.control.roster().leaving());
    let member = state.control.member(&name)?;
    Ok(json(StatusCode::OK, &show(&generation, &member, &leaving)))
}

fn show(generation: &Generation, member: &Member, leaving: &[Entry]) -> One {
    let stats = member.plugin.stats();
    let table = &member.loaded_with;
    let former = |entry: &&Entry| entry.plugin.name() == member.name() && entry.life() != member.life();
    let left = |entry: &Entry| {
        let stats = entry.plugin.stats();
        Leaving {
            digest: entry.plugin.digest().to_string(),
            generation: entry.generation,
            deferred: stats.deferred.waiting.saturating_add(stats.deferred.running),
            instances: entry.plugin.instances().len(),
            stores_live: stats.stores_live,
        }
    };
    One {
        name: member.name().to_string(),
        state: member.standing.as_str(),
        health: match *member.plugin.health().borrow() {
            Health::Good => "good",
            Health::Tripped => "tripped",
            Health::GivenUp => "given-up",
        },
        path: table.path.display().to_string(),
        digest: member.plugin.digest().to_string(),
        generation: member.generation,
        rolled_back_from: member
            .rolled_back_from
            .as_ref()
            .map(|failed| Failed { digest: failed.digest.to_string(), generation: failed.generation }),
        isolation: match table.isolation {
            Isolation::Warm => "warm",
            Isolation::Fresh => "fresh",
        },
        on_failure: match table.on_failure {
            OnFailure::Closed => "closed",
            OnFailure::Open => "open",
        },
        routes: routes(&generation.config, member.name()),
        instances: instances(table, &stats),
        limits: limits(&table.limits),
        retired: stats.retired,
        deferred: deferred(&stats),
        calls: calls(&stats),
        leaving: leaving.iter().filter(former).map(left).collect(),
    }
}

fn routes(config: &config::Config, plugin: &str) -> Vec<String> {
    let names = |route: &config::Route| {
        route.plugins.iter().any(|index| config.plugins.get(*index).is_some_and(|other| *other.name == *plugin))
    };
    let label = |route: &config::Route| format!("{}{}", route.host.as_deref().unwrap_or(""), route.path);
    config.routes.iter().filter(|route| names(route)).map(label).collect()
}

fn instances(table: &config::Plugin, stats: &PluginStats) -> Instances {
    Instances {
        min: table.instances.min,
        max: table.instances.max,
        idle: stats.instances.idle,
        busy: stats.instances.busy,
        starting: stats.instances.starting,
        stopping: stats.instances.stopping,
        waiting: stats.instances.waiting,
        stores_live: stats.stores_live,
    }
}

fn deferred(stats: &PluginStats) -> Deferred {
    let DeferredCounts { waiting, bytes, running } = stats.deferred;
    let outcomes = DeferredOutcome::ALL.iter().map(|outcome| outcome.as_str()).zip(stats.deferred_outcomes).collect();
    Deferred { waiting, bytes, running, outcomes }
}

fn limits(limits: &tidegate_runtime::Limits) -> Limits {
    let millis = crate::stop::report::millis;
    Limits {
        configure_ms: millis(limits.configure),
        cpu_ms: millis(limits.cpu),
        wall_ms: millis(limits.wall),
        deferred_ms: millis(limits.deferred),
        shutdown_ms: millis(limits.shutdown),
        memory: limits.memory,
        queue: limits.queue,
        body: limits.body,
    }
}

fn calls(stats: &PluginStats) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let outcomes = |calls: &[u64; CallOutcome::ALL.len()]| {
        let counted = CallOutcome::ALL.iter().zip(calls).filter(|(outcome, count)| {
            // As in the metrics: a failure appears with its first occurrence.
            **count > 0 || **outcome == CallOutcome::Ok
        });
        counted.map(|(outcome, count)| (outcome.as_str(), *count)).collect()
    };
    stats.hooks.iter().map(|hook| (hook.hook.as_str(), outcomes(&hook.calls))).collect()
}

//! From the text of a file to a [`Config`]: reads every table, then checks what only the whole can tell.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::bucket::{Bucket, BucketKind};
use super::diagnostic::{Diagnostic, Diagnostics, Problems};
use super::grants::Grantable;
use super::names::Names;
use super::outbox::{self, Topics};
use super::plugin::Plugin;
use super::reader::Table;
use super::route::Route;
use super::settings::{self, Address, Shutdown};
use super::source::Files;
use super::units::HumanDuration;
use super::upstream::Upstream;
use super::whole::{Config, last_to_stop};
use super::{bucket, outbound, plugin, route, upstream};
use crate::stop::ledger::{Ledger, MARGIN, Overdrawn};

/// Instances of all plugins together; each has a slot of address space reserved for it, twice over.
const MOST_INSTANCES: usize = 4_096;

/// Read `source`, the text of the file at `origin`.
pub(super) fn build(source: &str, origin: &Path, files: Files) -> Result<Config, Diagnostics> {
    let document = match DeTable::parse(source) {
        Ok(document) => document,
        // After a syntax error the rest of the file may mean anything, so this one is reported alone.
        Err(error) => {
            let problem = match error.span() {
                Some(span) => Diagnostic::at(span, "the file is not valid TOML").label(error.message()),
                None => Diagnostic::of_file(format!("the file is not valid TOML: {}", error.message())),
            };
            return Err(Diagnostics::new(origin, source, vec![problem]));
        }
    };
    let problems = Problems::default();
    let config = {
        let top = Table::new(document.get_ref(), "", 0..0, &problems);
        read(top, origin.parent().unwrap_or(Path::new("")), files)
    };
    problems.finish(origin, source, config)
}

fn read(top: Table<'_>, folder: &Path, files: Files) -> Config {
    let problems = top.problems();
    let cache = settings::cache(&top, folder);
    let (server, listen) = settings::server(top.table("server", "[server]"));
    let (admin, admin_listen) = settings::admin(top.table("admin", "[admin]"), folder, files);
    listen_once(&listen, &admin_listen, problems);
    let shutdown_spans = ShutdownSpans::of(&top);
    let before = problems.count();
    let shutdown = settings::shutdown(top.table("shutdown", "[shutdown]"));
    let shutdown_is_sound = problems.count() == before;
    let reload = settings::reload(top.table("reload", "[reload]"));
    let log = settings::log(top.table("log", "[log]"));
    let outbound = outbound::outbound(top.table("outbound", "[outbound]"), folder, files);
    let (upstreams, upstream_names) = upstreams(&top);
    let (buckets, bucket_names) = buckets(&top, folder);
    let before = problems.count();
    let outbox = top.table("outbox", "[outbox]").and_then(|table| outbox::outbox(table, folder, files));
    let topics = Topics::of(outbox.as_ref(), top.span_of("outbox").is_some(), problems.count() == before);
    let (plugins, plugin_names) = plugins(&top, folder, files, Grantable { buckets: &bucket_names, topics: &topics });
    let routes = routes(&top, files, &upstream_names, &plugin_names);
    // A part that was misread would make the sum wrong, and the complaint about it.
    if shutdown_is_sound {
        ledger_fits(&shutdown, &plugins, &shutdown_spans, problems);
    }
    top.finish();
    Config { server, admin, shutdown, reload, log, outbound, outbox, upstreams, buckets, plugins, routes, cache }
}

fn upstreams<'t>(top: &Table<'t>) -> (Vec<Upstream>, Names<'t>) {
    let mut names = Names::new("upstream", top.problems());
    let mut upstreams = Vec::new();
    for table in top.tables("upstream") {
        let span = table.span_of("name").unwrap_or(table.span());
        let upstream = upstream::upstream(table);
        names.insert(&upstream.name, upstreams.len(), span);
        upstreams.push(upstream);
    }
    (upstreams, names)
}

fn buckets<'t>(top: &Table<'t>, folder: &Path) -> (Vec<Bucket>, Names<'t>) {
    let mut names = Names::new("kv", top.problems());
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut files: HashMap<PathBuf, Range<usize>> = HashMap::new();
    for table in top.tables("kv") {
        let span = table.span_of("name").unwrap_or(table.span());
        let path_span = table.span_of("path").unwrap_or(table.span());
        let bucket = bucket::bucket(table, folder);
        names.insert(&bucket.name, buckets.len(), span);
        if let BucketKind::Sqlite { path, .. } = &bucket.kind
            && !path.as_os_str().is_empty()
            && let Some(first) = files.insert(path.clone(), path_span.clone())
        {
            top.problems().push(
                Diagnostic::at(path_span, "two buckets cannot have the same file")
                    .label("again here")
                    .related(first, "first here"),
            );
        }
        buckets.push(bucket);
    }
    (buckets, names)
}

fn plugins<'t>(top: &Table<'t>, folder: &Path, files: Files, grantable: Grantable<'_>) -> (Vec<Plugin>, Names<'t>) {
    let problems = top.problems();
    let mut names = Names::new("plugin", problems);
    let mut plugins: Vec<Plugin> = Vec::new();
    for table in top.tables("plugin") {
        let span = table.span_of("name").unwrap_or(table.span());
        let path_span = table.span_of("path");
        let plugin = plugin::plugin(table, folder, grantable);
        names.insert(&plugin.name, plugins.len(), span);
        if let (Files::Checked, Some(span)) = (files, path_span) {
            file_is_there(&plugin, span, problems);
        }
        plugins.push(plugin);
    }
    let instances: usize = plugins.iter().map(|plugin| plugin.instances.max).sum();
    if instances > MOST_INSTANCES {
        problems.push(
            Diagnostic::of_file(format!(
                "the plugins may have {instances} instances together; at most {MOST_INSTANCES} fit"
            ))
            .hint("lower `instances` of the plugins that need fewer"),
        );
    }
    (plugins, names)
}

fn routes(top: &Table<'_>, files: Files, upstreams: &Names<'_>, plugins: &Names<'_>) -> Vec<Route> {
    let problems = top.problems();
    let mut routes: Vec<Route> = Vec::new();
    let mut seen: HashMap<(Option<String>, String), Range<usize>> = HashMap::new();
    for table in top.tables("route") {
        let span = table.span_of("path").unwrap_or(table.span());
        let Some(route) = route::route(table, upstreams, plugins) else { continue };
        let (host, path) = (route.host.as_deref().unwrap_or(""), &route.path);
        match seen.entry((route.host.clone(), route.path.clone())) {
            Entry::Occupied(first) => problems.push(
                Diagnostic::at(span, format!("there are two routes for `{host}{path}`"))
                    .label("again here")
                    .related(first.get().clone(), "first here"),
            ),
            Entry::Vacant(place) => {
                place.insert(span);
            }
        }
        routes.push(route);
    }
    if top.span_of("route").is_none() && files != Files::PluginsAlone {
        problems.push(
            Diagnostic::of_file("there is no [[route]], so nothing would be served")
                .hint("add a [[route]] with `path = \"/\"` and `upstream = \"..\"`"),
        );
    }
    routes
}

/// No two listeners may want the same port of the same address.
fn listen_once(server: &[Address], admin: &Address, problems: &Problems) {
    let clash = |a: &SocketAddr, b: &SocketAddr| {
        let covers =
            |a: &SocketAddr, b: &SocketAddr| a.ip() == b.ip() || a.ip().is_unspecified() && a.is_ipv4() == b.is_ipv4();
        a.port() == b.port() && a.port() != 0 && (covers(a, b) || covers(b, a))
    };
    let mut earlier: Vec<(&Address, &str)> = Vec::new();
    for (address, table) in server.iter().map(|address| (address, "[server]")).chain([(admin, "[admin]")]) {
        if let Some((other, other_table)) = earlier.iter().find(|(other, _)| clash(&other.0, &address.0)) {
            // One of the two is in the file: the defaults do not clash.
            let (shown, unshown) = if address.1.is_some() { (address, other) } else { (*other, &address) };
            let port = address.0.port();
            let message = if *other_table == table {
                format!("{table} cannot listen twice on port {port}")
            } else {
                format!("{other_table} and {table} cannot both listen on port {port}")
            };
            let mut problem =
                Diagnostic::at(shown.1.clone().unwrap_or(0..0), message).label("this address is taken twice");
            problem = match &unshown.1 {
                Some(span) => problem.related(span.clone(), "first here"),
                None => problem.note(format!("the other one is a default, {}", unshown.0)),
            };
            problems.push(problem);
        }
        earlier.push((address, table));
    }
}

/// A plugin's file must be there; whether it is a plugin is found when it is loaded.
fn file_is_there(plugin: &Plugin, span: Range<usize>, problems: &Problems) {
    let label = match std::fs::metadata(&plugin.path) {
        // A path that is missing or empty has been reported.
        _ if plugin.path.as_os_str().is_empty() => return,
        Ok(metadata) if metadata.is_dir() => "this is a folder".to_owned(),
        Ok(_) => return,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.push(
        Diagnostic::at(span, format!("the file of plugin `{}` cannot be read", plugin.name))
            .label(label)
            .note(format!("looked for it at {}", plugin.path.display()))
            .hint("a path is relative to the folder of the config file"),
    );
}

/// Where the parts of the shutdown are written.
struct ShutdownSpans {
    table: Option<Range<usize>>,
    keys: HashMap<&'static str, Range<usize>>,
}

impl ShutdownSpans {
    fn of(top: &Table<'_>) -> Self {
        let table = top.peek("shutdown");
        let keys = ["grace", "drain_delay", "drain", "flush", "min_drain"];
        Self {
            table: top.span_of("shutdown"),
            keys: keys.into_iter().filter_map(|key| Some((key, table.as_ref()?.span_of(key)?))).collect(),
        }
    }
}

/// The parts of the shutdown must fit into the grace period.
fn ledger_fits(shutdown: &Shutdown, plugins: &[Plugin], spans: &ShutdownSpans, problems: &Problems) {
    let longest = last_to_stop(plugins);
    let reserve = longest.map_or(Duration::ZERO, Plugin::longest_stop);
    let Err(overdrawn) = Ledger::new(shutdown, reserve) else { return };
    let at = |key: &str, message: String| match spans.keys.get(key).or(spans.table.as_ref()) {
        Some(span) => Diagnostic::at(span.clone(), message),
        None => Diagnostic::of_file(message),
    };
    let human = HumanDuration;
    problems.push(match overdrawn {
        Overdrawn::Parts { parts, grace } => {
            let over = parts.needed().saturating_sub(grace);
            let stop = longest.map_or(format!("shutdown {}", human(Duration::ZERO)), |plugin| {
                let shutdown = format!("shutdown of plugin `{}` {}", plugin.name, human(plugin.limits.shutdown));
                match plugin.deferred_share() {
                    Duration::ZERO => shutdown,
                    share => format!("deferred work {} + {shutdown}", human(share)),
                }
            });
            let mut problem = at(
                "grace",
                format!("the shutdown needs {}, but `grace` is {}", human(parts.needed()), human(grace)),
            )
            .label(format!("{} too short", human(over)))
            .note(format!(
                "drain_delay {} + drain {} + {stop} + flush {} + margin {} = {}",
                human(parts.drain_delay),
                human(parts.drain),
                human(parts.flush),
                human(MARGIN),
                human(parts.needed()),
            ))
            .hint(format!(
                "raise `grace` to {} or more (and the supervisor's own limit above it), or shorten one of the parts",
                human(Duration::from_millis(parts.needed().as_millis().div_ceil(1000).saturating_mul(1000) as u64)),
            ));
            if spans.keys.contains_key("grace") {
                for key in ["drain_delay", "drain", "flush"] {
                    if let Some(span) = spans.keys.get(key) {
                        problem = problem.related(span.clone(), "");
                    }
                }
            }
            problem
        }
        Overdrawn::MinDrain { min_drain, limit } => {
            at("min_drain", format!("`min_drain` is {}, but `grace` leaves {}", human(min_drain), human(limit)))
                .label(format!("{} too long", human(min_drain.saturating_sub(limit))))
        }
    });
}

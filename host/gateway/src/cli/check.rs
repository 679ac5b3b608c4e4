//! `tidegate check`

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{Isolation, Recycle, Runtime};

use super::table::Table;
use super::{CheckArgs, Failure, print};
use crate::capabilities::Capabilities;
use crate::config::{self, Config, HumanDuration, HumanSize, OnFailure};
use crate::plugins::{self, Loaded, Loader};
use crate::stop::ledger::{Ledger, MARGIN};

/// Load everything as `run` would, and say what would run. The plugins are configured but serve nothing, so they are
/// let go without a call.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let ledger = Ledger::new(&config.shutdown, config.longest_stop())
        .map_err(|error| Failure::usage(error.to_string(), None::<&str>))?;
    let tokio = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::gateway(format!("cannot start worker threads: {error}")))?;
    let loaded = tokio.block_on(async {
        let runtime = Runtime::new(plugins::runtime_config(&config))?;
        let capabilities = Capabilities::closed(&config);
        let loader = Loader { runtime, capabilities, stops: Arc::default(), generation: 1 };
        Ok::<_, Failure>(plugins::load_all(&config, &loader, &[], |_| {}).await?)
    })?;
    print(&format!("{} can run\n\n{}", args.config.display(), summary(&config, &loaded, &ledger)))
}

fn summary(config: &Config, loaded: &[Loaded], ledger: &Ledger) -> String {
    let hooks: Vec<String> = loaded
        .iter()
        .map(|loaded| loaded.plugin.hooks().iter().map(|hook| hook.as_str()).collect::<Vec<_>>().join(" "))
        .collect();
    let mut text = String::new();
    for (title, table) in [
        ("listens on", listeners(config)),
        ("routes", routes(config)),
        ("plugins", plugin_table(config, &hooks)),
        ("shutdown, from the signal to the exit", ledger_table(config, ledger)),
    ] {
        let lines = table.render();
        let _ = write!(text, "{title}\n{}\n", if lines.is_empty() { "  none\n" } else { &lines });
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn listeners(config: &Config) -> Table {
    let mut table = Table::default();
    for address in &config.server.listen {
        table.row([&address.to_string(), "clients"]);
    }
    table.row([&config.admin.listen.to_string(), "health and metrics"]);
    table
}

fn routes(config: &Config) -> Table {
    let mut table = Table::default();
    for route in &config.routes {
        let names = route.plugins.iter().filter_map(|number| config.plugins.get(*number));
        let chain: Vec<&str> = names.map(|plugin| &*plugin.name).collect();
        let upstream = config.upstreams.get(route.upstream).map_or("", |upstream| &*upstream.name);
        table.row([
            &format!("{}{}", route.host.as_deref().unwrap_or(""), route.path),
            &format!("-> {upstream}"),
            &if chain.is_empty() { "no plugins".to_owned() } else { format!("through {}", chain.join(", ")) },
        ]);
    }
    table
}

fn plugin_table(config: &Config, hooks: &[String]) -> Table {
    let mut table = Table::default();
    for (number, (plugin, hooks)) in config.plugins.iter().zip(hooks).enumerate() {
        let used = config.routes.iter().any(|route| route.plugins.contains(&number));
        table.row([
            &*plugin.name,
            &instances(plugin),
            match plugin.on_failure {
                OnFailure::Closed => "fails closed",
                OnFailure::Open => "fails open",
            },
            hooks,
            if used { "" } else { "(on no route)" },
        ]);
    }
    table
}

fn instances(plugin: &config::Plugin) -> String {
    let (min, max) = (plugin.instances.min, plugin.instances.max);
    let recycled = recycled(plugin.recycle);
    let isolation = match plugin.isolation {
        Isolation::Warm => "warm",
        Isolation::Fresh => "fresh",
    };
    match (min == max, max) {
        (true, 1) => format!("1 {isolation} instance{recycled}"),
        (true, _) => format!("{max} {isolation} instances{recycled}"),
        (false, _) => format!("{min} to {max} {isolation} instances{recycled}"),
    }
}

/// When one of them has served its time.
fn recycled(recycle: Recycle) -> String {
    let calls = recycle.calls.map(|calls| format!("after {calls} calls"));
    let memory = recycle.memory.map(|memory| format!("at {}", HumanSize(memory as u64)));
    let when: Vec<String> = calls.into_iter().chain(memory).collect();
    if when.is_empty() { String::new() } else { format!(", recycled {}", when.join(" or ")) }
}

fn ledger_table(config: &Config, ledger: &Ledger) -> Table {
    let parts = ledger.parts();
    let longest = config.last_to_stop().map_or("there are none".to_owned(), |plugin| match plugin.deferred_share() {
        Duration::ZERO => format!("the longest, {}", plugin.name),
        share => {
            let (share, shutdown) = (HumanDuration(share), HumanDuration(plugin.limits.shutdown));
            format!("the longest, {}: deferred work {share}, shutdown {shutdown}", plugin.name)
        }
    });
    let spare = ledger.grace().saturating_sub(parts.needed());
    let mut table = Table::default();
    for (name, length, remark) in [
        ("drain_delay", parts.drain_delay, "still accepting, no longer ready"),
        ("drain", parts.drain, "exchanges in flight"),
        ("plugins", parts.plugins, longest.as_str()),
        ("flush", parts.flush, "logs and the report"),
        ("margin", MARGIN, "always kept back"),
        ("spare", spare, ""),
        ("grace", ledger.grace(), "the sum"),
    ] {
        table.row([name, &format!("{:>7}", HumanDuration(length)), remark]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_summary_says_what_would_run_and_how_the_grace_period_is_split() {
        let source = r#"
[shutdown]
drain_delay = "1s"
[[upstream]]
name = "api"
targets = ["http://127.0.0.1:9000"]
[[plugin]]
name = "audit"
path = "audit.wasm"
grants.background = true
tick = "1s"
instances = { min = 1, max = 4 }
recycle = { calls = 100000, memory = "24MiB" }
[[plugin]]
name = "key"
path = "key.wasm"
instances = 1
isolation = "fresh"
on_failure = "open"
limits.shutdown = "100ms"
[[route]]
path = "/"
upstream = "api"
[[route]]
path = "/v1"
host = "api.example.com"
upstream = "api"
plugins = ["audit"]
"#;
        let config = Config::parse(source, Path::new("tidegate.toml")).expect("the file is fine");
        let ledger = Ledger::new(&config.shutdown, config.longest_stop()).expect("it fits");
        let hooks = ["on-response shutdown".to_owned(), "on-request".to_owned()];
        let shown =
            [listeners(&config), routes(&config), plugin_table(&config, &hooks), ledger_table(&config, &ledger)]
                .map(|table| table.render())
                .concat();
        let expected = r#"
  127.0.0.1:8080  clients
  127.0.0.1:9901  health and metrics
  /                   -> api  no plugins
  api.example.com/v1  -> api  through audit
  audit  1 to 4 warm instances, recycled after 100000 calls or at 24MiB  fails closed  on-response shutdown
  key    1 fresh instance                                                fails open    on-request            (on no route)
  drain_delay       1s  still accepting, no longer ready
  drain            15s  exchanges in flight
  plugins           7s  the longest, audit: deferred work 2s, shutdown 5s
  flush             3s  logs and the report
  margin         250ms  always kept back
  spare          3.75s
  grace            30s  the sum
"#;
        assert_eq!(shown, expected.trim_start_matches('\n'), "{shown}");
    }
}

//! Figures of plugins.

use serde_json::Value;
use tidegate_tests::components;

use super::project::{run, tidegate};

/// What `--json` says of a component, with these arguments beside.
fn figures(component: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let file = components::plugin(component);
    assert!(file.is_file(), "there is no {}; run `cargo xtask plugins` first", file.display());
    let measured =
        run(tidegate(folder.path()).args(["plugin", "bench", "--json"]).args(arguments).arg(file.as_os_str()));
    assert_eq!(measured.code, Some(0), "{}", measured.stderr);
    serde_json::from_str(&measured.stdout).expect("it is JSON")
}

fn hook<'f>(figures: &'f Value, name: &str) -> &'f Value {
    let mut hooks = figures.get("hooks").and_then(Value::as_array).expect("it has hooks").iter();
    hooks.find(|hook| hook.get("hook").is_some_and(|own| own == name)).expect("it has this hook")
}

#[test]
fn fuel_is_the_same_every_time_and_time_comes_with_its_noise() {
    let [first, second] = [(); 2].map(|()| figures("stamp", &["--calls", "30"]));
    for name in ["on-request", "on-response"] {
        assert_eq!(hook(&first, name).get("fuel"), hook(&second, name).get("fuel"));
        assert_eq!(hook(&first, name).get("calls"), Some(&30.into()));
        let time = |key: &str| hook(&first, name).get("time_us").and_then(|time| time.get(key)?.as_f64());
        assert!(time("min") > Some(0.0) && time("min") <= time("median") && time("median") <= time("p99"));
        assert!(hook(&first, name).get("time_noise_percent").is_some_and(Value::is_u64));
    }
}

#[test]
fn a_body_costs_fuel_only_where_it_is_looked_at() {
    let of = |arguments: &[&str]| hook(&figures("stamp", arguments), "on-request").get("fuel").cloned();
    assert_eq!(of(&["--calls", "10"]), of(&["--calls", "10", "--body", "some text"]));
}

#[test]
fn the_flame_graph_names_the_functions_of_the_plugin() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = components::plugin("stamp");
    let svg = folder.path().join("flame.svg");
    let mut bench = tidegate(folder.path());
    let drawn = run(bench.args(["plugin", "bench", "--calls", "50", "--flame", "flame.svg"]).arg(file.as_os_str()));
    assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);
    let svg = std::fs::read_to_string(svg).expect("it is there");
    // Of the contract, of the SDK or of the standard library: which ones are hit depends on the compiler.
    assert!(svg.contains("<title>on-request\n") && svg.contains("request-hook@0.1.0#on-request"), "{svg}");
    let opened = svg.matches("<g>").count();
    assert!(opened > 3 && opened == svg.matches("</g>").count() && opened == svg.matches("</title>").count());
    let text_is_escaped = svg.split(['<', '>']).all(|part| !part.contains("& "));
    assert!(text_is_escaped && svg.ends_with("</svg>\n"));
}

#[test]
fn what_is_no_plugin_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("empty.wasm"), "").expect("written");
    let refused = run(tidegate(folder.path()).args(["plugin", "bench", "empty.wasm"]));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.starts_with("error: empty.wasm: "), "{}", refused.stderr);
    let refused = run(tidegate(folder.path()).args(["plugin", "bench", "empty.wasm", "--path", "visits"]));
    assert!(refused.stderr.contains("hint: it begins with `/`"), "{}", refused.stderr);
    // A plugin alone has no grants.
    let audit = components::plugin("audit");
    let refused = run(tidegate(folder.path()).args(["plugin", "bench"]).arg(audit.as_os_str()));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
}

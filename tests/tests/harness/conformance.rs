//! The conformance kit: plugins in good order pass it, each planted mistake fails just the checks that are there for it, and
//! `tidegate plugin test` says so to people and to programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_testing::conformance::{CHECKS, Kit, Outcome, Report};
use tidegate_testing::{Limits, Setup};
use tidegate_tests::components;
use tidegate_tests::gateway::tidegate;

/// The checks but for `memory`, which takes the longest: of those mistakes that it is not there for.
const BUT_MEMORY: [&str; 12] = [
    "imports",
    "load",
    "hooks",
    "tick",
    "deferred",
    "stop-idle",
    "stop-busy",
    "stop-stalled",
    "stop-deadline",
    "malformed",
    "capabilities",
    "fuel",
];

/// Run these checks on a guest with this config, granted what it imports.
fn check(guest: &str, config: Value, limits: fn(&mut Limits), only: &[&str]) -> Report {
    let setup = move |component| Setup::component("guest", component).config(&config).limits(limits);
    let kit = Kit::new(components::read(&components::guest(guest)), setup).expect("it is a plugin");
    kit.grant_imports().only(only.iter().map(|name| (*name).to_owned())).run(|_| {})
}

fn careless(mistake: &str, only: &[&str]) -> Report {
    check("careless", json!({ "mistake": mistake }), |_| {}, only)
}

#[test]
fn a_plugin_without_a_mistake_passes_every_check_that_applies() {
    let report = careless("none", &[]);
    assert!(report.is_passed(), "{report:#?}");
    assert_eq!((report.findings.len(), report.count(Outcome::Skipped)), (CHECKS.len(), 1));
    assert_eq!(report.finding("deferred").map(|finding| finding.outcome), Some(Outcome::Skipped));
}

#[test]
fn a_shutdown_that_looks_at_its_deadline_too_rarely_fails_the_deadline_alone() {
    let report = careless("overrun", &BUT_MEMORY);
    assert_eq!(report.failed(), ["stop-deadline"], "{report:#?}");
}

#[test]
fn memory_that_is_kept_of_each_request_fails_memory_alone() {
    let report = careless("leak", &[]);
    assert_eq!(report.failed(), ["memory"], "{report:#?}");
    let text = &report.finding("memory").expect("it was run").problems[0].text;
    assert!(text.contains("bytes per request") && text.contains("out of memory (32.0 MiB)"), "{text}");
}

#[test]
fn memory_that_grows_is_fit_to_run_if_instances_are_recycled_in_time() {
    let setup = |component| {
        let recycle = tidegate_testing::Recycle { memory: Some(24 << 20), calls: None };
        Setup::component("careless", component).config(&json!({ "mistake": "leak" })).recycle(recycle)
    };
    let kit = Kit::new(components::read(&components::guest("careless")), setup).expect("it is a plugin");
    let report = kit.grant_imports().only(["memory".to_owned()]).run(|_| {});
    assert!(report.is_passed(), "{report:#?}");
    assert!(report.findings[0].notes[0].contains("Its `recycle` replaces it after about"), "{report:#?}");
}

#[test]
fn a_cost_that_depends_on_the_hour_fails_fuel_alone() {
    let report = careless("clock", &BUT_MEMORY);
    assert_eq!(report.failed(), ["fuel"], "{report:#?}");
    let text = &report.finding("fuel").expect("it was run").problems[0].text;
    assert!(text.starts_with("at another time of day on-request burns"), "{text}");
}

#[test]
fn a_cost_may_depend_on_the_hour_if_that_is_said() {
    let setup = |component| Setup::component("careless", component).config(&json!({ "mistake": "clock" }));
    let kit = Kit::new(components::read(&components::guest("careless")), setup).expect("it is a plugin");
    let report = kit.grant_imports().may_vary().only(["fuel".to_owned()]).run(|_| {});
    assert!(report.is_passed() && !report.findings[0].notes.is_empty(), "{report:#?}");
}

#[test]
fn a_decoder_that_panics_fails_malformed_alone_and_its_panic_is_told() {
    let report = careless("decode", &BUT_MEMORY);
    assert_eq!(report.failed(), ["malformed"], "{report:#?}");
    let problems = &report.finding("malformed").expect("it was run").problems;
    assert!(problems[0].text.starts_with("a percent sign at the end: on-request trapped"), "{problems:#?}");
    assert!(problems[0].text.contains("panicked at"), "{problems:#?}");
}

#[test]
fn an_event_that_must_be_taken_fails_capabilities_alone() {
    let report = careless("publish", &BUT_MEMORY);
    assert_eq!(report.failed(), ["capabilities"], "{report:#?}");
}

#[test]
fn a_tick_that_panics_fails_tick_alone() {
    let report = careless("tick", &[]);
    assert_eq!(report.failed(), ["tick"], "{report:#?}");
}

#[test]
fn a_shutdown_that_complains_about_nothing_fails_idle_and_the_stops_after_it_are_left_out() {
    let report = careless("complain", &["stop-idle", "stop-busy", "stop-stalled", "stop-deadline"]);
    assert_eq!(report.failed(), ["stop-idle"], "{report:#?}");
    assert_eq!(report.count(Outcome::Skipped), 3);
}

#[test]
fn hostile_guests_fail_the_checks_that_they_are_hostile_to() {
    let brief = |limits: &mut Limits| limits.shutdown = Duration::from_millis(50);
    let quick = ["load", "hooks", "stop-idle"];
    for (config, failed) in [
        (json!({ "shutdown": "spin" }), vec!["stop-idle"]),
        (json!({ "shutdown": "sleep=3600000" }), vec!["stop-idle"]),
        (json!({ "shutdown": "trap" }), vec!["stop-idle"]),
        (json!({ "on_request": "spin" }), vec!["hooks"]),
        (json!({ "on_request": "error" }), vec!["hooks"]),
        (json!({ "on_response": "panic" }), vec!["hooks"]),
        (json!({ "on_request": "allocate" }), vec!["hooks"]),
        (json!({ "configure": "spin" }), vec!["load"]),
        (json!({ "configure": "error" }), vec!["load"]),
        (json!({}), vec![]),
    ] {
        let report = check("hostile", config.clone(), brief, &quick);
        assert_eq!(report.failed(), failed, "{config}: {report:#?}");
    }
}

#[test]
fn a_plugin_that_computes_for_longer_than_anybody_waits_is_given_up() {
    let hour = |limits: &mut Limits| limits.shutdown = Duration::from_secs(3_600);
    let setup =
        move |component| Setup::component("hostile", component).config(&json!({ "shutdown": "spin" })).limits(hour);
    let kit = Kit::new(components::read(&components::guest("hostile")), setup).expect("it is a plugin");
    let report = kit.patience(Duration::from_secs(1)).only(["stop-idle".to_owned()]).run(|_| {});
    let problems = &report.findings[0].problems;
    assert!(problems.iter().any(|problem| problem.text.contains("more than 1s of real time")), "{report:#?}");
}

#[test]
fn work_that_was_put_off_is_seen_to() {
    let setup = |component| Setup::component("later", component);
    let kit = Kit::new(components::read(&components::guest("later")), setup).expect("it is a plugin");
    let defers = tidegate_testing::Request::get("/").header("x-defer", "1 ok");
    let report = kit.grant_imports().request(defers).only(["deferred".to_owned()]).run(|_| {});
    assert!(report.is_passed(), "{report:#?}");
    let payloads = report.findings[0].measures.iter().find(|measure| measure.name == "payloads");
    assert_eq!(payloads.map(|measure| measure.value), Some(80), "{report:#?}");
}

/// The config of an example's README: its indented blocks, but for commands.
fn readme(folder: &TempDir, name: &str) -> PathBuf {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example-plugins").join(name).join("README.md");
    let text = std::fs::read_to_string(readme).expect("the example has a README");
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let is_command = |line: &&str| ["cargo ", "cd ", "curl "].iter().any(|command| line.starts_with(command));
    let config: String = lines.filter(|line| !is_command(line)).map(|line| format!("{line}\n")).collect();
    let file = folder.path().join(format!("{name}.toml"));
    std::fs::write(&file, config).expect("written");
    file
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// `tidegate plugin test` of an example with the config of its README.
async fn example(name: &str, more: &[&str]) -> Value {
    let folder = TempDir::new().expect("a folder");
    let (config, plugin) = (readme(&folder, name), components::plugin(name));
    let mut arguments = vec!["plugin", "test", text(&plugin), "--config", text(&config), "--json"];
    // The slowest check has tests of its own.
    let only = BUT_MEMORY.iter().flat_map(|name| ["--only", name]);
    arguments.extend(only.chain(more.iter().copied()));
    let output = tidegate(&arguments).await;
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(output.code, Some(if report["passed"] == true { 0 } else { 3 }), "{output:?}");
    report
}

#[tokio::test]
async fn the_examples_pass_with_the_configs_of_their_readmes() {
    for name in ["audit", "journal", "rate-limit", "stamp", "webhook-events"] {
        let report = example(name, &[]).await;
        assert_eq!(report["passed"], true, "{name}: {report:#}");
    }
    let report = example("api-key", &["--header", "x-api-key: open-sesame"]).await;
    assert_eq!(report["passed"], true, "{report:#}");
    let introspection = r#"{"active":true,"sub":"ada","scope":"orders"}"#;
    let report =
        example("token-auth", &["--header", "authorization: Bearer abc", "--http-answer", introspection]).await;
    assert_eq!(report["passed"], true, "{report:#}");
}

#[tokio::test]
async fn the_example_that_never_ends_fails_to_stop_and_nothing_else() {
    let report = example("stubborn", &[]).await;
    let checks = report["checks"].as_array().expect("a list");
    let failed: Vec<&Value> =
        checks.iter().filter(|check| check["outcome"] == "failed").map(|check| &check["name"]).collect();
    assert_eq!(failed, ["stop-idle"], "{report:#}");
    assert_eq!((&report["schema"], &report["counts"]["failed"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn people_see_what_failed_and_what_to_do_and_programs_get_xml() {
    let folder = TempDir::new().expect("a folder");
    let (junit, plugin) = (folder.path().join("report.xml"), components::guest("careless"));
    let only = ["--only", "imports", "--only", "deferred", "--only", "malformed"];
    let mut arguments = vec!["plugin", "test", text(&plugin), "--set", "mistake=decode", "--junit", text(&junit)];
    arguments.extend(only);
    let output = tidegate(&arguments).await;
    assert_eq!(output.code, Some(3), "{output:?}");
    for expected in [
        "  passed   imports    ",
        "  skipped  deferred   it has no on-deferred",
        "  FAILED   malformed  236 malformed exchanges",
        "malformed failed. It is to prove:",
        "    hint: return an error, or answer, where the hook panics",
        "1 passed, 1 failed, 1 skipped in ",
    ] {
        assert!(output.stdout.contains(expected), "{expected}\n{}", output.stdout);
    }
    let xml = std::fs::read_to_string(&junit).expect("it was written");
    let elements = well_formed(&xml).unwrap_or_else(|problem| panic!("{problem}\n{xml}"));
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!((count("testcase"), count("failure"), count("skipped")), (3, 1, 1), "{xml}");
    assert!(xml.contains(r#"tests="3" failures="1" errors="0" skipped="1""#), "{xml}");
}

/// The names of the elements of this XML, if it is well-formed as far as JUnit reports go: no comments, no CDATA.
fn well_formed(xml: &str) -> Result<Vec<String>, String> {
    let rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("it has no declaration")?;
    let (mut elements, mut open) = (Vec::new(), Vec::new());
    for piece in rest.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').ok_or_else(|| format!("an open tag: <{piece}"))?;
        let entities = [tag, text].concat();
        for entity in entities.split('&').skip(1) {
            if !["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)) {
                return Err(format!("a bare ampersand: &{entity}"));
            }
        }
        let name: String = tag.trim_matches('/').chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("an open quote: <{tag}>"));
        }
        if tag.starts_with('/') {
            if open.pop().as_ref() != Some(&name) {
                return Err(format!("</{name}> ends another element"));
            }
            continue;
        }
        elements.push(name.clone());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(elements) } else { Err(format!("never ended: {open:?}")) }
}

#[tokio::test]
async fn what_cannot_be_tested_is_an_error_with_something_to_do() {
    let folder = TempDir::new().expect("a folder");
    let module = folder.path().join("core.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0").expect("written");
    let several = folder.path().join("several.toml");
    std::fs::write(
        &several,
        "[[plugin]]\nname = \"one\"\npath = \"one.wasm\"\n[[plugin]]\nname = \"two\"\npath = \"two.wasm\"\n",
    )
    .expect("written");
    let (stamp, wrong) = (components::plugin("stamp"), components::guest("wrong-world"));
    for (arguments, error, hint) in [
        (vec![text(&module)], "a core WebAssembly module, not a component", "wasm-tools component new"),
        (vec![text(&wrong)], "exports none of the hooks", "was it built for another host?"),
        (vec!["nowhere.wasm"], "cannot read the file", ""),
        (vec![text(&stamp), "--only", "stop-idel"], "there is no check `stop-idel`", "did you mean `stop-idle`?"),
        (vec![text(&stamp), "--set", "name"], "has no name or no value", "write NAME=VALUE"),
        (vec![text(&stamp), "--plugin-config", "[1]"], "--plugin-config is no JSON object", "for example"),
        (vec![text(&stamp), "--header", "a b: c"], "is no header field", "write `NAME: VALUE`"),
        (vec![text(&stamp), "--path", "orders"], "is no path", "begins with `/`"),
        (vec![text(&stamp), "--config", text(&several)], "has several plugins", "`--name`: one, two"),
        (vec![text(&stamp), "--config", text(&several), "--name", "on"], "has no plugin `on`", "did you mean `one`?"),
        (vec![], "tidegate-plugin.toml: No such file", "`tidegate plugin new NAME` makes a project"),
    ] {
        let arguments: Vec<&str> = ["plugin", "test"].into_iter().chain(arguments).collect();
        let output = tidegate(&arguments).await;
        assert_eq!((output.code, &*output.stdout), (Some(2), ""), "{arguments:?} {output:?}");
        assert!(output.stderr.starts_with("error: "), "{output:?}");
        assert!(output.stderr.contains(error) && output.stderr.contains(hint), "{output:?}");
    }
}

#[tokio::test]
async fn a_config_that_configure_refuses_says_how_to_pass_another() {
    let plugin = components::plugin("api-key");
    let output = tidegate(&["plugin", "test", text(&plugin), "--only", "load"]).await;
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stdout.contains("missing field `keys`"), "{output:?}");
    assert!(output.stdout.contains("hint: say what it wants: `--set KEY=VALUE`"), "{output:?}");
}

#[tokio::test]
async fn an_import_that_the_config_does_not_grant_fails_imports_and_load() {
    let folder = TempDir::new().expect("a folder");
    let config = folder.path().join("tidegate.toml");
    std::fs::write(&config, "[[plugin]]\nname = \"audit\"\npath = \"audit.wasm\"\n").expect("written");
    let plugin = components::plugin("audit");
    let output = tidegate(&["plugin", "test", text(&plugin), "--config", text(&config), "--json"]).await;
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(
        (output.code, &report["counts"]["failed"], &report["counts"]["skipped"]),
        (Some(3), &json!(2), &json!(11))
    );
    let advice = report.pointer("/checks/0/problems/0/advice").and_then(Value::as_str).unwrap_or_default();
    assert!(advice.contains("outbox = [\"events.*\"]"), "{report:#}");
}

#[tokio::test]
async fn the_checks_can_be_listed() {
    let output = tidegate(&["plugin", "test", "--list"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    for check in &CHECKS {
        assert!(output.stdout.contains(check.name) && output.stdout.contains(check.proves), "{output:?}");
    }
}

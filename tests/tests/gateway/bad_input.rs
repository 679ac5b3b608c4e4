//! What an operator can get wrong on the command line, in the config and with plugin files: one clear message for each,
//! with the documented exit code, and never a panic.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tidegate_tests::components;
use tidegate_tests::gateway::{ConfigFile, Output, PluginTable, TestGateway, tidegate};
use tidegate_tests::origin::Origin;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn config() -> ConfigFile {
    ConfigFile::before(([127, 0, 0, 1], 9).into()).route("/", &[])
}

/// What every refusal has.
#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let Output { stdout, stderr, .. } = output;
    assert_eq!(output.code, Some(code), "{stderr}");
    // The log may have lines before it; what was asked of the operator is not among them.
    let errors = stderr.lines().find(|line| !line.starts_with('{')).unwrap_or_default();
    assert!(errors.starts_with("error: "), "{stderr}");
    assert_eq!(stdout, "", "results go to stdout, errors do not");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in:\n{stderr}");
    }
    for wrong in ["panicked", "RUST_BACKTRACE", "stack backtrace", "src/", ".rs:", "\u{1b}"] {
        assert!(!stderr.contains(wrong), "{wrong:?} in:\n{stderr}");
    }
}

/// `run` and `check` say the same about a config.
async fn both(file: &Path, parts: &[&str]) {
    for command in ["run", "check"] {
        refused(&tidegate(&[command, "--config", &file.display().to_string()]).await, 2, parts);
    }
}

/// What `run` and `check` say about a config with this plugin.
async fn with_plugin(plugin: PluginTable, parts: &[&str]) {
    let folder = folder();
    both(&config().plugin(plugin).written(folder.path()), parts).await;
}

#[tokio::test]
async fn a_config_that_is_not_there() {
    both(&folder().path().join("none.toml"), &["cannot read the config file", "none.toml", "hint: "]).await;
    both(folder().path(), &["cannot read the config file", "hint: "]).await;
}

#[tokio::test]
async fn a_config_that_is_not_toml() {
    let folder = folder();
    let file = folder.path().join("tidegate.toml");
    for text in ["[server\n", "\0\0\0", "= 1\n", "[[route]]\npath = \"/\n"] {
        fs::write(&file, text).expect("written");
        both(&file, &["not valid TOML", "tidegate.toml"]).await;
    }
    fs::write(&file, b"\xff\xfe[server]\n").expect("written");
    both(&file, &["not UTF-8"]).await;
    fs::write(&file, vec![b'#'; 2 << 20]).expect("written");
    both(&file, &["longer than", "hint: "]).await;
}

#[tokio::test]
async fn unknown_keys_are_named_all_at_once() {
    let folder = folder();
    let file = folder.path().join("tidegate.toml");
    let text = config().text()
        + "[[plugin]]\nname = 'a'\npath = 'a.wasm'\ninstanses = 2\n[plugin.limits]\ncpus = '1ms'\n[outbocks]\nx = 1\n";
    fs::write(&file, text.replace("[shutdown]", "[shutdown]\ngrase = '1s'")).expect("written");
    both(&file, &["grase", "instanses", "cpus", "outbocks", "hint: "]).await;
    let output = tidegate(&["check", "--config", &file.display().to_string()]).await;
    let problems = output.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(problems, 5, "the four keys and the file that is not there:\n{}", output.stderr);
}

#[tokio::test]
async fn budgets_that_do_not_fit_into_grace() {
    let folder = folder();
    let config = config().shutdown("grace = '3s'").shutdown("drain = '2s'").plugin(PluginTable::example("journal"));
    both(&config.written(folder.path()), &["the shutdown needs 8.25s, but `grace` is 3s", "5.25s too short", "hint: "])
        .await;
    let config = self::config().shutdown("min_drain = '21s'");
    both(&config.written(folder.path()), &["`min_drain` is 21s", "`grace` leaves"]).await;
}

#[tokio::test]
async fn plugin_files_that_are_no_plugins() {
    let folder = folder();
    let path = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, bytes).expect("written");
        file
    };
    let whole = components::read(&components::plugin("stamp"));
    let half = whole.get(..whole.len() / 2).expect("half");
    let module = wat::parse_str("(module)").expect("well-formed");
    let plugins = [
        ("module", path("module.wasm", &module), "a core WebAssembly module", "hint: "),
        ("cut", path("cut.wasm", half), "not a valid WebAssembly component", "hint: "),
        ("text", path("text.wasm", b"#!/bin/sh\n"), "not a valid WebAssembly component", "hint: "),
        ("empty", path("empty.wasm", b""), "not a valid WebAssembly component", "hint: "),
        ("wrong-world", components::guest("wrong-world"), "exports none of the hooks", "hint: "),
    ];
    let mut all = config();
    for (name, file, message, hint) in &plugins {
        with_plugin(PluginTable::file(name, file.clone()), &[message, hint, &format!("plugin `{name}`")]).await;
        let shown = file.display().to_string();
        refused(&tidegate(&["inspect", &shown]).await, 2, &[&shown, message, hint]);
        refused(&tidegate(&["inspect", "--json", &shown]).await, 2, &[&shown, message, hint]);
        all = all.plugin(PluginTable::file(name, file.clone()));
    }
    // All of them at once.
    let file = all.written(folder.path());
    let names = plugins.each_ref().map(|(name, ..)| format!("plugin `{name}`"));
    both(&file, &names.each_ref().map(String::as_str)).await;
    let missing = folder.path().join("missing.wasm");
    with_plugin(PluginTable::file("missing", missing.clone()), &["missing.wasm", "there is no such file", "hint: "])
        .await;
    refused(&tidegate(&["inspect", &missing.display().to_string()]).await, 2, &["missing.wasm", "No such file"]);
    refused(
        &tidegate(&["inspect", &folder.path().display().to_string()]).await,
        2,
        &[&folder.path().display().to_string()],
    );
    let swapped = PluginTable::example("stamp").set(&format!("sha256 = '{}'", "0".repeat(64)));
    with_plugin(swapped, &["has the digest sha256:", "hint: "]).await;
}

#[tokio::test]
async fn a_configure_that_refuses_stops_the_start_with_the_plugins_own_words() {
    let keys = PluginTable::example("api-key").config("keys = []");
    with_plugin(keys, &["plugin `api-key`", "configure", "`keys` is empty: nobody would be let through"]).await;
    let unknown = PluginTable::example("stamp").config("valeu = 'x'");
    with_plugin(unknown, &["plugin `stamp`", "configure", "valeu"]).await;
    with_plugin(PluginTable::guest("no-shutdown").config("a = 1"), &["exports no `configure`", "hint: "]).await;
}

#[tokio::test]
async fn a_configure_that_does_not_end_well_stops_the_start() {
    for (how, says) in [
        ("error", "the hostile plugin returns an error"),
        ("trap", "trapped: "),
        ("panic", "the hostile plugin panics"),
        ("spin", "stopped after"),
        ("sleep", "stopped after"),
        ("allocate", "out of memory"),
        ("recurse", "stack overflow"),
        ("giant-string", "configure: refused"),
    ] {
        let plugin = PluginTable::hostile("first").config(&format!("configure = '{how}'")).limit("configure = '500ms'");
        let folder = folder();
        let file = config().plugin(plugin).written(folder.path());
        let output = tidegate(&["run", "--config", &file.display().to_string()]).await;
        assert_eq!(output.code, Some(2), "{how}: {}", output.stderr);
        let error = output.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains("plugin `first`") && output.stderr.contains(says), "{how}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&ConfigFile::before(origin.address()).route("/", &[])).await;
    let folder = folder();
    let taken = gateway.address().to_string();
    let file = config().server(&format!("listen = '{taken}'")).written(folder.path());
    let output = tidegate(&["run", "--config", &file.display().to_string()]).await;
    refused(&output, 1, &[&format!("cannot listen on {taken}: address already in use"), "hint: "]);
    // The admin port likewise.
    let taken = gateway.admin().to_string();
    let text = config().text().replace("[admin]\nlisten = '127.0.0.1:0'", &format!("[admin]\nlisten = '{taken}'"));
    fs::write(&file, text).expect("written");
    let output = tidegate(&["run", "--config", &file.display().to_string()]).await;
    refused(&output, 1, &[&format!("cannot listen on {taken}: address already in use"), "hint: "]);
    // The one that was there first has not noticed.
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_report_that_is_none() {
    let folder = folder();
    let report = async |name: &str, text: &str, parts: &[&str]| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        let shown = file.display().to_string();
        refused(&tidegate(&["report", &shown]).await, 2, &[&[shown.as_str()], parts].concat());
    };
    report("empty.json", "", &["it is empty", "hint: "]).await;
    report("text.json", "exit code: 0", &["is not a shutdown report", "hint: "]).await;
    report("other.json", "{\"name\": \"tidegate\"}", &["is not a shutdown report", "hint: "]).await;
    report("cut.json", "{\"schema\": 1, \"reason\": \"term", &["is cut off", "hint: "]).await;
    report("later.json", "{\"schema\": 2}", &["has schema 2", "hint: "]).await;
    report("wrong.json", "{\"schema\": 1, \"phases\": 7}", &["is not a shutdown report", "hint: "]).await;
    report("deep.json", &"[".repeat(100_000), &["deep.json", "hint: "]).await;
    let missing = folder.path().join("missing.json").display().to_string();
    refused(&tidegate(&["report", &missing]).await, 2, &["missing.json"]);
    refused(&tidegate(&["report", &folder.path().display().to_string()]).await, 2, &["cannot read"]);
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_found_before_the_start() {
    let folder = folder();
    let file = config().written(folder.path()).display().to_string();
    let nowhere = folder.path().join("none/report.json").display().to_string();
    let output = tidegate(&["run", "--config", &file, "--shutdown-report", &nowhere]).await;
    refused(&output, 2, &["the shutdown report cannot be written to", "hint: "]);
}

#[tokio::test]
async fn a_page_that_cannot_be_written() {
    let folder = folder();
    let file = folder.path().join("report.json");
    let text = r#"{"schema": 1, "reason": "terminate", "signal": "SIGTERM", "grace_ms": 30000, "took_ms": 0, "phases": [],
        "requests": {"in_flight": 0, "completed": 0, "cut": 0}, "plugins": [], "exit_code": 0}"#;
    fs::write(&file, text).expect("written");
    let shown = file.display().to_string();
    let nowhere = folder.path().join("none/report.html").display().to_string();
    let output = tidegate(&["report", &shown, "--html", &nowhere]).await;
    refused(&output, 2, &["cannot write the timeline to", &nowhere, "hint: the folder must exist"]);
    let output = tidegate(&["report", &shown, "--html", &folder.path().display().to_string()]).await;
    refused(&output, 2, &["cannot write the timeline to", "hint: "]);
    // A slip of the hand does not cost the report.
    let same = folder.path().join("./report.json").display().to_string();
    refused(&tidegate(&["report", &shown, "--html", &same]).await, 2, &["is the report itself", "hint: "]);
    assert_eq!(fs::read_to_string(&file).expect("still there"), text);
    refused(&tidegate(&["report", &shown, "--html"]).await, 2, &["hint: "]);
}

#[tokio::test]
async fn command_lines_that_make_no_sense() {
    for line in [&["serve"][..], &["run", "--confg", "x"], &["report"], &["inspect"], &["run", "x", "y"]] {
        refused(&tidegate(line).await, 2, &["hint: "]);
    }
}

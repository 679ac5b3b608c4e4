//! Snapshots of what an operator reads, and the values that come out of files that are fine.
#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

mod any_file;
mod background;
mod book;
mod changes;
mod files;
mod keyvalue;
mod names;
mod outbound;
mod outbox;
mod plugin;
mod plugins_alone;
mod problems;
mod reference;
mod settings;
mod sinks;
mod telling;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// Compare the whole text of what is wrong with `input`.
#[track_caller]
fn check(input: &str, expected: &str) {
    let shown = match Config::parse(input, Path::new("tidegate.toml")) {
        Ok(_) => "no problem".to_owned(),
        Err(diagnostics) => diagnostics.to_string(),
    };
    same(&shown, expected);
}

#[track_caller]
fn same(shown: &str, expected: &str) {
    let trim = |text: &str| text.trim_matches('\n').lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert!(trim(shown) == trim(expected), "got:\n<<<{shown}>>>\nexpected:\n{expected}");
}

/// What is wrong with a file that serves one route and has this at its top.
#[track_caller]
fn check_with(top: &str, expected: &str) {
    check(&with(top), expected);
}

/// A file that serves one route and has this at its top.
fn with(top: &str) -> String {
    const REST: &str = r#"
[[upstream]]
name = "api"
targets = ["http://127.0.0.1:9000"]
[[route]]
path = "/"
upstream = "api"
"#;
    format!("{top}{REST}")
}

/// A file with a plugin that has these lines.
fn with_plugin(lines: &str) -> String {
    with(&format!("[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n{lines}\n"))
}

/// Every example of a document is a file that is fine. How many there are.
#[track_caller]
fn check_examples(document: &str) -> usize {
    let examples = document.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    examples.map(|example| check(example, "no problem")).count()
}

fn parse(input: &str) -> Config {
    Config::parse(input, Path::new("/etc/tidegate/tidegate.toml")).expect("the file is fine")
}

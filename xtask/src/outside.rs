//! An author's crate, outside of this workspace, as the tutorial makes one: a project of `tidegate plugin new`, the tutorial's
//! plugin and its test with `tidegate-testing`, built and tested by the tutorial's commands.
//!
//! What the harness needs and does not say is found nowhere else: in this workspace its dependencies get features that other
//! crates ask for.

use crate::step;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

const NAME: &str = "hello-plugin";

/// What the tutorial shows, from the files that the book takes it from.
const PLUGIN: &str = include_str!("../../docs/samples/hello-plugin/src/lib.rs");
const IMPORTS: &str = include_str!("../../tests/tests/book/imports.rs");
const TEST: &str = include_str!("../../tests/tests/book/samples.rs");

pub(crate) fn prove() -> Result<()> {
    step::run("tidegate", step::cargo().args(["build", "--workspace", "--bins"]))?;
    let tidegate = step::target().join("debug").join("tidegate");
    let folder = step::root().join("target/outside");
    let project = folder.join(NAME);
    // What it has compiled stays, with the engine in it, so that only the first time takes minutes.
    let built = folder.join("target");
    if project.exists() {
        fs::remove_dir_all(&project).with_context(|| format!("cannot remove {}", project.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    step::run("a project outside", Command::new(&tidegate).current_dir(&folder).args(["plugin", "new", NAME]))?;
    fill(&project)?;
    step::run("its plugin", Command::new(&tidegate).current_dir(&project).args(["plugin", "build"]))?;
    step::run("its tests", step::cargo().current_dir(&project).arg("test").env("CARGO_TARGET_DIR", built))
}

/// What the tutorial has one write.
fn fill(project: &Path) -> Result<()> {
    write(&project.join("src/lib.rs"), PLUGIN)?;
    let test = anchored(TEST, "hello").replace("components::sample(\"hello-plugin\")", "\"target/hello-plugin.wasm\"");
    fs::create_dir_all(project.join("tests")).context("cannot make the folder of its tests")?;
    write(&project.join("tests/stop.rs"), &format!("{}\n{test}", anchored(IMPORTS, "imports")))?;
    change(&project.join("tidegate-plugin.toml"), |text| {
        text.replace("header = \"x-visit\"", "greeting = \"good morning\"")
    })?;
    let harness = step::root().join("host/testing");
    change(&project.join("Cargo.toml"), |text| {
        format!(
            "{text}\n[dev-dependencies]\nserde_json = \"1\"\ntidegate-testing = {{ path = \"{}\" }}\n",
            harness.display()
        )
    })
}

fn change(file: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    write(file, &change(&text))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The lines between the two marks of this name.
fn anchored(text: &str, name: &str) -> String {
    let (begin, end) = (format!("// ANCHOR: {name}"), format!("// ANCHOR_END: {name}"));
    let inside = text.lines().skip_while(|line| line.trim() != begin).skip(1).take_while(|line| line.trim() != end);
    inside.flat_map(|line| [line, "\n"]).collect()
}

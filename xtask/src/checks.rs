//! `test`, `demo` and `ci`.

use crate::{campaign, languages, nats, outside, plugins, step};
use anyhow::Result;
use std::process::Command;

/// The workspaces of guests, which are checked and tested natively as well.
const GUEST_WORKSPACES: [&str; 3] = ["example-plugins", "docs/samples", "tests/guests"];

pub(crate) fn test(args: &[String]) -> Result<()> {
    plugins::build_default()?;
    languages::build_for_tests()?;
    let nats = nats::prepare();
    let mut tests = step::cargo();
    if step::succeeds(step::cargo().args(["nextest", "--version"])) {
        tests.args(["nextest", "run", "--workspace"]).args(args);
    } else {
        tests.args(["test", "--workspace", "--lib", "--bins", "--tests", "--"]).args(args);
    }
    step::run("tests", nats.tell(&mut tests))?;
    step::run("examples in the documentation", step::cargo().args(["test", "--workspace", "--doc"]))?;
    for workspace in GUEST_WORKSPACES {
        step::run(
            &format!("native tests of {workspace}"),
            guest_cargo(workspace, "test").args(["--workspace", "--quiet"]),
        )?;
    }
    Ok(())
}

pub(crate) fn demo(args: &[String]) -> Result<()> {
    plugins::build_default()?;
    // The whole workspace, as the tests do: with one package alone, cargo would choose other features for shared
    // dependencies, and compile wasmtime again.
    step::run("tidegate", step::cargo().args(["build", "--workspace", "--bins"]))?;
    let tidegate = step::target().join("debug").join("tidegate");
    step::run(
        "demo",
        Command::new(tidegate).current_dir(step::root()).args(["demo", "--plugins", "target/plugins"]).args(args),
    )
}

pub(crate) fn ci(skip_test: bool) -> Result<()> {
    if !skip_test {
        test(&[])?;
    }
    step::run("formatting", step::cargo().args(["fmt", "--all", "--check"]))?;
    for workspace in GUEST_WORKSPACES {
        let workspace_root = step::root().join(workspace);
        step::run(
            &format!("formatting of {workspace}"),
            step::cargo().current_dir(workspace_root).args(["fmt", "--check"]),
        )?;
    }
    let strict = ["--", "--deny", "warnings"];
    step::run("lints", step::cargo().args(["clippy", "--workspace", "--all-targets", "--locked"]).args(strict))?;
    step::run(
        "lints of the SDK's features",
        step::cargo().args(["clippy", "--package", "tidegate-sdk", "--all-features", "--all-targets"]).args(strict),
    )?;
    for workspace in GUEST_WORKSPACES {
        step::run(
            &format!("lints of {workspace}"),
            guest_cargo(workspace, "clippy").args(["--workspace", "--all-targets"]).args(strict),
        )?;
    }
    step::run(
        "documentation",
        step::cargo().args(["doc", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    campaign::short()?;
    outside::prove()?;
    demo(&[])
}

/// Cargo for the host in a workspace of guests.
fn guest_cargo(workspace: &str, command: &str) -> Command {
    let mut cargo = step::cargo();
    cargo
        .current_dir(step::root().join(workspace))
        .args([command, "--locked", "--target-dir"])
        .arg(step::guest_target());
    cargo
}

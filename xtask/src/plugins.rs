//! `cargo xtask plugins`: the example plugins, the book's samples and the tests' guests, from source to components.

use crate::{languages, step};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tidegate_toolchain::rust::{self, Profile, Source, Target, Toolchain};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to compile to. For wasm32-unknown-unknown the output is in target/plugins-unknown and so on
    #[arg(long, value_enum, default_value = "wasm32-wasip2")]
    target: Target,
    /// Use the compiler from here alone, instead of the first that works
    #[arg(long, value_enum)]
    toolchain: Option<Source>,
    /// Build those in another language instead, with tools that are got into target/languages
    #[arg(long, value_enum, conflicts_with_all = ["target", "toolchain", "crates"])]
    lang: Option<languages::Wanted>,
    /// Crates of your own, to be built instead; the components land in each one's target folder
    #[arg(value_name = "CRATE")]
    crates: Vec<PathBuf>,
}

/// Builds for the target that everything else uses.
pub(crate) fn build_default() -> Result<()> {
    build(&Args { target: Target::Wasip2, toolchain: None, lang: None, crates: Vec::new() })
}

pub(crate) fn build(args: &Args) -> Result<()> {
    if let Some(wanted) = args.lang {
        return languages::build(wanted);
    }
    let toolchain = rust::prepare(args.target, args.toolchain, step::root(), &|line| eprintln!("    {line}"))?;
    if !args.crates.is_empty() {
        return args.crates.iter().try_for_each(|folder| build_own(&toolchain, args.target, folder));
    }
    for (source, output) in [("example-plugins", "plugins"), ("docs/samples", "samples"), ("tests/guests", "guests")] {
        let workspace = step::root().join(source);
        step::run(
            &format!("{source} to {}", args.target.triple()),
            &mut toolchain.cargo_build(&workspace, &step::guest_target(), Profile::Release)?,
        )?;
        let output = match args.target {
            Target::Wasip2 => format!("target/{output}"),
            Target::Unknown => format!("target/{output}-unknown"),
        };
        collect(&workspace, args.target, &step::root().join(output))?;
    }
    Ok(())
}

/// A crate from anywhere, built in its own folder.
fn build_own(toolchain: &Toolchain, target: Target, folder: &Path) -> Result<()> {
    let folder = folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
    let output = folder.join("target");
    let what = format!("{} to {}", folder.display(), target.triple());
    step::run(&what, &mut toolchain.cargo_build(&folder, &output, Profile::Release)?)?;
    let built = output.join(target.triple()).join("release");
    for entry in fs::read_dir(&built).with_context(|| format!("cannot read {}", built.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            eprintln!("    {}", path.display());
        }
    }
    Ok(())
}

/// Copies the components to where they are looked for, under the names of their packages, and removes what is no
/// longer built.
fn collect(workspace: &Path, target: Target, output: &Path) -> Result<()> {
    let built = step::guest_target().join(target.triple()).join("release");
    fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
    let mut wanted = Vec::new();
    for package in packages(workspace)? {
        let from = built.join(format!("{}.wasm", package.replace('-', "_")));
        let to = output.join(format!("{package}.wasm"));
        let component = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        // A file that stays as it is keeps its time, and nobody takes it for new.
        if fs::read(&to).ok().as_ref() != Some(&component) {
            fs::write(&to, &component).with_context(|| format!("cannot write {}", to.display()))?;
        }
        eprintln!("    {} ({} KB)", relative(&to).display(), component.len() / 1024);
        wanted.push(to);
    }
    for entry in fs::read_dir(output)? {
        let path = entry?.path();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        if is_component && !wanted.contains(&path) && !languages::made(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// The packages of a workspace of guests: its folders, each named like its package.
fn packages(workspace: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(workspace).with_context(|| format!("cannot read {}", workspace.display()))?;
    let mut packages = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            packages.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    packages.sort();
    Ok(packages)
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(step::root()).unwrap_or(path).to_owned()
}

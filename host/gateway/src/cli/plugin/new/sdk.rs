//! The SDK and the contract, as this program carries them: no crate of ours is published.

use std::path::{Path, PathBuf};

use crate::cli::Failure;

/// Path in the repository, and text.
const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The manifest of our workspace, whose versions and lints the SDK inherits.
const WORKSPACE: &str = include_str!("../../../../../../Cargo.toml");

/// The SDK as a workspace in `sdk/`, with the contract beside it.
pub(super) fn sdk() -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut files: Vec<_> =
        SOURCES.iter().map(|(path, text)| (Path::new("sdk").join(path), (*text).to_owned())).collect();
    files.push(("sdk/Cargo.toml".into(), workspace()?));
    Ok(files)
}

/// The contract in `wit/`, and a world of the plugin's own.
pub(super) fn contract() -> Vec<(PathBuf, String)> {
    let contract = SOURCES.iter().filter(|(path, _)| path.starts_with("wit/"));
    let mut files: Vec<_> = contract.map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    files.push(("wit/own.wit".into(), include_str!("../../../../templates/own.wit").to_owned()));
    files
}

/// Of our workspace, what the SDK needs to stand alone.
fn workspace() -> Result<String, Failure> {
    // It is the manifest that this program was built with.
    let broken = || Failure::gateway("the manifest of the SDK that is in this program cannot be used");
    let mut all: toml::Table = WORKSPACE.parse().map_err(|_| broken())?;
    let mut workspace = match all.remove("workspace") {
        Some(toml::Value::Table(workspace)) => workspace,
        _ => return Err(broken()),
    };
    workspace.insert("members".into(), toml::Value::Array(vec!["guest-sdk".into(), "guest-sdk/macros".into()]));
    workspace.remove("exclude");
    let mut inherited = Vec::new();
    for (_, text) in SOURCES.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let manifest: toml::Table = text.parse().map_err(|_| broken())?;
        for key in ["dependencies", "dev-dependencies"] {
            if let Some(toml::Value::Table(dependencies)) = manifest.get(key) {
                inherited.extend(dependencies.keys().cloned());
            }
        }
    }
    if let Some(toml::Value::Table(dependencies)) = workspace.get_mut("dependencies") {
        dependencies.retain(|name, _| inherited.iter().any(|own: &String| *own == *name));
    }
    let manifest = toml::Table::from_iter([("workspace".to_owned(), toml::Value::Table(workspace))]);
    toml::to_string(&manifest).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_stands_alone() {
        let files = sdk().expect("it is in this program");
        for path in
            ["sdk/Cargo.toml", "sdk/guest-sdk/src/lib.rs", "sdk/guest-sdk/macros/Cargo.toml", "sdk/wit/world.wit"]
        {
            assert!(files.iter().any(|(own, _)| own == Path::new(path)), "{path}");
        }
        let manifest = workspace().expect("it is in this program");
        assert!(!manifest.contains("wasmtime") && manifest.contains("wit-bindgen"), "{manifest}");
    }
}

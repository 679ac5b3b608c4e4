//! Puts what a new plugin project is made from into the program: the SDK's sources, the contract, and the versions of both.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = here.ancestors().nth(2).unwrap_or(&here);
    let mut sources = String::from("&[\n");
    for folder in ["guest-sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        let mut files = Vec::new();
        collect(&root.join(folder), &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(root).unwrap_or(&file).display();
            writeln!(sources, "    ({:?}, include_str!({:?})),", name.to_string(), file.display().to_string())
                .map_err(io::Error::other)?;
        }
    }
    sources.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("sdk.rs"), sources)
}

/// The files that belong to the sources.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| ["rs", "toml", "wit"].iter().any(|own| extension == *own)) {
            files.push(path);
        }
    }
    Ok(())
}

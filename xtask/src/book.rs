//! `book`: `docs/` as a book for a browser, by mdBook. Nothing else needs mdBook: the checks of the pages are tests.

use crate::step;
use anyhow::{Result, bail};
use std::ffi::OsString;
use std::process::Command;

/// The version that the book was last built with.
const VERSION: &str = "0.5.4";

pub(crate) fn build() -> Result<()> {
    let own = step::target().join("tools/bin/mdbook").into_os_string();
    let mut programs = [own, OsString::from("mdbook")].into_iter();
    let Some(mdbook) = programs.find(|program| step::succeeds(Command::new(program).arg("--version"))) else {
        bail!(
            "mdbook is not installed\nhint: `cargo install mdbook --locked --version {VERSION} --root target/tools`, which takes \
             some minutes; the pages can be read in docs/ as they are"
        );
    };
    let output = step::target().join("book");
    let mut build = Command::new(mdbook);
    build.arg("build").arg(step::root().join("docs")).arg("--dest-dir").arg(&output);
    step::run("book", &mut build)?;
    eprintln!("    {}", output.join("index.html").display());
    Ok(())
}

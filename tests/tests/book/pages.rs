//! The contents name every page once, every link leads somewhere, and every piece of Rust is a piece of a file that is compiled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::markdown::{self, Kind};

/// Files of these folders are compiled by the tests.
const COMPILED: [&str; 4] = ["docs/samples/", "example-plugins/", "guest-sdk/", "tests/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is a folder of the repository").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages under `docs`, without the table of contents.
fn pages() -> BTreeSet<PathBuf> {
    let mut pages = BTreeSet::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it is a folder") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() && !path.ends_with("samples") {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "md") && !path.ends_with("SUMMARY.md") {
                pages.insert(path);
            }
        }
    }
    pages
}

#[test]
fn the_contents_name_every_page_once() {
    let docs = root().join("docs");
    let named = markdown::links(&read(&docs.join("SUMMARY.md")));
    let unique: BTreeSet<PathBuf> = named.iter().map(|page| docs.join(page)).collect();
    assert_eq!(unique.len(), named.len(), "a page stands there twice: {named:?}");
    assert_eq!(unique, pages());
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in markdown::links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().expect("a folder").join(file) };
            let is_there = match heading {
                "" => target.exists(),
                heading => target.is_file() && markdown::anchors(&read(&target)).iter().any(|it| it == heading),
            };
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A page with each piece of Rust as its file has it now.
fn renewed(page: &Path, text: &str) -> Result<String, String> {
    let mut renewed = String::new();
    let mut source = None;
    let mut is_piece = false;
    for line in markdown::lines(text) {
        if line.kind == Kind::Opens && line.text.starts_with("```rust") {
            let Some(source) = source else {
                return Err(format!("{}: Rust that is not said to be `<!-- from FILE: ANCHOR -->`", page.display()));
            };
            renewed += &format!("{}\n{}", line.text, piece(source)?);
            is_piece = true;
            continue;
        }
        if is_piece && line.kind == Kind::Code {
            continue;
        }
        is_piece = false;
        renewed += line.text;
        renewed.push('\n');
        source = line.text.strip_prefix("<!-- from ").and_then(|rest| rest.strip_suffix(" -->"));
    }
    Ok(renewed)
}

/// The piece of a file between `// ANCHOR: name` and `// ANCHOR_END: name`, without other such lines and as far to the left
/// as it goes.
fn piece(source: &str) -> Result<String, String> {
    let (file, name) = source.split_once(": ").ok_or_else(|| format!("{source}: it has no anchor"))?;
    if !COMPILED.iter().any(|folder| file.starts_with(folder)) {
        return Err(format!("{file} is not compiled by the tests"));
    }
    let text = read(&root().join(file));
    let is = |line: &&str, what: &str| line.trim() == format!("// {what}: {name}");
    let mut lines = text.lines().skip_while(|line| !is(line, "ANCHOR"));
    lines.next().ok_or_else(|| format!("{file} has no `// ANCHOR: {name}`"))?;
    let kept = lines.take_while(|line| !is(line, "ANCHOR_END")).filter(|line| !line.trim().starts_with("// ANCHOR"));
    let kept: Vec<&str> = kept.collect();
    let indent = |line: &&&str| line.len() - line.trim_start().len();
    let least = kept.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(&line)).min().unwrap_or(0);
    Ok(kept.iter().map(|line| format!("{}\n", line.get(least..).unwrap_or_default())).collect())
}

/// With `TIDEGATE_BOOK=update` the pages are written anew.
#[test]
fn every_piece_of_rust_is_one_that_is_compiled() {
    let is_update = std::env::var_os("TIDEGATE_BOOK").is_some_and(|value| value == "update");
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        match renewed(&page, &text) {
            Ok(renewed) if renewed == text => {}
            // In one step, since other tests read it.
            Ok(renewed) if is_update => {
                let new = page.with_extension("new");
                std::fs::write(&new, renewed).and_then(|()| std::fs::rename(&new, &page)).expect("it is written");
            }
            Ok(_) => wrong.push(format!("{}: a piece of Rust is not as its file has it", page.display())),
            Err(problem) => wrong.push(problem),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\nhint: run this test with TIDEGATE_BOOK=update");
}

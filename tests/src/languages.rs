//! The components that `cargo xtask plugins --lang all` has built: one example and one guest that misbehaves in each language
//! beside Rust.
//!
//! Their tools are not everywhere. A test of a language whose components are not there is skipped, and says so; with
//! `TIDEGATE_TEST_LANGUAGES=required` it fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_runtime::Limits;
use tidegate_toolchain::{Language, are_required};

use crate::components;
use crate::plugins::{Fixture, runtime};

/// Limits under which the components of a language run: those of `docs/languages.md` for the memory, and times that are not
/// met by chance.
#[must_use]
pub fn limits(language: Language) -> Limits {
    let memory = match language {
        Language::JavaScript => 128 << 20,
        Language::Python => 64 << 20,
        Language::C => 32 << 20,
    };
    let time = Duration::from_secs(20);
    Limits { configure: time, cpu: time, wall: time, shutdown: time, memory, ..Limits::default() }
}

/// The component of a language, compiled into the cache that tests share. `None` if it is not there, which is said.
///
/// # Panics
/// If it is not there and has to be.
pub async fn example(language: Language) -> Option<PathBuf> {
    let component = built(language)?;
    compile(language, &component).await;
    Some(component)
}

/// The component of a language, as it was built; where it is, the tools of the language can be had. `None` if it is not there,
/// which is said.
///
/// # Panics
/// If it is not there and has to be.
#[expect(clippy::print_stderr, reason = "whoever reads the tests' output has to see what was not tested")]
#[must_use]
pub fn built(language: Language) -> Option<PathBuf> {
    let component = components::plugin(&language.of("visits"));
    if component.is_file() {
        return Some(component);
    }
    let why = format!(
        "there is no plugin in {}: `cargo xtask plugins --lang all` builds it, or says why not",
        language.name()
    );
    assert!(!are_required(), "{why}");
    eprintln!("skipped: {why}");
    None
}

/// The same for the guest that misbehaves.
///
/// # Panics
/// If it is not there and has to be.
pub async fn hostile(language: Language) -> Option<PathBuf> {
    example(language).await?;
    let component = components::guest(&language.of("hostile"));
    compile(language, &component).await;
    Some(component)
}

/// Have it in the cache. Some of these take half a minute in a debug build: longer than a test waits for its gateway, and
/// too long to be done by several tests at a time.
async fn compile(language: Language, component: &Path) {
    let lock = component.with_extension("lock");
    let file = File::create(&lock).unwrap_or_else(|error| panic!("{}: {error}", lock.display()));
    // Held until the file is closed, by this process or its end.
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    let _held = locked.unwrap_or_else(|error| panic!("{error}")).unwrap_or_else(|error| panic!("{error}"));
    let runtime = runtime(1);
    let fixture = Fixture { limits: limits(language), ..Fixture::new(component.to_owned()) };
    fixture.load(&runtime).await.unwrap_or_else(|error| panic!("{}: {error}", component.display()));
}

//! A project of a test's own, in a folder that is new.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidegate_tests::gateway::{Output, binary};
use tidegate_tests::languages;
use tidegate_toolchain::Language;

/// A plugin, as `tidegate plugin new` has made it.
pub(crate) struct Project {
    folder: TempDir,
    name: &'static str,
    source: &'static str,
}

impl Project {
    /// Make one in Rust, whose name no other test has: all are built in one folder, where the components of two would be one
    /// file. `None` where plugins in Rust cannot be built without getting a compiler first; that is said.
    pub(crate) fn new(name: &'static str) -> Option<Self> {
        let target = Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip2"]).output();
        let library = target.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        if !library.is_some_and(|library| library.is_dir()) {
            eprintln!("skipped: the Rust toolchain in use has no wasm32-wasip2");
            return None;
        }
        Some(Self::made(name, "rust", "src/lib.rs"))
    }

    /// The same in JavaScript. `None` where its tools could not be had when the repository's plugins were built.
    pub(crate) fn in_javascript(name: &'static str) -> Option<Self> {
        languages::built(Language::JavaScript).map(|_| Self::made(name, "js", "plugin.js"))
    }

    /// The same in Python.
    pub(crate) fn in_python(name: &'static str) -> Option<Self> {
        languages::built(Language::Python).map(|_| Self::made(name, "python", "plugin.py"))
    }

    fn made(name: &'static str, language: &str, source: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = run(tidegate(folder.path()).args(["plugin", "new", name, "--lang", language]));
        assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{}", made.stdout);
        Self { folder, name, source }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// `tidegate` in the project's folder.
    pub(crate) fn tidegate(&self) -> Command {
        tidegate(&self.path())
    }

    /// `cargo` in the project's folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        at_home(cargo.current_dir(self.path()));
        cargo
    }

    /// Change the plugin's source.
    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) {
        let file = self.path().join(self.source);
        let source = std::fs::read_to_string(&file).expect("it has one");
        std::fs::write(&file, change(source)).expect("it can be written");
    }
}

/// `tidegate` in a folder.
pub(crate) fn tidegate(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    at_home(command.current_dir(folder));
    command
}

/// Dependencies are built where the repository's own guests have them, and come from where those came from.
fn at_home(command: &mut Command) {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guest-build");
    command.env("CARGO_TARGET_DIR", target).env("CARGO_NET_OFFLINE", "true").env("CARGO_TERM_COLOR", "never");
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("COLUMNS").stdin(Stdio::null());
}

/// Run it to its end. A build may take minutes, so there is no limit but the test runner's.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

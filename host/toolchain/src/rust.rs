//! What it takes to compile Rust to WebAssembly, got from wherever this machine can get it.
//!
//! In this order: the target is installed; rustup can install it; Debian has a compiler with the standard library's
//! source, which is then built along with the guest. Nothing else is tried, and the error names all three.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{command, debian};

/// What guests are compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// A component that may use what Rust's standard library needs of WASI
    #[value(name = "wasm32-wasip2")]
    Wasip2,
    /// A component that imports nothing of WASI but the log
    #[value(name = "wasm32-unknown-unknown")]
    Unknown,
}

impl Target {
    /// Its name for rustc.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self {
            Self::Wasip2 => "wasm32-wasip2",
            Self::Unknown => "wasm32-unknown-unknown",
        }
    }
}

/// Where the compiler for guests comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The target of the Rust toolchain in use
    Installed,
    /// `rustup target add`
    Rustup,
    /// Debian's rustc-web, rust-web-src and wasi-libc
    Debian,
}

impl Source {
    const IN_ORDER: [Self; 3] = [Self::Installed, Self::Rustup, Self::Debian];
}

/// Which of cargo's profiles guests are built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Small and fast, with whatever the manifest says of `[profile.release]`.
    Release,
    /// Quick to build, with debug assertions.
    Debug,
}

impl Profile {
    /// The folder in cargo's target folder.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// How to call cargo for a target.
#[derive(Debug)]
pub struct Toolchain {
    target: Target,
    /// The compiler and its source, if not those in use.
    debian: bool,
    linkers: Linkers,
}

/// Linkers that come with the Rust toolchain in use.
#[derive(Debug)]
pub struct Linkers {
    folder: PathBuf,
}

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "wasi-libc"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std";
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";

/// Makes sure that the guests in `folder` can be built for the target. Without `only`, takes the first source that works.
/// `say` gets what is being done, a line each.
///
/// # Errors
/// When no source works: what was tried, and all that can be done by hand.
pub fn prepare(target: Target, only: Option<Source>, folder: &Path, say: &dyn Fn(&str)) -> Result<Toolchain> {
    let linkers = Linkers::find(folder)?;
    let mut tried = Vec::new();
    for source in Source::IN_ORDER.into_iter().filter(|source| only.is_none_or(|only| only == *source)) {
        match attempt(source, target, folder, say) {
            Ok(how) => {
                say(&format!("guest toolchain: {how}"));
                return Ok(Toolchain { target, debian: source == Source::Debian, linkers });
            }
            Err(error) => tried.push(format!("  {source:?}: {error:#}")),
        }
    }
    bail!(
        "no way to compile for {target}\n{tried}\nhint: do one of these by hand, then run this again:\n  \
         rustup target add {target}\n  \
         apt-get update && apt-get install --no-install-recommends {packages}    (as root, on Debian)\n  \
         install a Rust toolchain that has the target {target}",
        target = target.triple(),
        tried = tried.join("\n"),
        packages = DEBIAN_PACKAGES.join(" "),
    )
}

fn attempt(source: Source, target: Target, folder: &Path, say: &dyn Fn(&str)) -> Result<String> {
    let triple = target.triple();
    match source {
        Source::Installed => {
            if !installed(target, folder)? {
                bail!("the Rust toolchain in use has no {triple}");
            }
            Ok(format!("{triple} is installed"))
        }
        Source::Rustup => {
            say(&format!("guest toolchain: rustup target add {triple}"));
            // Without the patience that a long download may deserve: there is another way.
            command::output(
                Command::new("rustup")
                    .args(["target", "add", triple])
                    .env("RUSTUP_MAX_RETRIES", "1")
                    .env("RUSTUP_DOWNLOAD_TIMEOUT", "30")
                    .current_dir(folder),
            )?;
            if !installed(target, folder)? {
                bail!("rustup says that it installed {triple}, but rustc does not find it");
            }
            Ok(format!("rustup has installed {triple}"))
        }
        Source::Debian => {
            if !debian_is_there() {
                debian_install(say)?;
            }
            Ok(format!("Debian's compiler, building the standard library for {triple} along with the guests"))
        }
    }
}

/// Whether the compiler in use has the target's standard library.
fn installed(target: Target, folder: &Path) -> Result<bool> {
    let library = command::output(rustc(folder).args(["--print", "target-libdir", "--target", target.triple()]))?;
    Ok(Path::new(&library).is_dir())
}

fn debian_is_there() -> bool {
    [DEBIAN_RUSTC, DEBIAN_STD, DEBIAN_LIBC].into_iter().all(|path| Path::new(path).exists())
}

fn debian_install(say: &dyn Fn(&str)) -> Result<()> {
    let packages = DEBIAN_PACKAGES.join(" ");
    say(&format!("guest toolchain: apt-get install {packages}"));
    let installed = debian::install(debian::Root::Is, &DEBIAN_PACKAGES);
    installed.context("apt-get has to run as root on a Debian that has these packages")?;
    if !debian_is_there() {
        bail!("{packages} are installed, but not all of {DEBIAN_RUSTC}, {DEBIAN_STD} and {DEBIAN_LIBC} are there");
    }
    Ok(())
}

/// Where cargo puts what it builds of the package in `folder`: what `CARGO_TARGET_DIR` says, or `target` in it.
///
/// # Errors
/// When there is no working directory.
pub fn target(folder: &Path) -> std::io::Result<PathBuf> {
    std::path::absolute(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from))
}

/// The compiler in use: the same that cargo would call in this folder.
fn rustc(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")));
    command.current_dir(folder);
    command
}

impl Linkers {
    /// Those of the toolchain that is in use in a folder.
    ///
    /// # Errors
    /// When rustc cannot be run.
    pub fn find(folder: &Path) -> Result<Self> {
        let sysroot = command::output(rustc(folder).args(["--print", "sysroot"]))?;
        let host = command::output(rustc(folder).args(["--print", "host-tuple"]))?;
        Ok(Self { folder: Path::new(&sysroot).join("lib/rustlib").join(host).join("bin") })
    }

    /// The one that makes components.
    #[must_use]
    pub fn component(&self) -> PathBuf {
        self.folder.join("wasm-component-ld")
    }

    /// PATH with the linkers in front.
    fn path(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ours = [self.folder.clone(), self.folder.join("gcc-ld")];
        Ok(std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&path)))?)
    }
}

impl Toolchain {
    /// `cargo build` for the guests of a workspace, into `output`; gives components for either target.
    ///
    /// # Errors
    /// When PATH has something that cannot be in it.
    pub fn cargo_build(&self, workspace: &Path, output: &Path, profile: Profile) -> Result<Command> {
        let mut cargo = command::cargo(workspace);
        cargo.arg("build");
        if profile == Profile::Release {
            cargo.arg("--release");
        }
        cargo
            .args(["--workspace", "--target", self.target.triple(), "--target-dir"])
            .arg(output)
            .env("PATH", self.linkers.path()?);
        let mut flags = Vec::new();
        if self.target == Target::Unknown {
            // The linker of wasm32-wasip2 does here as well: it calls wasm-ld and wraps what comes out in a component.
            flags.push("-Clinker=wasm-component-ld".to_owned());
        }
        if self.debian {
            // Debian's sources go with Debian's compiler; cargo and the linkers are those in use. The switch allows a
            // stable cargo to build the standard library.
            cargo.args(["-Zbuild-std=std,panic_abort"]).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            flags.push(format!("-L{DEBIAN_LIBC}"));
        }
        // Flags that are meant for programs of this machine, from the environment, do not fit here.
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", flags.join(" "));
        Ok(cargo)
    }
}

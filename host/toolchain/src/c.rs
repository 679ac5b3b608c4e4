//! clang and a C library for WebAssembly from Debian, the linker that comes with Rust's toolchain, and the generator of
//! bindings that the example brings.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::rust::Linkers;
use crate::{Run, command, debian, hinted};

/// The compiler, its linker and builtins for WebAssembly, and the C library.
const PACKAGES: [&str; 4] = ["clang-22", "lld-22", "libclang-rt-22-dev-wasm32", "wasi-libc"];

/// A file of each of them.
const FILES: [&str; 4] = [
    "/usr/bin/clang-22",
    "/usr/bin/wasm-ld-22",
    "/usr/lib/llvm-22/lib/clang/22/lib/wasi/libclang_rt.builtins-wasm32.a",
    "/usr/lib/wasm32-wasi/libc.a",
];

/// What bindings are made of.
#[derive(Debug, Clone, Copy)]
pub struct Contract<'a> {
    /// The package of the program that makes them.
    pub generator: &'a Path,
    /// The contract.
    pub wit: &'a Path,
    /// The world that is exported.
    pub world: &'a str,
}

/// The compiler, ready to be called, and the bindings.
#[derive(Debug)]
pub struct C {
    bindings: PathBuf,
    linker: PathBuf,
    world: String,
}

impl C {
    /// Installs Debian's packages if they are not there and this can be done without asking anybody, and generates bindings
    /// into `folder`. `say` gets what is being done, a line each.
    ///
    /// # Errors
    /// When it cannot be had: why, and what it takes.
    pub fn prepare(contract: Contract<'_>, folder: &Path, say: &dyn Fn(&str), run: Run<'_>) -> Result<Self> {
        if !are_there() {
            install(say)?;
        }
        let Contract { generator, wit, world } = contract;
        let linker = Linkers::find(generator)?.component();
        if !linker.is_file() {
            bail!("this Rust toolchain comes without wasm-component-ld\nhint: rustup's has it");
        }
        let bindings = folder.join("bindings");
        std::fs::create_dir_all(&bindings).with_context(|| format!("cannot create {}", bindings.display()))?;
        let mut bindgen = command::cargo(generator);
        bindgen.args(["run", "--quiet", "--locked", "--target-dir"]).arg(folder.join("bindgen"));
        bindgen.arg("--").arg(wit).arg(world).arg(&bindings);
        hinted(run("bindings for C", &mut bindgen), "it takes a registry of Rust crates that can be reached")?;
        Ok(Self { bindings, linker, world: world.replace('-', "_") })
    }

    /// Makes a component of a source.
    #[must_use]
    pub fn compile(&self, source: &Path, out: &Path) -> Command {
        let Self { bindings, linker, world } = self;
        let mut clang = Command::new("clang-22");
        // The triple by which Debian's C library is found; clang calls it by a newer name.
        clang.args(["--target=wasm32-wasi", "-Wno-deprecated", "--sysroot=/usr", "-mexec-model=reactor"]);
        clang.args(["-Os", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wl,--strip-debug"]);
        // It calls wasm-ld, and wraps what comes out in a component.
        clang.arg(format!("-fuse-ld={}", linker.display())).arg("-I").arg(bindings).arg(source);
        clang.arg(bindings.join(format!("{world}.c"))).arg(bindings.join(format!("{world}_component_type.o")));
        clang.arg("-o").arg(out);
        clang
    }
}

fn are_there() -> bool {
    FILES.into_iter().all(|file| Path::new(file).is_file())
}

fn install(say: &dyn Fn(&str)) -> Result<()> {
    let packages = PACKAGES.join(" ");
    let Some(root) = debian::Root::found() else {
        bail!("installing {packages} takes root\nhint: apt-get install {packages}");
    };
    say(&format!("apt-get install {packages}"));
    hinted(debian::install(root, &PACKAGES), "it takes a Debian that has these packages")?;
    if !are_there() {
        bail!("{packages} are installed, but not all of {} are there", FILES.join(" "));
    }
    Ok(())
}
